//! The stage itself: upstreams, clients and the name server tried against each other, without weir.

use std::time::Duration;

use crate::harness::{Behaviour, Client, Door, End, Health, Upstream, eventually};

#[test]
fn an_upstream_answers_with_its_name_and_remembers_the_request() {
    let upstream = Upstream::named("stable");
    let mut client = Client::to(upstream.address());
    let answer = client.ask("POST", "/a?b=%20c", &[("x-id", "7")], b"hello");
    assert_eq!((answer.status, answer.upstream(), answer.text().as_str()), (200, "stable", "stable\n"));
    let seen = upstream.last();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str(), seen.body.as_slice()),
        ("POST", "/a?b=%20c", &b"hello"[..])
    );
    assert_eq!((upstream.count_of("7"), upstream.probes()), (1, 0));
    assert_eq!(client.get("/again").status, 200);
    assert_eq!(upstream.last().connection, seen.connection);
}

#[test]
fn a_killed_upstream_refuses_and_a_restarted_one_answers_on_the_same_port() {
    let mut upstream = Upstream::named("stable");
    let mut client = Client::to(upstream.address());
    assert_eq!(client.get("/").status, 200);
    upstream.kill();
    assert!(client.try_ask("GET", "/", &[], b"").is_err());
    assert!(Client::try_to(upstream.address()).is_err());
    upstream.restart();
    assert_eq!(Client::to(upstream.address()).get("/").status, 200);
}

#[test]
fn misbehaviour_is_visible_to_the_client() {
    let upstream = Upstream::named("bad");
    let ask = |behaviour| {
        upstream.next(behaviour);
        // A reset at the door may be there before the connection is.
        let client = Client::try_to(upstream.address())?;
        client.patience(Duration::from_millis(200)).try_ask("GET", "/", &[], b"")
    };
    assert!(ask(Behaviour::ResetAfterHead).is_err());
    assert!(ask(Behaviour::ResetInsideHead).is_err());
    assert!(ask(Behaviour::StallBeforeHead).is_err());
    assert!(ask(Behaviour::HalfClose).is_err());
    let cut = ask(Behaviour::ResetMidBody { sent: 10, of: 100 }).expect("a head came");
    assert_eq!((cut.end, cut.body.len()), (End::Cut, 10));
    assert_eq!(ask(Behaviour::CutChunk).expect("a head came").end, End::Cut);
    assert_eq!(ask(Behaviour::raw("HTTP/1.1 204 None\r\n\r\n")).expect("an answer came").status, 204);
    let large = ask(Behaviour::Large(300_000)).expect("an answer came");
    assert_eq!((large.end, large.body.len()), (End::Whole, 300_000));
    for door in [Door::Reset, Door::Close, Door::Silent] {
        upstream.door(door);
        assert!(ask(Behaviour::Answer).is_err(), "{door:?}");
    }
}

#[test]
fn a_probe_is_told_apart_from_a_request() {
    let upstream = Upstream::named("stable");
    upstream.health(Health::Fail);
    assert_eq!(Client::to(upstream.address()).get("/healthz").status, 503);
    assert_eq!((upstream.probes(), upstream.count()), (1, 0));
    eventually("the connection is gone", Duration::from_secs(1), || upstream.open() == 0);
}
