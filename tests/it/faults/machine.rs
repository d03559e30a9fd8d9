//! What the machine does: it suspends, starves, and has little memory and no room for logs (F28 to F39).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{PAUSE, SOON, twins, wait};
use crate::harness::frames::{self, Raw};
use crate::harness::{Behaviour, Client, Load, Setup, Upstream, eventually};

#[test]
fn f28_a_process_that_was_suspended_goes_on_where_it_was() {
    let (one, two, setup) = twins();
    let weir = setup.table("timeouts", "idle = \"2s\"\nresponse_header = \"2s\"").start();
    one.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    two.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    let mut idle = weir.client();
    assert_eq!(idle.get("/").status, 200);
    let mut asking: Vec<Client> = (0..8).map(|_| weir.client()).collect();
    for client in &mut asking {
        client.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    eventually("all are under way", SOON, || one.count_on("/late") + two.count_on("/late") == 8);
    weir.signal(libc::SIGSTOP);
    // Longer than any of its timeouts but those that a client chooses.
    wait(3_000);
    weir.signal(libc::SIGCONT);
    for client in &mut asking {
        let status = client.answer().expect("an answer").status;
        assert!(status == 200 || status == 504, "F28: {status}: what was due meanwhile is over, nothing else");
    }
    assert_eq!(idle.get("/").status, 200, "F28");
    let load = Load::start(weir.address(), 4, PAUSE);
    wait(700);
    load.stop().assert_flawless();
}

#[test]
fn f30_little_memory_is_enough_for_floods_of_slow_bodies_and_large_heads() {
    let stable = Upstream::named("stable");
    stable.behave_on("/large", Behaviour::Large(64 << 20));
    stable.behave_on("/trickle", Behaviour::SlowBody { pieces: 40, piece: 1, pause: Duration::from_millis(100) });
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").start();
    let mut clients: Vec<Client> = (0..300).map(|_| weir.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let head = match n % 3 {
            0 => "GET /trickle HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
            1 => "GET /large HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
            // A head that is nearly complete and as large as may be.
            _ => format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n", "v".repeat(31 << 10)),
        };
        client.send(head.as_bytes()).expect("it is sent");
        // The accept queue of the endpoint is short.
        wait(2);
    }
    let mut streams: Vec<Raw> = (0..5).map(|_| Raw::stranger(weir.address()).greet(&frames::setting(4, 0))).collect();
    for client in &mut streams {
        let all: Vec<u8> = (0..50).flat_map(|n| frames::get(2 * n + 1, "/large")).collect();
        client.send(&all).expect("weir reads");
        let answered = client.listen(SOON, |reaction| reaction.answers.len() == 50).answers.len();
        assert_eq!(answered, 50);
    }
    let load = Load::start(weir.address(), 4, PAUSE);
    let mut most = 0;
    for _ in 0..20 {
        wait(50);
        most = most.max(weir.resident_bytes());
    }
    load.stop().assert_flawless();
    assert!(most < 128 << 20, "F30: {most} bytes resident");
}

#[test]
fn f31_a_starved_processor_ejects_nobody_and_the_operator_gets_in() {
    let (_one, _two, setup) = twins();
    let weir = setup.start();
    let core = pin(weir.pid().cast_signed(), None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                pin(0, Some(core));
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let load = Load::start(weir.address(), 2, PAUSE);
        for _ in 0..5 {
            wait(300);
            let began = Instant::now();
            assert_eq!(weir.admin_get("/healthz").status, 200);
            assert!(began.elapsed() < Duration::from_secs(2), "F31: {:?}", began.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        load.stop().assert_flawless();
    });
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_endpoint_ejections_total", &[]), 0.0, "F31");
    eventually("both serve", SOON, || weir.metrics().sum("weir_endpoint_up", &[]) == 2.0);
}

/// Keeps a process (all its threads), or with 0 this thread, on one processor: that one, or the first it may use.
fn pin(pid: i32, core: Option<usize>) -> usize {
    // SAFETY: plain system calls with pointers to a live value of the right size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = std::mem::size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut set), 0);
        let first = (0..libc::CPU_SETSIZE as usize).find(|&core| libc::CPU_ISSET(core, &set)).expect("there is one");
        let core = core.unwrap_or(first);
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(core, &mut set);
        if pid == 0 {
            libc::sched_setaffinity(0, size, &raw const set);
            return core;
        }
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("an own process has tasks");
        for task in tasks.flatten() {
            let id: i32 = task.file_name().to_string_lossy().parse().expect("a number");
            libc::sched_setaffinity(id, size, &raw const set);
        }
        core
    }
}

#[test]
fn f39_a_log_whose_disk_is_full_costs_lines_and_no_request() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).text("[access_log]\nto = \"./access.log\"");
    let weir = setup.start();
    assert_eq!(weir.client().get("/").status, 200);
    weir.limit_file_size(Some(2_000));
    let load = Load::start(weir.address(), 4, PAUSE);
    eventually("lines are dropped and counted", SOON, || {
        weir.metrics().sum("weir_access_log_dropped_total", &[]) > 0.0
    });
    load.stop().assert_flawless();
    weir.limit_file_size(None);
    let logged = || std::fs::metadata(weir.config_directory().join("access.log")).map_or(0, |file| file.len());
    let before = logged();
    eventually("it goes on when there is room", SOON, || {
        assert_eq!(weir.client().get("/").status, 200);
        logged() > before
    });
}
