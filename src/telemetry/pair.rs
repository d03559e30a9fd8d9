//! Captured pairs: a request that was copied, with both answers, for whoever compares them. One bounded channel from
//! the workers to one receiver; what it has no room for is dropped and counted. Until somebody takes the receiver
//! nothing is captured, and the request path reads one flag that nobody writes.
//!
//! Values of fields that carry secrets are not captured. What the pairs mean is not decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a body that are kept; the rest is only counted and hashed.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most pairs that wait for the receiver: 48 MiB of three full bodies each.
pub const PAIRS_MAX: usize = 256;

/// What stands for a value that is not captured.
pub const SECRET: &str = "[secret]";

/// Fields whose values are secrets between the client and the service.
const SECRETS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "client-cert",
    "x-forwarded-client-cert",
    "x-api-key",
];

/// A request and its two answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The service.
    pub service: String,
    /// The pool that answered the client.
    pub from: String,
    /// The pool that got the copy.
    pub to: String,
    /// The request, as the copy was sent.
    pub request: Asked,
    /// The answer that the client got, as the endpoint gave it.
    pub primary: Told,
    /// The answer to the copy.
    pub copy: Told,
}

/// The request of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path and query, as the endpoints got them.
    pub target: String,
    /// Its fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body, as it was framed for HTTP/1.1.
    pub body: Body,
}

/// One answer of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Status; 0 when there was no answer.
    pub status: u16,
    /// Its fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body, without its framing.
    pub body: Body,
    /// Whether it came to its end.
    pub whole: bool,
    /// From the begin of the attempt to the head of the answer.
    pub head_after: Duration,
    /// From the begin of the attempt to its end.
    pub end_after: Duration,
}

/// A body: its beginning, and what tells it from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// At most [`BODY_BYTES_MAX`] bytes of it.
    pub start: Vec<u8>,
    /// How long it was.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub digest: [u8; 32],
}

/// A body as it comes.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    start: Vec<u8>,
    bytes: u64,
    digest: Sha256,
}

/// Where pairs go.
#[derive(Debug, Default)]
pub struct Tap {
    taken: AtomicBool,
    sender: ArcSwapOption<Sender<Box<Pair>>>,
    given: AtomicU64,
    dropped: AtomicU64,
}

// === impl Gathered ===

impl Gathered {
    /// More of it.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = BODY_BYTES_MAX - self.start.len();
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }

    /// All of it.
    pub fn finish(self) -> Body {
        Body { start: self.start, bytes: self.bytes, digest: self.digest.finalize().into() }
    }
}

// === impl Tap ===

impl Tap {
    /// The one receiver; from here on pairs are captured, until it is dropped. One that was taken before gets no more.
    pub fn receive(&self) -> Receiver<Box<Pair>> {
        let (sender, receiver) = channel(PAIRS_MAX);
        self.sender.store(Some(Arc::new(sender)));
        self.taken.store(true, Ordering::Relaxed);
        receiver
    }

    /// Whether somebody wants pairs.
    #[inline]
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// Hands a pair over, or drops it; never waits.
    pub fn offer(&self, pair: Box<Pair>) {
        let sent = match self.sender.load().as_deref().map(|sender| sender.try_send(pair)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Closed(_))) => {
                self.taken.store(false, Ordering::Relaxed);
                false
            }
            Some(Err(TrySendError::Full(_))) | None => false,
        };
        let counter = if sent { &self.given } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many pairs were handed over.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// How many pairs were dropped for want of room or of a receiver.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A field as it is captured.
pub fn field(name: &[u8], value: &[u8]) -> (String, String) {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let value = match SECRETS.contains(&name.as_str()) {
        true => SECRET.to_owned(),
        false => String::from_utf8_lossy(value).into_owned(),
    };
    (name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Box<Pair> {
        let told = Told::default();
        let name = |text: &str| text.to_owned();
        let (service, from, to) = (name("engine"), name("stable"), name("canary"));
        Box::new(Pair { service, from, to, request: Asked::default(), primary: told.clone(), copy: told })
    }

    #[test]
    fn nothing_is_captured_until_somebody_takes_the_receiver_and_what_finds_no_room_is_counted() {
        let tap = Tap::default();
        assert!(!tap.is_taken());
        tap.offer(pair());
        let mut receiver = tap.receive();
        assert!(tap.is_taken());
        (0..PAIRS_MAX + 3).for_each(|_| tap.offer(pair()));
        assert_eq!((tap.given(), tap.dropped()), (PAIRS_MAX as u64, 4));
        assert_eq!(receiver.try_recv().expect("one waits"), pair());
        drop(receiver);
        tap.offer(pair());
        assert!(!tap.is_taken(), "whoever took the receiver has gone");
    }

    #[test]
    fn a_body_is_kept_to_its_bound_and_told_apart_beyond_it() {
        let of = |pieces: &[&[u8]]| {
            let mut gathered = Gathered::default();
            pieces.iter().for_each(|piece| gathered.push(piece));
            gathered.finish()
        };
        let long = vec![b'x'; BODY_BYTES_MAX];
        let (one, other) = (of(&[&long, b"a"]), of(&[&long, b"b"]));
        assert_eq!((one.start.len(), one.bytes), (BODY_BYTES_MAX, BODY_BYTES_MAX as u64 + 1));
        assert_eq!(one.start, other.start);
        assert_ne!(one.digest, other.digest);
        assert_eq!(of(&[b"he", b"llo"]), of(&[b"hello"]));
    }

    #[test]
    fn no_secret_is_captured() {
        assert_eq!(field(b"Authorization", b"Bearer x"), ("authorization".to_owned(), SECRET.to_owned()));
        assert_eq!(field(b"etag", b"\"1\""), ("etag".to_owned(), "\"1\"".to_owned()));
    }
}
