//! Interim answers: `100 Continue` end to end, hints that come early, and answers that come before the body has gone.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Client, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

fn single() -> (Upstream, Weir) {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("timeouts", "response_header = \"4s\"\nidle = \"4s\"").start();
    (stable, weir)
}

const EXPECTING: &[u8] = b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn hints_of_an_endpoint_reach_the_client_before_its_answer() {
    let (stable, weir) = single();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-inner\r\nX-Inner: 1\r\n\
        Set-Cookie: weir=1\r\n\r\n";
    let done = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    stable.behave(Behaviour::raw(&format!("{hints}HTTP/1.1 102 Processing\r\n\r\n{done}")));
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let head = client.head();
    assert_eq!((head.start.as_str(), head.field("link")), ("HTTP/1.1 103 Early Hints", Some("</a.css>; rel=preload")));
    assert_eq!(head.fields.len(), 1, "{head:?}");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.interim, answer.status, answer.body), (vec![102], 200, b"abc".to_vec()));
    assert_eq!(client.get("/again").interim, [103, 102], "the connection is in order");
    let answer = weir.h2().get("/");
    let told: Vec<u16> = answer.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!((told, answer.body.as_slice()), (vec![103, 102], &b"abc"[..]));
    let fields = &answer.interim[0].1;
    assert_eq!((fields.len(), fields.get("link").map(|it| it.as_bytes())), (1, Some(&b"</a.css>; rel=preload"[..])));
}

#[test]
fn hints_come_at_once_and_not_with_the_answer() {
    let listener = TcpListener::bind((crate::harness::upstream::own_address(), 0)).expect("an address of its own");
    let slow = Setup::new().pool_at("stable", &[&format!("http://{}", listener.local_addr().expect("bound"))]);
    let slow = slow.table("health", "kind = \"off\"").start();
    let mut client = slow.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let (mut endpoint, _) = listener.accept().expect("weir connects");
    let mut read = [0; 1024];
    assert!(endpoint.read(&mut read).expect("a request") > 0);
    endpoint.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").expect("it is sent");
    assert_eq!(client.head().start, "HTTP/1.1 103 Early Hints");
    endpoint.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").text(), "ok");
}

#[test]
fn an_http_1_0_client_is_told_nothing_in_between() {
    let (stable, weir) = single();
    stable.behave(Behaviour::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ));
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.interim.len(), answer.text().as_str()), (0, "abc"));
}

#[test]
fn the_endpoint_says_whether_it_wants_the_body() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut client = weir.client();
    client.send(EXPECTING).expect("it is sent");
    assert_eq!(client.head().start, "HTTP/1.1 100 Continue");
    assert_eq!(stable.last().field("expect"), Some("100-continue"));
    client.send(b"hello").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").text(), "hello");
    // Who does not wait is served as well, and told what the endpoint said.
    client.send(&[EXPECTING, b"hello"].concat()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").text(), "hello");
    assert_eq!(client.ask("POST", "/", &[("expect", "a-pony")], b"x").status, 417);
    let answer = weir.h2().ask("POST", "/", &[("expect", "100-continue")], b"hello").expect("an answer");
    let told: Vec<u16> = answer.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!((told, answer.body.as_slice()), (vec![100], &b"hello"[..]));
}

#[test]
fn an_endpoint_that_refuses_the_body_is_heard_and_the_body_is_not_asked_for() {
    let (stable, weir) = single();
    let refusal = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".to_vec();
    stable.behave(Behaviour::Early(refusal, Then::Close));
    let mut client = weir.client();
    client.send(EXPECTING).expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.interim.len(), answer.status, answer.text().as_str()), (0, 413, "no"));
    assert_eq!(answer.field("connection"), Some("close"), "nobody knows whether the body still comes");
    assert!(client.closed_within(SOON));
}

#[test]
fn a_client_that_waits_goes_on_after_a_second_when_the_endpoint_knows_no_expectations() {
    let (stable, weir) = single();
    stable.behave(Behaviour::NoContinue);
    let mut client = weir.client();
    let began = Instant::now();
    client.send(EXPECTING).expect("it is sent");
    assert_eq!(client.head().start, "HTTP/1.1 100 Continue");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    client.send(b"hello").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").text(), "hello");
}

#[test]
fn an_early_answer_ends_the_upload_without_a_word_of_it_being_read_as_a_request() {
    let (stable, weir) = single();
    let early = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".to_vec();
    stable.behave(Behaviour::Early(early, Then::Hold));
    let mut client: Client = weir.client();
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send(b"POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.field("connection")), (403, Some("close")));
    let _ = client.send(smuggled);
    let _ = client.rest(Duration::from_millis(300));
    assert_eq!(stable.count_on("/smuggled"), 0);
    stable.behave(Behaviour::Answer);
    assert_eq!(weir.client().get("/next").status, 200);
    eventually("the endpoint is let go", SOON, || stable.open() <= 1);
}
