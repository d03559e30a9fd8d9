//! Does what the machine wants: counts, judges, moves traffic, keeps, tells. One task for each rollout, all of them on
//! the control runtime; no worker ever waits for any of it.
//!
//! In reading order: `office` is what all rollouts share; `drive` is one rollout under way, `effects` what it does,
//! `errands` what takes its time: `asks` gates outside, `actions` of a moment, `verify` what a rollback left behind,
//! all in their `context`; `sweeps` outlive their rollout. `count` reads the meters; `levers` is the only way to the
//! traffic, `shares` and `hands` its arithmetic; `keep` is what survives; `guardian` starts runners and takes over when
//! one falls; `switches` are the kill switches, a task of their own.

mod actions;
mod asks;
mod beside;
mod context;
pub(super) mod count;
mod drive;
mod effects;
mod errands;
pub(super) mod guardian;
mod hands;
pub(super) mod keep;
pub(super) mod levers;
pub(super) mod office;
pub(super) mod shares;
pub(super) mod sweeps;
pub(super) mod switches;
pub(super) mod verify;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind a lock; who panicked while it was held left it between two whole steps.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
