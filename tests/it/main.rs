//! The promises of weir, tried against the built program over real sockets.
//!
//! One file per chapter of what it must do; every test is named for the fact that it holds. `harness` is the stage and
//! has tests of its own. What is pure is tested beside its code instead.

mod harness;
mod stage;
