//! HTTP/1 on the wire: heads and chunked bodies, parsed strictly and without I/O.
//!
//! A request that could be read two ways is refused, whatever RFC 9112 lets a lenient server accept; an answer that
//! could be read two ways is an error of its endpoint. hyper's parser is more forgiving than that on purpose, so this
//! room is our own.

pub mod chunked;
pub mod request;
pub mod response;
pub(crate) mod syntax;
pub(crate) mod trailers;
