//! HTTP/2 to endpoints (`h2c://` by prior knowledge, `https://` by ALPN): what takes the place of `conns`, `upload`,
//! `exchange` and `relay` where an endpoint speaks HTTP/2. What is decided, retried, counted and logged stays where it
//! is for HTTP/1.
//!
//! In the order in which a request meets them: `trunks` finds a connection with room for one more stream (`trunk` is
//! one connection, `opening` its life), `request` writes the head, `uplink` sends the body, `exchange` waits for the
//! answer's head (`attempt` counts it), `answer` reads its body, and `to_http1` and `to_http2` send it down; `socket`
//! carries WebSockets. `outcome` says what an error means, `grpc` how a call ended.
//!
//! [`http2`](crate::proxy::http2) keeps the protocol. Bounds: [`trunk::STREAMS_MAX`] streams a connection,
//! [`trunks::TRUNKS_MAX`] connections to an endpoint per worker, and as much unread data as the windows in `opening`
//! allow. The window of a connection has room for those of all its streams, so that clients that do not read stop
//! nobody but themselves.

pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod exchange;
pub(crate) mod grpc;
mod opening;
pub(crate) mod outcome;
mod pulse;
pub(crate) mod request;
mod socket;
mod to_http1;
pub(crate) mod to_http2;
pub(crate) mod trunk;
pub(crate) mod trunks;
mod uplink;
