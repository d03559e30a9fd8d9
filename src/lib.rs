//! weir: a traffic splitter.

pub mod model;
