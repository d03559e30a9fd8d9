//! A server of the engine, and a client that speaks frames by hand.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use super::peer::*;
use super::*;

/// A server whose requests are put aside, and a client that has said hello.
struct Scene {
    raw: Raw,
    taken: Rc<RefCell<Vec<Taken>>>,
    server: JoinHandle<Result<(), Error>>,
}

impl Scene {
    async fn new(config: Config) -> Self {
        Self::with(config, &[]).await
    }

    async fn with(config: Config, settings: &[(u16, u32)]) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let taken = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&taken);
        let server = serve(far, config, move |it| {
            list.borrow_mut().push(it);
            async {}
        });
        let raw = Raw::client(near, settings).await;
        Self { raw, taken, server }
    }

    /// Sends frames, and takes the request that comes of them.
    async fn take(&mut self, bytes: &[u8]) -> Taken {
        self.raw.send(bytes).await;
        settle().await;
        self.taken.borrow_mut().pop().expect("a request")
    }

    /// Sends frames that end the connection; how.
    async fn breaks(mut self, bytes: &[u8]) -> (u32, String) {
        self.raw.send(bytes).await;
        let said = self.raw.end().await;
        let ended = self.server.await.expect("no panic");
        assert_eq!(ended, Err(Error::GoAway(Reason(said.0), By::Us)));
        said
    }
}

use super::super::error::{By, Reason};

fn all(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

#[test]
fn what_breaks_the_rules_of_frames_ends_the_connection_with_the_code_that_is_named() {
    let one = |kind, payload: &[u8]| of(kind, 0, 1, payload);
    let zero = |kind, payload: &[u8]| of(kind, END_HEADERS, 0, payload);
    let open = || post(1, &[]);
    let (protocol, flow, size) = (1, 3, 6);
    let rows: Vec<(&str, Vec<u8>, u32)> = vec![
        ("DATA on stream 0", zero(DATA, b"x"), protocol),
        ("HEADERS on stream 0", zero(HEADERS, &asking("GET", &[])), protocol),
        ("PRIORITY on stream 0", zero(PRIORITY, &[0; 5]), protocol),
        ("RST_STREAM on stream 0", zero(RST_STREAM, &[0; 4]), protocol),
        ("CONTINUATION on stream 0", zero(CONTINUATION, b""), protocol),
        ("SETTINGS on stream 1", one(SETTINGS, b""), protocol),
        ("PING on stream 1", one(PING, &[0; 8]), protocol),
        ("GOAWAY on stream 1", one(GOAWAY, &[0; 8]), protocol),
        ("PUSH_PROMISE", all(&[open(), one(PUSH_PROMISE, &[0, 0, 0, 2])]), protocol),
        ("DATA on an idle stream", one(DATA, b"x"), protocol),
        ("RST_STREAM on an idle stream", one(RST_STREAM, &[0; 4]), protocol),
        ("WINDOW_UPDATE on an idle stream", one(WINDOW_UPDATE, &[0, 0, 0, 1]), protocol),
        ("WINDOW_UPDATE on an even stream", of(WINDOW_UPDATE, 0, 2, &[0, 0, 0, 1]), protocol),
        ("an even stream", get(2), protocol),
        ("a stream below the last", all(&[get(5), get(3)]), protocol),
        ("the same stream again", all(&[get(1), get(1)]), protocol),
        ("DATA behind the end", all(&[get(1), data(1, 0, b"x")]), protocol),
        ("PRIORITY of 4 bytes", all(&[open(), one(PRIORITY, &[0; 4])]), size),
        ("RST_STREAM of 3 bytes", all(&[open(), one(RST_STREAM, &[0; 3])]), size),
        ("SETTINGS of 5 bytes", of(SETTINGS, 0, 0, &[0; 5]), size),
        ("an acknowledgement with entries", of(SETTINGS, 1, 0, &[0; 6]), size),
        ("PING of 7 bytes", of(PING, 0, 0, &[0; 7]), size),
        ("GOAWAY of 7 bytes", of(GOAWAY, 0, 0, &[0; 7]), size),
        ("WINDOW_UPDATE of 3 bytes", of(WINDOW_UPDATE, 0, 0, &[0; 3]), size),
        ("the head of a frame that is too long", [&super::super::frame::head(16_385, DATA, 0, 1)[..]].concat(), size),
        ("HEADERS too short for their priority", of(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0; 4]), size),
        ("padding as long as the frame", all(&[open(), of(DATA, PADDED, 1, &[1])]), protocol),
        ("no room for the padding", all(&[open(), of(DATA, PADDED, 1, b"")]), protocol),
        ("HEADERS that are padding", of(HEADERS, PADDED | END_HEADERS, 1, &[200, 0x82]), protocol),
        ("another frame within a head", all(&[of(HEADERS, 1, 1, &asking("GET", &[])), ping(0, [0; 8])]), protocol),
        ("an unknown frame within a head", all(&[of(HEADERS, 1, 1, b""), of(0xbe, 0, 0, b"")]), protocol),
        ("CONTINUATION on another stream", all(&[of(HEADERS, 1, 1, b""), of(CONTINUATION, 4, 3, b"")]), protocol),
        ("CONTINUATION of nothing", of(CONTINUATION, 4, 1, b""), protocol),
        ("an increment of 0", of(WINDOW_UPDATE, 0, 0, &[0; 4]), protocol),
        ("an increment of 0 of a stream", all(&[open(), update(1, 0)]), protocol),
        ("a window over its bound", update(0, 0x7fff_ffff), flow),
        ("SETTINGS over a window's bound", all(&[open(), update(1, 1 << 30), said(&[(4, 0x7fff_ffff)])]), flow),
        ("ENABLE_PUSH of 2", said(&[(2, 2)]), protocol),
        ("a window of 2^31", said(&[(4, 1 << 31)]), protocol),
        ("frames of 2^24", said(&[(5, 1 << 24)]), protocol),
        ("a block that cannot be read", of(HEADERS, 5, 1, &[0x80]), protocol),
        ("a name in upper case", of(HEADERS, 5, 1, &asking("GET", &[("X", "y")])), protocol),
        ("a GOAWAY that takes back", all(&[goaway(3, 0), goaway(5, 0)]), protocol),
    ];
    for (what, bytes, code) in rows {
        run(async move {
            let scene = Scene::new(config()).await;
            assert_eq!(scene.breaks(&bytes).await.0, code, "{what}");
        });
    }
    run(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = serve(far, config(), |_| async {});
        let mut raw = Raw { io: near };
        raw.send(&[super::super::core::PREFACE, &get(1)[..]].concat()).await;
        assert_eq!(raw.end().await.0, protocol, "another frame than SETTINGS");
        assert!(server.await.expect("no panic").is_err());
    });
}

