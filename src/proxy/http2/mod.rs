//! HTTP/2 (RFC 9113), both roles, for a worker's own thread: frames, settings, streams, windows.
//!
//! [`core`] is the state of a connection, without I/O: bytes in, bytes out, and who is to be woken. [`drive`] moves the
//! bytes; [`server`] and [`client`] are the two roles as the proxy sees them; [`handles`] are the two directions of a
//! stream. Nothing here is shared between threads: a handle is an `Rc` and a number.
//!
//! What is not here: server push (refused), priorities (read and forgotten, RFC 9113 §5.3.2, but for a stream that is
//! to depend on itself, an error by RFC 7540 §5.3.1), and what a peer may have weir do for nothing, which
//! [`frames`](crate::proxy::frames) bounds below.

pub(crate) mod client;
pub(crate) mod handles;
pub(crate) mod server;

mod drive;
mod effort;

mod blocks;
mod core;
mod ends;
mod recv;
mod send;

mod check;
pub(crate) mod error;
mod flow;
mod frame;
pub(crate) mod head;
mod ids;
mod output;
pub(crate) mod purse;
pub(crate) mod settings;
mod streams;

pub(crate) mod trial;

#[cfg(test)]
mod tests;
