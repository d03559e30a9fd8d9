//! The way up of a body over HTTP/2: taken from the client framed as for HTTP/1, unframed here, and sent as the
//! endpoint takes it. At most one piece waits beneath.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::proxy::bodies::body::BodyReader;
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::h1::chunked::Piece;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::trailers;
use crate::proxy::http2::error::Reason;
use crate::proxy::http2::handles::Outflow;
use crate::proxy::refusal::Refusal;

/// One request body on its way to one endpoint.
#[derive(Debug)]
pub(crate) struct Uplink {
    stream: Outflow,
    body: BodyReader,
    /// What has been taken from the client and not been unframed.
    framed: Vec<u8>,
    /// What goes next.
    piece: Bytes,
    /// Whether it ends with that.
    last: bool,
    /// Whether the client has sent all of it.
    complete: bool,
    /// Whether the endpoint has been handed all of it, or takes no more.
    over: Option<Over>,
    moved: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Whole,
    Broken,
}

// === impl Uplink ===

impl Uplink {
    /// An upload that begins with `framed`, over a stream whose head has been sent.
    pub(crate) fn new(stream: Outflow, framing: Framing, framed: Vec<u8>, complete: bool) -> Self {
        let mut uplink = Self {
            stream,
            body: BodyReader::of_request(framing),
            framed,
            piece: Bytes::new(),
            last: false,
            complete,
            over: (framing == Framing::None).then_some(Over::Whole),
            moved: 0,
        };
        uplink.unframe();
        uplink
    }

    /// The stream itself, for what is no body.
    pub(super) fn into_stream(self) -> Outflow {
        self.stream
    }

    /// Whether nothing more is to come from the client.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether nothing more goes up.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// A measure that grows with every byte that moves.
    pub(crate) fn mark(&self) -> u64 {
        self.moved
    }

    /// Whether it waits for nothing but the client's next byte.
    pub(crate) fn waits_for_client(&self) -> bool {
        !self.complete && self.piece.is_empty()
    }

    /// Sends what there is and what comes. Ready: all is handed over, or the endpoint takes no more.
    pub(crate) fn poll<D: Downstream>(&mut self, cx: &mut Context<'_>, down: &mut D) -> Poll<Result<(), Refusal>> {
        while self.over.is_none() {
            if !self.piece.is_empty() {
                ready!(self.poll_send(cx));
            } else if self.last {
                self.finish();
            } else if self.complete {
                // The client's side hands over whole bodies only, so there is nothing that could be missing.
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                self.over = Some(Over::Broken);
            } else {
                self.complete = ready!(down.poll_body(cx, &mut self.framed))?;
                self.unframe();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Unframes all that is there.
    fn unframe(&mut self) {
        let (mut at, mut data) = (0, Vec::new());
        while let Ok((used, piece)) = self.body.next(&self.framed[at..]) {
            match piece {
                Piece::Data(range) => data.extend_from_slice(&self.framed[at + range.start..at + range.end]),
                Piece::More => {
                    at += used;
                    break;
                }
                Piece::End => {
                    at += used;
                    self.last = true;
                    break;
                }
            }
            at += used;
        }
        self.framed.drain(..at);
        self.piece = Bytes::from(data);
    }

    /// Hands the piece on once the endpoint has taken the one before.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.stream.poll_room(cx)).is_err() {
            self.over = Some(Over::Broken);
            return Poll::Ready(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.moved += piece.len() as u64;
        let ends = self.last && matches!(&self.body, BodyReader::Done(trailers) if trailers.is_empty());
        self.over = match self.stream.send_data(piece, ends) {
            Ok(()) if ends => Some(Over::Whole),
            Ok(()) => None,
            Err(_) => Some(Over::Broken),
        };
        Poll::Ready(())
    }

    /// Sends the end: trailers, or nothing.
    fn finish(&mut self) {
        let trailers = self.body.take_trailers();
        let sent = match trailers.is_empty() {
            true => self.stream.send_data(Bytes::new(), true),
            false => self.stream.send_trailers(trailers::fields(&trailers)),
        };
        self.moved += 1;
        self.over = Some(if sent.is_ok() { Over::Whole } else { Over::Broken });
    }
}
