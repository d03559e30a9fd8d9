//! What endpoints are told of a client that showed a certificate: all of it in `Client-Cert` (RFC 9440 §2.2), and the
//! subject in words in `X-Forwarded-Client-Cert` (the format of Envoy). Only certificates that rustls has verified come
//! here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::der;

/// A verified client, as two header values; both are visible ASCII and blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `:base64 of the certificate:`.
    pub client_cert: String,
    /// `Hash=…;Subject="CN=…";URI=…;DNS=…`.
    pub forwarded: String,
}

// === impl Identity ===

impl Identity {
    /// The client whose chain this is, its own certificate first; none without one.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        // What rustls has verified can be read; if not, nothing of it is claimed in words.
        let facts = der::facts(own).unwrap_or_default();
        let hash: String = Sha256::digest(own).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forwarded = format!("Hash={hash};Subject=\"{}\"", quote(&facts.subject));
        let legal = |value: &&String| value.bytes().all(|b| b.is_ascii_graphic() && !b",;\"=\\".contains(&b));
        for (key, values) in [("URI", &facts.uris), ("DNS", &facts.dns_names)] {
            // URIs may hold a `=` or `,`: then the value is quoted as Envoy does.
            for value in values.iter().filter(|value| value.bytes().all(|b| b.is_ascii_graphic())) {
                forwarded.push_str(&match legal(&value) {
                    true => format!(";{key}={value}"),
                    false => format!(";{key}=\"{}\"", quote(value)),
                });
            }
        }
        Some(Self { client_cert: format!(":{}:", BASE64_STANDARD.encode(own)), forwarded })
    }
}

fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn the_subject_is_told_in_words_and_cannot_break_out_of_its_quotes() {
        let mut params = CertificateParams::new(["web.example".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "ann\";Subject=\"root\r\nx: y");
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let identity = Identity::of(&[certificate.der().clone()]).expect("there is one");
        assert!(identity.client_cert.starts_with(":MII") && identity.client_cert.ends_with(':'));
        let subject = r#";Subject="CN=ann\\\"\\;Subject=\\\"root\\0D\\0Ax: y";DNS=web.example"#;
        assert!(identity.forwarded.ends_with(subject), "{}", identity.forwarded);
        assert_eq!(Identity::of(&[]), None);
    }
}
