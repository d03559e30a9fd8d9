//! The frames of HTTP/2 connections, watched from below h2, which hides them: what a peer may have weir do for nothing
//! is bounded here ([`glitches`]), by a look at the head of every frame that passes ([`scanner`], [`watched`]). So is
//! what unpacked heads take ([`held`]); and rules that h2 leaves open are kept ([`rules`]).
//!
//! Nothing is decoded and nothing is copied; what frames mean is h2's to know.

mod glitches;
pub(crate) mod held;
pub(super) mod rules;
pub(super) mod scanner;
pub(crate) mod watched;
