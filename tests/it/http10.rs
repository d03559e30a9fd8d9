//! HTTP/1.0 clients: no chunks, and the end of the connection is the end of what has no length.

use std::time::Duration;

use crate::harness::{Behaviour, Setup, Then, Upstream, Weir};

const SILENCE: Duration = Duration::from_secs(2);

fn asked(answer: &[u8], then: Then, fields: &str) -> (Upstream, Weir, String, bool) {
    let stable = Upstream::named("stable");
    stable.behave(Behaviour::Raw(answer.to_vec(), then));
    let weir = Setup::single(&stable).start();
    let mut client = weir.client();
    client.send(format!("GET / HTTP/1.0\r\nHost: test\r\n{fields}\r\n").as_bytes()).expect("it is sent");
    let (bytes, closed) = client.rest(SILENCE);
    (stable, weir, String::from_utf8_lossy(&bytes).into_owned(), closed)
}

#[test]
fn the_end_of_a_chunked_answer_is_the_end_of_the_connection() {
    for size in [5_usize, 20_000, 300_000] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n",
            "a".repeat(size)
        );
        for fields in ["", "Connection: keep-alive\r\n"] {
            let (_stable, _weir, text, closed) = asked(answer.as_bytes(), Then::Keep, fields);
            let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
            assert!(closed, "{size} bytes, {fields:?}: the client waits for ever");
            assert_eq!(body.len(), size, "{fields:?}");
            assert!(head.contains("connection: close") && !head.contains("transfer-encoding"), "{head}");
        }
    }
}

#[test]
fn an_answer_with_a_length_keeps_the_connection() {
    let (_stable, _weir, text, closed) =
        asked(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Then::Keep, "Connection: keep-alive\r\n");
    assert!(!closed && text.contains("connection: keep-alive") && text.ends_with("hi"), "{text}");
}

#[test]
fn a_cut_answer_without_a_length_ends_in_a_reset() {
    let stable = Upstream::named("stable");
    stable.behave(Behaviour::CutChunk);
    let weir = Setup::single(&stable).start();
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    let end = loop {
        match client.wire().fill() {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset), "a clean end would make a cut body look whole");
}
