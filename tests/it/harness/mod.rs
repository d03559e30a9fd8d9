//! The stage on which promises are tried: servers that misbehave on cue, the built binary, and clients that notice.
//!
//! Everything here speaks to `weir` from outside: sockets, files, signals, its log. Nothing of the library is used, so
//! that a test holds for the program that people run. Each upstream has a loopback address of its own, so that a port
//! which was let go (a killed server) is not taken by a neighbour test.
//!
//! Read `upstream` first, then `weir`, then `client`.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    reason = "several test programs share these modules and each uses a part; a test program exports nothing"
)]

pub mod acme;
pub mod admin;
pub mod behaviour;
pub mod believing;
pub mod client;
pub mod dns;
pub mod frames;
pub mod h2_socket;
pub mod h2_upstream;
pub mod h2c;
pub mod load;
pub mod log;
pub mod named_front;
pub mod octets;
pub mod rollouts;
pub mod setup;
pub mod talker;
pub mod temp;
pub mod tls;
pub mod tls_front;
pub mod upstream;
pub mod upstream_answer;
pub mod upstream_serve;
pub mod wait;
pub mod weir;
pub mod wire;
pub mod ws;

pub use acme::AcmeServer;
pub use admin::Metrics;
pub use behaviour::{Behaviour, Door, Health, Reply, Then};
pub use client::{Answer, Client, End};
pub use h2_upstream::{Act, H2Upstream, Shape};
pub use h2c::H2Client;
pub use load::Load;
pub use named_front::{Named, NamedFront};
pub use setup::Setup;
pub use talker::Talker;
pub use tls::{Authority, Issued, Tls};
pub use tls_front::{Manner, TlsFront};
pub use upstream::{Seen, Upstream};
pub use wait::{Patience, eventually, never};
pub use weir::Weir;
pub use ws::WsUpstream;
