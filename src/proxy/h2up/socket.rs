//! WebSockets to endpoints that speak HTTP/2 (RFC 8441): asked for by an extended CONNECT where the endpoint's SETTINGS
//! allow it, and carried between its stream and the client's connection or stream.
//!
//! An endpoint that does not allow it gets the GET without its upgrade, as a proxy may do (RFC 9110 §7.8); what it says
//! to that is an ordinary answer.

use tokio::io::AsyncWriteExt;

use super::answer::Answer;
use super::attempt::Answered2;
use super::trunk::Place;
use crate::model::Fault;
use crate::proxy::arrival::link::Link;
use crate::proxy::clients::client::Client;
use crate::proxy::clients::serve::{After, Told};
use crate::proxy::clients::stream::Stream;
use crate::proxy::decide::{Decision, Question};
use crate::proxy::heads::answer::{Back, Took};
use crate::proxy::http2::server::Respond;
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::duplex::Duplex;
use crate::proxy::tunnel::socket::{Asked, accept};
use crate::proxy::tunnel::{self, Tunnel};
use crate::proxy::worker::timer::Timer;

impl Answer {
    /// The stream as bytes both ways, and the place on its connection that lasts as long.
    fn into_tunnel(self) -> (Duplex, Place) {
        let (recv, send, place) = self.into_parts().expect("it has been granted, by the head of an answer");
        (Duplex::new(recv, send), place)
    }
}

impl Told<'_> {
    /// Tells an HTTP/1 client that its upgrade is granted, and carries what follows.
    pub(super) async fn upgrade_http2<L: Link>(
        &self,
        question: &Question<'_>,
        decision: &Decision,
        client: &mut Client<'_, L>,
        answered: Box<Answered2>,
        timer: &mut Timer,
    ) -> After {
        let Answered2 { answer, attempt, mut trail, .. } = *answered;
        let mut out = client.behind_owed(self.request.worker.buffers.borrow_mut().take());
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        let authority = &attempt.endpoint().authority;
        let snapshot = &self.request.snapshot;
        let (now, took) = (question.now, Took { began: self.request.began, upstream_us: trail.upstream_us });
        let back = Back { snapshot, head: self.head, decision, caller: self.caller, authority, now, took };
        back.fields(&answer.response, &answer.bytes, |name, value| {
            if name != b"sec-websocket-accept" {
                out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
            }
        });
        let key = self.head.value("sec-websocket-key").unwrap_or_default();
        out.extend_from_slice(b"sec-websocket-accept: ");
        out.extend_from_slice(accept(key).as_bytes());
        out.extend_from_slice(b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        tunnel::keep_alive(client.stream.socket());
        let written = client.stream.write_all(&out).await;
        self.request.worker.buffers.borrow_mut().put(out);
        if written.is_err() {
            self.tell(Some(decision), &trail, 499, Some(Fault::Client), (client.bytes_in, 0));
            return After::Close;
        }
        let (mut endpoint, _place) = answer.into_tunnel();
        let tunnel = Tunnel::new(self.request.worker, &attempt, client.unused(), &[]);
        let ended = tunnel.run(client.stream, &mut endpoint, timer).await;
        trail.reset = ended.endpoint_reset;
        client.bytes_in += ended.up;
        self.tell(Some(decision), &trail, 101, None, (client.bytes_in, ended.down));
        After::Close
    }
}

impl Stream {
    /// What an HTTP/2 endpoint answered to a WebSocket of an HTTP/2 client: carried when it granted it. What is to be
    /// poured as an ordinary answer comes back.
    pub(in crate::proxy) async fn upgrade_http2(
        &mut self,
        asked: Asked,
        answered: Box<Answered2>,
        decision: &Decision,
        timer: &mut Timer,
        respond: &mut Respond,
    ) -> Option<Box<Answered2>> {
        if !answered.answer.is_tunnel() {
            if !(200..300).contains(&answered.answer.response.status) {
                return Some(answered);
            }
            self.refuse(&Refusal::NoWebSocket, &answered.trail, 0, respond);
            return None;
        }
        let Answered2 { answer, attempt, mut trail, .. } = *answered;
        let told = self.told(&answer.response, &answer.bytes, &attempt, decision, trail.upstream_us);
        let Ok(out) = respond.send_response(|out| told.grant(out), false) else {
            self.tell(&trail, 499, Some(Fault::Client), (0, 0));
            return None;
        };
        let (mut endpoint, _place) = answer.into_tunnel();
        let carried = Tunnel::new(self.worker(), &attempt, &[], &[]);
        let ended = carried.run(&mut asked.with(out), &mut endpoint, timer).await;
        self.tell_tunnel(&mut trail, &ended);
        None
    }
}
