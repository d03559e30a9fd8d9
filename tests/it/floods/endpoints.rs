//! Endpoints. What they send for nothing ends their connection and no more.

use std::time::Duration;

use super::{GROWTH_MAX, SOON};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, Raw, RawEndpoint, Reaction,
    SETTINGS, WINDOW_UPDATE, frame, get, indexed, literal,
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

/// What one stream's interim answers may take: one of 64 kB where it comes, with the room that lists of fields keep,
/// and one where it is told.
const INTERIM_GROWTH_MAX: u64 = 400 << 10;

#[test]
fn interim_answers_that_a_client_does_not_take_are_not_kept_for_it() {
    const STREAMS: u32 = 100;
    let endpoint = RawEndpoint::serving(|raw, _| {
        let mut asked = Vec::new();
        while asked.len() < STREAMS as usize {
            match raw.next() {
                Ok(Some(came)) if came.kind == HEADERS => asked.push(came.stream),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
        // A field of 4 kB is put into the table once, and named many times.
        let mut fields = indexed("x-large", "v".repeat(3_900));
        for _ in 0..16 {
            for stream in &asked {
                let interim = [literal(":status", "103"), fields].concat();
                let _ = raw.send(&frame(HEADERS, END_HEADERS, *stream, &interim));
                fields = vec![0x80 | 62; 15];
            }
            // One after the other is handed on.
            std::thread::sleep(Duration::from_millis(30));
        }
        for stream in &asked {
            let _ = raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, *stream, &[0x88]));
        }
        while let Ok(Some(_)) = raw.next() {}
    });
    let setup = Setup::new().workers(1).pool_at("stable", &[&endpoint.url()]).table("health", "kind = \"off\"");
    let weir = setup.start();
    let before = weir.resident_bytes();
    let mut client = Raw::to(weir.address());
    client.send(&(0..STREAMS).flat_map(|n| get(2 * n + 1, "/")).collect::<Vec<_>>()).expect("weir reads");
    eventually("all are answered", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) < 1.0);
    let growth = weir.resident_bytes().saturating_sub(before);
    println!("{growth} bytes for {} MB", STREAMS * 16 * 58 / 1000);
    assert!(growth < u64::from(STREAMS) * INTERIM_GROWTH_MAX, "{growth} bytes");
    let finals = |reaction: &Reaction| reaction.answers.iter().filter(|(_, status)| *status == 200).count();
    client.listen(SOON, |reaction| finals(reaction) == STREAMS as usize);
    assert_eq!(finals(&client.reaction), STREAMS as usize, "every answer comes");
}
