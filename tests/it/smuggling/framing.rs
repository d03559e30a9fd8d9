//! Where a body ends: lengths, codings, chunks, trailers.

use std::time::Duration;

use super::Verdict::{Refused, RefusedInBody, Served};
use super::{Verdict, chunks, post, run};
use crate::harness::{Behaviour, Client, Setup, Upstream};

#[test]
fn both_framings_at_once_are_refused_in_any_order() {
    let te = "Transfer-Encoding: chunked";
    run(&[
        ("S-01", post(&format!("Content-Length: 6\r\n{te}"), "0\r\n\r\nG"), Refused),
        (
            "S-02",
            post(&format!("Content-Length: 4\r\n{te}"), "5c\r\nGPOST /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n"),
            Refused,
        ),
        ("S-03", post(&format!("{te}\r\nContent-Length: 6"), "0\r\n\r\nG"), Refused),
        ("S-03 zero", post(&format!("{te}\r\nContent-Length: 0"), "0\r\n\r\n"), Refused),
    ]);
}

#[test]
fn only_the_exact_coding_chunked_is_a_transfer_encoding() {
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    let values: &[&[u8]] = &[
        b"chunked,",
        b",chunked",
        b"\"chunked\"",
        b"xchunked",
        b"chunked;a=b",
        b"\x0bchunked",
        b"\x0cchunked",
        b"\xa0chunked",
        b"chunked\x00",
        b"identity",
        b"",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b"gzip",
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: identity",
        b"chunked\r\n chunked",
        b"\r\n chunked",
        b"chun\rked",
        b"chunked\xa0",
        b"chunk",
    ];
    for value in values {
        let head = [b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: ", *value, b"\r\n\r\n0\r\n\r\n"].concat();
        rows.push(("S-04", head, Refused));
    }
    for name in ["Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "Transfer\u{85}-Encoding"] {
        rows.push(("S-04 name", post(&format!("{name}: chunked"), "0\r\n\r\n"), Refused));
    }
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked", "chunked \t"] {
        let served = post(&format!("Transfer-Encoding: {value}"), "5\r\nhello\r\n0\r\n\r\n");
        rows.push(("S-04 exact", served, Served));
    }
    run(&rows);
}

#[test]
fn a_length_is_digits_once() {
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    for value in [
        "+5",
        "-5",
        "-0",
        "0x5",
        "5_0",
        "5 5",
        "5,5",
        "5, 6",
        "",
        "1e1",
        "18446744073709551616",
        "99999999999999999999",
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "\r\nContent-Length: 59",
        "0o5",
        "5;",
        "5.0",
        "\u{665}",
    ] {
        rows.push(("S-07", post(&format!("Content-Length: {value}"), "hello"), Refused));
    }
    for name in ["Content-Length ", " Content-Length", "Content-Length\0", "Content-Length\u{a0}"] {
        rows.push(("S-05", post(&format!("{name}: 5"), "hello"), Refused));
    }
    rows.push(("S-07 exact", post("Content-Length: 5", "hello"), Served));
    run(&rows);
}

#[test]
fn a_body_on_any_method_is_a_body_and_never_a_request() {
    let body = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    for method in ["GET", "OPTIONS", "DELETE", "PUT"] {
        let length = format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        rows.push(("S-05", length.into_bytes(), Served));
        let chunked = format!(
            "{method} / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        rows.push(("S-06", chunked.into_bytes(), Served));
    }
    run(&rows);
}

#[test]
fn a_malformed_chunk_ends_the_request_and_the_connection() {
    let mut rows: Vec<(&str, Vec<u8>, Verdict)> = Vec::new();
    for size in
        ["0x5", "+5", "-1", "5_0", " 5", "5 ", "\t5", "", "g", "00000000000000005", "FFFFFFFFFFFFFFFF", "1these"]
    {
        rows.push(("S-08", chunks(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()), RefusedInBody));
    }
    let lines: &[&[u8]] = &[
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\0hello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloXX\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
        b"5;a=\nx\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;\0\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"0\n\n",
        b"5\r\nhello\r\n0\r\nX : a\r\n\r\n",
        b"5\r\nhello\r\n0\r\n: a\r\n\r\n",
    ];
    rows.extend(lines.iter().map(|body| ("S-09", chunks(body), RefusedInBody)));
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    rows.push(("S-10", chunks(long.as_bytes()), RefusedInBody));
    run(&rows);
}

#[test]
fn trailers_change_neither_framing_nor_identity() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    stable.behave(Behaviour::Echo);
    for trailer in [
        "Content-Length: 50",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: Bearer x",
        "Cookie: weir=1",
        "X-Forwarded-For: 6.6.6.6",
        "Content-Type: text/evil",
        "Connection: close",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        let mut client = weir.client();
        client.send(&chunks(body.as_bytes())).expect("it is sent");
        let answer = client.answer().expect("an answer");
        assert!(answer.status == 400 || answer.text() == "hello", "{trailer}: {}", answer.status);
        let seen = stable.last();
        assert!(!String::from_utf8_lossy(&seen.head.raw).contains("6.6.6.6"), "{trailer}");
    }
}

#[test]
fn http_1_0_has_no_transfer_encoding() {
    let old = |lines: &str, body: &str| format!("POST / HTTP/1.0\r\nHost: test\r\n{lines}\r\n{body}").into_bytes();
    run(&[
        ("S-21", old("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused),
        ("S-22", old("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), Refused),
        ("S-23", old("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused),
    ]);
}

#[test]
fn an_expectation_that_is_unknown_is_refused_with_its_body() {
    let expect = |value: &str| post(&format!("Expect: {value}\r\nContent-Length: 5"), "hello");
    run(&[
        ("S-28", expect("x 100-continue"), Refused),
        ("S-28", expect("200-ok"), Refused),
        ("S-28 twice", expect("100-continue\r\nExpect: nothing"), Refused),
    ]);
}

#[test]
fn a_locally_answered_request_leaves_no_body_on_the_connection() {
    let stable = Upstream::named("stable");
    let route = "[[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/only\"\n";
    let weir = Setup::single(&stable).text(route).start();
    let body = "GET /only/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client: Client = weir.client().patience(Duration::from_secs(1));
    let text = format!("POST /none HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.send(text.as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 404);
    let _ = client.rest(Duration::from_millis(200));
    assert_eq!(stable.count(), 0, "{:?}", stable.seen());
}