#[test]
fn what_breaks_the_rules_of_a_stream_ends_that_alone() {
    let head = |more: &[(&str, &str)], flags| of(HEADERS, END_HEADERS | flags, 1, &asking("POST", more));
    let (protocol, flow, closed) = (1, 3, 5);
    let rows: Vec<(&str, Vec<u8>, u32)> = vec![
        ("a window over its bound", all(&[head(&[], 0), update(1, 0x7fff_ffff)]), flow),
        ("more than the window", all(&[head(&[], 0), data(1, 0, &[0; 16_384]).repeat(5)]), flow),
        ("DATA behind the own reset", all(&[head(&[], 0), reset(1, 8), data(1, 0, b"x")]), closed),
        ("a connection's field", head(&[("connection", "close")], END_STREAM), protocol),
        ("a body longer than its length", all(&[head(&[("content-length", "3")], 0), data(1, 0, b"hello")]), protocol),
        ("a body shorter than its length", all(&[head(&[("content-length", "9")], 0), data(1, 1, b"hello")]), protocol),
        ("a length and no body", head(&[("content-length", "9")], END_STREAM), protocol),
        (
            "trailers in the place of a body",
            all(&[head(&[("content-length", "9")], 0), answer(1, 1, &[("a", "b")])]),
            protocol,
        ),
        ("trailers that end nothing", all(&[head(&[], 0), answer(1, 0, &[("a", "b")])]), protocol),
        ("a connection's field in trailers", all(&[head(&[], 0), answer(1, 1, &[("connection", "b")])]), protocol),
        ("a dependency on itself", all(&[head(&[], 0), of(PRIORITY, 0, 1, &[0, 0, 0, 1, 9])]), protocol),
        (
            "a head that depends on itself",
            of(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 9], &asking("GET", &[])[..]].concat()),
            protocol,
        ),
    ];
    for (what, bytes, code) in rows {
        run(async move {
            let mut scene = Scene::new(Config { stream_window: 65_535, ..config() }).await;
            scene.raw.send(&bytes).await;
            assert_eq!(scene.raw.reset().await, (1, code), "{what}");
            // What was under way on it is passed over, and the connection goes on, its window whole.
            if code != closed {
                scene.raw.send(&all(&[data(1, 0, &[0; 9_999]), reset(1, 8), update(1, 1)])).await;
            }
            scene.take(&get(3)).await.respond.send_whole(|head| head.status(204), b"").expect("it waits");
            let came = scene.raw.until_pong().await;
            assert!(came.iter().all(|it| it.kind != RST_STREAM && it.kind != GOAWAY), "{what}: {came:?}");
            assert!(came.iter().any(|it| it.kind == HEADERS && it.stream == 3), "{what}: {came:?}");
        });
    }
}

