//! An answer over HTTP/2 behind its head: pieces of its body as they come, while the upload goes on beside it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::grpc;
use super::trunk::Place;
use super::uplink::Uplink;
use crate::model::Fault;
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::clients::h2::trailer_lines;
use crate::proxy::h1::response::{Response, ResponseFraming};
use crate::proxy::http2::error::{By, Error, Reason};
use crate::proxy::http2::handles::{Inflow, Outflow};

/// An answer: its head, once that is there, and what follows it. It stays in one place while it is waited for.
#[derive(Debug)]
pub(crate) struct Answer {
    /// None before its head is there.
    stream: Option<Inflow>,
    pub(crate) response: Response,
    /// What the spans of `response` point into.
    pub(crate) bytes: Vec<u8>,
    pub(crate) uplink: Uplink,
    /// Held until the answer has ended.
    place: Place,
    ended: bool,
    /// Whether it grants a WebSocket: what follows is no body.
    tunnel: bool,
    /// Of an answer to a gRPC call: how the call ended, as far as it is known.
    call: Option<Call>,
}

/// How a gRPC call ended.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// `grpc-status`; none when there was none so far.
    status: Option<u32>,
}

/// A piece of it.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Body bytes: to be given back by [`Answer::taken`] when the client has them.
    Data(Bytes),
    /// The end, with trailers as lines.
    End(Vec<u8>),
    /// It broke off, by whose fault.
    Cut(Fault),
}

// === impl Answer ===

impl Answer {
    /// One that is waited for.
    pub(super) fn awaited(uplink: Uplink, place: Place) -> Box<Self> {
        let (stream, response, bytes) = (None, Response::default(), Vec::new());
        Box::new(Self { stream, response, bytes, uplink, place, ended: false, tunnel: false, call: None })
    }

    /// Its head came.
    pub(super) fn begin(&mut self, stream: Inflow, response: Response, bytes: Vec<u8>) {
        self.ended = stream.is_end_stream() || response.framing == ResponseFraming::None;
        (self.stream, self.response, self.bytes) = (Some(stream), response, bytes);
    }

    /// It answers an extended CONNECT, and a 2xx grants it.
    pub(super) fn expect_tunnel(&mut self) {
        self.tunnel = (200..300).contains(&self.response.status);
    }

    /// Whether it grants a WebSocket.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Both directions of its stream, and its place on the connection.
    pub(super) fn into_parts(self) -> Option<(Inflow, Outflow, Place)> {
        self.stream.map(|stream| (stream, self.uplink.into_stream(), self.place))
    }

    /// It answers a gRPC call, so that only its end tells how that went. True unless its HTTP status tells already.
    pub(crate) fn expect_status(&mut self) -> bool {
        if self.response.status == 200 {
            self.call = Some(Call { status: grpc::in_head(&self.response, &self.bytes) });
        }
        self.call.is_some()
    }

    /// `grpc-status` of an answer to a call, once it has ended: without one it is unknown.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        self.call.filter(|_| self.ended).map(|call| call.status.unwrap_or(grpc::UNKNOWN))
    }

    /// Whether nothing follows the head.
    pub(crate) fn is_bare(&self) -> bool {
        self.ended
    }

    /// Whether nothing follows what has been handed out, in either direction. An answer to a call has its status behind
    /// that, and is never so.
    pub(crate) fn is_over(&mut self) -> bool {
        let ended = || self.stream.as_ref().is_some_and(Inflow::is_end_stream);
        let over = self.uplink.is_over() && self.call.is_none() && ended();
        self.ended |= over;
        over
    }

    /// The next piece.
    pub(crate) fn poll<D: Downstream>(&mut self, cx: &mut Context<'_>, down: &mut D) -> Poll<Piece> {
        // The upload goes on beside the answer; an endpoint that takes no more of it says so by a reset.
        if let Poll::Ready(Err(_)) = self.uplink.poll(cx, down) {
            return Poll::Ready(Piece::Cut(Fault::Client));
        }
        let Some(stream) = self.stream.as_mut().filter(|_| !self.ended) else {
            return Poll::Ready(Piece::End(Vec::new()));
        };
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => Poll::Ready(Piece::Data(data)),
            Some(Err(error)) => Poll::Ready(Piece::Cut(whose(error))),
            None => match ready!(stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.ended = true;
                    let trailers = trailer_lines(trailers);
                    if let Some(call) = &mut self.call {
                        call.status = grpc::in_trailers(&trailers).or(call.status);
                    }
                    Poll::Ready(Piece::End(trailers))
                }
                Err(error) => Poll::Ready(Piece::Cut(whose(error))),
            },
        }
    }

    /// The client has taken as many bytes of the body: the endpoint may send as many more.
    pub(crate) fn taken(&mut self, bytes: usize) {
        if let Some(stream) = &mut self.stream {
            stream.release(bytes);
        }
    }

    /// It took too long: perhaps nobody is there.
    pub(crate) fn doubt(&self) {
        self.place.doubt();
    }
}

/// Whose fault it is that an answer broke off: the client's, when it was given up here because nobody took it.
fn whose(error: Error) -> Fault {
    match error {
        Error::Reset(Reason::CANCEL, By::Us) => Fault::Client,
        _ => Fault::UpstreamAnswer,
    }
}
