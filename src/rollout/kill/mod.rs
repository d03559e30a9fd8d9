//! Kill switches: what pulls them, how long that may be stopped, and how they try to come back. Pure: times and counts
//! in, effects out; `runner::switches` does them.
//!
//! ```text
//!           a trigger holds        through the grace
//!  armed ──────────────────▶ grace ──────────────────▶ killed ◀──────────┐
//!    ▲  ◀── cancelled, clear ──┘                         │ delay          │ a trigger holds
//!    │                                                   ▼                │
//!    └──────────── clear through the probation ──── recovering ──────────┤
//!    ▲                                                                    │ it was the last attempt
//!    └───────────────── a person lets it go ◀──────────── exhausted ◀─────┘
//! ```
//!
//! A person's pull kills at once, from any state. What a person killed (by the switch, the kill word in the weights
//! file, the API or the command line) is never let go by the machine: it lets go only of the very words that it wrote
//! itself. What it does not know (too few samples) keeps a countdown to a kill running and stops one to traffic. Where
//! no new request goes any more, a countdown ends: there is nothing to kill.

pub mod machine;
mod step;
pub mod watch;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
