//! Upstreams that break the protocol: always an answer, never a clean end of a cut body, and the blame on that pool.

use std::time::Duration;

use crate::harness::{Answer, Behaviour, Client, End, Setup, Then, Upstream, Weir};

/// What the client must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// 502: the answer could be read two ways or not at all.
    Bad,
    /// The final answer with exactly this status and body.
    Good(u16, &'static str),
    /// An answer whose end is visibly missing.
    Cut,
    /// Either 502 or the answer with this body in one clear form.
    BadOrGood(&'static str),
}

#[test]
fn an_upgrade_to_another_protocol_than_asked_is_no_answer() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let asked = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    for upgrade in ["", "upgrade: h2c\r\n", "upgrade: websocket, h2c\r\n"] {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{upgrade}\r\n");
        stable.behave(Behaviour::raw(&head));
        assert_eq!(weir.client().get_with("/", &asked).status, 502, "{upgrade:?}");
    }
}

use Verdict::{Bad, BadOrGood, Cut, Good};

struct House {
    stable: Upstream,
    weir: Weir,
}

impl House {
    fn new() -> Self {
        let stable = Upstream::named("stable");
        let setup = Setup::single(&stable).table("health", "kind = \"off\"");
        let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
        let weir = setup.table("timeouts", "response_header = \"1s\"\nidle = \"500ms\"").start();
        Self { stable, weir }
    }

    /// Asks by POST, so that nothing is tried again.
    fn ask(&self, bytes: &[u8], then: Then) -> (Client, Answer) {
        self.stable.next(Behaviour::Raw(bytes.to_vec(), then));
        let mut client = self.weir.client().lenient();
        let answer = client.try_ask("POST", "/", &[], b"x");
        let shown = String::from_utf8_lossy(bytes).chars().take(200).collect::<String>();
        (client, answer.unwrap_or_else(|error| panic!("no answer ({error}) to {shown:?}")))
    }

    #[track_caller]
    fn check(&self, id: &str, bytes: &[u8], then: Then, verdict: Verdict) {
        let (_client, answer) = self.ask(bytes, then);
        let shown = String::from_utf8_lossy(bytes).chars().take(200).collect::<String>();
        let what = format!("{id}: {} {:?} {:?} for {shown:?}", answer.status, answer.end, answer.text());
        match verdict {
            Bad => assert_eq!(answer.status, 502, "{what}"),
            Good(status, body) => {
                assert_eq!((answer.status, answer.text().as_str(), answer.end), (status, body, End::Whole), "{what}");
            }
            Cut => assert_eq!(answer.end, End::Cut, "{what}"),
            BadOrGood(body) => {
                let good = answer.text() == body && answer.end == End::Whole;
                assert!(answer.status == 502 || good, "{what}");
            }
        }
        let next = self.weir.client().get("/next");
        assert_eq!((next.status, next.text().as_str()), (200, "stable\n"), "the next client after {what}");
    }
}

fn run(rows: &[(&str, &str, Then, Verdict)]) {
    let house = House::new();
    for (id, text, then, verdict) in rows {
        house.check(id, text.as_bytes(), *then, *verdict);
    }
}

#[test]
fn framing_that_can_be_read_two_ways_is_a_502_or_one_clear_form() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let house = House::new();
    for (id, lines, body, verdict) in [
        ("CL+TE", "Content-Length: 3\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", BadOrGood("abc")),
        ("TE+CL", "Transfer-Encoding: chunked\r\nContent-Length: 99", "3\r\nabc\r\n0\r\n\r\n", BadOrGood("abc")),
        ("two CL", "Content-Length: 3\r\nContent-Length: 4", "abcd", Bad),
        ("equal CL", "Content-Length: 3\r\nContent-Length: 3", "abc", BadOrGood("abc")),
        ("CL list", "Content-Length: 3, 3", "abc", BadOrGood("abc")),
        ("CL list two", "Content-Length: 3, 4", "abcd", Bad),
        ("CL sign", "Content-Length: +3", "abc", Bad),
        ("CL minus", "Content-Length: -3", "abc", Bad),
        ("CL hex", "Content-Length: 0x3", "abc", Bad),
        ("CL empty", "Content-Length: ", "abc", Bad),
        ("CL huge", "Content-Length: 99999999999999999999", "abc", Bad),
        (
            "TE twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            BadOrGood("abc"),
        ),
        ("TE comma", "Transfer-Encoding: ,chunked", "3\r\nabc\r\n0\r\n\r\n", BadOrGood("abc")),
        ("TE unknown", "Transfer-Encoding: xchunked", "3\r\nabc\r\n0\r\n\r\n", Bad),
        ("TE gzip", "Transfer-Encoding: gzip", "abc", Bad),
        ("TE not last", "Transfer-Encoding: chunked, gzip", "3\r\nabc\r\n0\r\n\r\n", Bad),
    ] {
        house.check(id, format!("{ok}{lines}\r\n\r\n{body}").as_bytes(), Then::Close, verdict);
    }
}

