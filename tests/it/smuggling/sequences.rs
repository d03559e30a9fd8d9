//! What stands behind a request on its connection: pipelined requests, bodies that are withheld, bodies of requests
//! that weir answers itself. The byte at which the next request begins is never in doubt, or the connection ends.

use std::time::Duration;

use super::Verdict::{Refused, RefusedInBody, Served};
use super::{chunks, raw, run};
use crate::harness::{Behaviour, Client, Setup, Then, Upstream, Weir};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn http_1_0_is_served_and_never_switched_or_told_to_go_on() {
    run(&[
        ("S-23 keep-alive", raw("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n"), Served),
        ("S-25 no length", raw("POST / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n"), Served),
        ("S-27 two hosts", raw("GET / HTTP/1.0\r\nHost: test\r\nHost: evil\r\n\r\n"), Refused),
    ]);
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    for (id, lines) in [
        ("S-24 no host", ""),
        ("S-26 expect", "Host: test\r\nExpect: 100-continue\r\n"),
        ("S-27 upgrade", "Host: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
    ] {
        let mut client = weir.client();
        client.send(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes()).expect("it is sent");
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.interim.len()), (200, 0), "{id}");
        assert!(client.closed_within(Duration::from_secs(2)), "{id}");
        assert_eq!(stable.last().field("upgrade"), None, "{id}");
    }
}

#[test]
fn chunks_with_many_extensions_are_bounded_as_one_with_a_long_one() {
    let one = format!("1;{}\r\nx\r\n", "e".repeat(100));
    let many = format!("{}0\r\n\r\n", one.repeat(10_000));
    let few = format!("{}0\r\n\r\n", one.repeat(10));
    run(&[("S-10 10 000", chunks(many.as_bytes()), RefusedInBody), ("S-10 ten", chunks(few.as_bytes()), Served)]);
}

#[test]
fn a_request_in_the_place_of_a_body_that_was_withheld_is_a_body_or_nothing() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let expecting = "POST /up HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n";
    for status in ["200 OK", "413 No", "417 No"] {
        let early = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        stable.behave_on("/up", Behaviour::Early(early.into_bytes(), Then::Hold));
        let mut client = weir.client();
        client.send(expecting.as_bytes()).expect("it is sent");
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.interim.len(), answer.text().as_str()), (0, "no"), "S-28 {status}");
        let _ = client.send(SMUGGLED.as_bytes());
        let (rest, closed) = client.rest(Duration::from_millis(500));
        assert!(closed && rest.is_empty(), "S-28 {status}: {:?}", String::from_utf8_lossy(&rest));
        assert_eq!(stable.count_on("/smuggled"), 0, "S-28 {status}");
        assert!(stable.seen().iter().all(|seen| seen.body.is_empty()), "no byte behind the answer: S-28 {status}");
        assert_eq!(weir.client().get("/next").text(), "stable\n", "S-28 {status}");
        stable.forget();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_garbage_ends_them_once() {
    let stable = Upstream::named("stable");
    stable.behave(Behaviour::Echo);
    let weir = Setup::single(&stable).start();
    let mut client = weir.client();
    let hundred: String =
        (100..200).map(|n| format!("POST /{n} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n{n}")).collect();
    client.send(hundred.as_bytes()).expect("it is sent");
    for n in 100..200 {
        assert_eq!(client.answer().expect("an answer").text(), n.to_string(), "S-29");
    }
    // HEAD and then GET: the length that the first one promises is no body.
    client.send(b"HEAD /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    assert_eq!(client.head().start, "HTTP/1.1 200 OK");
    assert_eq!(client.answer().expect("an answer").status, 200);
    client
        .send(b"GET /c HTTP/1.1\r\nHost: test\r\n\r\nGARBAGE\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("it is sent");
    let statuses: Vec<u16> = std::iter::from_fn(|| client.answer().ok().map(|answer| answer.status)).collect();
    assert_eq!(statuses, [200, 400], "S-29");
    assert_eq!(stable.count_on("/smuggled"), 0, "S-29");
}

/// A program in which each kind of answer of weir's own has its path, and the upstream that must hear of none.
fn of_its_own() -> (Upstream, Upstream, Weir) {
    let (stable, gone) = (Upstream::named("stable"), Upstream::down("gone"));
    let routes = "\
        [services.closed.pools.stable]\nendpoints = [\"http://127.0.0.1:9\"]\n\
        [[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/only\"\n\
        [[routes]]\nname = \"limited\"\nservice = \"engine\"\nmatch.path_prefix = \"/limited\"\n\
        [[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/lost\"\npool = \"gone\"\n\
        [[routes]]\nservice = \"closed\"\nmatch.path_prefix = \"/closed\"\n\
        [[rate_limits]]\nname = \"none\"\nroute = \"limited\"\nrate = 1\nper = \"1h\"\n";
    let setup = Setup::single(&stable).pool("gone", &[&gone]).table("health", "kind = \"off\"").text(routes);
    let setup = setup.service("direct_paths = { networks = [\"10.0.0.0/8\"] }\non_pool_down = \"strict\"");
    let weights = "stable = 1\ngone = 0\n\n[closed]\nmaintenance = \"moving\"\n";
    (stable, gone, setup.weights(weights).start())
}

#[test]
fn what_weir_answers_itself_leaves_no_body_on_the_connection() {
    let (stable, _gone, weir) = of_its_own();
    assert_eq!(weir.client().get("/limited").status, 200);
    let before = stable.count();
    for (path, lines, status) in [
        ("/none", "", 404),
        ("/stable/x", "", 403),
        ("/limited", "", 429),
        ("/lost", "", 502),
        ("/closed", "", 503),
        ("/only/..%2fx", "", 400),
        ("/only", "Expect: nothing\r\n", 417),
    ] {
        for (framing, body) in [
            (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.to_owned()),
            ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
        ] {
            let what = format!("S-31 {status} {framing}");
            for split in [false, true] {
                let mut client: Client = weir.client().patience(Duration::from_secs(2));
                let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\n{lines}{framing}\r\n\r\n");
                if split {
                    client.send(head.as_bytes()).expect("it is sent");
                    std::thread::sleep(Duration::from_millis(20));
                    let _ = client.send(body.as_bytes());
                } else {
                    client.send([head.as_bytes(), body.as_bytes()].concat().as_slice()).expect("it is sent");
                }
                let answer = client.answer().expect("an answer");
                assert_eq!(answer.status, status, "{what}");
                let (rest, _) = client.rest(Duration::from_millis(100));
                assert!(rest.is_empty(), "{what}: answered twice: {:?}", String::from_utf8_lossy(&rest));
            }
        }
    }
    assert_eq!(stable.count(), before, "{:?}", stable.seen());
    assert_eq!(weir.client().get("/only/next").status, 200);
}
