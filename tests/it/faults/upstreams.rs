//! What upstreams do: die, refuse, vanish, stall, talk nonsense (F01 to F11).

use std::time::{Duration, Instant};

use super::{PAUSE, SOON, twins, wait};
use crate::harness::{Behaviour, Door, End, Health, Load, Setup, Upstream, eventually};

#[test]
fn f01_a_killed_upstream_loses_no_request_that_can_be_repeated() {
    let (one, mut two, setup) = twins();
    let weir = setup.start();
    let gets = Load::start(weir.address(), 8, PAUSE);
    let posts = Load::of("POST", weir.address(), 4, PAUSE);
    for _ in 0..3 {
        wait(400);
        two.kill();
        wait(500);
        two.restart();
    }
    wait(300);
    gets.stop().assert_flawless();
    let posts = posts.stop();
    assert!(posts.failures.iter().all(|line| line.contains(" 502 ")), "{:#?}", posts.failures);
    assert!(posts.failures.len() <= 4 * 3, "only what was in flight: {:#?}", posts.failures);
    let mut ids: Vec<_> = one.seen().into_iter().chain(two.seen()).filter(|s| s.method == "POST").collect();
    ids.sort_by(|a, b| a.field("x-id").cmp(&b.field("x-id")));
    let twice = ids.windows(2).filter(|pair| pair[0].field("x-id") == pair[1].field("x-id")).count();
    assert_eq!(twice, 0, "no POST was executed twice");
}

#[test]
fn f02_a_kill_in_the_middle_of_a_body_is_visible_and_never_tried_again() {
    let (one, mut two, setup) = twins();
    let weir = setup.start();
    let slow = Behaviour::SlowBody { pieces: 40, piece: 50, pause: Duration::from_millis(20) };
    one.behave_on("/slow", slow.clone());
    two.behave_on("/slow", slow);
    let mut clients: Vec<_> = (0..8).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    eventually("all have begun", SOON, || one.count() + two.count() == 8);
    let hit = two.count();
    wait(100);
    two.kill();
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer().expect("a head came before")).collect();
    let cut = answers.iter().filter(|answer| answer.end == End::Cut).count();
    assert_eq!(cut, hit, "each body from the killed one ends visibly cut");
    assert_eq!(one.count() + two.count(), 8, "nothing was tried again");
}

#[test]
fn f03_refused_and_reset_connects_cost_the_client_nothing() {
    let (_one, two, setup) = twins();
    let weir = setup.start();
    let calm = Load::start(weir.address(), 6, PAUSE);
    wait(500);
    let calm = calm.stop();
    let load = Load::start(weir.address(), 6, PAUSE);
    two.door(Door::Reset);
    two.drop_connections();
    wait(700);
    let report = load.stop();
    report.assert_flawless();
    let bound = calm.p99() * 2 + Duration::from_millis(50);
    assert!(report.p99() < bound, "p99 {:?} against {:?}", report.p99(), calm.p99());
}

#[test]
fn f04_a_black_hole_is_left_after_the_connect_timeout() {
    let stable = Upstream::named("stable");
    let hole = crate::retry::BlackHole::new();
    let setup = Setup::new().pool("stable", &[&stable]).pool_at("canary", &[&hole.url()]).split([50, 50]);
    let setup = setup.table("timeouts", "connect = \"200ms\"").probed();
    let weir = setup.start();
    let load = Load::start(weir.address(), 6, PAUSE);
    wait(1_200);
    let report = load.stop();
    report.assert_flawless();
    let worst = report.times.iter().max().copied().unwrap_or_default();
    assert!(worst < Duration::from_millis(700), "{worst:?}");
    assert_eq!(weir.metrics().sum("weir_requests_in_flight", &[]), 0.0, "nothing has piled up");
}

#[test]
fn f05_idle_connections_that_close_as_we_write_lose_nothing() {
    let (one, two, setup) = twins();
    let weir = setup.start();
    let load = Load::start(weir.address(), 8, Duration::from_millis(3));
    for turn in 0..40 {
        // Long enough that no request meets two of them: there is one retry.
        wait(40);
        if turn % 2 == 0 { &one } else { &two }.drop_connections();
    }
    load.stop().assert_flawless();
}

