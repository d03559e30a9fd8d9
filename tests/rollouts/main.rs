//! Rollouts proved end to end, against the built program: healthy ones are not rolled back by chance, bad ones are and
//! cost few requests, `kill -9` and a full disk change nothing, and the API is what strangers were told.
//!
//! It takes minutes, so it is a stage of its own in `tests/run`. Time is accelerated by short ticks and phases; no
//! number of the statistics is changed. What was measured is kept in `tmp/rollouts` of the target directory.

#![allow(unreachable_pub, reason = "a test program exports nothing")]

#[path = "../it/harness/mod.rs"]
mod harness;

mod contract;
mod crowd;
mod disk;
mod faults;
mod healthy;
mod killed;
mod rows;
