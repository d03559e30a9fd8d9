//! A body that is taken says what an ordinary parser finds in it, and the request that it describes can be decided.

use serde_json::Value;
use weir::admin::seam;
use weir::model::Head;
use weir::proxy::decide::explain::explain;

use super::http::{is_token, is_value};
use super::world::SNAPSHOT;
use crate::stage::NOW;

/// Reads weights and a described request.
pub(crate) fn check(bytes: &[u8]) {
    if let Ok(weights) = seam::weights(bytes) {
        let Value::Object(members) = serde_json::from_slice(bytes).expect("it is JSON") else {
            panic!("weights that are no object were taken");
        };
        assert_eq!((members.len(), colons(bytes)), (weights.iter().count(), members.len()), "a pool stands twice");
        for ((pool, weight), (name, value)) in weights.iter().zip(&members) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(pool.as_str(), name);
            let plain = text.trim_end_matches('%').parse::<f64>().expect("a number");
            let shown = weight.to_string().trim_end_matches('%').parse::<f64>().expect("a number");
            assert!(plain == shown, "{text} became {weight}");
        }
        assert!(weights.total() > 0);
    }
    if let Ok(described) = seam::described(bytes) {
        legal(&described.head);
        let explanation = explain(&SNAPSHOT, 0, &described.head, described.client_ip, NOW);
        assert!(explanation.status.is_some() != explanation.pool.is_some());
        assert!(serde_json::to_string(&explanation).is_ok());
    }
}

/// Colons outside of texts: as many as members, where nothing is nested.
fn colons(json: &[u8]) -> usize {
    let (mut found, mut quoted, mut escaped) = (0, false, false);
    for &byte in json {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b':' if !quoted => found += 1,
            _ => {}
        }
        escaped = quoted && byte == b'\\' && !escaped;
    }
    found
}

fn legal(head: &Head) {
    assert!(is_token(head.method().as_bytes()));
    assert!(head.target().starts_with('/') && head.target().bytes().all(|b| b.is_ascii_graphic()));
    for (name, value) in head.iter() {
        assert!(is_token(name.as_bytes()) && !name.bytes().any(|b| b.is_ascii_uppercase()), "{name:?}");
        assert!(is_value(value), "{name}: {value:?}");
    }
}
