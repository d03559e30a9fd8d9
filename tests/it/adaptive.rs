//! A limit on requests in flight that finds itself: over a server that works on a few requests at a time.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::harness::wire::Wire;
use crate::harness::{Load, Setup, Upstream, Weir, eventually};

/// A server that works on so many requests at a time, each for 20 ms; the others wait in it.
fn narrow(places: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let address = listener.local_addr().expect("it has an address");
    let free = Arc::new((Mutex::new(places), Condvar::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), free) = (stream, Arc::clone(&free)) else { return };
            std::thread::spawn(move || {
                let mut wire = Wire::new(stream);
                while let Ok(Some(_)) = wire.head() {
                    let mut left =
                        free.1.wait_while(free.0.lock().expect("no panic"), |left| *left == 0).expect("none");
                    *left -= 1;
                    drop(left);
                    std::thread::sleep(Duration::from_millis(20));
                    *free.0.lock().expect("no panic") += 1;
                    free.1.notify_one();
                    if wire.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn limit(weir: &Weir) -> f64 {
    weir.metrics().sum("weir_in_flight_limit", &[("pool", "stable")])
}

#[test]
fn the_limit_of_a_pool_settles_where_its_server_begins_to_queue() {
    let server = narrow(4);
    let setup = Setup::new().pool_at("stable", &[&format!("http://{server}")]);
    let setup = setup.pool_lines("min_in_flight = 2\nmax_in_flight = 200").table("queue", "max = 500\nwait = \"5s\"");
    let weir = setup.workers(2).table("health", "kind = \"off\"").start();
    assert_eq!(limit(&weir), 2.0);
    let load = Load::start(weir.address(), 40, Duration::ZERO);
    eventually("it has grown to what the server can do", Duration::from_secs(10), || limit(&weir) >= 5.0);
    // About 8 is right: 4, a quarter for chance, and a root for a queue. Without a limit 40 are in flight.
    let mut highest = 0.0_f64;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        highest = highest.max(limit(&weir));
    }
    let report = load.stop();
    assert!((5.0..=16.0).contains(&highest), "{highest}");
    assert!(report.failures.is_empty(), "{:?}", report.failures.first());
}

#[test]
fn an_adaptive_limit_needs_a_highest_one_and_keeps_what_it_learned_over_a_reload() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).pool_lines("min_in_flight = 2");
    let failure = setup.try_start().map(drop).expect_err("it does not start");
    let told = format!("{failure:?}");
    assert!(told.contains("min_in_flight without max_in_flight"), "{told}");
    let setup = Setup::single(&stable).pool_lines("min_in_flight = 2\nmax_in_flight = 100");
    let setup = setup.table("health", "kind = \"off\"");
    let weir = setup.start();
    let load = Load::start(weir.address(), 20, Duration::ZERO);
    eventually("it grows", Duration::from_secs(10), || limit(&weir) >= 6.0);
    load.stop();
    let before = limit(&weir);
    let generation = || weir.status()["generation"].as_u64();
    let first = generation();
    weir.save_config(&format!("{}\n[limits]\nfields_max = 90\n", setup.config_text()));
    eventually("it is read", Duration::from_secs(5), || generation() > first);
    assert_eq!(limit(&weir), before);
    assert_eq!(weir.client().get("/").status, 200);
}
