//! What an X.509 certificate (RFC 5280) says of itself: from when and until when it is valid, whom it was issued to,
//! and under which names. It decides nothing: whether a certificate holds is for rustls to say.
//!
//! Only what is needed is read, by a walk over DER without recursion; bytes that are not DER are an error, never a
//! panic.

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Unix seconds.
    pub(super) not_before: i64,
    /// Unix seconds.
    pub(super) not_after: i64,
    /// The serial number, as it is encoded.
    pub(super) serial: Vec<u8>,
    /// The key of the authority, as it is identified; empty when it is not.
    pub(super) authority_key: Vec<u8>,
    /// The subject, RFC 4514: visible ASCII, the rest escaped.
    pub(super) subject: String,
    /// Common names of the subject.
    pub(super) common_names: Vec<String>,
    /// DNS names of the alternative names.
    pub(super) dns_names: Vec<String>,
    /// URIs of the alternative names.
    pub(super) uris: Vec<String>,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotDer(&'static str);

type Read<T> = Result<T, NotDer>;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// Alternative names that are read: `[2] dNSName`, `[6] uniformResourceIdentifier`.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// 2.5.29.17, subjectAltName.
const ALT_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// 2.5.29.35, authorityKeyIdentifier, and its `[0] keyIdentifier`.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const KEY_IDENTIFIER: u8 = 0x80;

/// 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Short names of attributes (RFC 4514 §3, and `emailAddress` as OpenSSL writes it).
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
];

