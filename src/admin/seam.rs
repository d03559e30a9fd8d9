//! What tests see of the request bodies that this room reads: bytes in, what they ask for out, without a socket.
//! Nothing in the program uses it. Refusals are told as they would be shown for debugging, not as they would be
//! answered.

use super::explain::Described;
use super::{body, changes};
use crate::model::Weights;

/// The weights of the body of `PUT /api/v1/services/{service}/weights`.
pub fn weights(bytes: &[u8]) -> Result<Weights, String> {
    body::parse(bytes).and_then(changes::read_weights).map_err(|problem| format!("{problem:?}"))
}

/// The request that the body of `POST /api/v1/explain` describes.
pub fn described(bytes: &[u8]) -> Result<Described, String> {
    body::parse(bytes).and_then(Described::read).map_err(|problem| format!("{problem:?}"))
}
