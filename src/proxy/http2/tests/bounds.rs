//! What a peer by hand may have an end of the engine hold, and that who holds too much goes on once it is gone.

use super::super::core::Shared;
use super::super::frame::{END_HEADERS, HEADERS, PING, SETTINGS, WINDOW_UPDATE};
use super::peer::*;
use super::scene::*;
use super::*;

/// A client of the engine, and a server by hand over a pipe of so many bytes that allows so many streams.
async fn client(pipe: usize, streams_max: u32) -> (Sender, Raw) {
    let (near, far) = tokio::io::duplex(pipe);
    let own = Config { streams_max: None, list_max: 64 * 1024, ..config() };
    let (sender, _driver) = open(near, &own).await;
    let raw = Raw::server(far, &[(3, streams_max)]).await;
    settle().await;
    (sender, raw)
}

fn core_of<T>(shared: &Shared, look: impl FnOnce(&super::super::core::Core) -> T) -> T {
    look(&shared.core.borrow())
}

#[test]
fn a_peer_is_read_again_once_all_that_waited_for_it_has_gone_at_once() {
    run(async {
        let mut scene = Scene::new(config()).await;
        let mut taken = scene.take(&get(1)).await;
        // It wakes who drives the connection, and by then too much waits for more to be read.
        scene.raw.send(&ping(0, [1; 8])).await;
        let large = |head: &mut super::super::head::HeadWriter<'_>| {
            head.status(200);
            (0..20).for_each(|_| head.field(b"date", &[b'v'; 10_000]));
        };
        taken.respond.send_whole(large, b"").expect("it waits");
        drop(taken);
        assert_eq!(scene.raw.next_of(PING).await.payload, [1; 8]);
    });
}

#[test]
fn what_exceeds_its_length_on_a_stream_that_nobody_reads_is_given_back_to_the_connection() {
    run(async {
        let mut scene = Scene::with(config(), &[(4, 0)]).await;
        scene.raw.send(&of(SETTINGS, 1, 0, b"")).await;
        let mut told = 0;
        for n in 0..100 {
            let mut taken = scene.take(&post(2 * n + 1, &[("content-length", "5")])).await;
            taken.respond.send_whole(|head| head.status(200), b"it waits for a window").expect("it waits");
            drop(taken);
            scene.raw.send(&data(2 * n + 1, 0, &[0; 16_384])).await;
            let came = scene.raw.until_pong().await;
            let updates = came.iter().filter(|it| (it.kind, it.stream) == (WINDOW_UPDATE, 0));
            told += updates.map(Came::number).sum::<u32>();
        }
        assert!(told >= 100 * 16_384 - 512 * 1024, "{told}");
    });
}

#[test]
fn who_waited_for_a_stream_and_gave_up_is_forgotten() {
    run(async {
        let (sender, _raw) = client(1 << 20, 0).await;
        for _ in 0..1_000 {
            let sender = sender.clone();
            let waiting = spawn_local(async move { ready(&sender).await });
            settle().await;
            waiting.abort();
            assert!(waiting.await.is_err());
        }
        assert_eq!(core_of(&sender.0, |core| core.openers.len()), 0);
    });
}

#[test]
fn two_waits_of_one_task_do_not_forget_each_other() {
    run(async {
        let (sender, mut raw) = client(1 << 20, 0).await;
        let (mut one, mut other) = (sender.wait(), sender.wait());
        assert!(poll_fn(|cx| std::task::Poll::Ready(one.poll(cx).is_pending() && other.poll(cx).is_pending())).await);
        drop(one);
        raw.send(&said(&[(3, 1)])).await;
        poll_fn(|cx| other.poll(cx)).await.expect("there is room");
    });
}

#[test]
fn requests_that_were_given_up_do_not_pile_up_before_a_peer_that_does_not_read() {
    run(async {
        let (sender, mut raw) = client(1 << 16, 100).await;
        let ask = || {
            let write = |head: &mut super::super::head::HeadWriter<'_>| {
                head.request(b"GET", b"http", b"a", b"/");
                head.field(b"date", &[b'v'; 1_000]);
            };
            sender.send_request(write, true).map(drop)
        };
        for _ in 0..2_000 {
            let _ = ask();
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(), Err(Error::User));
        let waits = core_of(&sender.0, |core| core.out.len());
        assert!(waits < 300_000, "{waits} bytes wait");
        // Once it reads again, requests go again.
        let going = spawn_local({
            let sender = sender.clone();
            async move { ready(&sender).await }
        });
        while !going.is_finished() {
            raw.next().await.expect("a frame");
        }
        assert_eq!(going.await.expect("no panic"), Ok(()));
        assert_eq!(ask(), Ok(()));
    });
}

#[test]
fn interim_answers_that_wait_count_no_more_than_one_head_may() {
    run(async {
        let (sender, mut raw) = client(1 << 22, 100).await;
        let ask =
            || sender.send_request(|head| head.request(b"GET", b"http", b"a", b"/"), true).expect("there is room");
        let held: Vec<_> = (0..20).map(|_| ask()).collect();
        // A field of 4 kB is put into the table once, and named many times.
        let mut named = literal("name", &"v".repeat(3_900));
        named[0] = 0x40;
        for n in 0..20 {
            for at in 0..60 {
                let fields = if (n, at) == (0, 0) { named.clone() } else { vec![0x80 | 62; 15] };
                let interim = [literal(":status", "103"), fields].concat();
                raw.send(&of(HEADERS, END_HEADERS, 2 * n + 1, &interim)).await;
            }
        }
        settle().await;
        let waits = core_of(&sender.0, |core| {
            let sizes = |key| core.streams[key].interim.iter().map(|head| head.list_size()).sum::<usize>();
            (0..20).map(sizes).collect::<Vec<_>>()
        });
        assert!(waits.iter().all(|&size| size <= 64 * 1024), "{waits:?}");
        drop(held);
    });
}
