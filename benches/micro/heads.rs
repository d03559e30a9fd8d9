//! Heads of one request: the one read from the client, the one written to the endpoint, and both of the answer.

use std::hint::black_box;

use criterion::Criterion;
use weir::model::{Head, Limits};
use weir::proxy::decide::dice::Rng;
use weir::proxy::h1::{request, response};
use weir::proxy::seam::Crossing;

use crate::CLIENT;
use crate::deciding::{Decider, example};
use crate::stage::NOW;

/// A small request as load generators send it.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// A navigation of Firefox with two cookies: 15 fields.
const BROWSER: &[u8] = b"GET /items/4711?page=2&sort=name HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/items?page=1\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-User: ?1\r\n\
    Priority: u=0, i\r\n\
    Cache-Control: no-cache\r\n\
    \r\n";

/// A page as a framework answers it: 10 fields.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Sat, 21 Nov 2026 01:40:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 5120\r\n\
    Cache-Control: private, max-age=0, must-revalidate\r\n\
    ETag: W/\"5af3107a4000\"\r\n\
    Vary: Accept-Encoding, Cookie\r\n\
    Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; HttpOnly; SameSite=Lax\r\n\
    Strict-Transport-Security: max-age=31536000\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Connection: keep-alive\r\n\
    \r\n";

pub(crate) fn all(c: &mut Criterion) {
    let (snapshot, limits, mut decider, mut rng) = (example(), Limits::default(), Decider::new(), Rng::new(1));
    for (label, bytes) in [("small", SMALL), ("browser, 15 fields", BROWSER)] {
        let mut head = Head::default();
        let read = |head: &mut Head| {
            // The parser works in place, so each round needs the bytes as they come from the socket.
            head.bytes.clear();
            head.bytes.extend_from_slice(black_box(bytes));
            request::parse(head, &mut 0, &limits).expect("it is well").expect("it is whole")
        };
        c.bench_function(&format!("request head read, {label}"), |b| b.iter(|| read(&mut head)));
        let parsed = read(&mut head);
        let decision = decider.decide(&snapshot, &head);
        let crossing =
            Crossing { snapshot: &snapshot, head: &head, parsed: &parsed, decision: &decision, peer: CLIENT };
        let mut out = Vec::with_capacity(4096);
        c.bench_function(&format!("request head written, {label}"), |b| {
            b.iter(|| {
                out.clear();
                black_box(&crossing).request(&mut rng, &mut out)
            });
        });
        assert!(decision.issue, "this client has no cookie yet");
        let mut again = decision;
        again.issue = false;
        let response = response::parse(ANSWER, false, Vec::new()).expect("it is well").expect("it is whole");
        for (cookie, decision) in [("", &again), (" and a new affinity cookie", &decision)] {
            let crossing = Crossing { decision, ..crossing };
            if bytes == BROWSER {
                c.bench_function(&format!("answer head written, 10 fields{cookie}"), |b| {
                    b.iter(|| {
                        out.clear();
                        black_box(&crossing).answer(&response, ANSWER, NOW, &mut out)
                    });
                });
            }
        }
    }
    let mut spare = Some(Vec::new());
    c.bench_function("answer head read, 10 fields", |b| {
        b.iter(|| {
            let lines = spare.take().unwrap_or_default();
            let read = response::parse(black_box(ANSWER), false, lines).expect("it is well").expect("it is whole");
            spare = Some(read.lines);
            read.status
        });
    });
}