#[test]
fn windows_that_are_made_smaller_than_what_was_sent_count_below_zero() {
    run(async {
        let mut scene = Scene::with(config(), &[(4, 1_000)]).await;
        let mut taken = scene.take(&get(1)).await;
        let mut out = taken.respond.send_response(|head| head.status(200), false).expect("it waits");
        out.send_data(Bytes::from(pattern(5_000)), true).expect("it waits");
        assert_eq!(scene.raw.next_of(DATA).await.payload, pattern(1_000));
        // -900 from here on.
        scene.raw.send(&all(&[said(&[(4, 100)]), update(1, 900)])).await;
        let came = scene.raw.until_pong().await;
        assert!(came.iter().all(|it| it.kind != DATA), "{came:?}");
        scene.raw.send(&update(1, 1)).await;
        assert_eq!(scene.raw.next_of(DATA).await.payload, pattern(1_001)[1_000..]);
        scene.raw.send(&said(&[(4, 1_100)])).await;
        assert_eq!(scene.raw.next_of(DATA).await.payload, pattern(2_001)[1_001..]);
        scene.raw.send(&update(1, 10_000)).await;
        let last = scene.raw.next_of(DATA).await;
        assert_eq!((last.payload.as_slice(), last.has(END_STREAM)), (&pattern(5_000)[2_001..], true));
    });
}

#[test]
fn streams_share_the_window_of_the_connection_in_turn() {
    run(async {
        let mut scene = Scene::with(config(), &[(4, 1 << 20)]).await;
        let mut outs = Vec::new();
        for n in 0..4 {
            let mut taken = scene.take(&get(2 * n + 1)).await;
            let mut out = taken.respond.send_response(|head| head.status(200), false).expect("it waits");
            out.send_data(Bytes::from(pattern(100_000)), false).expect("it waits");
            outs.push((out, taken));
        }
        assert!(outs.iter().all(|(out, _)| !out.has_room()));
        let mut came = [0; 4];
        let mut updates = 0;
        while came.iter().sum::<usize>() < 400_000 {
            let frame = scene.raw.next_of(DATA).await;
            came[(frame.stream / 2) as usize] += frame.payload.len();
            assert!(frame.payload.len() <= 16_384);
            if updates > 0 {
                let most = came.iter().max().zip(came[1..].iter().min()).map(|(max, min)| max - min);
                assert!(came.iter().sum::<usize>() >= 330_000 || most <= Some(16_384 * 5), "{came:?}");
            }
            scene.raw.send(&update(0, frame.payload.len() as u32)).await;
            updates += 1;
        }
        settle().await;
        assert!(outs.iter().all(|(out, _)| out.has_room()));
    });
}

#[test]
fn padding_counts_against_windows_and_is_given_back_at_once() {
    run(async {
        let own = Config { stream_window: 65_535, connection_window: 65_535, ..config() };
        let mut scene = Scene::new(own).await;
        let mut taken = scene.take(&post(1, &[])).await;
        let padded = of(DATA, PADDED, 1, &[&[255][..], b"x", &[0; 255]].concat());
        let mut told = [0, 0];
        for _ in 0..2_000 {
            scene.raw.send(&padded).await;
        }
        for came in scene.raw.until_pong().await.iter().filter(|it| it.kind == WINDOW_UPDATE) {
            told[came.stream as usize] += came.number();
        }
        assert!(told.iter().all(|&told| told > 2_000 * 256 - 65_535 && told <= 2_000 * 256), "{told:?}");
        scene.raw.send(&data(1, END_STREAM, b"")).await;
        assert_eq!(body_of(&mut taken.inflow).await.expect("a body"), vec![b'x'; 2_000]);
    });
}

