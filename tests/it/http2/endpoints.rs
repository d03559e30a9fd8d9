//! Answers of HTTP/2 endpoints that break the protocol or could be read two ways: 502, or visibly cut where their head
//! has been passed on; the next request gets an answer of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, RawEndpoint, SETTINGS,
    WINDOW_UPDATE, frame, literal, setting,
};
use crate::harness::{End, Setup, Weir};

/// What the client must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// 502: it has not begun.
    Bad,
    /// 504: nothing that could be read came in time.
    Late,
    /// This status, and this body, whole.
    Good(u16, &'static str),
    /// An answer whose end is visibly missing, or a 502.
    Cut,
}

use Verdict::{Bad, Cut, Good, Late};

/// An answer on a stream.
type Says = fn(u32) -> Vec<u8>;

struct House {
    says: Arc<Mutex<Says>>,
    weir: Weir,
}

impl House {
    fn new() -> Self {
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(good));
        let current = Arc::clone(&says);
        let endpoint = RawEndpoint::serving(move |raw, _| {
            while let Ok(Some(came)) = raw.next() {
                if came.kind == HEADERS {
                    let says = *current.lock().expect("nobody panics with it");
                    let _ = raw.send(&says(came.stream));
                }
            }
        });
        let setup = Setup::new().workers(1).pool_at("stable", &[&endpoint.url()]).table("health", "kind = \"off\"");
        let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
        Self { says, weir: setup.table("timeouts", "response_header = \"1s\"\nidle = \"1s\"").start() }
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("nobody panics with it") = says;
    }

    #[track_caller]
    fn run(&self, rows: &[(&str, Says, Verdict)]) {
        let mut wrong = Vec::new();
        for (what, says, verdict) in rows {
            self.say(*says);
            // By POST, so that nothing is tried again.
            let answer = self.weir.client().lenient().ask("POST", "/", &[], b"x");
            let found = (answer.status, answer.text(), answer.end);
            let sound = match *verdict {
                Bad => found.0 == 502,
                Late => found.0 == 504,
                Good(status, body) => found == (status, body.to_owned(), End::Whole),
                Cut => found.2 == End::Cut || found.0 == 502,
            };
            // The same towards a client of HTTP/2.
            let over = self.weir.h2().ask("POST", "/", &[], b"x");
            let alike = match (*verdict, &over) {
                (Bad, Ok(over)) => over.status == 502,
                (Late, Ok(over)) => over.status == 504,
                (Good(status, body), Ok(over)) => (over.status, over.body.as_slice()) == (status, body.as_bytes()),
                (Cut, Ok(over)) => over.cut.is_some() || over.status == 502,
                (Cut, Err(_)) => true,
                (Bad | Late | Good(..), Err(_)) => false,
            };
            self.say(good);
            let next = self.weir.client().lenient().get("/next");
            if !sound || !alike || (next.status, next.text().as_str()) != (200, "good") {
                let next = (next.status, next.text());
                wrong.push(format!("{what}: wanted {verdict:?}, {found:?}, over HTTP/2 {over:?}, then {next:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    }
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

/// `:status: 200` and these fields; the body follows.
fn ok(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    head(stream, 0, &[&[(":status", "200")], fields].concat())
}

fn body(stream: u32, text: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, text.as_bytes())
}

fn good(stream: u32) -> Vec<u8> {
    [ok(stream, &[]), body(stream, "good")].concat()
}

/// An answer with these fields and a body.
fn with(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    [ok(stream, fields), body(stream, "abc")].concat()
}

#[test]
fn an_answer_whose_head_breaks_the_rules_is_a_502() {
    House::new().run(&[
        ("no :status", |s| [head(s, 0, &[("x", "y")]), body(s, "abc")].concat(), Bad),
        ("two :status", |s| head(s, END_STREAM, &[(":status", "200"), (":status", "404")]), Bad),
        (":status behind a field", |s| head(s, END_STREAM, &[("x", "y"), (":status", "200")]), Bad),
        (":status of two digits", |s| head(s, END_STREAM, &[(":status", "20")]), Bad),
        (":status of four digits", |s| head(s, END_STREAM, &[(":status", "2000")]), Bad),
        (":status that is no number", |s| head(s, END_STREAM, &[(":status", "2x0")]), Bad),
        (":status 099", |s| head(s, END_STREAM, &[(":status", "099")]), Bad),
        // It is left out; nobody sees it.
        ("a pseudo-field of requests", |s| head(s, END_STREAM, &[(":status", "200"), (":path", "/")]), Good(200, "")),
        ("an unknown pseudo-field", |s| head(s, END_STREAM, &[(":status", "200"), (":x", "/")]), Bad),
        ("a name in upper case", |s| with(s, &[("X-Up", "v")]), Bad),
        ("a name with CR LF", |s| with(s, &[("x\r\ny", "v")]), Bad),
        ("a value with CR LF", |s| with(s, &[("x", "a\r\nset-cookie: b")]), Bad),
        ("a value with NUL", |s| with(s, &[("x", "a\0b")]), Bad),
        ("Connection", |s| with(s, &[("connection", "close")]), Bad),
        ("Transfer-Encoding", |s| with(s, &[("transfer-encoding", "chunked")]), Bad),
        ("Upgrade", |s| with(s, &[("upgrade", "h2c")]), Bad),
        ("101", |s| head(s, 0, &[(":status", "101")]), Bad),
        ("101 before an answer", |s| [head(s, 0, &[(":status", "101")]), good(s)].concat(), Bad),
        ("a length that is none", |s| with(s, &[("content-length", "x")]), Bad),
        ("a length with a sign", |s| with(s, &[("content-length", "+3")]), Bad),
        ("two lengths", |s| with(s, &[("content-length", "3"), ("content-length", "4")]), Bad),
        ("a list of lengths", |s| with(s, &[("content-length", "3, 4")]), Bad),
        ("a head that ends with an interim answer", |s| head(s, END_STREAM, &[(":status", "103")]), Bad),
        ("DATA before the head", |s| body(s, "abc"), Bad),
        ("interim answers without end", |s| head(s, 0, &[(":status", "103")]).repeat(1_000), Bad),
        ("a field of 8 KB", |s| with(s, &[("x", "v".repeat(8_000).as_str())]), Good(200, "abc")),
        (
            "a head without end",
            |s| [frame(HEADERS, 0, s, &literal(":status", "200")), frame(CONTINUATION, 0, s, b"")].concat(),
            Late,
        ),
        (
            "400 fields",
            |s| {
                let all: Vec<u8> = (0..400).flat_map(|n| literal(&format!("x-{n}"), "v")).collect();
                frame(HEADERS, END_HEADERS | END_STREAM, s, &[literal(":status", "200"), all].concat())
            },
            Bad,
        ),
        ("a block that cannot be read", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, &[0x80]), Bad),
    ]);
}

#[test]
fn an_answer_whose_body_breaks_the_rules_never_looks_whole() {
    House::new().run(&[
        ("longer than its length", |s| [ok(s, &[("content-length", "2")]), body(s, "abc")].concat(), Cut),
        ("shorter than its length", |s| [ok(s, &[("content-length", "9")]), body(s, "abc")].concat(), Cut),
        ("a length and no body", |s| head(s, END_STREAM, &[(":status", "200"), ("content-length", "9")]), Cut),
        ("as long as its length", |s| with(s, &[("content-length", "3")]), Good(200, "abc")),
        ("204 with a body", |s| [head(s, 0, &[(":status", "204")]), body(s, "abc")].concat(), Good(204, "")),
        (
            "a second head that is no trailers",
            |s| [ok(s, &[]), frame(DATA, 0, s, b"ab"), head(s, 0, &[(":status", "200")]), body(s, "c")].concat(),
            Cut,
        ),
        (
            "reset within",
            |s| [ok(s, &[]), frame(DATA, 0, s, b"ab"), frame(RST_STREAM, 0, s, &[0, 0, 0, 2])].concat(),
            Cut,
        ),
        (
            "reset within, without an error",
            |s| [ok(s, &[]), frame(DATA, 0, s, b"ab"), frame(RST_STREAM, 0, s, &[0; 4])].concat(),
            Cut,
        ),
        (
            "a GOAWAY that leaves it out",
            |s| [ok(s, &[]), frame(DATA, 0, s, b"ab"), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2])].concat(),
            Cut,
        ),
        ("padding longer than its frame", |s| [ok(s, &[]), frame(DATA, 8, s, &[9, 0])].concat(), Cut),
        ("nothing more", |s| [ok(s, &[]), frame(DATA, 0, s, b"ab")].concat(), Cut),
        ("DATA behind the end", |s| [good(s), body(s, "more")].concat(), Good(200, "good")),
    ]);
}

#[test]
fn a_connection_that_breaks_the_rules_is_left() {
    House::new().run(&[
        ("server push", |s| [frame(PUSH_PROMISE, END_HEADERS, s, &[0, 0, 0, 2, 0x88]), good(s)].concat(), Bad),
        ("an answer on another stream", |s| good(s + 100), Bad),
        ("an answer on an even stream", |s| good(s + 1), Bad),
        ("SETTINGS of 5 bytes", |_| frame(SETTINGS, 0, 0, &[0; 5]), Bad),
        ("frames of 2^24", |_| frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), Bad),
        ("push enabled by a server", |s| [frame(SETTINGS, 0, 0, &setting(2, 1)), good(s)].concat(), Bad),
        ("a window over 2^31-1", |_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()), Bad),
        ("a frame that is too long", |s| frame(DATA, 0, s, &[0; 20_000]), Bad),
    ]);
}

#[test]
fn an_endpoint_that_begins_with_something_else_is_no_http_2() {
    let endpoint = RawEndpoint::serving(|raw, _| {
        raw.listen(Duration::from_millis(200), |_| false);
    });
    let setup = Setup::new().pool_at("stable", &[&endpoint.url()]).table("health", "kind = \"off\"");
    let weir = setup.table("timeouts", "response_header = \"500ms\"").start();
    assert_eq!(weir.client().get("/").status, 502);
}
