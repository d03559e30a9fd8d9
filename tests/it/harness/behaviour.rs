//! What a test upstream does with a connection, a request or a probe.

use std::sync::Arc;
use std::time::Duration;

use super::wire::Head;

/// What happens to a new connection, before any byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It is served.
    Open,
    /// It is reset at once (RST).
    Reset,
    /// It is closed at once (FIN).
    Close,
    /// It is taken and then nothing is said.
    Silent,
}

/// What a probe of `/healthz` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// 200.
    Pass,
    /// 503.
    Fail,
    /// No answer.
    Hang,
}

/// What follows after raw bytes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next request on the connection is read.
    Keep,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing is said, and all is read and forgotten, until the peer leaves.
    Hold,
    /// Nothing is said and nothing is read until the peer leaves.
    Freeze,
    /// Every byte is sent back, until the peer leaves.
    Echo,
}

/// An ordinary answer that a test shapes.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields besides `x-upstream` and the framing.
    pub fields: Vec<(String, String)>,
    /// Body; empty means the upstream's name.
    pub body: Vec<u8>,
}

impl Reply {
    /// A plain answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// With one more field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What a test upstream does with a request that it has read.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// 200 with its name.
    Answer,
    /// This answer.
    Reply(Reply),
    /// 200 whose body is the request's body.
    Echo,
    /// The same, and the client is never told to go on with its body.
    NoContinue,
    /// [`Behaviour::Answer`] after a while.
    Late(Duration),
    /// Exactly these bytes after the whole request.
    Raw(Vec<u8>, Then),
    /// Exactly these bytes after the head; the request's body stays unread.
    Early(Vec<u8>, Then),
    /// Reset as soon as the head has been read.
    ResetAfterHead,
    /// Half a response head, then reset.
    ResetInsideHead,
    /// No answer until the peer leaves.
    StallBeforeHead,
    /// A head that promises `of` bytes, `sent` of them, then nothing until the peer leaves.
    StallMidBody {
        /// Bytes that are sent.
        sent: usize,
        /// Bytes that were promised.
        of: usize,
    },
    /// A head that promises `of` bytes, `sent` of them, then a reset.
    ResetMidBody {
        /// Bytes that are sent.
        sent: usize,
        /// Bytes that were promised.
        of: usize,
    },
    /// A chunked body cut inside a chunk, then a clean close.
    CutChunk,
    /// The sending side is closed without an answer; reading goes on.
    HalfClose,
    /// A body of known length in pieces with a pause between.
    SlowBody {
        /// How many pieces.
        pieces: usize,
        /// Bytes in each.
        piece: usize,
        /// Time between two.
        pause: Duration,
    },
    /// A body of this many bytes as fast as the peer takes it.
    Large(u64),
    /// What this chooses for each request.
    Chosen(Choice),
}

/// Chooses a behaviour for a request by its head and its number, counted from 1.
pub type Chooses = dyn Fn(&Head, u64) -> Behaviour + Send + Sync;

/// See [`Chooses`].
#[derive(Clone)]
pub struct Choice(pub Arc<Chooses>);

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Choice")
    }
}

impl Behaviour {
    /// Raw bytes and then the next request.
    pub fn raw(bytes: &str) -> Self {
        Self::Raw(bytes.as_bytes().to_vec(), Then::Keep)
    }

    /// Raw bytes and then a close.
    pub fn raw_and_close(bytes: &str) -> Self {
        Self::Raw(bytes.as_bytes().to_vec(), Then::Close)
    }

    /// A bare answer with this status.
    pub fn status(status: u16) -> Self {
        Self::Reply(Reply::status(status))
    }

    /// What `choice` says for each request; never another choice.
    pub fn chosen(choice: impl Fn(&Head, u64) -> Self + Send + Sync + 'static) -> Self {
        Self::Chosen(Choice(Arc::new(choice)))
    }
}
