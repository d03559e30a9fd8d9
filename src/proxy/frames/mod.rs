//! The frames of HTTP/2 connections, watched from below [`http2`](crate::proxy::http2), whatever it makes of them: what
//! a peer may have weir do for nothing is bounded here ([`glitches`]), by a look at the head of every frame that passes
//! ([`scanner`], [`watched`]). So is what unpacked heads take ([`held`]); and the form of single frames ([`rules`]).
//!
//! Nothing is decoded and nothing is copied; what frames mean is for `http2` to know.

mod glitches;
pub(crate) mod held;
pub(super) mod rules;
pub(super) mod scanner;
pub(crate) mod watched;
