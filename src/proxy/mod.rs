//! The data plane, in the order in which a request meets it: [`worker`] accepts, `arrival` waits for a head, [`h1`]
//! parses it (or `http2`), [`decide`] decides, `attempt` does, `clients` answers, `record` tells.
//!
//! Everything runs on the worker's own thread; what is shared with other threads is read only, or written by one.

pub mod announce;
mod arrival;
pub mod worker;

mod frames;
pub mod h1;
mod hpack;
mod http2;

mod clients;
pub mod decide;
mod mirror;
mod record;
pub mod refusal;

mod attempt;
mod bodies;
mod h2up;
pub mod heads;
mod tunnel;

pub mod seam;
