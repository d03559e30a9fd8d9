//! A client of the engine, and a server that speaks frames by hand.

use super::super::error::{By, Reason};
use super::super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
};
use super::peer::*;
use super::*;

struct Scene {
    raw: Raw,
    sender: Sender,
    driver: JoinHandle<Result<(), Error>>,
}

impl Scene {
    async fn new(settings: &[(u16, u32)]) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let own = Config { streams_max: None, enable_connect: false, ..config() };
        let (sender, driver) = open(near, &own).await;
        assert_eq!(sender.streams_max(), None);
        let raw = Raw::server(far, settings).await;
        ready(&sender).await.expect("there is room");
        Self { raw, sender, driver }
    }

    /// A request without a body that has arrived.
    async fn get(&mut self) -> (u32, Answered, Outflow) {
        let (answered, out) = ask(&self.sender, "GET", "/", true).await.expect("there is room");
        let came = self.raw.next_of(HEADERS).await;
        assert!(came.has(END_STREAM) && came.has(END_HEADERS));
        (came.stream, answered, out)
    }
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    answer(stream, flags, &[(":status", "200")])
}

const OK: (&str, &str) = (":status", "200");

#[test]
fn a_server_that_breaks_the_rules_is_left_and_told_why() {
    let (protocol, flow, size, compression, calm) = (1, 3, 6, 9, 11);
    let rows: Vec<(&str, Vec<u8>, u32)> = vec![
        ("push", of(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x88]), protocol),
        ("an answer on an idle stream", ok(101, 1), protocol),
        ("an answer on an even stream", ok(2, 1), protocol),
        ("DATA behind the end", [ok(1, 0), data(1, 0, b"a"), data(1, 1, b"")].concat(), 0),
        ("DATA on an idle stream", data(3, 1, b"abc"), protocol),
        ("RST_STREAM on an idle stream", reset(3, 8), protocol),
        ("a name in upper case", answer(1, 1, &[OK, ("X", "y")]), protocol),
        ("an unknown pseudo-field", answer(1, 1, &[OK, (":x", "y")]), protocol),
        ("frames of 2^24", said(&[(5, 1 << 24)]), protocol),
        ("push enabled", said(&[(2, 1)]), protocol),
        ("a window of 2^31", said(&[(4, 1 << 31)]), flow),
        ("a block that cannot be read", of(HEADERS, END_HEADERS, 1, &[0x80]), compression),
        ("a window over its bound", update(0, 0x7fff_ffff), flow),
        ("SETTINGS of 5 bytes", of(SETTINGS, 0, 0, &[0; 5]), size),
        (
            "CONTINUATION without end",
            [of(HEADERS, 0, 1, &[0x88]), of(CONTINUATION, 0, 1, b"").repeat(6)].concat(),
            calm,
        ),
    ];
    for (what, bytes, code) in rows {
        run(async move {
            let mut scene = Scene::new(&[]).await;
            let (id, mut answered, _out) = scene.get().await;
            assert_eq!(id, 1);
            scene.raw.send(&bytes).await;
            if code == 0 {
                let came = scene.raw.until_pong().await;
                assert!(came.iter().all(|it| it.kind != GOAWAY), "{what}");
                return;
            }
            assert_eq!(scene.raw.end().await.0, code, "{what}");
            let error = Error::GoAway(Reason(code), By::Us);
            assert_eq!(head_of(&mut answered).await.err(), Some(error), "{what}");
            assert_eq!(scene.driver.await.expect("no panic"), Err(error), "{what}");
            assert_eq!(ask(&scene.sender, "GET", "/", true).await.err(), Some(error), "{what}");
        });
    }
}