#[test]
fn windows_are_opened_as_bytes_are_taken_and_by_halves() {
    run(async {
        let own = Config { stream_window: 100_000, connection_window: 200_000, ..config() };
        let mut scene = Scene::new(own).await;
        scene.raw.send(&of(SETTINGS, 1, 0, b"")).await;
        let mut taken = scene.take(&post(1, &[])).await;
        scene.raw.send(&data(1, 0, &[7; 10_000]).repeat(10)).await;
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != WINDOW_UPDATE || it.number() == 134_465));
        let mut released = 0;
        while released < 100_000 {
            let data = poll_fn(|cx| taken.inflow.poll_data(cx)).await.expect("more").expect("no error");
            taken.inflow.release(data.len());
            released += data.len();
            let told: Vec<_> =
                scene.raw.until_pong().await.iter().map(|it| (it.kind, it.stream, it.number())).collect();
            let expected: &[(u8, u32, u32)] = match released {
                50_000 => &[(WINDOW_UPDATE, 1, 50_000)],
                100_000 => &[(WINDOW_UPDATE, 1, 50_000), (WINDOW_UPDATE, 0, 100_000)],
                _ => &[],
            };
            assert_eq!(told, expected, "{released}");
        }
        // Nothing is told of a stream whose end has come.
        scene.raw.send(&data(1, END_STREAM, &[7; 10_000]).repeat(1)).await;
        let data = poll_fn(|cx| taken.inflow.poll_data(cx)).await.expect("more").expect("no error");
        taken.inflow.release(data.len());
        assert!(taken.inflow.is_end_stream());
        assert!(scene.raw.until_pong().await.is_empty());
    });
}

#[test]
fn a_stream_that_is_dropped_is_reset_by_how_far_it_was() {
    let (none, cancel) = (0, 8);
    run(async {
        let mut scene = Scene::new(config()).await;
        drop(scene.take(&get(1)).await);
        assert_eq!(scene.raw.reset().await, (1, cancel), "before an answer");
        let mut taken = scene.take(&get(3)).await;
        drop(taken.respond.send_response(|head| head.status(200), false));
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != RST_STREAM), "somebody might go on");
        drop(taken);
        assert_eq!(scene.raw.reset().await, (3, cancel), "within an answer");
        let mut taken = scene.take(&post(5, &[])).await;
        taken.respond.send_whole(|head| head.status(200), b"early").expect("it waits");
        drop(taken);
        assert_eq!(scene.raw.reset().await, (5, none), "a whole answer, and the request goes on");
        let mut taken = scene.take(&post(7, &[])).await;
        let mut out = taken.respond.send_response(|head| head.status(200), false).expect("it waits");
        out.send_data(Bytes::from(vec![1; 70_000]), true).expect("it waits");
        drop((out, taken));
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != RST_STREAM), "what waits goes before");
        scene.raw.send(&all(&[update(0, 100_000), update(7, 100_000)])).await;
        assert!(scene.raw.next_of(DATA).await.has(END_STREAM));
        assert_eq!(scene.raw.reset().await, (7, none));
        let mut taken = scene.take(&get(9)).await;
        taken.respond.send_whole(|head| head.status(200), b"").expect("it waits");
        drop(taken);
        assert!(scene.raw.until_pong().await.iter().all(|it| it.kind != RST_STREAM), "all is said");
        // A body that nobody takes is given back to the connection.
        let Taken { inflow, respond, .. } =
            scene.take(&all(&[post(11, &[]), data(11, 0, &[0; 16_384]).repeat(3)])).await;
        drop(inflow);
        scene.raw.send(&of(SETTINGS, 1, 0, b"")).await;
        for _ in 0..100 {
            scene.raw.send(&data(11, 0, &[0; 2_000])).await;
        }
        let came = scene.raw.until_pong().await;
        assert!(came.iter().all(|it| it.kind != WINDOW_UPDATE || it.stream == 0), "{came:?}");
        drop(respond);
        assert_eq!(scene.raw.reset().await, (11, cancel));
    });
}

