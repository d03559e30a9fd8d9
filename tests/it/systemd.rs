//! systemd: sockets that it hands over, and what it is told (sd_listen_fds(3), sd_notify(3)), played by the test.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::harness::temp::TempDir;
use crate::harness::{Client, Load, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// The socket that systemd listens on.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new();
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket can be bound");
        Self { directory, socket }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").to_str().expect("text").to_owned()
    }

    /// Waits for a message that holds this line; the whole message.
    #[track_caller]
    fn told(&self, line: &str) -> String {
        let deadline = Instant::now() + SOON;
        let mut bytes = [0; 4096];
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a time above 0");
            let read = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{line}: {error}; came: {others:?}"));
            let message = String::from_utf8_lossy(&bytes[..read]).into_owned();
            if message.lines().any(|it| it.starts_with(line)) {
                return message;
            }
            others.push(message);
        }
    }

    /// What came by now.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("it can be set");
        let mut bytes = [0; 4096];
        let mut messages = Vec::new();
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(read) => messages.push(String::from_utf8_lossy(&bytes[..read]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("it can be set");
        messages
    }
}

fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port is free")
}

#[test]
fn sockets_are_taken_by_their_names_and_what_came_before_the_start_is_served() {
    let stable = Upstream::named("stable");
    let (public, admin) = (free(), free());
    let (at, admin_at) = (public.local_addr().expect("one"), admin.local_addr().expect("one"));
    let mut early = Client::to(at);
    early.send(b"GET /early HTTP/1.1\r\nHost: test\r\n\r\n").expect("it waits in the queue");
    let weir = Setup::single(&stable).workers(3).socket("public", public).socket("admin", admin).start();
    assert_eq!((weir.address(), weir.admin_address()), (at, admin_at));
    assert_eq!(early.answer().expect("it is answered").status, 200);
    (0..20).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    // And handed on.
    weir.upgrade(&[]);
    assert_eq!(weir.client().get("/").status, 200);
}

#[test]
fn a_socket_under_the_name_of_its_unit_goes_to_the_listener_at_its_address() {
    let stable = Upstream::named("stable");
    let public = free();
    let at = public.local_addr().expect("one");
    let weir = Setup::single(&stable).public(at).socket("weir.socket", public).start();
    assert_eq!(Client::to(at).get("/").status, 200);
    drop(weir);
    let failure = Setup::single(&stable).socket("weir.socket", free()).try_start().expect_err("nobody's socket");
    assert_eq!(failure.code, Some(2), "{}", failure.log);
    assert!(failure.log.contains("FileDescriptorName="), "{}", failure.log);
}

#[test]
fn systemd_is_told_of_start_reload_and_stop() {
    let stable = Upstream::named("stable");
    let manager = Manager::new();
    let mut weir = Setup::single(&stable).env("NOTIFY_SOCKET", &manager.path()).start();
    let ready = manager.told("READY=1");
    assert!(ready.contains("STATUS=serving on 1 listener"), "{ready}");
    weir.signal(libc::SIGHUP);
    let reloading = manager.told("RELOADING=1");
    let us = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("when it began");
    assert!(us.parse::<u64>().is_ok_and(|us| us > 0), "{reloading}");
    manager.told("READY=1");
    weir.signal(libc::SIGTERM);
    manager.told("STOPPING=1");
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}

#[test]
fn an_upgrade_tells_systemd_which_process_leads_before_that_one_says_that_it_is_ready() {
    let stable = Upstream::named("stable");
    let manager = Manager::new();
    let mut weir = Setup::single(&stable).env("NOTIFY_SOCKET", &manager.path()).start();
    manager.told("READY=1");
    let load = Load::fresh(weir.address(), 8, Duration::from_millis(5));
    let new = weir.upgrade(&[]);
    manager.told(&format!("MAINPID={new}"));
    manager.told("READY=1");
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert!(load.stop().failures.is_empty());
    let rest = manager.rest().concat();
    assert!(!rest.contains("STOPPING"), "the service goes on: {rest}");
    weir.signal(libc::SIGTERM);
    manager.told("STOPPING=1");
    eventually("it ends", SOON, || !Weir::lives(new));
}

#[test]
fn signs_of_life_come_in_time_and_not_while_it_stands_still() {
    let stable = Upstream::named("stable");
    let manager = Manager::new();
    let setup = Setup::single(&stable).env("NOTIFY_SOCKET", &manager.path());
    let weir = setup.env("WATCHDOG_USEC", "600000").start();
    manager.told("READY=1");
    let began = Instant::now();
    (0..4).for_each(|_| drop(manager.told("WATCHDOG=1")));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_millis(1_800), "{took:?}");
    weir.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    manager.rest();
    std::thread::sleep(Duration::from_millis(700));
    assert!(manager.rest().is_empty(), "a process that stands still says nothing");
    weir.signal(libc::SIGCONT);
    manager.told("WATCHDOG=1");
    // The process that takes over is the one that is awaited from then on.
    weir.upgrade(&[]);
    manager.told("MAINPID=");
    manager.told("WATCHDOG=1");
}

#[test]
fn variables_of_another_process_are_not_taken_for_ones_own() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).env("LISTEN_PID", "1").env("LISTEN_FDS", "3").env("WATCHDOG_USEC", "1");
    let weir = setup.env("WATCHDOG_PID", "1").env("NOTIFY_SOCKET", "/nowhere/at/all").start();
    assert_eq!(weir.client().get("/").status, 200);
}
