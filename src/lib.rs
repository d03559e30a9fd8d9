//! weir: a traffic splitter.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod model;
pub mod proxy;
pub mod routing;
pub mod switchboard;
pub mod telemetry;
pub mod upstream;