#[test]
fn an_answer_that_breaks_the_rules_ends_its_stream_alone() {
    let rows: Vec<(&str, Vec<u8>, bool)> = vec![
        ("DATA before the head", data(1, 1, b"abc"), true),
        ("no :status", answer(1, 1, &[("x", "y")]), true),
        ("two of them", answer(1, 1, &[OK, OK]), true),
        ("Connection", answer(1, 1, &[OK, ("connection", "close")]), true),
        ("an interim answer that ends", answer(1, 1, &[(":status", "103")]), true),
        ("interim answers without end", answer(1, 0, &[(":status", "103")]).repeat(200), true),
        ("a length and no body", answer(1, 1, &[OK, ("content-length", "9")]), true),
        ("two lengths", answer(1, 0, &[OK, ("content-length", "3"), ("content-length", "4")]), true),
        ("too large a head", answer(1, 1, &[OK, ("x", "v".repeat(9_000).as_str())]).to_vec(), false),
        ("shorter than its length", [answer(1, 0, &[OK, ("content-length", "9")]), data(1, 1, b"abc")].concat(), false),
        ("longer than its length", [answer(1, 0, &[OK, ("content-length", "2")]), data(1, 1, b"abc")].concat(), false),
        ("a second head", [ok(1, 0), data(1, 0, b"abc"), ok(1, 0)].concat(), false),
    ];
    for (what, bytes, before) in rows {
        run(async move {
            let mut scene = Scene::new(&[]).await;
            let (_, mut answered, _out) = scene.get().await;
            scene.raw.send(&bytes).await;
            if what == "too large a head" {
                assert!(head_of(&mut answered).await.is_ok(), "it is below what is taken");
                return;
            }
            let error = Error::Reset(Reason::PROTOCOL_ERROR, By::Us);
            assert_eq!(scene.raw.reset().await, (1, 1), "{what}");
            match head_of(&mut answered).await {
                Err(found) => assert_eq!((found, before), (error, true), "{what}"),
                Ok((_, mut inflow)) => {
                    assert_eq!(body_of(&mut inflow).await, Err(error), "{what}");
                    assert!(!before && !inflow.is_end_stream(), "{what}");
                }
            }
            let (id, mut answered, _out) = scene.get().await;
            scene.raw.send(&[data(1, 0, b"more"), ok(id, 1)].concat()).await;
            assert_eq!(head_of(&mut answered).await.expect("an answer").0.status, 200, "{what}");
        });
    }
}

#[test]
fn answers_without_content_may_say_how_long_it_would_be() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        for (method, status, body, whole) in [
            ("HEAD", "200", None, true),
            ("GET", "304", None, true),
            ("GET", "304", Some(&b""[..]), true),
            ("HEAD", "200", Some(&b""[..]), true),
            ("HEAD", "200", Some(&b"abc"[..]), false),
        ] {
            let (mut answered, _out) = ask(&scene.sender, method, "/", true).await.expect("there is room");
            let id = scene.raw.next_of(HEADERS).await.stream;
            let end = u8::from(body.is_none());
            scene.raw.send(&answer(id, end, &[(":status", status), ("content-length", "3")])).await;
            let (_, mut inflow) = head_of(&mut answered).await.expect("an answer");
            if let Some(body) = body {
                scene.raw.send(&data(id, END_STREAM, body)).await;
            }
            assert_eq!(body_of(&mut inflow).await.is_ok(), whole, "{method} {status} {body:?}");
        }
    });
}

#[test]
fn a_goaway_leaves_what_was_looked_at_and_gives_back_the_rest() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        let (first, mut kept, _kept) = scene.get().await;
        let (_, mut lost, mut lost_out) = scene.get().await;
        scene.raw.send(&goaway(first, 0)).await;
        let error = head_of(&mut lost).await.map(drop).expect_err("it was not looked at");
        assert_eq!((error, error.unsent()), (Error::GoAway(Reason::NO_ERROR, By::Peer), true));
        assert_eq!(poll_fn(|cx| lost_out.poll_reset(cx)).await, Reason::NO_ERROR);
        assert_eq!(ask(&scene.sender, "GET", "/", true).await.err(), Some(error));
        assert_eq!(
            scene.sender.send_request(|head| head.request(b"GET", b"http", b"a", b"/"), true).err(),
            Some(error)
        );
        scene.raw.send(&[ok(first, 0), data(first, 1, b"whole")].concat()).await;
        let (_, mut inflow) = head_of(&mut kept).await.expect("an answer");
        assert_eq!(body_of(&mut inflow).await, Ok(b"whole".to_vec()));
        assert_eq!(scene.raw.end().await, (0, String::new()));
        assert_eq!(scene.driver.await.expect("no panic"), Ok(()));
        let mut scene = Scene::new(&[]).await;
        let (_, mut lost, _out) = scene.get().await;
        scene.raw.send(&goaway(0, 11)).await;
        assert_eq!(head_of(&mut lost).await.err(), Some(Error::GoAway(Reason(11), By::Peer)));
        assert_eq!(scene.driver.await.expect("no panic"), Err(Error::GoAway(Reason(11), By::Peer)));
    });
}

