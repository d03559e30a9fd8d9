//! Writes the request head that an endpoint gets: the canonical head without what belongs to the client's connection,
//! one `Cookie`, one framing, and our own fields last, where nothing the client sends can stand behind them.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use super::digits::{push_decimal, push_ip};
use super::forwarded::{is_list, push_element};
use super::sink::{Fixed, Sink, fixed};
use super::trace::Trace;
use crate::model::{FieldId, Head, Rewrite, Span};
use crate::proxy::arrival::via::{TlsFacts, Via};
use crate::proxy::decide::Decision;
use crate::proxy::decide::dice::Rng;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::syntax;
use crate::proxy::mirror::MARK;
use crate::proxy::refusal::Refusal;
use crate::routing::matcher::contains;
use crate::routing::path;
use crate::switchboard::snapshot::Snapshot;

/// Longest request id that is kept from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;

static COOKIE: Fixed = fixed!("cookie", "");
static CONTENT_LENGTH: Fixed = fixed!("content-length", "");
static FORWARDED_FOR: Fixed = fixed!("x-forwarded-for", "");
static FORWARDED: Fixed = fixed!("forwarded", "");
static VIA: Fixed = fixed!("via", "1.1 ");
static NO_CONTENT: Fixed = fixed!("content-length", "0");
static EXPECT: Fixed = fixed!("expect", "100-continue");
static TRAILERS: Fixed = fixed!("te", "trailers");
static HTTP: Fixed = fixed!("x-forwarded-proto", "http");
static HTTPS: Fixed = fixed!("x-forwarded-proto", "https");

/// Where a request came from, as far as anybody can be believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The address at the other end of the connection.
    pub(crate) peer: IpAddr,
    /// The client: the peer, or what trusted proxies say.
    pub(crate) client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub(crate) trusted: bool,
    /// Whether the client came by TLS: to this process, or as a trusted proxy says to that one.
    pub(crate) https: bool,
}

/// A request id: kept from the client or made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId {
    bytes: [u8; 32],
    kept: Option<crate::model::Span>,
}

/// What goes into a head beside the canonical one.
pub(crate) struct Outgoing<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) head: &'a Head,
    pub(crate) decision: &'a Decision,
    pub(crate) caller: &'a Caller,
    pub(crate) id: &'a RequestId,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) instance: &'a str,
    /// What TLS says of the client; none over plain HTTP.
    pub(crate) tls: Option<&'a TlsFacts>,
    pub(crate) framing: Framing,
    pub(crate) upgrade: bool,
}

/// What a client asks of the next hop in fields of its own hop.
#[derive(Debug, Clone, Copy, Default)]
struct Asks {
    /// That it be told whether to send the body.
    expects: bool,
    /// That it be sent trailers.
    trailers: bool,
}

// === impl Caller ===

impl Caller {
    /// Reads `X-Forwarded-For` from the right, as far as the proxies that wrote it are trusted.
    #[inline]
    pub(crate) fn new(head: &Head, via: &Via, trusted_proxies: &[IpNet]) -> Self {
        let peer = via.peer.to_canonical();
        let https = via.tls.is_some();
        if trusted_proxies.is_empty() || !contains(trusted_proxies, peer) {
            return Self { peer, client: peer, trusted: false, https };
        }
        let mut client = peer;
        let lines = head.fields.iter().filter(|field| is(head, field.name, b"x-forwarded-for"));
        let hops = lines.rev().flat_map(|field| head.slice(field.value).rsplit(|&b| b == b','));
        for hop in hops {
            let Some(ip) = address(hop.trim_ascii()) else { break };
            client = ip.to_canonical();
            if !contains(trusted_proxies, client) {
                break;
            }
        }
        let https = head.value("x-forwarded-proto").map_or(https, |proto| proto.eq_ignore_ascii_case(b"https"));
        Self { peer, client, trusted: true, https }
    }
}

