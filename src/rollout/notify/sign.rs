//! The signature of a webhook: HMAC-SHA256 (RFC 2104) over the time, a dot and the body, so that who knows the secret
//! can tell that weir sent it, and when.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::model::notify::Secret;

/// `sha256=` and 64 hexadecimal digits.
pub(super) fn signature(secret: &Secret, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let mut text = String::from("sha256=");
    for byte in digest {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_makes_of_the_same() {
        // printf '%s' '1795230010.{"id":1}' | openssl dgst -sha256 -hmac 'a secret'
        let signature = signature(&Secret::new("a secret"), "1795230010", b"{\"id\":1}");
        assert_eq!(signature, "sha256=a5eb93e65609d8cc9d2f31053fafd645a75bba1b2ab444ec9d8523b36fa5d814");
    }
}
