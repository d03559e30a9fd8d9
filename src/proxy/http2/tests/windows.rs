//! A server of the engine, and a client by hand: windows, and what waits for them.

use std::rc::Rc;

use super::super::frame::{DATA, END_STREAM, PADDED, SETTINGS, WINDOW_UPDATE};
use super::peer::*;
use super::scene::*;
use super::*;

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
