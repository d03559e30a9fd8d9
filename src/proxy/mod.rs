//! The data plane.
pub mod decide;
pub mod dice;
pub mod h1;
pub mod refusal;
