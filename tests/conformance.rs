//! Vectors of other projects, run against the built program: `http1-probe.json` and llhttp's request vectors.
//!
//! They are not part of this repository. They are looked for in `WEIR_SHARED_DATA`, else in `../shared/data` beside the
//! repository; where they are missing, the test says that it is left out and passes. Rows that are not followed are
//! listed here one by one, each with its reason; a reason that no longer holds fails the test.

#[path = "it/harness/mod.rs"]
mod harness;
#[path = "conformance/llhttp.rs"]
mod llhttp;
#[path = "conformance/probe.rs"]
mod probe;

use std::path::PathBuf;
use std::time::Duration;

use harness::client::timed_out;
use harness::{Setup, Upstream, Weir};

/// The folder with the vectors, or none with a line that says so.
fn data(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = std::env::var_os("WEIR_SHARED_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !path.exists() {
        println!("left out: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// What came back for the first request on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// An answer; whether the connection was closed behind it is asked separately.
    Status(u16),
    /// Closed without an answer.
    Closed,
    /// Nothing yet: the program waits for more.
    Waiting,
}

/// One stage for all rows of a test.
struct Stage {
    stable: Upstream,
    weir: Weir,
}

impl Stage {
    fn new() -> Self {
        let stable = Upstream::named("stable");
        let off = "kind = \"off\"";
        let weir = Setup::single(&stable).table("health", off).table("breaker", "failures = 1000000").start();
        Self { stable, weir }
    }

    /// Sends bytes on a new connection; the reaction and whether the connection was closed after it.
    fn send(&self, bytes: &[u8], patience: Duration) -> (Reaction, bool) {
        let mut client = self.weir.client().lenient().patience(patience);
        let _ = client.send(bytes);
        let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        match client.answer_to(method) {
            Ok(answer) => {
                let (_, closed) = client.rest(Duration::from_millis(if answer.status < 400 { 60 } else { 2_000 }));
                (Reaction::Status(answer.status), closed)
            }
            Err(error) if timed_out(&error) => (Reaction::Waiting, false),
            Err(_) => (Reaction::Closed, true),
        }
    }

    /// What must hold after every row, whatever the reaction: no smuggled request, no poisoned neighbour, no blame.
    fn safe(&self, name: &str, bytes: &[u8], patience: Duration) -> Result<(), String> {
        self.stable.forget();
        let piped = [bytes, b"GET /canary-probe HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"].concat();
        let (reaction, closed) = self.send(&piped, patience);
        let probes = self.stable.count_on("/canary-probe");
        let refused = !matches!(reaction, Reaction::Status(200..300));
        if refused && probes > 0 {
            return Err(format!("{name}: {reaction:?}, and the request behind it reached an upstream"));
        }
        if matches!(reaction, Reaction::Status(400..)) && !closed {
            return Err(format!("{name}: {reaction:?} without a close"));
        }
        let mut second = self.weir.client();
        let next = second.get("/second");
        if (next.status, next.text().as_str()) != (200, "stable\n") {
            return Err(format!("{name}: the next client got {} {:?}", next.status, next.text()));
        }
        match self.stable.take_complaints().first() {
            Some(complaint) => Err(format!("{name}: upstream: {complaint}")),
            None => Ok(()),
        }
    }

    /// No pool was blamed for anything.
    fn assert_no_blame(&self) {
        let metrics = self.weir.metrics();
        for kind in ["upstream_connect", "upstream_answer", "upstream_timeout"] {
            assert_eq!(metrics.sum("weir_pool_faults_total", &[("kind", kind)]), 0.0, "{kind}");
        }
    }
}
