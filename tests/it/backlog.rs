//! Clients that got through to the system and not yet to weir when its end begins: they have connected and asked, and
//! wait to be accepted. Nobody who waits like that is reset.

use std::time::Duration;

use crate::harness::{Behaviour, Client, End, Load, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(10);

/// More than one turn of accepting takes, and more than a worker hands to another at once.
const CROWD: usize = 600;

/// Clients that have connected and asked.
fn crowd(weir: &Weir, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = Client::to(weir.address());
            client.send(b"GET /crowd HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
            client
        })
        .collect()
}

/// Fails the test unless each of them gets its answer.
#[track_caller]
fn answered(crowd: Vec<Client>) {
    let count = crowd.len();
    let fate = |mut client: Client| match client.answer() {
        Ok(answer) if answer.status == 200 && answer.end == End::Whole => None,
        Ok(answer) => Some(format!("{} {:?}", answer.status, answer.end)),
        Err(error) => Some(error.to_string()),
    };
    let failures: Vec<String> = crowd.into_iter().filter_map(fate).collect();
    assert!(failures.is_empty(), "{} of {count} got no answer: {:?}", failures.len(), failures.first());
}

#[test]
fn who_waits_to_be_accepted_when_sigterm_comes_is_answered() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).workers(2).start();
    stop(weir.pid());
    let crowd = crowd(&weir, CROWD);
    assert_eq!(stable.count(), 0, "all of them wait");
    weir.signal(libc::SIGTERM);
    go_on(weir.pid());
    answered(crowd);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert!(Client::try_to(weir.address()).is_err(), "who comes later is refused");
}

#[test]
fn who_connected_to_a_busy_weir_before_sigterm_is_answered() {
    let stable = Upstream::named("stable");
    for _ in 0..4 {
        let mut weir = Setup::single(&stable).workers(2).start();
        let busy = Load::start(weir.address(), 40, Duration::ZERO);
        eventually("it is busy", SOON, || stable.count() > 200);
        let crowd = crowd(&weir, CROWD);
        weir.signal(libc::SIGTERM);
        answered(crowd);
        drop(busy);
        assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
        stable.forget();
    }
}

#[test]
fn who_waits_for_room_when_sigterm_comes_gets_the_places_of_those_that_end() {
    let stable = Upstream::named("stable");
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    let mut weir = Setup::single(&stable).workers(1).text("[limits]\nconnections_max = 8").start();
    let mut inside: Vec<Client> = (0..8).map(|_| weir.client()).collect();
    assert!(inside.iter_mut().all(|client| client.get("/").status == 200));
    for client in &mut inside[..4] {
        client.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    eventually("they are in flight", SOON, || stable.count() == 12);
    let crowd = crowd(&weir, 40);
    weir.signal(libc::SIGTERM);
    answered(crowd);
    assert!(inside[..4].iter_mut().all(|client| client.answer().is_ok_and(|answer| answer.status == 200)));
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}

#[test]
fn crowds_that_come_while_one_process_follows_another_are_all_answered() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).workers(2).start();
    let busy = Load::start(weir.address(), 20, Duration::from_millis(1));
    for pause in [0, 20, 60, 150] {
        let old = weir.pid();
        std::thread::scope(|scope| {
            let (weir, stable) = (&weir, &stable);
            let upgrade = scope.spawn(|| weir.verb(&["upgrade"]));
            // The old process stands still somewhere between its first step and its end, with a crowd before it.
            std::thread::sleep(Duration::from_millis(pause));
            stop(old);
            let first = crowd(weir, CROWD / 2);
            go_on(old);
            let mut crowds = vec![first];
            while !upgrade.is_finished() {
                crowds.push(crowd(weir, CROWD / 6));
            }
            crowds.push(crowd(weir, CROWD / 6));
            crowds.into_iter().for_each(answered);
            let (code, out, err) = upgrade.join().expect("it does not panic");
            assert_eq!(code, Some(0), "{out}{err}");
            stable.forget();
        });
        assert_ne!(weir.follow(), old);
    }
    let report = busy.stop();
    assert!(report.failures.is_empty() && report.good > 0, "{} good, {:?}", report.good, report.failures.first());
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}

/// Has a process stand still, with all of its threads; one that has ended may.
fn stop(pid: u32) {
    tell(pid, libc::SIGSTOP);
    let still = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
    };
    eventually("it stands still", SOON, || {
        std::fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |mut tasks| tasks.all(still))
    });
}

fn go_on(pid: u32) {
    tell(pid, libc::SIGCONT);
}

fn tell(pid: u32, signal: i32) {
    // SAFETY: a process that this test started, or its child; it ends after the test.
    unsafe { libc::kill(i32::try_from(pid).expect("a process id fits"), signal) };
}
