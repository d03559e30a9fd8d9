//! The signed affinity cookie: it carries a bucket and the second it was issued, and nothing that a client could use or
//! change. It names no pool, so weights move clients without a new cookie. No file and no clock here: keys come as text
//! or bytes, the time as an argument. Header syntax (`Set-Cookie`, attributes) is the proxy's.
//!
//! # Form
//!
//! 32 characters of unpadded base64url for 24 bytes: version (1), bucket (3, big-endian), issue time in Unix seconds
//! (4, big-endian, good until 2106), and the first 16 bytes of HMAC-SHA256 over version ‖ service ‖ bucket ‖ time. All
//! fields but the service have a fixed length and come around it, so no two inputs share a message. 24 bytes fill 32
//! characters exactly: there are no spare bits and no padding, hence one spelling per value.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::model::BUCKETS;

/// Characters of a cookie value.
pub const VALUE_BYTES: usize = 32;

/// Bytes of a key: one SHA-256 output, the least that RFC 2104 section 3 calls strong enough.
pub const KEY_BYTES: usize = 32;

/// The version that this code writes and reads.
const VERSION: u8 = 1;

/// Bytes behind the base64, and how many of them are signed fields.
const RAW_BYTES: usize = 24;
const FIELD_BYTES: usize = 8;

/// A [`TicketCache`] remembers 1 024 values in 64 KiB, four times the 256 connections of the benchmarks. In sets of
/// four, since with one slot per place every fifth of 256 clients would share its slot with another and miss every
/// time.
const SETS: usize = 256;
const WAYS: usize = 4;

/// Services that a [`TicketCache`] tells apart; with more it starts over. Far above any file that a person would write.
const SERVICES_MAX: usize = 256;

/// Key files are written by people and other programs: both alphabets, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const KEY_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const KEY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// One signing key, with its keyed hash state computed once.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
    /// Tells keys apart without touching their bytes.
    id: u64,
    keyed: Hmac<Sha256>,
}

/// The keys in use: cookies are signed with the current one and accepted with either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Signs and verifies.
    pub current: Key,
    /// Verifies only, while a rotation lasts.
    pub previous: Option<Key>,
}

/// What a genuine cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The client's bucket, `0..1_000_000`.
    pub bucket: u32,
    /// When it was issued, Unix seconds.
    pub issued_unix: u64,
    /// It was signed with the previous key and should be issued anew with the same bucket.
    pub old_key: bool,
}

/// A cookie value on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieValue([u8; VALUE_BYTES]);

/// A small per-worker memory of genuine values, so that a client which sends its cookie with every request costs one
/// SHA-256 per connection or so. A forged value is never remembered and pushes nothing out.
#[derive(Debug)]
pub struct TicketCache {
    slots: Box<[[Option<Slot>; WAYS]]>,
    /// Which of a full set goes next.
    turn: usize,
    /// The keys that the slots were verified with.
    keys: Option<(u64, Option<u64>)>,
    /// The services that slots refer to by position.
    services: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    value: [u8; VALUE_BYTES],
    service: u32,
    ticket: Ticket,
}

/// Why a text holds no keys. It never repeats any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// No line holds a key.
    #[error("no key found; write one line of 64 hex digits or 44 base64 characters (32 random bytes)")]
    None,
    /// More keys than a rotation needs.
    #[error("line {line}: a third key; write the current key on the first line and the previous one on the second")]
    TooMany {
        /// Line, from 1.
        line: usize,
    },
    /// A line that is neither form, or not 32 bytes.
    #[error("line {line}: not a key; write 64 hex digits or 44 base64 characters (32 random bytes)")]
    Malformed {
        /// Line, from 1.
        line: usize,
    },
    /// A key that anybody would try first.
    #[error("line {line}: every byte of the key is the same; write 32 random bytes")]
    Guessable {
        /// Line, from 1.
        line: usize,
    },
}

// === impl Key ===