/// Reads a certificate.
pub(super) fn facts(certificate: &[u8]) -> Read<Facts> {
    let mut outer = Der(Der(certificate).take(SEQUENCE)?);
    let mut body = Der(outer.take(SEQUENCE)?);
    if body.peek() == Some(VERSION) {
        body.take(VERSION)?;
    }
    let serial = body.take(INTEGER)?.to_vec();
    body.take(SEQUENCE)?; // signature algorithm
    body.take(SEQUENCE)?; // issuer
    let mut validity = Der(body.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    let mut facts = Facts { not_before, not_after, serial, ..Facts::default() };
    facts.subject(Der(body.take(SEQUENCE)?))?;
    body.take(SEQUENCE)?; // public key
    while let Some(tag) = body.peek() {
        let content = body.take(tag)?;
        if tag == EXTENSIONS {
            facts.extensions(Der(Der(content).take(SEQUENCE)?))?;
        }
    }
    Ok(facts)
}

// === impl Facts ===

impl Facts {
    fn subject(&mut self, mut name: Der<'_>) -> Read<()> {
        let mut parts = Vec::new();
        while name.peek().is_some() {
            let mut set = Der(name.take(SET)?);
            let mut values = Vec::new();
            while set.peek().is_some() {
                let mut attribute = Der(set.take(SEQUENCE)?);
                let oid = attribute.take(OID)?;
                let tag = attribute.peek().ok_or(NotDer("an attribute without a value"))?;
                let value = attribute.take(tag)?;
                let text = if tag == BMP_STRING { utf16(value) } else { String::from_utf8_lossy(value).into_owned() };
                let known = ATTRIBUTES.iter().find(|(known, _)| *known == oid);
                values.push(match known {
                    Some((_, short)) => format!("{short}={}", escape(&text)),
                    None => format!("{}=#{}", dotted(oid), hex(value)),
                });
                if oid == COMMON_NAME {
                    self.common_names.push(text);
                }
            }
            parts.push(values.join("+"));
        }
        // RFC 4514 §2.1: the last one goes first.
        parts.reverse();
        self.subject = parts.join(",");
        Ok(())
    }

    fn extensions(&mut self, mut extensions: Der<'_>) -> Read<()> {
        while extensions.peek().is_some() {
            let mut extension = Der(extensions.take(SEQUENCE)?);
            let oid = extension.take(OID)?;
            if oid != ALT_NAMES && oid != AUTHORITY_KEY {
                continue;
            }
            while extension.peek().is_some_and(|tag| tag != OCTETS) {
                extension.skip()?; // critical
            }
            let mut names = Der(Der(extension.take(OCTETS)?).take(SEQUENCE)?);
            if oid == AUTHORITY_KEY {
                if names.peek() == Some(KEY_IDENTIFIER) {
                    self.authority_key = names.take(KEY_IDENTIFIER)?.to_vec();
                }
                continue;
            }
            while let Some(tag) = names.peek() {
                let value = names.take(tag)?;
                let text = || String::from_utf8_lossy(value).into_owned();
                match tag {
                    DNS_NAME => self.dns_names.push(text()),
                    URI => self.uris.push(text()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A run of DER values.
#[derive(Debug, Clone, Copy)]
struct Der<'a>(&'a [u8]);

// === impl Der ===

impl<'a> Der<'a> {
    /// The tag of the next value; none at the end.
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn skip(&mut self) -> Read<()> {
        self.peek().map_or(Ok(()), |tag| self.take(tag).map(drop))
    }

    /// The content of the next value, which must have that tag.
    fn take(&mut self, tag: u8) -> Read<&'a [u8]> {
        let (&found, rest) = self.0.split_first().ok_or(NotDer("it ends too early"))?;
        if found != tag {
            return Err(NotDer("a part is of another kind than it should be"));
        }
        let (&first, rest) = rest.split_first().ok_or(NotDer("it ends too early"))?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // A certificate is smaller than 16 MiB; an endless length is BER, not DER.
            0x81..=0x83 => {
                let count = usize::from(first & 0x7f);
                let digits = rest.get(..count).ok_or(NotDer("it ends too early"))?;
                (digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit)), &rest[count..])
            }
            _ => return Err(NotDer("a length that DER does not know")),
        };
        let content = rest.get(..len).ok_or(NotDer("it ends too early"))?;
        self.0 = &rest[len..];
        Ok(content)
    }

    /// A moment (RFC 5280 §4.1.2.5), in Unix seconds.
    fn time(&mut self) -> Read<i64> {
        let bad = NotDer("a moment that is none");
        let tag = self.peek().ok_or(bad)?;
        let text = std::str::from_utf8(self.take(tag)?).map_err(|_| bad)?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let year: i64 = text.get(..2).and_then(digits).ok_or(bad)?;
                (year + if year < 50 { 2000 } else { 1900 }, text.get(2..))
            }
            GENERAL_TIME => (text.get(..4).and_then(digits).ok_or(bad)?, text.get(4..)),
            _ => return Err(bad),
        };
        let rest = rest.and_then(|rest| rest.strip_suffix('Z')).filter(|rest| rest.len() == 10).ok_or(bad)?;
        let part = |at: usize| rest.get(at..at + 2).and_then(digits).ok_or(bad);
        let (month, day) = (part(0)?, part(2)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(bad);
        }
        Ok(days(year, month, day) * 86_400 + part(4)? * 3_600 + part(6)? * 60 + part(8)?)
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

/// A value of a name (RFC 4514 §2.4), with everything but visible ASCII and blanks as hexadecimal pairs, so that it is
/// a legal header value whatever a certificate says.
fn escape(value: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

/// An object identifier in dotted form.
fn dotted(oid: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut value = 0_u64;
    for byte in oid {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (value / 40).min(2);
                parts.push(first.to_string());
                value -= first * 40;
            }
            parts.push(value.to_string());
            value = 0;
        }
    }
    parts.join(".")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn what_a_certificate_says_of_itself_is_read() {
        let mut params =
            CertificateParams::new(["shop.example".to_owned(), "*.shop.example".to_owned()]).expect("names");
        params.subject_alt_names.push(SanType::URI("spiffe://shop/web".try_into().expect("ASCII")));
        params.not_before = date_time_ymd(1999, 2, 28);
        params.not_after = date_time_ymd(2051, 3, 1);
        params.distinguished_name.push(DnType::OrganizationName, "Shop, \"Inc\" ");
        params.distinguished_name.push(DnType::CommonName, "Zoë");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let facts = facts(certificate.der()).expect("it is DER");
        assert_eq!(facts.dns_names, ["shop.example", "*.shop.example"]);
        assert_eq!(facts.uris, ["spiffe://shop/web"]);
        assert_eq!(facts.common_names, ["Zoë"]);
        assert_eq!((facts.not_before, facts.not_after), (920_160_000, 2_561_241_600));
        assert!(facts.subject.contains(r#"O=Shop\, \"Inc\"\ "#), "{}", facts.subject);
        assert!(facts.subject.contains(r"CN=Zo\C3\AB"), "{}", facts.subject);
    }

    #[test]
    fn an_object_identifier_without_a_short_name_is_dotted() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
        assert_eq!(dotted(&[0x88, 0x37, 0x03]), "2.999.3");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at: usize, to: u8) {
            let _ = facts(&bytes);
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(["a.example".to_owned()]).expect("a name");
            let mut der = params.self_signed(&key).expect("a certificate").der().to_vec();
            let at = at % der.len();
            der[at] = to;
            if let Ok(facts) = facts(&der) {
                prop_assert!(facts.subject.bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
            let _ = facts_of_prefix(&der[..at]);
        }
    }

    fn facts_of_prefix(der: &[u8]) -> Read<Facts> {
        facts(der)
    }
}