fn is(head: &Head, name: crate::model::Span, known: &[u8]) -> bool {
    head.slice(name) == known
}

/// An address with or without a port; an IPv6 one may stand in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip()))
}

// === impl RequestId ===

impl RequestId {
    /// The client's id when it is short and visible, else a new one of 128 bits.
    #[inline]
    pub(crate) fn new(head: &Head, rng: &mut Rng) -> Self {
        let shown = head.fields.iter().find(|field| field.id == FieldId::RequestId);
        let legal = |value: &[u8]| {
            !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX && value.iter().all(u8::is_ascii_graphic)
        };
        if let Some(field) = shown.filter(|field| legal(head.slice(field.value))) {
            return Self { bytes: [0; 32], kept: Some(field.value) };
        }
        let mut bytes = [0; 32];
        let (first, second) = bytes.split_at_mut(16);
        first.copy_from_slice(&hex(rng.draw()));
        second.copy_from_slice(&hex(rng.draw()));
        Self { bytes, kept: None }
    }

    /// As text.
    pub(crate) fn as_bytes<'a>(&'a self, head: &'a Head) -> &'a [u8] {
        self.kept.map_or(&self.bytes[..], |span| head.slice(span))
    }
}

/// Sixteen hexadecimal digits.
pub(crate) fn hex(bits: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let (high, low) = digits.split_at_mut(8);
    high.copy_from_slice(&hex_of_half((bits >> 32) as u32));
    low.copy_from_slice(&hex_of_half(bits as u32));
    digits
}

/// Eight digits at once: each half byte in a byte of its own, to which `0` is added, and to those above 9 what lies
/// between `9` and `a`. A byte of 10 or more is known by the bit that adding 6 carries into.
fn hex_of_half(bits: u32) -> [u8; 8] {
    let mut spread = u64::from(bits);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - 10 - b'0')).to_be_bytes()
}

// === impl Outgoing ===

