//! `http1-probe.json`: raw requests with the verdict that the RFCs ask for (MDA2AV/Http11Probe, MIT).

use std::time::Duration;

use crate::{Reaction, Stage, data};

/// Rows that lost what they are about, with the request that they meant.
fn mended(id: &str) -> Option<(&'static str, Vec<u8>)> {
    let head = "GET / HTTP/1.1\r\nHost: localhost:8080\r\n";
    let cut = "the row is cut at 8192 bytes, before the end of its head or body, so that waiting for more is right";
    let lost = "the row lost its bytes above ASCII and holds question marks instead";
    let long = "A".repeat(100_000);
    Some(match id {
        "MAL-LONG-URL" => (cut, format!("GET /{long} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n").into_bytes()),
        "MAL-LONG-HEADER-VALUE" => (cut, format!("{head}X-Big: {long}\r\n\r\n").into_bytes()),
        "MAL-LONG-HEADER-NAME" => (cut, format!("{head}{long}: value\r\n\r\n").into_bytes()),
        "MAL-LONG-METHOD" => (cut, format!("{long} / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n").into_bytes()),
        "MAL-MANY-HEADERS" => {
            let fields: String = (0..10_000).map(|n| format!("X-H-{n}: value\r\n")).collect();
            (cut, format!("{head}{fields}\r\n").into_bytes())
        }
        "MAL-CHUNK-EXT-64K" => {
            let start = "POST / HTTP/1.1\r\nHost: localhost:8080\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=";
            (cut, format!("{start}{}\r\nhello\r\n0\r\n\r\n", "a".repeat(65_536)).into_bytes())
        }
        "MAL-NON-ASCII-URL" => (lost, "GET /caf\u{e9} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n".as_bytes().to_vec()),
        "MAL-URL-OVERLONG-UTF8" => (lost, b"GET /\xc0\xaf HTTP/1.1\r\nHost: localhost:8080\r\n\r\n".to_vec()),
        "MAL-NON-ASCII-HEADER-NAME" => (lost, format!("{head}X-T\u{eb}st: value\r\n\r\n").into_bytes()),
        _ => return None,
    })
}

/// Rows whose verdict is not followed, with the statuses that are right instead and why.
const ARGUED: &[(&str, &[u16], &str)] =
    &[("MAL-LONG-METHOD", &[414, 431, 501], "it is refused for its size before it is read as a method")];

/// Whether the verdict allows the reaction.
fn allows(expected: &str, reaction: Reaction, closed: bool) -> bool {
    if expected == "!101" {
        return reaction != Reaction::Status(101) && matches!(reaction, Reaction::Status(_));
    }
    let parts = expected.split(['/', ' ', ',']).filter(|part| !part.is_empty());
    let needs_close = expected.contains("+ close");
    parts.into_iter().any(|part| match (part, reaction) {
        ("2xx", Reaction::Status(200..300)) => !needs_close || closed,
        ("close", Reaction::Closed) => !needs_close,
        ("timeout" | "close/timeout", Reaction::Waiting) => true,
        (number, Reaction::Status(status)) => number.parse() == Ok(status),
        _ => false,
    })
}

#[test]
fn every_sound_row_of_the_probe_gets_its_verdict() {
    let Some(path) = data("http1-probe.json") else { return };
    let text = std::fs::read(&path).expect("the file can be read");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("the file is a list of rows");
    let stage = Stage::new();
    let mut wrong = Vec::new();
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let (id, expected) = (text("id"), text("expected"));
        let mend = mended(id);
        // Code points above 127 in the file stand for single bytes.
        let raw = text("rawRequest").chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        let bytes: Vec<u8> = mend.map_or(raw, |(_, bytes)| bytes);
        let patience = Duration::from_millis(if expected.contains("timeout") { 250 } else { 2_500 });
        let (reaction, closed) = stage.send(&bytes, patience);
        let argued = ARGUED.iter().find(|(argued, _, _)| *argued == id);
        let right = match argued {
            Some((_, statuses, _)) => matches!(reaction, Reaction::Status(status) if statuses.contains(&status)),
            None => allows(expected, reaction, closed),
        };
        if !right {
            wrong.push(format!("{id}: wanted {expected}, got {reaction:?} (closed: {closed})"));
        }
        if let Some((_, _, reason)) = argued.filter(|_| allows(expected, reaction, closed)) {
            wrong.push(format!("{id}: follows its verdict, so take it off the list: {reason}"));
        }
        if let Err(unsafe_row) = stage.safe(id, &bytes, patience) {
            wrong.push(unsafe_row);
        }
    }
    println!("{} rows, {} argued, {} wrong", rows.len(), ARGUED.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    stage.assert_no_blame();
}