#[test]
fn resets_of_the_peer_show_in_every_state() {
    run(async {
        let mut scene = Scene::new(config()).await;
        let gone = Error::Reset(Reason(8), By::Peer);
        // While the request goes on: what came can be read, and then the error.
        let mut taken = scene.take(&all(&[post(1, &[]), data(1, 0, b"ab")])).await;
        scene.raw.send(&reset(1, 8)).await;
        assert_eq!(poll_fn(|cx| taken.respond.poll_reset(cx)).await, Reason::CANCEL);
        assert_eq!(taken.respond.send_response(|head| head.status(200), true).err(), Some(gone));
        assert_eq!(poll_fn(|cx| taken.inflow.poll_data(cx)).await, Some(Ok(Bytes::from_static(b"ab"))));
        assert_eq!(poll_fn(|cx| taken.inflow.poll_data(cx)).await, Some(Err(gone)));
        assert_eq!(poll_fn(|cx| taken.inflow.poll_trailers(cx)).await.err(), Some(gone));
        assert!(!taken.inflow.is_end_stream());
        // Behind the whole request: it stays whole.
        let mut taken = scene.take(&all(&[post(3, &[]), data(3, END_STREAM, b"ab")])).await;
        let mut out = taken.respond.send_response(|head| head.status(200), false).expect("it waits");
        scene.raw.send(&reset(3, 8)).await;
        assert_eq!(poll_fn(|cx| out.poll_reset(cx)).await, Reason::CANCEL);
        assert_eq!(poll_fn(|cx| out.poll_room(cx)).await, Err(gone));
        assert_eq!(out.send_data(Bytes::from_static(b"x"), false), Err(gone));
        assert_eq!(out.send_trailers([]), Err(gone));
        assert_eq!(body_of(&mut taken.inflow).await, Ok(b"ab".to_vec()));
        assert!(taken.inflow.is_end_stream());
        // Before it was taken, and with what waits.
        let mut taken = scene.take(&all(&[get(5), reset(5, 8)])).await;
        assert_eq!(poll_fn(|cx| taken.respond.poll_reset(cx)).await, Reason::CANCEL);
        let mut taken = scene.take(&get(7)).await;
        let mut out = taken.respond.send_response(|head| head.status(200), false).expect("it waits");
        out.send_data(Bytes::from(vec![0; 100_000]), true).expect("it waits");
        scene.raw.send(&all(&[reset(7, 8), update(0, 1_000_000)])).await;
        drop((taken, out));
        let came = scene.raw.until_pong().await;
        assert!(
            came.iter().filter(|it| it.kind == DATA && it.stream == 7).map(|it| it.payload.len()).sum::<usize>()
                < 66_000
        );
        assert!(came.iter().all(|it| it.kind != RST_STREAM), "a reset is not answered by one: {came:?}");
    });
}

#[test]
fn floods_end_the_connection_in_words_that_the_watch_knows() {
    let calm = 11;
    let rapid = |n: u32| all(&[get(2 * n + 1), reset(2 * n + 1, 8)]);
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("too_many_resets", (0..21).flat_map(rapid).collect()),
        ("too_many_data_frames", all(&[post(1, &[]), data(1, 0, b"").repeat(1001)])),
        (
            "too_many_continuations",
            all(&[of(HEADERS, 1, 1, &asking("GET", &[])), of(CONTINUATION, 0, 1, b"").repeat(6)]),
        ),
        ("too_many_internal_resets", (0..1_025).flat_map(|n| all(&[post(2 * n + 1, &[("te", "x")])])).collect()),
    ];
    for (why, bytes) in rows {
        run(async move {
            assert_eq!(Scene::new(config()).await.breaks(&bytes).await, (calm, why.to_owned()));
        });
    }
    run(async {
        // As many as may be, however often.
        let mut scene = Scene::new(config()).await;
        for round in 0..50 {
            scene.raw.send(&(0..20).flat_map(|n| rapid(round * 20 + n)).collect::<Vec<u8>>()).await;
            settle().await;
            scene.taken.borrow_mut().clear();
        }
        scene.raw.until_pong().await;
    });
}