impl Key {
    /// Takes 32 bytes, which the caller has drawn at random.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(&bytes);
        // A key of exactly one SHA-256 block is used as it stands (RFC 2104 section 2), so this is HMAC with `bytes`.
        let keyed: Hmac<Sha256> = Hmac::new(&block.into());
        let tag = keyed.clone().chain_update(b"weir key id").finalize().into_bytes();
        Self { bytes, id: u64::from_be_bytes(std::array::from_fn(|i| tag[i])), keyed }
    }

    /// The key as a line of a key file: 64 hex digits.
    pub fn to_hex(&self) -> String {
        self.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
        if text.len() == 2 * KEY_BYTES {
            let digits: Vec<u8> =
                text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
            return std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1]).into();
        }
        let decoded = KEY_STANDARD.decode(text).or_else(|_| KEY_URL_SAFE.decode(text)).ok()?;
        decoded.try_into().ok()
    }

    fn sign(&self, service: &str, fields: &[u8; FIELD_BYTES]) -> [u8; RAW_BYTES - FIELD_BYTES] {
        let mut mac = self.keyed.clone();
        mac.update(&fields[..1]);
        mac.update(service.as_bytes());
        mac.update(&fields[1..]);
        let tag = mac.finalize().into_bytes();
        std::array::from_fn(|i| tag[i])
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

// === impl Keys ===

impl Keys {
    /// A single key, which must be random.
    pub fn new(current: Key) -> Self {
        Self { current, previous: None }
    }

    /// Reads a key file: the current key on the first line, the previous one on a second while a rotation lasts; each
    /// 64 hex digits or base64 of 32 bytes. Blank lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// No key, a third one, or a line that is not a key; the error says which line and nothing of its content.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let mut keys = Vec::with_capacity(2);
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if keys.len() == 2 {
                return Err(InvalidKeys::TooMany { line });
            }
            let bytes = Key::parse(content).ok_or(InvalidKeys::Malformed { line })?;
            if bytes.iter().all(|&byte| byte == bytes[0]) {
                return Err(InvalidKeys::Guessable { line });
            }
            keys.push(Key::from_bytes(bytes));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(InvalidKeys::None)?;
        Ok(Self { current, previous: keys.next() })
    }

    /// The keys as a key file, which [`Keys::parse`] reads back.
    pub fn to_text(&self) -> String {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        keys.map(|key| key.to_hex() + "\n").collect()
    }

    fn id(&self) -> (u64, Option<u64>) {
        (self.current.id, self.previous.as_ref().map(|key| key.id))
    }

    /// A cookie value for this service. A bucket beyond the last counts as the last; a time after 2106 as 2106.
    pub fn issue(&self, service: &str, bucket: u32, issued_unix: u64) -> CookieValue {
        let bucket = bucket.min(BUCKETS - 1).to_be_bytes();
        let issued = u32::try_from(issued_unix).unwrap_or(u32::MAX).to_be_bytes();
        let mut raw = [0; RAW_BYTES];
        raw[0] = VERSION;
        raw[1..4].copy_from_slice(&bucket[1..]);
        raw[4..8].copy_from_slice(&issued);
        let fields = std::array::from_fn(|i| raw[i]);
        raw[FIELD_BYTES..].copy_from_slice(&self.current.sign(service, &fields));
        let mut value = [0; VALUE_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(raw, &mut value);
        debug_assert_eq!(written, Ok(VALUE_BYTES));
        CookieValue(value)
    }

    /// What `value` says, if it is exactly what [`Keys::issue`] made for this service with one of these keys; anything
    /// else is as good as no cookie. The comparison takes the same time whatever the value is.
    pub fn verify(&self, service: &str, value: &[u8]) -> Option<Ticket> {
        if value.len() != VALUE_BYTES {
            return None;
        }
        let mut raw = [0; RAW_BYTES];
        let decoded = URL_SAFE_NO_PAD.decode_slice(value, &mut raw).ok()?;
        let bucket = u32::from_be_bytes([0, raw[1], raw[2], raw[3]]);
        if decoded != RAW_BYTES || raw[0] != VERSION || bucket >= BUCKETS {
            return None;
        }
        let fields = std::array::from_fn(|i| raw[i]);
        let genuine = |key: &Key| bool::from(key.sign(service, &fields).as_slice().ct_eq(&raw[FIELD_BYTES..]));
        let old_key = !genuine(&self.current);
        if old_key && !self.previous.as_ref().is_some_and(genuine) {
            return None;
        }
        let issued_unix = u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]).into();
        Some(Ticket { bucket, issued_unix, old_key })
    }
}

