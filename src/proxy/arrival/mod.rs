//! How a connection arrives: by which way (`via`), over TLS (`handshake`, `secure`) or a plain socket, as one `link`;
//! then `connection` waits for requests, holding next to nothing.

pub(in crate::proxy) mod challenge;
pub(in crate::proxy) mod connection;
pub(in crate::proxy) mod handshake;
pub(in crate::proxy) mod link;
pub(in crate::proxy) mod secure;
pub(in crate::proxy) mod via;
