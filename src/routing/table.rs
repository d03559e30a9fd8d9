//! Placeholder until the room lands.
/// Table.
#[derive(Debug)]
pub struct Table;
