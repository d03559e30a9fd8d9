//! Bodies: how they are framed (`body`), the way up (`upload`, `pace`), and long ones down without a copy (`splice`).

pub(in crate::proxy) mod body;
pub(in crate::proxy) mod pace;
pub(in crate::proxy) mod splice;
pub(in crate::proxy) mod upload;
