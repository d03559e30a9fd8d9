//! A server of the engine, and a client by hand: how streams and connections end.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::error::{By, Reason};
use super::super::frame::{DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use super::peer::*;
use super::scene::*;
use super::*;

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
