//! Placeholder until the room lands.
/// Keys.
#[derive(Debug)]
pub struct Keys;
