//! The PROXY protocol from balancers in front: only from those that are named, and from them always.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Client, Issued, Setup, Tls, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

const FROM_HERE: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 for TCP over IPv4 from this address.
fn v2(source: [u8; 4], fields: &[u8]) -> Vec<u8> {
    let block = [&source[..], &[198, 51, 100, 2, 0xdc, 4, 1, 0xbb], fields].concat();
    [SIGNATURE, &[0x21, 0x11], &u16::try_from(block.len()).expect("short").to_be_bytes(), &block].concat()
}

fn started(stable: &Upstream) -> Weir {
    Setup::single(stable).listener("behind", FROM_HERE).start()
}

/// Sends exactly this; everything that comes back until the end.
fn sent(weir: &Weir, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(weir.listener("behind")).expect("weir accepts");
    stream.set_read_timeout(Some(SOON)).expect("a time above 0");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// The client as the endpoint is told of the last request.
fn client(stable: &Upstream) -> String {
    let seen = stable.seen().pop().expect("a request came");
    seen.head.field("x-forwarded-for").expect("it is said").to_owned()
}

fn failures(weir: &Weir, kind: &str) -> f64 {
    weir.metrics().sum("weir_proxy_protocol_failures_total", &[("kind", kind)])
}

#[test]
fn the_client_is_whom_the_balancer_speaks_for() {
    let stable = Upstream::named("stable");
    let weir = started(&stable);
    let unknown = [SIGNATURE, &[0x21, 0, 0, 0]].concat();
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    for (header, expected) in [
        (&b"PROXY TCP4 203.0.113.7 198.51.100.2 56324 443\r\n"[..], "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&v2([203, 0, 113, 8], b""), "203.0.113.8"),
        (&v2([203, 0, 113, 9], b"\x04\x00\x03abc\x01\x00\x02h2"), "203.0.113.9"),
        (&unknown, "127.0.0.1"),
        (&local, "127.0.0.1"),
    ] {
        let answer = sent(&weir, &[header, GET].concat());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{header:?}: {answer}");
        assert_eq!(client(&stable), expected, "{header:?}");
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_the_connection_is_kept() {
    let stable = Upstream::named("stable");
    let weir = started(&stable);
    let mut slow = Client::to(weir.listener("behind"));
    for byte in v2([203, 0, 113, 8], b"\x04\x00\x03abc") {
        slow.send(&[byte]).expect("it is sent");
        std::thread::sleep(Duration::from_millis(1));
    }
    (0..3).for_each(|_| assert_eq!(slow.get("/").status, 200));
    assert_eq!(client(&stable), "203.0.113.8");
    let mut line = Client::to(weir.listener("behind"));
    for piece in [&b"PRO"[..], b"XY TCP4 203.0.113.7 198.51.1", b"00.2 1 2\r", b"\n"] {
        line.send(piece).expect("it is sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(line.get("/").status, 200);
    assert_eq!(client(&stable), "203.0.113.7");
}

#[test]
fn a_balancer_that_sends_none_is_closed_and_gets_no_answer() {
    let stable = Upstream::named("stable");
    let weir =
        Setup::single(&stable).listener("behind", FROM_HERE).text("[limits]\nheader_timeout = \"300ms\"").start();
    assert_eq!(sent(&weir, GET), "");
    assert_eq!(sent(&weir, b"PROXY TCP4 203.0.113.7 x 1 2\r\nGET / HTTP/1.1\r\n"), "");
    let mut wrong = v2([203, 0, 113, 7], b"\x03\x00\x04\0\0\0\0");
    wrong.extend_from_slice(GET);
    assert_eq!(sent(&weir, &wrong), "", "a checksum that is wrong");
    assert_eq!(failures(&weir, "malformed"), 3.0);
    let began = Instant::now();
    assert_eq!(sent(&weir, b"PROXY TCP4 203."), "", "one that does not come to its end");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(sent(&weir, b""), "");
    assert_eq!(failures(&weir, "timeout"), 2.0);
    drop(TcpStream::connect(weir.listener("behind")).expect("weir accepts"));
    eventually("it is counted", SOON, || failures(&weir, "gone") == 1.0);
    assert_eq!(stable.count(), 0);
    assert_eq!(weir.client().get("/").status, 200, "other listeners know nothing of it");
}

#[test]
fn from_anybody_else_a_header_is_garbage() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).listener("behind", "proxy_protocol = { from = [\"10.0.0.0/8\"] }").start();
    for header in [&b"PROXY TCP4 203.0.113.7 198.51.100.2 56324 443\r\n"[..], &v2([203, 0, 113, 8], b"")] {
        let answer = sent(&weir, &[header, GET].concat());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(stable.count(), 0);
    assert!(sent(&weir, GET).starts_with("HTTP/1.1 200 "));
    assert_eq!(client(&stable), "127.0.0.1");
}

#[test]
fn it_comes_before_tls() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let tls = "tls = { certificates = [{ cert = \"site.crt\", key = \"site.key\" }] }";
    let setup = Setup::single(&stable).listener("behind", &format!("{FROM_HERE}\n{tls}"));
    let weir = setup.file("site.crt", &site.cert).file("site.key", &site.key).start();
    let mut stream = TcpStream::connect(weir.listener("behind")).expect("weir accepts");
    stream.set_read_timeout(Some(SOON)).expect("a time above 0");
    stream.write_all(&v2([203, 0, 113, 8], b"")).expect("it is sent");
    let mut connection = Tls::of("test").connection();
    let mut secure = rustls::Stream::new(&mut connection, &mut stream);
    secure.write_all(GET).expect("it is sent");
    let mut answer = Vec::new();
    secure.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(client(&stable), "203.0.113.8");
    assert_eq!(sent(&weir, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "", "TLS without it");
    assert_eq!(failures(&weir, "malformed"), 1.0);
}

#[test]
fn the_address_is_the_peer_for_networks_limits_and_the_log() {
    let stable = Upstream::named("stable");
    let lines = format!("{FROM_HERE}\nnetworks = [\"203.0.113.0/24\"]");
    let limit = "[[rate_limits]]\nname = \"each\"\nkey = [\"client\"]\nrate = 1\nper = \"1h\"\nburst = 1";
    let setup = Setup::single(&stable).listener("behind", &lines).top("trusted_proxies = [\"203.0.113.50\"]");
    let weir = setup.text(&format!("{limit}\n[access_log]\nto = \"stdout\"")).start();
    let from = |source: u8| sent(&weir, &[&v2([203, 0, 113, source], b"")[..], GET].concat());
    assert!(from(1).starts_with("HTTP/1.1 200 "));
    assert!(from(1).starts_with("HTTP/1.1 429 "), "its bucket is empty");
    assert!(from(2).starts_with("HTTP/1.1 200 "), "another client's is not");
    let stranger = sent(&weir, &[&v2([198, 51, 100, 1], b"")[..], GET].concat());
    assert!(stranger.starts_with("HTTP/1.1 403 "), "{stranger}");
    // A trusted proxy behind the balancer speaks for others by X-Forwarded-For.
    let said = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.77\r\n\r\n";
    assert!(sent(&weir, &[&v2([203, 0, 113, 50], b"")[..], said].concat()).starts_with("HTTP/1.1 200 "));
    assert_eq!(client(&stable), "203.0.113.77, 203.0.113.50");
    eventually("it is logged", SOON, || weir.access_log().text().contains("203.0.113.77"));
}
