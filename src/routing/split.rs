//! Placeholder until the room lands.
/// Split.
#[derive(Debug, Clone)]
pub struct Split;
