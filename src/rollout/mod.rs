//! Rollouts: a service's weights moved by phases and gates, as far as the evidence allows. It knows nothing of HTTP.
//!
//! In reading order: [`tick`] is what was counted in one tick; `evidence` weighs it (pure mathematics); `rules` are
//! plain thresholds; [`verdict`] is what a gate says; `judge` puts the gates of a phase together, worst first;
//! [`machine`] is the pure state machine; [`kill`] are kill switches, pure as well; `journal` keeps everything in
//! SQLite; `outside` asks what is outside; `runner` does what the machine wants; `desk` is where people and programs
//! come in; `notify` tells people what happens; `report` tells it afterwards.
//!
//! What decides (`evidence`, `rules`, `judge`, `machine`, `kill`) reads no clock, no randomness and no socket.

pub mod evidence;
pub mod judge;
pub mod rules;
pub mod windows;

pub mod desk;
pub mod engine;
pub mod event;
pub mod journal;
pub mod kill;
pub mod machine;
mod notify;
mod outside;
pub mod record;
pub mod report;
mod runner;
pub mod stream;
pub mod tick;
pub mod verdict;
pub mod view;

#[cfg(test)]
mod testing;
