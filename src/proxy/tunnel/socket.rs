//! WebSockets over HTTP/2 (RFC 8441): what an extended CONNECT is turned into, and what its answer is turned back into.
//!
//! The request goes its way as the GET that it would be over HTTP/1, with a key of ours, so that routes, weights and
//! limits see no difference. Towards an HTTP/1 endpoint that is what it stays; its 101 is checked and becomes a
//! 200. Where both ends speak HTTP/2, and where only the endpoint does, see `h2up::socket`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::duplex::Duplex;
use super::{Ended, Tunnel};
use crate::model::{Fault, Head};
use crate::proxy::attempt::forward::{Answered, Trail};
use crate::proxy::attempt::wire::Wire;
use crate::proxy::clients::stream::Stream;
use crate::proxy::decide::Decision;
use crate::proxy::decide::dice::Rng;
use crate::proxy::h1::request::Refused;
use crate::proxy::h1::response::Response;
use crate::proxy::http2::handles::{Inflow, Outflow};
use crate::proxy::http2::head::Request;
use crate::proxy::http2::server::Respond;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::timer::Timer;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The field of a [`Key`].
pub(crate) const KEY: &[u8] = b"sec-websocket-key";

/// `Sec-WebSocket-Key`: 16 random bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key([u8; 24]);

/// A WebSocket that a client of HTTP/2 asks for, or the tunnel of a CONNECT.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its side of the stream; nothing is read of it before there is a tunnel.
    pub(crate) body: Inflow,
}

// === impl Key ===

impl Key {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.draw().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.draw().to_be_bytes());
        let mut key = [0; 24];
        let written = STANDARD.encode_slice(bytes, &mut key);
        debug_assert_eq!(written.ok(), Some(key.len()), "16 bytes are 24 characters");
        Self(key)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the request asks for a protocol of its own: an extended CONNECT.
pub(crate) fn is_asked(request: &Request) -> bool {
    request.protocol().is_some()
}

/// What `Sec-WebSocket-Accept` has to be for a key (RFC 6455 §4.2.2).
pub(crate) fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether the method may be served, and as which one it is; an extended CONNECT is a GET that asks for an upgrade.
pub(crate) fn method(request: &Request) -> Result<&[u8], Refused> {
    match (request.method(), request.protocol()) {
        (b"CONNECT", Some(protocol)) => {
            // RFC 9220 §3: 501 for a protocol that is not known.
            if !protocol.eq_ignore_ascii_case(b"websocket") {
                return Err(Refused::Protocol);
            }
            if request.get(b"sec-websocket-version") != Some(b"13") {
                return Err(Refused::Malformed("the Sec-WebSocket-Version is not 13"));
            }
            Ok(b"GET")
        }
        (b"TRACE", _) => Err(Refused::Method),
        (method, _) => Ok(method),
    }
}

/// Whether an endpoint's 101 answers the key of `head`.
fn is_accepted(response: &Response, bytes: &[u8], head: &Head) -> bool {
    let mut accepts =
        response.lines.iter().filter(|line| bytes[line.name.range()].eq_ignore_ascii_case(b"sec-websocket-accept"));
    let key = head.value("sec-websocket-key").unwrap_or_default();
    let right = accepts.next().is_some_and(|line| bytes[line.value.range()] == *accept(key).as_bytes());
    response.upgrade && right && accepts.next().is_none()
}

// === impl Stream ===

impl Stream {
    /// What an HTTP/1 endpoint answered to a WebSocket: carried when it granted it; an ordinary answer comes back,
    /// and a refusal where there can be none.
    pub(crate) async fn upgrade<W: Wire>(
        &mut self,
        asked: Asked,
        answered: Box<Answered<W>>,
        decision: &Decision,
        timer: &mut Timer,
        respond: &mut Respond,
    ) -> Option<Result<Box<Answered<W>>, (Refusal, Trail)>> {
        let Answered { mut conn, response, attempt, mut trail, .. } = match answered.response.status {
            101 => *answered,
            // A 2xx would say that there is a tunnel.
            200..=299 => return Some(Err((Refusal::NoWebSocket, answered.trail))),
            _ => return Some(Ok(answered)),
        };
        if !is_accepted(&response, &conn.buf, &self.head) {
            attempt.fail(Fault::UpstreamAnswer, &self.question());
            let refusal = Refusal::Upstream { fault: Fault::UpstreamAnswer, reason: "bad_websocket_accept" };
            return Some(Err((refusal, trail)));
        }
        let told = self.told(&response, &conn.buf, &attempt, decision, trail.upstream_us);
        let granted = respond.send_response(|out| told.grant(out), false);
        conn.buf.drain(..response.head_bytes);
        let Ok(out) = granted else {
            self.tell(&trail, 499, Some(Fault::Client), (0, 0));
            return None;
        };
        conn.stream.tcp().into_iter().for_each(super::keep_alive);
        let carried = Tunnel::new(self.worker(), &attempt, &[], &conn.buf);
        let ended = carried.run(&mut asked.with(out), &mut conn.stream, timer).await;
        if ended.client_reset {
            // It broke off, and so does this (RFC 8441 §5).
            conn.stream.tcp().into_iter().for_each(super::reset);
        }
        self.tell_tunnel(&mut trail, &ended);
        None
    }

    /// Tells of a tunnel that has ended: as over HTTP/1, whatever its status was.
    pub(crate) fn tell_tunnel(&self, trail: &mut Trail, ended: &Ended) {
        trail.reset = ended.endpoint_reset;
        self.tell(trail, 101, None, (ended.up, ended.down));
    }
}

// === impl Asked ===

impl Asked {
    /// Both directions, once it is granted.
    pub(crate) fn with(self, out: Outflow) -> Duplex {
        Duplex::new(self.body, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut rng = Rng::new(7);
        let keys = [Key::new(&mut rng), Key::new(&mut rng)];
        assert!(keys[0].as_bytes() != keys[1].as_bytes() && keys[0].as_bytes().ends_with(b"=="));
    }
}
