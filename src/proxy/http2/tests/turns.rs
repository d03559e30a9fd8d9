//! A server of the engine, and clients by hand that bring more than one turn's worth of heads at once.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::frame::{END_HEADERS, END_STREAM, HEADERS};
use super::peer::*;
use super::scene::*;
use super::*;
use crate::proxy::worker::costly::Costly;

/// A server that waits for its turns, and who lets it in.
async fn scene(turns: &Rc<Costly>) -> Scene {
    let own = Config { turns: Some(Rc::clone(turns)), streams_max: Some(1_000), ..config() };
    Scene::new(own).await
}

fn turns() -> Rc<Costly> {
    Rc::new(Costly::new(Duration::from_secs(1)))
}

/// Puts a field of 280 bytes into the table.
fn priming() -> Vec<u8> {
    let mut field = literal("x-many", &"v".repeat(280));
    field[0] = 0x40;
    of(HEADERS, END_HEADERS | END_STREAM, 1, &[asking("GET", &[]), field].concat())
}

/// A head of 29 kB in some 150 bytes, which no client sends that means well. 62: the first of the dynamic table.
fn packed(stream: u32) -> Vec<u8> {
    of(HEADERS, END_HEADERS | END_STREAM, stream, &[asking("GET", &[]), vec![0x80 | 62; 90]].concat())
}

/// A head of 9 kB, written out.
fn large(stream: u32) -> Vec<u8> {
    of(HEADERS, END_HEADERS | END_STREAM, stream, &asking("GET", &[("x-large", &"v".repeat(9_000))]))
}

/// Requests that have been taken so far, in order.
fn count(scene: &Scene) -> usize {
    scene.taken.borrow().len()
}

#[test]
fn one_turn_handles_one_heavy_head_and_the_rest_waits_to_be_let_in() {
    run(async {
        let turns = turns();
        let mut scene = scene(&turns).await;
        scene.raw.send(&(0..40).flat_map(|n| large(2 * n + 1)).collect::<Vec<u8>>()).await;
        for turn in 1..=40 {
            settle().await;
            assert_eq!(count(&scene), turn, "one in a turn, however many have come");
            assert!(turns.let_one_in(), "it waits, and is woken");
        }
        settle().await;
        assert!(!turns.let_one_in(), "nothing waits any more");
        for taken in scene.taken.borrow().iter() {
            assert_eq!((taken.request.count(), taken.request.get(b"x-large").map(<[u8]>::len)), (1, Some(9_000)));
        }
    });
}

#[test]
fn a_head_that_few_bytes_become_is_refused_and_counts_as_much_as_one_that_is_served() {
    run(async {
        let turns = turns();
        let own = Config { turns: Some(Rc::clone(&turns)), ..config() };
        let excess = Rc::clone(&own.excess);
        let mut scene = Scene::new(own).await;
        scene.raw.send(&priming()).await;
        settle().await;
        scene.raw.send(&(1..=20).flat_map(|n| packed(2 * n + 1)).collect::<Vec<u8>>()).await;
        for n in 1..=20 {
            let refused = scene.raw.next_of(HEADERS).await;
            assert_eq!((refused.stream, refused.has(END_STREAM)), (2 * n + 1, true));
            assert_eq!(scene.raw.reset().await, (2 * n + 1, 1), "PROTOCOL_ERROR");
            settle().await;
            assert!(excess.take() > 20_000 && excess.get() == 0, "one of them in each turn");
            assert!(turns.let_one_in(), "it waits behind each");
        }
        settle().await;
        assert!(!turns.let_one_in());
        // What the table holds is as it was.
        scene
            .raw
            .send(&of(HEADERS, END_HEADERS | END_STREAM, 43, &[asking("GET", &[]), vec![0x80 | 62; 3]].concat()))
            .await;
        settle().await;
        assert_eq!((count(&scene), scene.taken.borrow()[1].request.count(), excess.get()), (2, 3, 0));
    });
}

