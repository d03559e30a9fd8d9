//! Attempts: `forward` makes them, `again` and `hedge` say whether there is one more; `http1` (and `h2up`) is one of
//! them, `exchange` its wire up to the head of the answer, `reach` opens what it goes over (`wire`), `conns` keeps it.

pub(in crate::proxy) mod again;
pub(in crate::proxy) mod budget;
pub(in crate::proxy) mod conns;
pub(in crate::proxy) mod dial;
pub(in crate::proxy) mod exchange;
pub(in crate::proxy) mod forward;
pub(in crate::proxy) mod hedge;
pub(in crate::proxy) mod http1;
pub(in crate::proxy) mod lines;
pub(in crate::proxy) mod reach;
pub(in crate::proxy) mod replay;
pub(in crate::proxy) mod wire;
