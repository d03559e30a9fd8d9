//! The readers: one file per part of `weir.toml`, each from a [`super::cursor::Fields`] to the nouns of `model`.
//!
//! A reader never stops at the first problem; where a value is wrong it goes on with the default, and the text as a
//! whole is refused at the end because a problem was recorded.

mod acme;
mod bind;
mod connect;
mod engine;
mod identity;
mod limits;
mod listeners;
mod mirrors;
mod notify;
mod policies;
mod policy;
mod root;
mod routes;
mod services;
mod switches;
mod tls;
mod tracing;

pub(super) use policies::statuses;
pub(super) use root::root;
