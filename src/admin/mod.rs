//! The control surface: one HTTP listener for health, metrics and changes, made to be safe beside a browser.
//!
//! It runs on the control runtime and never on a worker. It decides nothing about traffic: it reads a request, checks
//! who may ask, hands a [`crate::switchboard::change::Change`] to the [`board::Board`] and tells the answer.
//!
//! Reading order: [`routes`] is the table, `guard` what every request must pass, [`access`] the policy behind it.

pub mod access;
mod audit;
pub mod board;
mod body;
mod cache_metrics;
mod changes;
mod engine;
mod events;
pub mod explain;
mod guard;
mod guard_metrics;
pub mod health;
mod kills;
mod limit_metrics;
mod limiter;
mod maintenance;
pub mod metrics;
mod mirror_metrics;
mod notifications;
mod plans;
mod problem;
mod reports;
mod rollout_metrics;
mod rollouts;
pub mod routes;
pub mod seam;
pub mod serve;
mod switches;
pub mod upgrade;
mod views;

#[cfg(test)]
mod tests;
