//! Stop: readiness first, in-flight requests to their end, a deadline, and a second signal that forces.

use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Client, End, Setup, Upstream, eventually};

const SOON: Duration = Duration::from_secs(3);

#[test]
fn sigterm_finishes_what_is_in_flight_says_close_and_exits_zero() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    stable.behave_on("/slow", Behaviour::SlowBody { pieces: 10, piece: 10, pause: Duration::from_millis(50) });
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    let mut slow = weir.client();
    let mut late = weir.client();
    let mut idle = weir.client();
    assert_eq!(idle.get("/").status, 200);
    slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    late.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("both are in flight", SOON, || stable.count() == 3);
    weir.signal(libc::SIGTERM);
    assert!(idle.closed_within(SOON), "an idle connection is closed");
    let answer = late.answer().expect("it is answered");
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    let answer = slow.answer().expect("it is answered");
    assert_eq!((answer.end, answer.body.len()), (End::Whole, 100));
    assert!(late.closed_within(SOON));
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert!(Client::try_to(weir.address()).is_err(), "it accepts nothing more");
}

#[test]
fn http2_streams_in_flight_finish_after_a_goaway() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    let mut client = weir.h2();
    assert_eq!(client.get("/").status, 200);
    let pid = i32::try_from(weir.pid()).expect("a process id fits");
    let signal = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        // SAFETY: the child lives until `weir` is dropped at the end of the test.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    });
    for answer in client.many(5, "/late") {
        assert_eq!(answer.expect("a stream in flight is finished").status, 200);
    }
    signal.join().expect("it does not panic");
    assert!(client.over_within(SOON).is_some(), "the connection ends");
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}

#[test]
fn readiness_fails_while_it_drains_and_the_process_is_still_alive() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    assert_eq!(weir.admin_get("/readyz").status, 200);
    assert_eq!(weir.admin_get("/healthz").status, 200);
    stable.behave(Behaviour::Late(Duration::from_millis(700)));
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is in flight", SOON, || stable.count() == 1);
    weir.signal(libc::SIGTERM);
    eventually("it is not ready", Duration::from_millis(500), || weir.admin_get("/readyz").status == 503);
    assert_eq!(weir.admin_get("/healthz").status, 200);
    assert_eq!(client.answer().expect("it is answered").status, 200);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}

#[test]
fn what_does_not_end_is_cut_at_the_deadline() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).text("[limits]\ndrain = \"1s\"").start();
    stable.behave(Behaviour::StallMidBody { sent: 10, of: 100 });
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    assert!(client.head().start.contains("200"));
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    let status = weir.ended_within(SOON).expect("it ends");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_millis(2_000), "{took:?}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_forces_the_end() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    stable.behave(Behaviour::StallBeforeHead);
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is in flight", SOON, || stable.count() == 1);
    weir.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(weir.ended_within(Duration::ZERO).is_none(), "it waits for the request");
    weir.signal(libc::SIGTERM);
    assert!(weir.ended_within(Duration::from_secs(1)).is_some(), "it does not wait any longer");
}

#[test]
fn sigint_stops_like_sigterm() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    assert_eq!(weir.client().get("/").status, 200);
    weir.signal(libc::SIGINT);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}