#[test]
fn a_peer_that_reads_nothing_is_not_answered_without_end() {
    run(async {
        let (near, far) = tokio::io::duplex(4_096);
        let mut connection = None;
        let mut raw = Raw { io: near };
        let (hello, own) = ([super::super::core::PREFACE, &said(&[])[..]].concat(), config());
        let (_, shaken) = tokio::join!(raw.send(&hello), server::handshake(far, &own));
        let connection = connection.insert(shaken.expect("a client"));
        let shared = Rc::clone(&connection.0.shared);
        let mut accepting = Box::pin(poll_fn(|cx| connection.poll_accept(cx)));
        let flood = async {
            loop {
                raw.send(&ping(0, [1; 8]).repeat(100)).await;
            }
        };
        let driven = poll_fn(|cx| accepting.as_mut().poll(cx).map(drop));
        let bounded = tokio::time::timeout(Duration::from_millis(200), async { tokio::join!(flood, driven) }).await;
        assert!(bounded.is_err(), "it stopped reading");
        let waiting = shared.core.borrow().out.len();
        assert!((100_000..400_000).contains(&waiting), "{waiting}");
    });
}

#[test]
fn streams_above_those_that_may_be_are_refused_one_by_one() {
    run(async {
        let mut scene = Scene::new(Config { streams_max: Some(10), ..config() }).await;
        scene.raw.send(&(0..20).flat_map(|n| get(2 * n + 1)).collect::<Vec<u8>>()).await;
        for n in 10..20 {
            assert_eq!(scene.raw.reset().await, (2 * n + 1, 7));
        }
        // One that is over makes room for one.
        let mut first = scene.taken.borrow_mut().remove(0);
        first.respond.send_whole(|head| head.status(204), b"").expect("it waits");
        scene.raw.send(&all(&[get(101), get(103)])).await;
        assert_eq!(scene.raw.reset().await, (103, 7));
    });
}