impl<'a> Outgoing<'a> {
    /// Appends the head for an endpoint whose own authority is `authority`, as HTTP/1.1.
    pub(crate) fn write(&self, authority: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let head = self.head;
        out.extend_from_slice(head.slice(head.method));
        out.push(b' ');
        out.extend_from_slice(&self.target()?);
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(self.authority(authority));
        out.extend_from_slice(b"\r\n");
        self.write_fields(out)?;
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Appends the head of a copy: it says which pool the request itself went to, and waits for no 100.
    pub(crate) fn write_copy(&self, authority: &str, pool: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let begin = out.len();
        self.write(authority, out)?;
        let expect = b"\r\nexpect: 100-continue\r\n";
        if self.head.fields.iter().any(|field| field.id == FieldId::Expect)
            && let Some(at) = memchr::memmem::find(&out[begin..], expect)
        {
            out.drain(begin + at + 2..begin + at + expect.len());
        }
        out.truncate(out.len() - 2);
        out.field(MARK.as_bytes(), pool.as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// The target that the endpoint is asked for.
    #[inline(always)]
    pub(crate) fn target(&self) -> Result<Cow<'a, [u8]>, Refusal> {
        match self.edit() {
            None => Ok(Cow::Borrowed(self.head.slice(self.head.target))),
            Some((prefix, with)) => self.edited(prefix, with).ok_or(Refusal::AmbiguousPath),
        }
    }

    fn edited(&self, prefix: &str, with: Option<&str>) -> Option<Cow<'a, [u8]>> {
        let target = self.head.target();
        match with {
            None => path::strip(target, prefix).map(|stripped| match stripped {
                Cow::Borrowed(stripped) => Cow::Borrowed(stripped.as_bytes()),
                Cow::Owned(stripped) => Cow::Owned(stripped.into_bytes()),
            }),
            Some(_) if path::escapes_prefix(self.head.path(), prefix) => None,
            Some(with) => path::replace(target, prefix, with).map(|replaced| Cow::Owned(replaced.into_bytes())),
        }
    }

    /// The authority that it is asked in the name of.
    #[inline(always)]
    pub(crate) fn authority(&self, own: &'a str) -> &'a [u8] {
        let preserve = self.snapshot.services[self.decision.service].spec.preserve_host;
        match self.head.authority.is_empty() || !preserve {
            true => own.as_bytes(),
            false => self.head.slice(self.head.authority),
        }
    }

    /// Whether the request has been here before; else its fields can be [written](Self::write_fields).
    pub(crate) fn is_loop(&self) -> bool {
        self.head.fields.iter().any(|field| field.id == FieldId::Via && self.names_us(field.value))
    }

    fn names_us(&self, via: Span) -> bool {
        memchr::memmem::find(self.head.slice(via), self.instance.as_bytes()).is_some()
    }

    /// Hands the fields that the endpoint gets to `out`: the client's, those that frame the body, weir's own.
    #[inline(always)]
    pub(crate) fn write_fields<S: Sink>(&self, out: &mut S) -> Result<(), Refusal> {
        let asks = self.fields(out)?;
        self.framing(asks, out);
        self.own_fields(out);
        Ok(())
    }

    /// What becomes of the path: the prefix that goes and what takes its place.
    fn edit(&self) -> Option<(&'a str, Option<&'a str>)> {
        edit(self.snapshot, self.decision)
    }

    /// The client's own fields, in order; cookies joined into one line (RFC 9113 §8.2.3).
    fn fields<S: Sink>(&self, out: &mut S) -> Result<Asks, Refusal> {
        let head = self.head;
        let (mut cookies, mut asks) = (false, Asks::default());
        for field in &head.fields {
            match field.id {
                FieldId::Trace if self.trace.is_some_and(|trace| !trace.keeps(head.slice(field.name))) => {}
                FieldId::Other | FieldId::Trace => out.copied(&head.bytes, field.name.range(), field.value.range()),
                FieldId::Via => {
                    if self.names_us(field.value) {
                        return Err(Refusal::Loop);
                    }
                    out.field(b"via", head.slice(field.value));
                }
                FieldId::Claimed if self.caller.trusted => {
                    out.field(head.slice(field.name), head.slice(field.value));
                }
                // Where certificates are asked for nobody else says who the client is.
                FieldId::ClientCert if self.caller.trusted && !self.tls.is_some_and(|tls| tls.asks) => {
                    out.field(head.slice(field.name), head.slice(field.value));
                }
                FieldId::Cookie => cookies = true,
                FieldId::Expect => asks.expects = true,
                FieldId::HopByHop if is(head, field.name, b"te") => {
                    asks.trailers |= takes_trailers(head.slice(field.value));
                }
                _ => {}
            }
        }
        if cookies {
            let line = out.begin(&COOKIE);
            let mut first = true;
            for field in head.fields.iter().filter(|field| field.id == FieldId::Cookie) {
                if !std::mem::take(&mut first) {
                    line.extend_from_slice(b"; ");
                }
                line.extend_from_slice(head.slice(field.value));
            }
            out.end();
        }
        Ok(asks)
    }

    fn framing<S: Sink>(&self, asks: Asks, out: &mut S) {
        match self.framing {
            Framing::Length(length) => {
                push_decimal(out.begin(&CONTENT_LENGTH), length);
                out.end();
            }
            Framing::Chunked => out.of_http1(b"transfer-encoding: chunked\r\n"),
            // RFC 9110 §8.6: a method that expects a body says that there is none.
            Framing::None if matches!(self.head.method_bytes(), b"POST" | b"PUT" | b"PATCH") => out.fixed(&NO_CONTENT),
            Framing::None => {}
        }
        if asks.expects && self.framing != Framing::None {
            // The endpoint decides whether it wants the body (RFC 9110 §10.1.1); any other expectation was refused.
            out.fixed(&EXPECT);
        }
        if self.upgrade {
            out.of_http1(b"connection: upgrade\r\nupgrade: websocket\r\n");
        } else if asks.trailers {
            // Weir drops none that may pass, so what the client says holds for both (RFC 9110 §6.5.1, §10.1.4).
            out.fixed(&TRAILERS);
            out.of_http1(b"connection: te\r\n");
        }
    }

    fn own_fields<S: Sink>(&self, out: &mut S) {
        let (head, caller) = (self.head, self.caller);
        let line = out.begin(&FORWARDED_FOR);
        if caller.trusted {
            for field in head.fields.iter().filter(|field| is(head, field.name, b"x-forwarded-for")) {
                line.extend_from_slice(head.slice(field.value));
                line.extend_from_slice(b", ");
            }
        }
        push_ip(line, caller.peer);
        out.end_with(if caller.https { &HTTPS } else { &HTTP });
        let told = caller.trusted.then(|| head.value("x-forwarded-host")).flatten();
        let host = told.unwrap_or(head.slice(head.authority));
        if !host.is_empty() {
            out.field(b"x-forwarded-host", host);
        }
        if self.snapshot.services[self.decision.service].spec.forwarded {
            self.forwarded(out.begin(&FORWARDED), host);
            out.end();
        }
        if let Some((prefix, _)) = self.edit() {
            out.field(b"x-forwarded-prefix", prefix.as_bytes());
        }
        if let Some(identity) = self.tls.and_then(|tls| tls.identity.as_ref()) {
            out.field(b"client-cert", identity.client_cert.as_bytes());
            out.field(b"x-forwarded-client-cert", identity.forwarded.as_bytes());
        }
        out.field(b"x-request-id", self.id.as_bytes(head));
        if let Some(trace) = self.trace.filter(|trace| !trace.passes()) {
            out.field(b"traceparent", &trace.traceparent());
        }
        out.begin(&VIA).extend_from_slice(self.instance.as_bytes());
        out.end();
    }
}

// === impl Outgoing, RFC 7239 ===

impl Outgoing<'_> {
    /// `Forwarded`: what a trusted proxy wrote, then the peer, which is what this hop knows (RFC 7239 §4).
    fn forwarded(&self, out: &mut Vec<u8>, host: &[u8]) {
        let (head, caller) = (self.head, self.caller);
        if caller.trusted {
            for field in head.fields.iter().filter(|field| is(head, field.name, b"forwarded")) {
                // One that cannot be read would make what follows unreadable too.
                let value = Some(head.slice(field.value)).filter(|value| is_list(value) && !value.is_empty());
                for part in value.into_iter().flat_map(|value| [value, b", "]) {
                    out.extend_from_slice(part);
                }
            }
        }
        push_element(out, caller.peer, host, caller.https);
    }
}

/// What becomes of the path under a decision: the prefix that goes, and what takes its place.
pub(crate) fn edit<'a>(snapshot: &'a Snapshot, decision: &Decision) -> Option<(&'a str, Option<&'a str>)> {
    if let Some(named) = decision.direct {
        return Some((&snapshot.services[decision.service].pools[named].prefix, None));
    }
    match &snapshot.table.routes()[decision.route?].spec.rewrite {
        Rewrite::Keep => None,
        Rewrite::Strip(prefix) => Some((prefix, None)),
        Rewrite::Replace { prefix, with } => Some((prefix, Some(with))),
    }
}

/// Whether a `TE` holds the keyword `trailers`.
fn takes_trailers(te: &[u8]) -> bool {
    syntax::list(te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_the_hexadecimal_form_of_its_bits() {
        for bits in [0, 0x0123_4567_89ab_cdef, u64::MAX, 0xfedc_ba98_7654_3210] {
            assert_eq!(std::str::from_utf8(&hex(bits)).unwrap(), format!("{bits:016x}"));
        }
    }
}
