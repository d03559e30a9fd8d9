//! A worker with more to do than it can: some of what comes is turned away at once, so that the rest is served in time,
//! and what is in flight is not touched.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Behaviour, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// Asks without waiting for answers, which are read as they come, until `stop`.
fn ask_and_ask(address: SocketAddr, stop: &AtomicBool) {
    let mut writing = TcpStream::connect(address).expect("weir accepts");
    let mut reading = writing.try_clone().expect("a second hand");
    writing.set_write_timeout(Some(Duration::from_millis(200))).expect("a time above 0");
    reading.set_read_timeout(Some(Duration::from_millis(200))).expect("a time above 0");
    let batch = b"GET /load HTTP/1.1\r\nHost: test\r\n\r\n".repeat(200);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut space = [0; 64 * 1024];
            while !stop.load(Ordering::Relaxed) {
                let _ = reading.read(&mut space);
            }
        });
        // A batch of which a part was written is no batch any more.
        while !stop.load(Ordering::Relaxed) && writing.write_all(&batch).is_ok() {}
    });
}

fn shed(weir: &Weir) -> f64 {
    weir.metrics().sum("weir_shed_total", &[])
}

#[test]
fn a_late_event_loop_turns_some_away_and_recovers() {
    let stable = Upstream::named("stable");
    stable.behave_on("/late", Behaviour::Late(Duration::from_secs(2)));
    let setup = Setup::single(&stable).workers(1).listener("plain", "redirect = \"https\"");
    let weir = setup.table("health", "kind = \"off\"").text("[limits]\ndelay_max = \"2ms\"").start();
    let stop = AtomicBool::new(false);
    let late = std::thread::scope(|scope| {
        let mut early = weir.client();
        let late = scope.spawn(move || early.get("/late"));
        eventually("it is in flight", SOON, || stable.count() == 1);
        for _ in 0..24 {
            scope.spawn(|| ask_and_ask(weir.listener("plain"), &stop));
        }
        let mut client = weir.client();
        let mut refused = None;
        eventually("some are turned away", 4 * SOON, || {
            let answer = client.get("/");
            assert!([200, 503].contains(&answer.status), "{}", answer.text());
            refused = Some(answer).filter(|answer| answer.status == 503);
            refused.is_some()
        });
        let share = weir.metrics().sum("weir_shed_ratio", &[("worker", "0")]);
        stop.store(true, Ordering::Relaxed);
        let refused = refused.expect("one was");
        assert_eq!((refused.field("retry-after"), refused.text().as_str()), (Some("1"), "weir: weir is overloaded\n"));
        let status = refused.field("proxy-status").expect("it says why");
        assert!(status.starts_with("weir; error=proxy_internal_response"), "{status}");
        assert_eq!(refused.field("connection"), None, "the connection stays");
        assert!(share > 0.0 && share <= 0.95, "{share}");
        late.join().expect("a client panicked")
    });
    assert_eq!(late.status, 200, "what was in flight is served");
    assert!(shed(&weir) > 0.0);
    eventually("nobody is turned away any more", SOON, || weir.metrics().sum("weir_shed_ratio", &[]) == 0.0);
    let before = shed(&weir);
    let mut client = weir.client();
    assert!((0..50).all(|_| client.get("/").status == 200));
    assert_eq!(weir.h2().get("/").status, 200);
    assert_eq!(shed(&weir), before);
}

#[test]
fn the_delay_is_measured_and_nobody_is_turned_away_by_default() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).workers(2).start();
    let looks = |worker| weir.metrics().sum("weir_event_loop_delay_seconds_count", &[("worker", worker)]);
    eventually("each worker looks", SOON, || looks("0") > 3.0 && looks("1") > 3.0);
    assert_eq!(shed(&weir), 0.0);
}
