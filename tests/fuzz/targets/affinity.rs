//! A cookie that verifies is exactly one that was issued; a key file that is read is written back.

use weir::routing::cookie::{Keys, TicketCache};

use crate::stage::keys;

/// Takes the input for a cookie value and for a key file.
pub(crate) fn check(bytes: &[u8]) {
    let keys = keys();
    let previous = keys.previous.clone().expect("two keys");
    let ticket = keys.verify("engine", bytes);
    if let Some(ticket) = ticket {
        let signer = if ticket.old_key { Keys::new(previous) } else { keys.clone() };
        let issued = signer.issue("engine", ticket.bucket, ticket.issued_unix);
        assert_eq!(issued.as_str().as_bytes(), bytes, "one value has one spelling");
        assert_eq!(keys.verify("shop", bytes), None, "a cookie is good for its service");
        for at in 0..bytes.len() {
            let mut forged = bytes.to_vec();
            forged[at] ^= 1;
            assert_eq!(keys.verify("engine", &forged), None, "byte {at}");
        }
    }
    let mut cache = TicketCache::new();
    for _ in 0..2 {
        assert_eq!(cache.verify(&keys, "engine", bytes), ticket);
        assert_eq!(cache.verify(&keys, "shop", bytes).is_some(), keys.verify("shop", bytes).is_some());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(read) = Keys::parse(text)
    {
        assert_eq!(Keys::parse(&read.to_text()), Ok(read));
    }
}
