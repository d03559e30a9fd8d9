//! What heads say on their way through: to endpoints (`outgoing`, `forwarded`, [`trace`]) and back to clients
//! (`answer`).

pub(in crate::proxy) mod answer;
pub mod cached;
pub(in crate::proxy) mod digits;
pub(in crate::proxy) mod forwarded;
pub(in crate::proxy) mod outgoing;
pub(in crate::proxy) mod sink;
pub(in crate::proxy) mod told;
pub mod trace;