#[test]
fn a_stream_that_is_dropped_is_cancelled_and_what_comes_on_it_passed_over() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        let (first, answered, out) = scene.get().await;
        drop(answered);
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != RST_STREAM), "somebody might go on");
        drop(out);
        assert_eq!(scene.raw.reset().await, (first, 8));
        scene.raw.send(&[ok(first, 0), data(first, 0, b"abc"), answer(first, 1, &[("a", "b")])].concat()).await;
        let (second, mut answered, mut out) = {
            let (answered, out) = ask(&scene.sender, "POST", "/", false).await.expect("there is room");
            (scene.raw.next_of(HEADERS).await.stream, answered, out)
        };
        out.send_data(Bytes::from(vec![0; 100_000]), true).expect("it waits");
        scene.raw.send(&[ok(second, 0), data(second, 0, b"abc")].concat()).await;
        let (_, inflow) = head_of(&mut answered).await.expect("an answer");
        drop((answered, inflow, out));
        assert_eq!(scene.raw.reset().await, (second, 8), "with what waits");
        // The whole of both directions: nothing to give up.
        let (third, mut answered, out) = scene.get().await;
        scene.raw.send(&[ok(third, 0), data(third, 1, b"abc")].concat()).await;
        let (_, inflow) = head_of(&mut answered).await.expect("an answer");
        settle().await;
        drop((answered, inflow, out));
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != RST_STREAM));
        let core = scene.sender.0.core.borrow();
        assert_eq!((core.streams.linked(), core.ready.len(), core.waiting.len()), (0, 0, 0));
    });
}

#[test]
fn a_reset_of_the_peer_tells_whether_the_request_was_looked_at() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        for (code, unsent) in [(7, true), (8, false), (2, false), (0, false)] {
            let (id, mut answered, _out) = scene.get().await;
            scene.raw.send(&reset(id, code)).await;
            let error = head_of(&mut answered).await.map(drop).expect_err("it was reset");
            assert_eq!((error, error.unsent()), (Error::Reset(Reason(code), By::Peer), unsent));
            assert!(poll_fn(|cx| answered.poll_interim(cx)).await.is_none());
        }
        // A whole answer is whole, whatever becomes of the rest of the request (§8.1).
        let (mut answered, mut out) = ask(&scene.sender, "POST", "/", false).await.expect("there is room");
        let id = scene.raw.next_of(HEADERS).await.stream;
        scene.raw.send(&[ok(id, 0), data(id, 1, b"early"), reset(id, 0)].concat()).await;
        let (_, mut inflow) = head_of(&mut answered).await.expect("an answer");
        assert_eq!(body_of(&mut inflow).await, Ok(b"early".to_vec()));
        assert_eq!(poll_fn(|cx| out.poll_reset(cx)).await, Reason::NO_ERROR);
        assert!(out.send_data(Bytes::from_static(b"x"), true).is_err());
    });
}

#[test]
fn no_more_streams_begin_than_the_peer_allows() {
    run(async {
        let mut scene = Scene::new(&[(3, 1)]).await;
        let (first, mut answered, _out) = scene.get().await;
        assert_eq!(
            scene.sender.send_request(|head| head.request(b"GET", b"http", b"a", b"/"), true).err(),
            Some(Error::User)
        );
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let sender = scene.sender.clone();
                spawn_local(async move {
                    let (mut answered, _out) = loop {
                        ready(&sender).await.expect("there is room");
                        if let Ok(begun) = sender.send_request(|head| head.request(b"GET", b"http", b"a", b"/"), true) {
                            break begun;
                        }
                    };
                    head_of(&mut answered).await.expect("an answer").0.status
                })
            })
            .collect();
        let came = scene.raw.until_pong().await;
        assert!(came.iter().all(|it| it.kind != HEADERS), "{came:?}");
        scene.raw.send(&ok(first, 1)).await;
        head_of(&mut answered).await.expect("an answer");
        for _ in 0..3 {
            let id = scene.raw.next_of(HEADERS).await.stream;
            scene.raw.send(&ok(id, 1)).await;
        }
        for waiter in waiters {
            assert_eq!(waiter.await.expect("no panic"), 200);
        }
    });
}

