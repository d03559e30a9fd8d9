//! A server of the engine, and a client by hand: what breaks rules, and what is too much.

use super::super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use super::peer::*;
use super::scene::*;
use super::*;

#[test]
fn what_breaks_the_rules_of_frames_ends_the_connection_with_the_code_that_is_named() {
    let one = |kind, payload: &[u8]| of(kind, 0, 1, payload);
    let zero = |kind, payload: &[u8]| of(kind, END_HEADERS, 0, payload);
    let open = || post(1, &[]);
    let (protocol, flow, closed, size, compression) = (1, 3, 5, 6, 9);
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
        ("a stream that is closed", all(&[get(1), reset(1, 8), get(1)]), closed),
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
        ("a window over its bound", update(0, 0x7fff_ffff), flow),
        ("SETTINGS over a window's bound", all(&[open(), update(1, 1 << 30), said(&[(4, 0x7fff_ffff)])]), flow),
        ("ENABLE_PUSH of 2", said(&[(2, 2)]), protocol),
        ("a window of 2^31", said(&[(4, 1 << 31)]), flow),
        ("frames of 2^24", said(&[(5, 1 << 24)]), protocol),
        ("a block that cannot be read", of(HEADERS, 5, 1, &[0x80]), compression),
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
        ("DATA behind the end", all(&[get(1), data(1, 0, &[0; 16_384])]), closed),
        ("a head behind the end", all(&[get(1), get(1)]), closed),
        ("an increment of 0", all(&[head(&[], 0), update(1, 0)]), protocol),
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
        ("an authority that is the static table's, and empty", of(HEADERS, 5, 1, &[0x82, 0x86, 0x81, 0x84]), protocol),
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
