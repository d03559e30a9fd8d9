//! Requests that could be read two ways: each is refused and the connection closed, or passed on in one form.
//!
//! Every row runs alone, in front of a pipelined `GET /canary-probe`, and with a second client right after it, which
//! must get its own answer. The ids are those of the attack classes that the rows come from.

use std::time::Duration;

use crate::harness::client::timed_out;
use crate::harness::{Setup, Upstream, Weir};

mod framing;
mod heads;
mod sequences;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Refused with one of 4xx or 501 or 505, closed; no upstream hears of it.
    Refused,
    /// As `Refused`, but its head may have reached an upstream, which then sees the body cut.
    RefusedInBody,
    /// Served: the body is read at the right byte and a pipelined request is one of its own.
    Served,
}

use Verdict::{Refused, RefusedInBody, Served};

/// The answer to what was sent, and whether the connection was closed after everything.
struct Outcome {
    statuses: Vec<u16>,
    closed: bool,
}

fn send(weir: &Weir, bytes: &[u8]) -> Outcome {
    let mut client = weir.client().patience(Duration::from_secs(2));
    let _ = client.send(bytes);
    let mut statuses = Vec::new();
    loop {
        match client.answer() {
            Ok(answer) => statuses.push(answer.status),
            Err(error) => return Outcome { statuses, closed: !timed_out(&error) },
        }
        if statuses.last().is_some_and(|status| *status < 400) {
            client = client.patience(Duration::from_millis(120));
        }
    }
}

/// Tries one row in the three ways.
#[track_caller]
fn check(weir: &Weir, stable: &Upstream, id: &str, bytes: &[u8], verdict: Verdict) {
    let shown = String::from_utf8_lossy(bytes).chars().take(300).collect::<String>();
    for piped in [false, true] {
        stable.forget();
        let mut all = bytes.to_vec();
        if piped {
            all.extend_from_slice(b"GET /canary-probe HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        let outcome = send(weir, &all);
        let first = outcome.statuses.first().copied();
        let what = format!("{id} (pipelined: {piped}): {:?}, closed: {}: {shown:?}", outcome.statuses, outcome.closed);
        let probed = stable.count_on("/canary-probe");
        match verdict {
            Refused | RefusedInBody => {
                assert!(first.is_some_and(|s| (400..=431).contains(&s) || s == 501 || s == 505), "{what}");
                assert_eq!(outcome.statuses.len(), 1, "{what}");
                assert!(outcome.closed, "not closed: {what}");
                assert_eq!(probed, 0, "the probe got through: {what}");
                let seen: Vec<String> = stable.seen().iter().map(|seen| seen.head.start.clone()).collect();
                if verdict == Refused {
                    assert!(seen.is_empty(), "an upstream saw {seen:?}: {what}");
                } else {
                    assert!(stable.seen().iter().all(|seen| !seen.whole), "an upstream took it as whole: {what}");
                }
            }
            Served => {
                assert!(first.is_some_and(|status| status < 400), "{what}");
                assert_eq!(probed, usize::from(piped), "{what}");
            }
        }
        let mut second = weir.client();
        let answer = second.get("/second");
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "the next client: {what}");
        assert!(stable.seen().iter().all(|seen| !seen.target.contains("smuggled")), "smuggled: {what}");
    }
    assert_eq!(stable.complaints(), Vec::<String>::new(), "{id}");
}

fn run(rows: &[(&str, Vec<u8>, Verdict)]) {
    let stable = Upstream::named("stable");
    let off = "kind = \"off\"";
    let weir = Setup::single(&stable).table("health", off).table("breaker", "failures = 1000000").start();
    for (id, bytes, verdict) in rows {
        check(&weir, &stable, id, bytes, *verdict);
    }
    let metrics = weir.metrics();
    for kind in ["upstream_connect", "upstream_answer", "upstream_timeout"] {
        let faults = metrics.sum("weir_pool_faults_total", &[("kind", kind)]);
        assert_eq!(faults, 0.0, "{kind}: no row is the fault of a pool");
    }
}

/// A POST with these lines and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{lines}\r\n\r\n{body}").into_bytes()
}

/// A chunked POST with these bytes as its body.
fn chunks(body: &[u8]) -> Vec<u8> {
    [&post("Transfer-Encoding: chunked", "")[..], body].concat()
}

/// A GET with these raw bytes after the Host line.
fn get(lines: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: test\r\n", lines, b"\r\n\r\n"].concat()
}

/// Bytes as they stand.
fn raw(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}
