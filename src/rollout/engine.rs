//! Starts everything that rollouts need and hands out the desk. When something is missing the proxy serves all the same:
//! the desk then says why nobody works behind it.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::runner::keep::Keeper;
use super::runner::office::Office;
use super::stream::Stream;
use crate::switchboard::writer::Switchboard;

/// What the engine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Time between two looks. Default 1 s.
    pub tick: Duration,
}

/// Starts the engine on the runtime that this is called in, and takes up what was under way when the process ended.
pub fn start(switchboard: Arc<Switchboard>, parts: &Parts) -> Desk {
    let keeper = Keeper::default();
    let office = Arc::new(Office::new(switchboard, keeper, Stream::after(0), parts.tick));
    Desk::of(office)
}
