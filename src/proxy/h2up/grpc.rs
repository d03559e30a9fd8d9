//! gRPC as far as a proxy has to know it: which requests are calls, how a call ended, and weir's own answers to one.
//!
//! Messages are bytes here. A call ends with `grpc-status` in its trailers, or in its head when nothing follows
//! ("Trailers-Only"), whatever the HTTP status; so that is where its outcome is read.

use crate::model::Head;
use crate::proxy::h1::response::Response as Described;
use crate::proxy::h1::trailers;
use crate::proxy::http2::head::HeadWriter;
use crate::proxy::refusal::Refusal;

/// `grpc-status` of a call whose answer has none (gRPC over HTTP2, "Responses").
pub(crate) const UNKNOWN: u32 = 2;

/// Statuses that are the server's failure: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS. These are the
/// server errors of OpenTelemetry's conventions for gRPC and of Envoy's mapping to 5xx, but for UNIMPLEMENTED, which
/// any client gets for a method that is not there. RESOURCE_EXHAUSTED (429 in that mapping) is a limit at work.
const SERVER_FAILURES: &[u32] = &[UNKNOWN, 4, 13, 14, 15];

/// Whether the request is a call: by its content type, `application/grpc` with or without a suffix.
pub(crate) fn is_call(head: &Head) -> bool {
    let Some(kind) = head.value("content-type") else { return false };
    let rest = kind.get(..16).filter(|it| it.eq_ignore_ascii_case(b"application/grpc")).map(|_| &kind[16..]);
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' '))) && head.method_bytes() == b"POST"
}

/// Whether the status is the server's failure.
pub(crate) fn is_server_failure(status: u32) -> bool {
    SERVER_FAILURES.contains(&status)
}

/// The status in a head, when there is one.
pub(crate) fn in_head(response: &Described, bytes: &[u8]) -> Option<u32> {
    let found = response.lines.iter().find(|line| &bytes[line.name.range()] == b"grpc-status");
    found.map(|line| read(&bytes[line.value.range()]))
}

/// The status in trailers, when there is one.
pub(crate) fn in_trailers(lines: &[u8]) -> Option<u32> {
    trailers::fields(lines).find(|(name, _)| name == b"grpc-status").map(|(_, value)| read(value))
}

/// A status that is no number is unknown.
fn read(value: &[u8]) -> u32 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN)
}

/// The fields of weir's own answer to a call: the status that gRPC clients make of weir's HTTP status
/// (`doc/http-grpc-status-mapping.md` of gRPC), in a head of status 200 that nothing follows.
fn refusal_fields(refusal: &Refusal) -> [(&'static str, String); 4] {
    let status = match refusal.status() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    };
    [
        ("content-type", "application/grpc".into()),
        ("grpc-status", status.to_string()),
        ("grpc-message", encoded(&format!("weir: {refusal}"))),
        ("proxy-status", refusal.proxy_status()),
    ]
}

/// Writes weir's own answer to a call.
pub(crate) fn refuse(refusal: &Refusal, out: &mut HeadWriter<'_>) {
    out.status(200);
    for (name, value) in refusal_fields(refusal) {
        out.field(name.as_bytes(), value.as_bytes());
    }
}

/// The trailers of a call that weir ends because the weight of its pool went to 0: its client may call again.
pub(crate) const CLOSED: [(&[u8], &[u8]); 2] =
    [(b"grpc-status", b"14"), (b"grpc-message", b"weir: the pool takes no more traffic")];

/// Percent-encoded as `grpc-message` is: everything but printable ASCII, and `%`.
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fault;

    #[test]
    fn a_call_is_told_by_method_and_content_type() {
        let call =
            |method: &str, kind: &str| is_call(&Head::describe(method, "h", "/", [("content-type", kind.as_bytes())]));
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
            assert!(call("POST", kind), "{kind}");
            assert!(!call("GET", kind), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpcx", "application/json", "application/grp", ""] {
            assert!(!call("POST", kind), "{kind}");
        }
    }

    #[test]
    fn weirs_own_answers_are_statuses_of_grpc() {
        let upstream = |fault| Refusal::Upstream { fault, reason: "timeout" };
        for (refusal, status) in [
            (Refusal::NothingServing("pool ü".into()), "14"),
            (upstream(Fault::UpstreamConnect), "14"),
            (upstream(Fault::UpstreamTimeout), "14"),
            (Refusal::NoRoute, "12"),
            (Refusal::Forbidden, "7"),
            (Refusal::AmbiguousPath, "13"),
            (Refusal::Loop, "2"),
        ] {
            let [_, said, ..] = refusal_fields(&refusal);
            assert_eq!(said, ("grpc-status", status.to_owned()), "{refusal}");
        }
        let [.., message, _] = refusal_fields(&Refusal::NothingServing("pool ü".into()));
        assert_eq!(message, ("grpc-message", "weir: no endpoint of pool %C3%BC can serve".to_owned()));
    }
}
