//! Which route, which pool: table, matchers, splitter, bucket; pure and synchronous.

pub mod cookie;
pub mod split;
pub mod table;