#[test]
fn f06_a_peer_that_vanished_is_noticed_by_the_timeout_and_left() {
    let (_one, two, setup) = twins();
    let weir = setup.table("timeouts", "response_header = \"300ms\"").start();
    let mut client = weir.client();
    eventually("both serve", SOON, || client.get("/").upstream() == "two");
    two.behave(Behaviour::StallBeforeHead);
    two.health(Health::Hang);
    let began = Instant::now();
    let mut answers = Vec::new();
    while began.elapsed() < Duration::from_millis(1_200) {
        answers.push(weir.client().get("/").status);
        wait(10);
    }
    let late = answers.iter().filter(|status| **status == 504).count();
    assert!(answers.iter().all(|status| matches!(status, 200 | 504)) && late <= 6, "{answers:?}");
    two.forget();
    (0..30).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    assert_eq!(two.count(), 0, "it is left alone");
}

#[test]
fn f07_a_stall_before_the_head_is_a_504_in_time_and_frees_the_upstream() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("timeouts", "response_header = \"500ms\"").start();
    stable.behave_on("/stall", Behaviour::StallBeforeHead);
    let beside = Load::start(weir.address(), 4, PAUSE);
    for over_h2 in [false, true] {
        let began = Instant::now();
        let status = if over_h2 {
            weir.h2().ask("POST", "/stall", &[], b"x").expect("an answer").status
        } else {
            weir.client().ask("POST", "/stall", &[], b"x").status
        };
        let took = began.elapsed();
        assert_eq!(status, 504);
        assert!(took > Duration::from_millis(450) && took < Duration::from_millis(650), "{took:?}");
        let stalled: Vec<_> = stable.seen().into_iter().filter(|seen| seen.target == "/stall").collect();
        let connection = stalled.last().expect("it was sent").connection;
        eventually("the upstream is let go", Duration::from_millis(300), || stable.left(connection).is_some());
    }
    beside.stop().assert_flawless();
}

#[test]
fn f08_a_stall_inside_a_body_is_cut_by_the_idle_time_and_frees_the_slot() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("timeouts", "idle = \"400ms\"").start();
    stable.behave_on("/stall", Behaviour::StallMidBody { sent: 100, of: 1_000 });
    let beside = Load::start(weir.address(), 4, PAUSE);
    let answer = weir.client().get("/stall");
    assert_eq!((answer.end, answer.body.len()), (End::Cut, 100));
    assert!(weir.h2().get("/stall").cut.is_some());
    beside.stop().assert_flawless();
    eventually("no request is in flight", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) == 0.0);
}

#[test]
fn f10_garbage_and_half_heads_are_502_and_charge_the_pool() {
    for bytes in ["garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-", "\0\0\0\0"] {
        let stable = Upstream::named("stable");
        let weir = Setup::single(&stable).table("breaker", "failures = 1000\nmin_requests = 100000").start();
        stable.behave_on("/bad", Behaviour::raw_and_close(bytes));
        let beside = Load::start(weir.address(), 2, PAUSE);
        for _ in 0..5 {
            assert_eq!(weir.client().ask("POST", "/bad", &[], b"x").status, 502, "{bytes:?}");
        }
        beside.stop().assert_flawless();
        assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[("kind", "upstream_answer")]), 5.0, "{bytes:?}");
    }
}

#[test]
fn f11_an_early_answer_before_a_reset_is_delivered() {
    use crate::harness::Then;
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let bytes = b"HTTP/1.1 413 Too Large\r\nx-upstream: stable\r\ncontent-length: 3\r\n\r\nbig".to_vec();
    stable.behave_on("/early", Behaviour::Early(bytes, Then::Hold));
    let beside = Load::start(weir.address(), 4, PAUSE);
    for _ in 0..10 {
        let mut client = weir.client();
        let head = b"POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000\r\n\r\n";
        client.send(head).and_then(|()| client.send(&[b'x'; 1_000])).expect("it is sent");
        let answer = client.answer().expect("the early answer");
        assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
        assert!(client.closed_within(SOON), "the connection cannot be used again");
    }
    beside.stop().assert_flawless();
}
