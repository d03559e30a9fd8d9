//! weir: a traffic splitter.

pub mod config;
pub mod model;
pub mod proxy;
pub mod routing;
pub mod switchboard;
pub mod telemetry;
pub mod upstream;
