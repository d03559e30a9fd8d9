//! The data plane, in the order in which a request meets it: [`listen`] accepts, `connection` waits for a head, [`h1`]
//! parses it (or `http2` and `h2`), [`decide`] decides, `forward` and `exchange` do, `relay` (or `stream`) answers,
//! `record` tells.
//!
//! Everything runs on the worker's own thread; what is shared with other threads is read only, or written by one.

pub mod announce;
pub mod crew;
pub mod listen;
mod pulse;
mod upkeep;
mod visitor;
pub mod worker;

mod challenge;
mod connection;
mod costly;
mod frames;
pub mod h1;
mod h2;
mod h2_body;
mod hands;
mod handshake;
mod hpack;
mod http2;
mod link;
mod secure;
mod via;
mod wire;

pub mod balance;
pub mod decide;
pub mod dice;
pub mod explain;
mod named;
pub mod refusal;

mod forwarded;
mod outgoing;
mod pace;
mod sink;
mod upload;

mod admit;
mod again;
mod budget;
mod conns;
mod dial;
mod exchange;
mod forward;
mod h2up;
mod hedge;
mod http1;
mod interim;
mod lines;
mod mirror;
mod reach;
mod replay;

mod answer;
mod body;
pub mod cached;
mod client;
mod connect;
mod duplex;
mod relay;
mod serve;
mod socket;
mod socket_frames;
mod stream;
mod streamed;
mod streams;
mod told;
mod tunnel;
mod watch;

mod buffers;
mod digits;
mod record;
mod splice;
mod timer;
pub mod trace;
mod turn;

pub mod seam;
