//! What a rollout did and on what numbers it was decided, told afterwards.

mod arithmetic;
pub mod html;
pub mod json;
