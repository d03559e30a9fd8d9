//! Endpoints. What they send for nothing ends their connection and no more.

use std::time::Duration;

use super::{GROWTH_MAX, SOON};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, Raw, RawEndpoint, SETTINGS, WINDOW_UPDATE,
    frame, literal,
};
use crate::harness::{Setup, eventually};

struct Attack {
    name: &'static str,
    kind: &'static str,
    /// Sent once a request is there, which is stream 1.
    opening: fn() -> Vec<u8>,
    round: fn(u32) -> Vec<u8>,
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

/// `:status: 200`, by the static table.
fn a_head() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &[0x88])
}

const ATTACKS: &[Attack] = &[
    Attack { name: "PING", kind: "ping", opening: nothing, round: |_| frame(PING, 0, 0, &[1; 8]) },
    Attack { name: "SETTINGS", kind: "settings", opening: nothing, round: |_| frame(SETTINGS, 0, 0, b"") },
    Attack {
        name: "PRIORITY",
        kind: "priority",
        opening: nothing,
        round: |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]),
    },
    Attack {
        name: "WINDOW_UPDATE",
        kind: "window_update",
        opening: nothing,
        round: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    },
    Attack { name: "unknown frames", kind: "unknown", opening: nothing, round: |_| frame(0xbe, 0, 0, b"") },
    Attack { name: "empty DATA", kind: "data", opening: a_head, round: |_| frame(DATA, 0, 1, b"") },
    Attack {
        name: "CONTINUATION without end",
        kind: "continuation",
        opening: || frame(HEADERS, 0, 1, &[0x88]),
        round: |n| frame(CONTINUATION, 0, 1, &literal(&format!("x-{n}"), "v")),
    },
    Attack {
        name: "resets of a stream that is over",
        kind: "reset",
        opening: nothing,
        round: |_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]),
    },
];

#[test]
fn an_endpoint_that_floods_its_connection_loses_it_and_only_its_requests_fail() {
    for attack in ATTACKS {
        let (opening, round) = (attack.opening, attack.round);
        let (told, ends) = std::sync::mpsc::channel();
        let hostile = RawEndpoint::serving(move |raw: &mut Raw, _| {
            raw.listen(Duration::from_millis(100), |_| false);
            let _ = raw.send(&opening());
            let written = raw.flood(20_000, round);
            let _ = told.send((written, raw.reaction.clone()));
        });
        let setup = Setup::new().workers(1).pool_at("stable", &[&hostile.url()]);
        let setup =
            setup.table("health", "kind = \"off\"").table("breaker", "failures = 1000000\nmin_requests = 1000000");
        let weir = setup.table("timeouts", "response_header = \"3s\"\nidle = \"3s\"").start();
        let before = weir.resident_bytes();
        let answer = weir.client().lenient().ask("POST", "/", &[], b"x");
        let whole = answer.status == 200 && answer.end == crate::harness::End::Whole;
        assert!(!whole, "{}: {} {:?}", attack.name, answer.status, answer.end);
        let (written, reaction) = ends.recv_timeout(SOON).expect("it was ended");
        assert!(reaction.closed && written < 6_000, "{}: {written} written, {reaction:?}", attack.name);
        eventually("it is counted", SOON, || {
            let labels = [("side", "endpoint"), ("kind", attack.kind)];
            weir.metrics().sum("weir_http2_ended_total", &labels) as u64 >= 1
        });
        let growth = weir.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{}: {growth} bytes more", attack.name);
        eventually("the log names it", SOON, || weir.log().text().contains("was ended for what the endpoint did"));
    }
}
