//! weir: a traffic splitter.
