//! Which route, which pool: the pure half of a request's decision. Everything here is synchronous and works on what it
//! is handed: no clock, no randomness source of its own (seeds come from the caller), no I/O, no live state.
//!
//! In the order a request meets them: [`path`] says whether a path may be read two ways and takes prefixes off and back
//! on; [`table`] finds the route with its [`matcher`]; [`cookie`] and [`bucket`] say where a unit stands;
//! [`splitter`] draws when nothing sticks; [`split`] turns a bucket or a draw into a pool.

pub mod path;

pub mod matcher;
pub mod table;

pub mod bucket;
pub mod cookie;
pub mod split;
pub mod splitter;