#[test]
fn a_connection_that_nobody_wants_ends_and_one_that_breaks_fails_its_streams() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        let (id, mut answered, out) = scene.get().await;
        let other = scene.sender.clone();
        drop((scene.sender, other, out));
        scene.raw.send(&ok(id, 1)).await;
        head_of(&mut answered).await.expect("an answer");
        assert_eq!(scene.raw.end().await, (0, String::new()));
        assert_eq!(scene.driver.await.expect("no panic"), Ok(()));
        let mut scene = Scene::new(&[]).await;
        let (_, mut answered, _out) = scene.get().await;
        drop(scene.raw);
        let broken = Error::Io(std::io::ErrorKind::BrokenPipe);
        assert_eq!(head_of(&mut answered).await.err(), Some(broken));
        assert_eq!(ask(&scene.sender, "GET", "/", true).await.err(), Some(broken));
        scene.driver.await.expect("no panic").expect("it was closed");
        let mut scene = Scene::new(&[]).await;
        let (_, mut answered, _out) = scene.get().await;
        scene.driver.abort();
        assert_eq!(head_of(&mut answered).await.err(), Some(broken));
    });
}

#[test]
fn interim_answers_are_handed_out_one_by_one_or_passed_over() {
    run(async {
        let mut scene = Scene::new(&[]).await;
        let interim =
            |id| [answer(id, 0, &[(":status", "100")]), answer(id, 0, &[(":status", "103"), ("a", "b")])].concat();
        let (id, mut answered, _out) = scene.get().await;
        scene.raw.send(&interim(id)).await;
        assert_eq!(poll_fn(|cx| answered.poll_interim(cx)).await.map(|head| head.status), Some(100));
        let second = poll_fn(|cx| answered.poll_interim(cx)).await.expect("another");
        assert_eq!((second.status, second.fields().collect::<Vec<_>>()), (103, vec![(&b"a"[..], &b"b"[..])]));
        scene.raw.send(&ok(id, 1)).await;
        assert!(poll_fn(|cx| answered.poll_interim(cx)).await.is_none());
        head_of(&mut answered).await.expect("an answer");
        let (id, mut answered, _out) = scene.get().await;
        scene.raw.send(&[interim(id), ok(id, 1)].concat()).await;
        assert_eq!(head_of(&mut answered).await.expect("an answer").0.status, 200);
    });
}

#[test]
fn the_preface_says_what_weir_is() {
    run(async {
        let mut scene = Scene::new(&[(8, 1), (1, 0)]).await;
        assert!(scene.sender.is_extended_connect());
        let settings = scene.raw.next_of(SETTINGS).await;
        let entries: Vec<_> =
            settings.payload.chunks(6).map(|it| (it[1], u32::from_be_bytes(it[2..].try_into().unwrap()))).collect();
        assert_eq!(entries, [(2, 0), (4, 256 * 1024), (6, 32 * 1024)]);
        let update = scene.raw.next().await.expect("a frame");
        assert_eq!((update.stream, update.number()), (0, 1024 * 1024 - 65_535));
        let (mut answered, mut out) = ask(&scene.sender, "POST", "/", false).await.expect("there is room");
        let head = scene.raw.next_of(HEADERS).await;
        assert_eq!(head.payload[0], 0x20, "a table of 0 bytes is used as one");
        out.send_data(Bytes::from_static(b"a"), false).expect("it goes");
        out.send_trailers([(&b"x"[..], &b"y"[..])]).expect("they go");
        assert!(!scene.raw.next_of(DATA).await.has(END_STREAM));
        assert!(scene.raw.next_of(HEADERS).await.has(END_STREAM));
        scene.raw.send(&[ok(1, 1), ping(0, [5; 8])].concat()).await;
        head_of(&mut answered).await.expect("an answer");
        assert_eq!(scene.raw.next_of(PING).await.payload, [5; 8]);
    });
}