#[test]
fn a_head_that_is_not_http_1_is_a_502() {
    let head = |start: &str| format!("{start}\r\nContent-Length: 3\r\n\r\nabc");
    let house = House::new();
    for start in [
        "HTTP/1.1 099 Low",
        "HTTP/1.1 20 Short",
        "HTTP/1.1 1000 Long",
        "HTTP/1.1 2x0 Odd",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "200 OK",
        "",
        "HTTP/1.1",
        "HTTP/1.1 -20 OK",
    ] {
        house.check(start, head(start).as_bytes(), Then::Close, Bad);
    }
    for (id, bytes) in [
        ("body only", &b"<html>no head</html>"[..]),
        ("binary", b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\x00\r\n\r\n"),
        ("nothing", b""),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("folded", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc"),
        ("bare CR", b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 3\r\n\r\nabc"),
        ("NUL", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 3\r\n\r\nabc"),
        ("space before colon", b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 3\r\n\r\nabc"),
        ("no colon", b"HTTP/1.1 200 OK\r\nXa\r\nContent-Length: 3\r\n\r\nabc"),
        ("empty name", b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 3\r\n\r\nabc"),
        ("hidden CL", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc"),
    ] {
        house.check(id, bytes, Then::Close, Bad);
    }
}

#[test]
fn bare_line_feeds_are_refused_or_made_canonical() {
    let house = House::new();
    for bytes in ["HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 3\nX: y\r\n\r\nabc"]
    {
        house.check("LF", bytes.as_bytes(), Then::Close, BadOrGood("abc"));
    }
}

#[test]
fn a_body_that_is_cut_never_ends_cleanly() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    let house = House::new();
    for (id, text, verdict) in [
        ("short body", format!("{ok}Content-Length: 10\r\n\r\nabc"), Cut),
        ("cut chunk", format!("{chunked}a\r\nabc"), Cut),
        ("no last chunk", format!("{chunked}3\r\nabc\r\n"), Cut),
        ("no final line end", format!("{chunked}3\r\nabc\r\n0\r\n"), Cut),
        ("bad chunk size", format!("{chunked}3\r\nabc\r\nzz\r\n"), Cut),
        ("chunk spill", format!("{chunked}3\r\nabcdef\r\n0\r\n\r\n"), Cut),
        ("chunk hex", format!("{chunked}0x3\r\nabc\r\n0\r\n\r\n"), Cut),
        ("chunk huge", format!("{chunked}fffffffffffffffff\r\nabc"), Cut),
    ] {
        let (_client, answer) = house.ask(text.as_bytes(), Then::Close);
        let cut = answer.end == End::Cut || answer.status == 502;
        assert!(cut, "{id}: {} {:?} {:?} wanted {verdict:?}", answer.status, answer.end, answer.text());
        house.stable.next(Behaviour::raw_and_close(&text));
        // A reset that overtakes the head is visible as well: h2 forgets what it has queued on a stream that it resets.
        if let Ok(over_h2) = house.weir.h2().ask("POST", "/", &[], b"x") {
            assert!(over_h2.cut.is_some() || over_h2.status == 502, "{id} over h2: {over_h2:?}");
        }
        assert_eq!(house.weir.client().get("/next").text(), "stable\n", "{id}");
    }
}

#[test]
fn bytes_behind_an_answer_never_become_the_answer_of_another_request() {
    let one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    run(&[
        ("two answers", &format!("{one}{poison}"), Then::Keep, Good(200, "abc")),
        ("extra bytes", &format!("{one}xxxx"), Then::Keep, Good(200, "abc")),
        ("204 + body", &format!("HTTP/1.1 204 No\r\n\r\n{poison}"), Then::Keep, Good(204, "")),
        ("204 + CL", "HTTP/1.1 204 No\r\nContent-Length: 6\r\n\r\npoison", Then::Keep, Good(204, "")),
        ("304 + body", &format!("HTTP/1.1 304 No\r\nContent-Length: 6\r\n\r\n{poison}"), Then::Keep, Good(304, "")),
        ("empty + body", &format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{poison}"), Then::Keep, Good(200, "")),
    ]);
}

#[test]
fn an_answer_to_head_has_no_body_even_if_the_upstream_sends_one() {
    let house = House::new();
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    house.stable.next(Behaviour::raw(text));
    let mut client = house.weir.client().lenient();
    let answer = client.ask("HEAD", "/", &[], b"");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("6")));
    assert_eq!(client.get("/next").text(), "stable\n");
    assert_eq!(house.weir.client().get("/next").text(), "stable\n");
}

#[test]
fn a_connection_that_speaks_before_it_is_asked_is_not_used() {
    let house = House::new();
    let mut client = house.weir.client();
    assert_eq!(client.get("/").status, 200);
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    house.stable.next(Behaviour::Raw(text.as_bytes().to_vec(), Then::Keep));
    let _ = client.ask("GET", "/", &[], b"");
    for _ in 0..10 {
        assert_eq!(client.get("/next").text(), "stable\n");
    }
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_a_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    run(&[
        ("U-02", switch, Then::Keep, Bad),
        ("U-03", "HTTP/1.1 101 Switching Protocols\r\n\r\nraw bytes", Then::Keep, Bad),
    ]);
    let house = House::new();
    house.stable.next(Behaviour::raw(switch));
    assert_eq!(house.weir.h2().ask("POST", "/", &[], b"x").expect("an answer").status, 502);
}

#[test]
fn an_upgrade_that_is_not_granted_leaves_an_ordinary_connection() {
    let house = House::new();
    for (id, method, upgrade, passes) in [
        ("U-01", "GET", "websocket", true),
        ("U-04", "GET", "h2c", false),
        ("U-05", "POST", "websocket", false),
        ("U-05", "GET", "TLS/1.0", false),
    ] {
        let head = format!(
            "{method} /up HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut client = house.weir.client();
        client.send(format!("{head}GET /piped HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("it is sent");
        assert_eq!(client.answer().expect("an answer").status, 200, "{id}");
        assert_eq!(client.answer().expect("an answer to the pipelined request").status, 200, "{id}");
        let seen = house.stable.seen();
        let request = seen.iter().rfind(|seen| seen.target == "/up").expect("it went upstream");
        assert_eq!(request.field("upgrade").is_some(), passes, "{id}");
        assert_eq!(request.field("http2-settings"), None, "{id}");
        assert_eq!(seen.last().expect("one").target, "/piped", "{id}: parsed and routed as a request");
        house.stable.forget();
    }
}

#[test]
fn interim_answers_are_bounded_and_the_final_one_counts() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let done = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let house = House::new();
    house.check("103", format!("{hints}{done}").as_bytes(), Then::Keep, Good(200, "abc"));
    house.check("102", format!("HTTP/1.1 102 Wait\r\n\r\n{done}").as_bytes(), Then::Keep, Good(200, "abc"));
    house.check("flood", format!("{}{done}", hints.repeat(1_000)).as_bytes(), Then::Close, Bad);
}

#[test]
fn a_huge_head_is_a_502_and_costs_no_memory() {
    let house = House::new();
    let before = house.weir.resident_bytes();
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 3\r\n\r\nabc", "x".repeat(400 * 1024));
    house.check("400 KB", large.as_bytes(), Then::Close, Bad);
    let fields: String = (0..2_000).map(|n| format!("X-{n}: v\r\n")).collect();
    house.check(
        "fields",
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 3\r\n\r\nabc").as_bytes(),
        Then::Close,
        Bad,
    );
    assert!(house.weir.resident_bytes().saturating_sub(before) < 8 << 20);
}

#[test]
fn every_broken_answer_counts_against_its_pool_and_only_there() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 1]).table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let weir = setup.start();
    canary.behave(Behaviour::raw_and_close("garbage\r\n\r\n"));
    for _ in 0..10 {
        assert_eq!(weir.client().ask("POST", "/", &[], b"x").status, 502);
    }
    let metrics = weir.metrics();
    let faults = |pool| metrics.sum("weir_pool_faults_total", &[("pool", pool), ("kind", "upstream_answer")]);
    assert_eq!((faults("canary"), faults("stable")), (10.0, 0.0), "{:#?}", metrics.lines_with("faults"));
    std::thread::sleep(Duration::from_millis(10));
}