#[test]
fn heads_that_are_too_large_are_answered_and_do_not_spoil_the_table() {
    run(async {
        let mut scene = Scene::new(Config { list_max: 1_000, ..config() }).await;
        let large = "v".repeat(1_000);
        let indexed = [&[0x40, 1, b'x', 1, b'y'][..], &literal("a", &large)].concat();
        let block = [asking("GET", &[]), indexed].concat();
        scene.raw.send(&of(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let came = scene.raw.next_of(HEADERS).await;
        assert!(came.has(END_STREAM) && came.stream == 1);
        assert_eq!(scene.raw.reset().await, (1, 1));
        let block = [asking("GET", &[]), vec![0xbe]].concat();
        let taken = scene.take(&of(HEADERS, END_HEADERS | END_STREAM, 3, &block)).await;
        assert_eq!(taken.request.get(b"x"), Some(&b"y"[..]));
    });
}

#[test]
fn heads_come_and_go_in_as_many_frames_as_they_need() {
    run(async {
        let mut scene = Scene::new(Config { list_max: 60_000, ..config() }).await;
        let block = asking("GET", &[("x-long", "v".repeat(30_000).as_str())]);
        let (first, rest) = block.split_at(5);
        let (second, third) = rest.split_at(16_000);
        let mut taken = scene
            .take(&all(&[
                of(HEADERS, PADDED | WITH_PRIORITY | END_STREAM, 1, &[&[2, 0, 0, 0, 0, 9], first, &[0, 0]].concat()),
                of(CONTINUATION, 0, 1, second),
                of(CONTINUATION, END_HEADERS, 1, third),
            ]))
            .await;
        assert_eq!(taken.request.get(b"x-long").map(<[u8]>::len), Some(30_000));
        assert!(taken.inflow.is_end_stream());
        let long = "w".repeat(40_000);
        let write = |head: &mut super::super::head::HeadWriter<'_>| {
            head.status(200);
            head.field_as(b"x-long", long.as_bytes(), crate::proxy::hpack::encoder::Index::No);
        };
        taken.respond.send_whole(write, b"").expect("it waits");
        let head = scene.raw.next_of(HEADERS).await;
        assert_eq!((head.flags, head.payload.len()), (END_STREAM, 16_384));
        let more = [scene.raw.next().await.expect("more"), scene.raw.next().await.expect("more")];
        let seen: Vec<_> = more.iter().map(|it| (it.kind, it.flags, it.stream)).collect();
        assert_eq!(seen, [(CONTINUATION, 0, 1), (CONTINUATION, END_HEADERS, 1)]);
        assert!(head.payload.len() + more.iter().map(|it| it.payload.len()).sum::<usize>() > 40_000);
    });
}

#[test]
fn a_connection_that_says_farewell_serves_what_is_under_way() {
    run(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut raw = Raw::client(near, &[]).await;
        let mut connection = server::handshake(far, &config()).await.expect("a client");
        let taken = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&taken);
        let ask = Rc::new(std::cell::Cell::new(false));
        let asked = Rc::clone(&ask);
        let server = spawn_local(async move {
            loop {
                let next = poll_fn(|cx| {
                    if asked.take() {
                        connection.graceful_shutdown();
                        connection.graceful_shutdown();
                    }
                    connection.poll_accept(cx)
                });
                match next.await {
                    Some(Ok((request, inflow, respond))) => list.borrow_mut().push(Taken { request, inflow, respond }),
                    over => return over.is_none(),
                }
            }
        });
        raw.send(&get(1)).await;
        settle().await;
        ask.set(true);
        raw.send(&update(0, 1)).await;
        let warning = raw.next_of(GOAWAY).await;
        assert_eq!(warning.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let last = raw.next_of(PING).await;
        // What was on its way is served; what comes behind the answer to the PING is not.
        raw.send(&all(&[get(3), of(PING, 1, 0, &last.payload), get(5), data(5, 1, b"")])).await;
        assert_eq!(raw.next_of(GOAWAY).await.payload, [0, 0, 0, 3, 0, 0, 0, 0]);
        raw.send(&all(&[get(7), reset(7, 8)])).await;
        let came = raw.until_pong().await;
        assert!(came.is_empty(), "{came:?}");
        assert_eq!(taken.borrow().len(), 2);
        for taken in taken.borrow_mut().iter_mut() {
            taken.respond.send_whole(|head| head.status(204), b"").expect("it waits");
        }
        assert_eq!((raw.next_of(HEADERS).await.stream, raw.next_of(HEADERS).await.stream), (1, 3));
        assert_eq!(raw.next().await, None);
        assert!(server.await.expect("no panic"));
    });
}

#[test]
fn a_client_that_says_farewell_is_served_and_left() {
    run(async {
        let mut scene = Scene::new(config()).await;
        let mut taken = scene.take(&all(&[get(1), goaway(0, 0)])).await;
        taken.respond.send_whole(|head| head.status(204), b"").expect("it waits");
        assert_eq!(scene.raw.next_of(HEADERS).await.stream, 1);
        assert_eq!(scene.raw.end().await, (0, String::new()));
        assert_eq!(scene.server.await.expect("no panic"), Ok(()));
    });
}

#[test]
fn an_abrupt_end_is_said_and_ends_all_streams() {
    run(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut raw = Raw::client(near, &[]).await;
        let mut connection = server::handshake(far, &config()).await.expect("a client");
        raw.send(&get(1)).await;
        let (_, mut inflow, mut respond) = poll_fn(|cx| connection.poll_accept(cx)).await.expect("one").expect("sound");
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        assert_eq!(poll_fn(|cx| respond.poll_reset(cx)).await, Reason::ENHANCE_YOUR_CALM);
        assert_eq!(respond.send_whole(|head| head.status(200), b""), Err(Error::GoAway(Reason(11), By::Us)));
        // It had come whole.
        assert_eq!(poll_fn(|cx| inflow.poll_data(cx)).await, None);
        assert!(poll_fn(|cx| connection.poll_accept(cx)).await.is_none());
        assert_eq!(raw.end().await.0, 11);
    });
}

