//! What a rollout did and on what numbers it was decided, told afterwards.

pub mod html;
