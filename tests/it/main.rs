//! The promises of weir, tried against the built program over real sockets.
//!
//! One file per chapter of what it must do; every test is named for the fact that it holds. `harness` is the stage and
//! has tests of its own in `stage`. What is pure is tested beside its code instead.

mod admin;
mod affinity;
mod capacity;
mod cli;
mod docker;
mod endpoints;
mod faults;
mod floods;
mod forward;
mod gates;
mod grpc;
mod h2_endpoints;
mod harness;
mod hostile_upstream;
mod http10;
mod http2;
mod https_endpoints;
mod identity;
mod interim;
mod kill;
mod killswitch;
mod lanes;
mod large;
mod limits;
mod maintenance;
mod named_endpoints;
mod notify;
mod reload;
mod retry;
mod rollout;
mod rollout_verbs;
mod route;
mod see;
mod seeds;
mod slow;
mod smuggling;
mod split;
mod stage;
mod start;
mod stop;
mod tls;
mod tracing;
mod trailers;
mod truth;
mod unix_endpoints;
mod upload;
mod walk;
mod websocket;
