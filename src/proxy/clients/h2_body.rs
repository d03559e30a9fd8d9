//! The body of a client's HTTP/2 stream on its way to an endpoint: taken as the endpoint takes it, so that the stream's
//! window says how much may come. Answers are for [`stream`](super::stream).

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::h2::trailer_lines;
use super::interim::send_interim;
use crate::model::{FieldId, Head, Timeouts};
use crate::proxy::bodies::body::{push_chunk, push_last_chunk};
use crate::proxy::bodies::pace::Pace;
use crate::proxy::bodies::upload::{Downstream, PIECE_BYTES};
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::Response;
use crate::proxy::http2::handles::Inflow;
use crate::proxy::http2::server::Respond;
use crate::proxy::mirror::Aside;
use crate::proxy::refusal::Refusal;

/// A stream's body on its way to an endpoint.
#[derive(Debug)]
pub(crate) struct Upstream {
    body: Option<Inflow>,
    chunked: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    waits: bool,
    pub(crate) bytes_in: u64,
    /// Whether it comes fast enough, where it has to.
    pace: Option<Pace>,
    /// What stands beside a request that is copied.
    pub(crate) aside: Option<Box<Aside>>,
}

impl Upstream {
    /// The body of the request whose head is `head`.
    pub(crate) fn new(body: Inflow, framing: Framing, head: &Head) -> Self {
        let body = Some(body).filter(|body| !body.is_end_stream());
        let waits = body.is_some() && head.fields.iter().any(|field| field.id == FieldId::Expect);
        Self { body, chunked: framing == Framing::Chunked, waits, bytes_in: 0, pace: None, aside: None }
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self { body: None, chunked: false, waits: false, bytes_in: 0, pace: None, aside: None }
    }

    /// From here on the body, if there is any, has to come as fast as these say.
    #[inline]
    pub(crate) fn keep_pace(&mut self, timeouts: &Timeouts, head: &Head) {
        if self.body.is_some() {
            self.pace = Pace::of_stream(timeouts, head);
        }
    }

    /// The client's side of an exchange, interim answers included.
    pub(crate) fn with<'a>(&'a mut self, respond: &'a RefCell<&'a mut Respond>) -> Awaiting<'a> {
        Awaiting { up: self, respond }
    }

    /// Takes more of it, and where it is copied, into the copy.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        let before = out.len();
        let taken = self.poll_framed(cx, out);
        if let (Some(pace), Poll::Pending) = (&mut self.pace, &taken) {
            pace.wait();
        }
        if let (Some(aside), Poll::Ready(Ok(complete))) = (&mut self.aside, &taken) {
            aside.tee(&out[before..], *complete);
        }
        taken
    }

    fn poll_framed(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        while let Some(body) = &mut self.body {
            if out.len() >= PIECE_BYTES {
                return Poll::Ready(Ok(false));
            }
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    body.release(data.len());
                    self.waits = false;
                    self.bytes_in += data.len() as u64;
                    if let Some(pace) = &mut self.pace {
                        pace.came(data.len());
                    }
                    match self.chunked {
                        true => push_chunk(out, &data),
                        false => out.extend_from_slice(&data),
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Refusal::ClientGone)),
                // A stream that was reset is no body's end, and is an error here too.
                Poll::Ready(None) => match body.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        self.body = None;
                        if self.chunked {
                            push_last_chunk(out, &trailer_lines(trailers));
                        }
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::ClientGone)),
                    Poll::Pending if out.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(false)),
                },
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl Downstream for Upstream {
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        match self.poll_body(&mut Context::from_waker(Waker::noop()), out) {
            Poll::Ready(complete) => complete,
            Poll::Pending => Ok(false),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        self.poll_body(cx, out)
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // The stream asks for its reset beside the exchange.
        Poll::Pending
    }

    fn awaits_continue(&self) -> bool {
        self.waits
    }

    fn interim(&mut self, _: &mut Context<'_>, _: &Response, _: &[u8]) {
        // After the final head there are none.
    }

    fn set_aside(&mut self, aside: Box<Aside>) {
        self.aside = Some(aside);
    }
}

/// A stream whose final answer has not begun.
pub(crate) struct Awaiting<'a> {
    up: &'a mut Upstream,
    respond: &'a RefCell<&'a mut Respond>,
}

impl Downstream for Awaiting<'_> {
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        self.up.buffered(out)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        self.up.poll_body(cx, out)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.up.poll_gone(cx)
    }

    fn awaits_continue(&self) -> bool {
        self.up.waits
    }

    fn patience(&self) -> Option<Duration> {
        self.up.pace.as_ref().map(Pace::patience)
    }

    fn interim(&mut self, _: &mut Context<'_>, interim: &Response, bytes: &[u8]) {
        let awaited = interim.status == 100 && std::mem::take(&mut self.up.waits);
        let mut respond = self.respond.borrow_mut();
        // A client that does not take what there is is sent no other but the one that it waits for, so that little is
        // kept.
        if awaited || !respond.is_laden() {
            // A stream that is no more is told of elsewhere.
            let _ = send_interim(interim, bytes, &mut respond);
        }
    }

    fn set_aside(&mut self, aside: Box<Aside>) {
        self.up.set_aside(aside);
    }
}