#[test]
fn ordinary_requests_wait_for_nothing_until_there_are_dozens_at_once() {
    run(async {
        let turns = turns();
        let mut scene = scene(&turns).await;
        let burst = |from: u32| (from..from + 32).flat_map(|n| get(2 * n + 1)).collect::<Vec<u8>>();
        for round in 0..4 {
            scene.raw.send(&burst(round * 32)).await;
            settle().await;
            assert_eq!(count(&scene), 32 * (round as usize + 1));
            assert!(!turns.let_one_in(), "32 at once are one turn's");
        }
        scene.raw.send(&(128..328).flat_map(|n| get(2 * n + 1)).collect::<Vec<u8>>()).await;
        let mut taken = count(&scene);
        for turn in 0.. {
            settle().await;
            let now = count(&scene);
            assert!(now - taken <= 80, "{} in turn {turn}", now - taken);
            taken = now;
            if !turns.let_one_in() {
                break;
            }
        }
        assert_eq!(taken, 328);
    });
}

#[test]
fn connections_are_let_in_one_after_the_other_and_answers_go_meanwhile() {
    run(async {
        let turns = turns();
        let mut scenes = Vec::new();
        for _ in 0..4 {
            let mut scene = scene(&turns).await;
            scene.raw.send(&(0..10).flat_map(|n| large(2 * n + 1)).collect::<Vec<u8>>()).await;
            scenes.push(scene);
        }
        settle().await;
        for turn in 0..36 {
            let taken: Vec<_> = scenes.iter().map(count).collect();
            let (least, most) = (taken.iter().min().unwrap(), taken.iter().max().unwrap());
            assert!(most - least <= 1 && taken.iter().sum::<usize>() == 4 + turn, "{taken:?} after {turn}");
            assert!(turns.let_one_in());
            settle().await;
        }
        let mut scene = scene(&turns).await;
        scene.raw.send(&[large(1), large(3), large(5)].concat()).await;
        settle().await;
        let mut first = scene.taken.borrow_mut().remove(0);
        first.respond.send_whole(|head| head.status(200), b"").expect("it goes");
        assert_eq!(scene.raw.next_of(HEADERS).await.stream, 1, "while what came waits for its turn");
    });
}

#[test]
fn whatever_is_sent_arrives_in_order_whatever_turns_there_are() {
    run(async {
        let turns = turns();
        let letting = spawn_local({
            let turns = Rc::clone(&turns);
            async move { turns.let_in().await }
        });
        let seen: Rc<RefCell<Vec<usize>>> = Rc::default();
        let own = Config { turns: Some(turns), ..config() };
        let (sender, ..) = pair(config(), own, move |mut taken| {
            let seen = Rc::clone(&seen);
            async move {
                let number: usize = taken.request.get(b"x-number").map_or(0, <[u8]>::len);
                seen.borrow_mut().push(number);
                let length = body_of(&mut taken.inflow).await.map(|body| body.len());
                assert_eq!(length, Ok(10_000));
                let _ = taken.respond.send_whole(|head| head.status(200), &pattern(number));
            }
        })
        .await;
        let all: Vec<_> = (1..=60)
            .map(|n| {
                let sender = sender.clone();
                spawn_local(async move {
                    let number = n * 400;
                    ready(&sender).await.expect("there is room");
                    let asked = sender.send_request(
                        |head| {
                            head.request(b"POST", b"http", b"test", b"/");
                            head.field(b"x-number", &vec![b'n'; number]);
                        },
                        false,
                    );
                    let (mut answered, mut out) = asked.expect("there is room");
                    pour(&mut out, &pattern(10_000), 3_000, true).await.expect("it is taken");
                    let (_, mut inflow) = head_of(&mut answered).await.expect("an answer");
                    assert_eq!(body_of(&mut inflow).await, Ok(pattern(number)));
                })
            })
            .collect();
        for one in all {
            one.await.expect("no panic");
        }
        letting.abort();
    });
}
