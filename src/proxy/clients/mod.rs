//! The clients' side of requests: `serve`, `client` and `relay` over HTTP/1, `h2`, `stream` and `streamed` over HTTP/2;
//! `outlet` is what the last one has in common with answers that come over HTTP/2. What is decided of a request and how
//! it is forwarded is the same for all, and stands elsewhere.

pub(in crate::proxy) mod client;
pub(in crate::proxy) mod h2;
pub(in crate::proxy) mod h2_body;
pub(in crate::proxy) mod hands;
pub(in crate::proxy) mod interim;
pub(in crate::proxy) mod left;
pub(in crate::proxy) mod outlet;
pub(in crate::proxy) mod relay;
pub(in crate::proxy) mod serve;
pub(in crate::proxy) mod stream;
pub(in crate::proxy) mod streamed;