#[test]
fn a_connection_that_is_dropped_or_breaks_ends_all_streams() {
    run(async {
        let mut scene = Scene::new(config()).await;
        let mut taken = scene.take(&post(1, &[])).await;
        scene.server.abort();
        let broken = Error::Io(std::io::ErrorKind::BrokenPipe);
        assert_eq!(poll_fn(|cx| taken.inflow.poll_data(cx)).await, Some(Err(broken)));
        assert_eq!(poll_fn(|cx| taken.respond.poll_reset(cx)).await, Reason::CANCEL);
        assert_eq!(taken.respond.send_whole(|head| head.status(200), b""), Err(broken));
        drop(taken);
        let mut scene = Scene::new(config()).await;
        let mut taken = scene.take(&post(1, &[])).await;
        drop(scene.raw);
        assert_eq!(poll_fn(|cx| taken.inflow.poll_data(cx)).await, Some(Err(broken)));
        assert_eq!(scene.server.await.expect("no panic"), Ok(()));
    });
}

#[test]
fn pings_and_settings_are_answered_and_weirs_own_question_is_heard() {
    run(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut raw = Raw::client(near, &[]).await;
        let mut connection = server::handshake(far, &config()).await.expect("a client");
        assert!(connection.send_ping());
        assert!(!connection.send_ping(), "one at a time");
        let server = spawn_local(async move {
            let answered = poll_fn(|cx| {
                assert!(connection.poll_accept(cx).is_pending());
                connection.poll_pong(cx)
            });
            assert_eq!(answered.await, Ok(()));
            assert!(connection.send_ping());
            assert!(poll_fn(|cx| connection.poll_accept(cx)).await.is_none());
            poll_fn(|cx| connection.poll_pong(cx)).await
        });
        let asked = raw.next_of(PING).await;
        raw.send(&all(&[ping(1, [9; 8]), of(PING, 1, 0, &asked.payload)])).await;
        raw.send(&ping(0, *b"12345678")).await;
        let echo = raw.next_of(PING).await;
        assert_eq!((echo.flags, echo.payload.as_slice()), (1, &b"12345678"[..]));
        assert_eq!(raw.next_of(PING).await, asked, "it asks again");
        drop(raw);
        assert!(server.await.expect("no panic").is_err());
    });
}

#[test]
fn what_was_put_into_the_table_by_what_was_not_looked_at_is_looked_at_when_it_is_used() {
    // A field that is put into the table, and the request that is all but for that.
    let put = |name: &str, value: &str| [vec![0x40], literal(name, value)[1..].to_vec()].concat();
    let rest = [(":method", "GET"), (":scheme", "http"), (":authority", "test")];
    let path = || put(":path", "/\r\nx: y");
    let used = |id: u32| of(HEADERS, END_HEADERS | END_STREAM, id, &[block(&rest), vec![0x80 | 62]].concat());
    let large = "v".repeat(40_000);
    let pieces = |id: u32, block: &[u8]| {
        let (first, last) = block.split_at(16_000);
        let (second, third) = last.split_at(16_000);
        all(&[
            of(HEADERS, END_STREAM, id, first),
            of(CONTINUATION, 0, id, second),
            of(CONTINUATION, END_HEADERS, id, third),
        ])
    };
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("trailers", all(&[post(1, &[]), of(HEADERS, 5, 1, &path())])),
        ("a malformed head", of(HEADERS, 5, 1, &[block(&[("te", "x")]), path()].concat())),
        ("a head that is too large", pieces(1, &[asking("GET", &[("x", large.as_str())]), path()].concat())),
        ("trailers on a stream that was reset here", all(&[post(1, &[("te", "x")]), of(HEADERS, 5, 1, &path())])),
    ];
    for (what, first) in rows {
        run(async move {
            let mut scene = Scene::new(config()).await;
            scene.raw.send(&first).await;
            // What the first is answered with is not asked here.
            scene.raw.until_pong().await;
            scene.raw.send(&used(3)).await;
            assert_eq!(scene.raw.reset().await, (3, 1), "{what}");
            assert!(scene.taken.borrow().iter().all(|it| it.request.path() == Some(b"/")), "{what}");
        });
    }
    run(async {
        let mut scene = Scene::new(config()).await;
        let bad = all(&[post(1, &[("te", "x")]), of(HEADERS, 5, 1, &put("x", "a\r\nb"))]);
        scene.raw.send(&bad).await;
        let used = of(HEADERS, END_HEADERS | END_STREAM, 3, &[asking("GET", &[]), vec![0x80 | 62]].concat());
        assert_eq!(scene.breaks(&used).await.0, 1, "a value that no field may have");
    });
}
