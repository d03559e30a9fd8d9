//! weir: a traffic splitter.

pub mod config;
pub mod model;