// === impl CookieValue ===

impl CookieValue {
    /// The value as text: letters, digits, `-` and `_`.
    pub fn as_str(&self) -> &str {
        // Base64url is ASCII, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for CookieValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CookieValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieValue({self})")
    }
}

// === impl TicketCache ===

impl TicketCache {
    /// An empty one.
    pub fn new() -> Self {
        Self { slots: vec![[None; WAYS]; SETS].into(), turn: 0, keys: None, services: Vec::new() }
    }

    /// Exactly what [`Keys::verify`] answers.
    #[inline]
    pub fn verify(&mut self, keys: &Keys, service: &str, value: &[u8]) -> Option<Ticket> {
        let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
        if self.keys != Some(keys.id()) {
            self.slots.fill([None; WAYS]);
            self.keys = Some(keys.id());
        }
        if let Some(known) = self.services.iter().position(|other| &**other == service) {
            let genuine = |slot: &&Slot| slot.service as usize == known && same(&slot.value, value);
            if let Some(slot) = self.slots[set(value)].iter().flatten().find(genuine) {
                return Some(slot.ticket);
            }
        }
        self.verify_anew(keys, service, value)
    }

    #[cold]
    fn verify_anew(&mut self, keys: &Keys, service: &str, value: &[u8; VALUE_BYTES]) -> Option<Ticket> {
        let ticket = keys.verify(service, value)?;
        let known = self.services.iter().position(|other| &**other == service).unwrap_or_else(|| {
            if self.services.len() == SERVICES_MAX {
                self.slots.fill([None; WAYS]);
                self.services.clear();
            }
            self.services.push(service.into());
            self.services.len() - 1
        });
        let ways = &mut self.slots[set(value)];
        self.turn = (self.turn + 1) % WAYS;
        let way = ways.iter().position(Option::is_none).unwrap_or(self.turn);
        ways[way] = Some(Slot { value: *value, service: known as u32, ticket });
        Some(ticket)
    }
}

impl Default for TicketCache {
    fn default() -> Self {
        Self::new()
    }
}

/// The set of a value: from characters of its signature, which are as good as random in a genuine one.
fn set(value: &[u8; VALUE_BYTES]) -> usize {
    let [.., a, b, c, d] = *value;
    (u32::from_le_bytes([a, b, c, d]).wrapping_mul(0x9E37_79B9) >> (32 - SETS.trailing_zeros())) as usize
}

