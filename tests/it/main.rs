//! The promises of weir, tried against the built program over real sockets.
//!
//! One file per chapter of what it must do; every test is named for the fact that it holds. `harness` is the stage and
//! has tests of its own in `stage`. What is pure is tested beside its code instead.

mod affinity;
mod endpoints;
mod forward;
mod harness;
mod reload;
mod retry;
mod route;
mod see;
mod split;
mod stage;
mod stop;
mod truth;
