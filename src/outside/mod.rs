//! Calls that leave the house: HTTP requests, commands, mail. Each has a deadline and a bounded answer; none is ever
//! made from the request path. It decides nothing: who calls says what an answer means.
//!
//! No error here holds a secret: neither query strings, nor fields, nor variables of the environment.

#[cfg(feature = "acme")]
pub mod authority;
pub mod command;
pub mod docker;
pub mod http;
pub mod mail;
mod tls;