/// Whether two values are equal, in the same time wherever they differ.
#[inline]
fn same(a: &[u8; VALUE_BYTES], b: &[u8; VALUE_BYTES]) -> bool {
    let word = |bytes: &[u8; VALUE_BYTES], at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[8 * at + i]));
    (0..VALUE_BYTES / 8).fold(0, |difference, at| difference | (word(a, at) ^ word(b, at))) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn key(seed: u8) -> Key {
        Key::from_bytes(std::array::from_fn(|i| seed.wrapping_add(i as u8)))
    }

    fn keys() -> Keys {
        Keys::new(key(0))
    }

    #[test]
    fn the_form_never_changes_between_versions() {
        // Computed from the definition by an independent program.
        let value = keys().issue("engine", 123_456, 1_700_000_000);
        assert_eq!(value.as_str(), "AQHiQGVT8QAycBYQLmQ_qkVBXOGhv1KE");
        let ticket = Ticket { bucket: 123_456, issued_unix: 1_700_000_000, old_key: false };
        assert_eq!(keys().verify("engine", value.as_str().as_bytes()), Some(ticket));
    }

    #[test]
    fn a_change_of_any_bit_or_character_is_refused() {
        let (keys, mut cache) = (keys(), TicketCache::new());
        let value = keys.issue("engine", 7, 1_700_000_000);
        assert!(cache.verify(&keys, "engine", &value.0).is_some());
        for at in 0..VALUE_BYTES {
            let bits = (0..8).map(|bit| value.0[at] ^ (1 << bit));
            for other in bits.chain(CHARACTERS.iter().copied()).filter(|&other| other != value.0[at]) {
                let mut forged = value.0;
                forged[at] = other;
                assert_eq!(keys.verify("engine", &forged), None, "{at}: {other}");
                assert_eq!(cache.verify(&keys, "engine", &forged), None, "{at}: {other}");
            }
        }
    }

    #[test]
    fn a_genuine_signature_does_not_carry_an_unknown_version_or_bucket() {
        for (version, bucket, genuine) in
            [(VERSION, BUCKETS - 1, true), (VERSION + 1, 7, false), (VERSION, BUCKETS, false)]
        {
            let [_, high, middle, low] = bucket.to_be_bytes();
            let fields = [version, high, middle, low, 0, 0, 0, 0];
            let value = URL_SAFE_NO_PAD.encode([fields.as_slice(), &key(0).sign("engine", &fields)].concat());
            assert_eq!(
                keys().verify("engine", value.as_bytes()).is_some(),
                genuine,
                "version {version}, bucket {bucket}"
            );
        }
    }

    #[test]
    fn only_the_exact_spelling_is_accepted() {
        let value = keys().issue("engine", 7, 1_700_000_000);
        let text = value.as_str();
        let standard = text.replace('-', "+").replace('_', "/");
        let spellings = [
            format!("{text}="),
            format!("{text}AAAA"),
            format!("\"{text}\""),
            format!(" {text}"),
            text[..31].to_owned(),
            text[..28].to_owned(),
            String::new(),
            standard.clone() + "=",
            "A".repeat(32),
            "A".repeat(4096),
        ];
        for spelling in spellings {
            assert_eq!(keys().verify("engine", spelling.as_bytes()), None, "{spelling}");
        }
        assert!(standard == text || keys().verify("engine", standard.as_bytes()).is_none());
    }

    #[test]
    fn another_service_or_key_is_refused_also_from_the_cache() {
        let (keys, mut cache) = (keys(), TicketCache::new());
        let value = keys.issue("engine", 7, 1_700_000_000);
        assert!(cache.verify(&keys, "other", &keys.issue("other", 7, 0).0).is_some());
        for _ in 0..2 {
            assert_eq!(cache.verify(&keys, "other", &value.0), None);
            assert!(cache.verify(&keys, "engine", &value.0).is_some());
            assert_eq!(cache.verify(&keys, "engin", &value.0), None);
            assert_eq!(cache.verify(&keys, "", &value.0), None);
        }
        assert_eq!(cache.verify(&Keys::new(key(1)), "engine", &value.0), None);
        assert_eq!(Keys::new(key(1)).verify("engine", &value.0), None);
    }

    #[test]
    fn a_rotated_key_is_accepted_and_said_to_be_old_until_it_is_gone() {
        let (before, mut cache) = (keys(), TicketCache::new());
        let during = Keys { current: key(1), previous: Some(key(0)) };
        let value = before.issue("engine", 7, 1_700_000_000);
        assert_eq!(cache.verify(&before, "engine", &value.0).map(|ticket| ticket.old_key), Some(false));
        assert_eq!(cache.verify(&during, "engine", &value.0).map(|ticket| ticket.old_key), Some(true));
        assert_eq!(cache.verify(&Keys::new(key(1)), "engine", &value.0), None);
        assert_eq!(during.verify("engine", &during.issue("engine", 7, 0).0).map(|ticket| ticket.old_key), Some(false));
    }

    #[test]
    fn more_services_than_the_cache_tells_apart_are_still_told_apart() {
        let (keys, mut cache) = (keys(), TicketCache::new());
        let services: Vec<String> = (0..SERVICES_MAX + 9).map(|i| format!("service-{i}")).collect();
        for (i, service) in services.iter().enumerate() {
            let value = keys.issue(service, i as u32, 0);
            assert_eq!(cache.verify(&keys, service, &value.0).map(|ticket| ticket.bucket), Some(i as u32));
            assert_eq!(cache.verify(&keys, &services[(i + 1) % services.len()], &value.0), None);
        }
    }

    #[test]
    fn key_files_hold_one_or_two_keys_in_either_form() {
        let hex = key(0).to_hex();
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        for text in [hex.clone(), hex.to_uppercase(), base64.into(), base64.trim_end_matches('=').into()] {
            assert_eq!(Keys::parse(&text), Ok(keys()), "{text}");
        }
        let two = Keys::parse(&format!("# current\n{}\r\n\n  {base64}  \n", key(9).to_hex()));
        assert_eq!(two, Ok(Keys { current: key(9), previous: Some(key(0)) }));
        assert_eq!(two.map(|keys| Keys::parse(&keys.to_text()) == Ok(keys)), Ok(true));
        assert_eq!(Keys::parse(" \n# nothing\n"), Err(InvalidKeys::None));
        assert_eq!(Keys::parse(&format!("{hex}\n{hex}\n{hex}")), Err(InvalidKeys::TooMany { line: 3 }));
        assert_eq!(Keys::parse(&"0".repeat(64)), Err(InvalidKeys::Guessable { line: 1 }));
        for wrong in [&hex[1..], "secret", &format!("{hex}00"), &"é".repeat(32), &"+".repeat(64)] {
            assert_eq!(Keys::parse(wrong), Err(InvalidKeys::Malformed { line: 1 }), "{wrong}");
        }
        assert_eq!(format!("{:?}", keys()), "Keys { current: Key(..), previous: None }");
    }

    #[test]
    fn a_cache_with_more_clients_than_room_still_answers_as_the_keys_do() {
        let (keys, mut cache) = (keys(), TicketCache::new());
        let values: Vec<CookieValue> = (0..5_000).map(|bucket| keys.issue("engine", bucket, 0)).collect();
        for _ in 0..2 {
            for (bucket, value) in (0..).zip(&values) {
                assert_eq!(cache.verify(&keys, "engine", &value.0).map(|ticket| ticket.bucket), Some(bucket));
            }
        }
        assert!(cache.slots.iter().flatten().all(Option::is_some), "every place is in use after 5000 values");
    }

    proptest! {
        #[test]
        fn what_was_issued_is_verified(service in "[a-z]{1,64}", bucket in 0..BUCKETS, issued: u32, seed: u8) {
            let keys = Keys::new(key(seed));
            let value = keys.issue(&service, bucket, issued.into());
            let ticket = Some(Ticket { bucket, issued_unix: issued.into(), old_key: false });
            prop_assert_eq!(keys.verify(&service, value.as_str().as_bytes()), ticket);
            let mut cache = TicketCache::new();
            prop_assert_eq!(cache.verify(&keys, &service, &value.0), ticket);
            prop_assert_eq!(cache.verify(&keys, &service, &value.0), ticket);
        }

        #[test]
        fn no_bytes_can_panic_or_pass(value in prop::collection::vec(any::<u8>(), 0..64), text in "\\PC{0,200}") {
            prop_assert_eq!(keys().verify("engine", &value), None);
            prop_assert_eq!(TicketCache::new().verify(&keys(), "engine", &value), None);
            let _ = Keys::parse(&text);
        }
    }
}
