//! Listeners on unix sockets: who may connect, whose address a client has, and what becomes of the file.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::temp::TempDir;
use crate::harness::{Behaviour, Issued, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("weir.sock")
    }

    fn lines(&self) -> String {
        format!("address = \"unix:{}\"", self.path().display())
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).expect("weir accepts");
        stream.set_read_timeout(Some(SOON)).expect("a time above 0");
        stream
    }

    /// One request on a connection of its own; the whole answer.
    fn get(&self, fields: &str) -> String {
        let mut stream = self.connect();
        let text = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(text.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

#[test]
fn a_unix_socket_serves_like_a_port_with_its_mode_and_its_file_goes_at_the_end() {
    let stable = Upstream::named("stable");
    let place = Place::new();
    let mut weir =
        Setup::single(&stable).workers(3).listener("local", &format!("{}\nmode = \"0600\"", place.lines())).start();
    assert_eq!(std::fs::metadata(place.path()).expect("it is there").permissions().mode() & 0o777, 0o600);
    (0..20).for_each(|_| assert!(place.get("").starts_with("HTTP/1.1 200 ")));
    // Keep-alive, a large body up and a large one down, both past the buffers.
    stable.behave_on("/large", Behaviour::Large(3_000_000));
    let mut stream = place.connect();
    for _ in 0..2 {
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
        let mut read = 0;
        let mut bytes = vec![0; 65_536];
        while read < 3_000_000 {
            let more = stream.read(&mut bytes).expect("it comes");
            assert!(more > 0, "cut after {read}");
            read += more;
        }
    }
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert!(!place.path().exists(), "the file is taken away");
}

#[test]
fn its_clients_are_on_this_machine_and_a_trusted_loopback_may_speak_for_others() {
    let stable = Upstream::named("stable");
    let place = Place::new();
    let forwarded = |stable: &Upstream| {
        let seen = stable.seen().pop().expect("a request came");
        seen.head.field("x-forwarded-for").map(str::to_owned)
    };
    let weir = Setup::single(&stable).listener("local", &place.lines()).start();
    place.get("X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(forwarded(&stable).as_deref(), Some("127.0.0.1"), "nobody is trusted");
    drop(weir);
    let weir =
        Setup::single(&stable).top("trusted_proxies = [\"127.0.0.1\"]").listener("local", &place.lines()).start();
    place.get("X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(forwarded(&stable).as_deref(), Some("203.0.113.9, 127.0.0.1"));
    drop(weir);
}

#[test]
fn a_file_that_was_left_behind_makes_way_and_anything_else_does_not() {
    let stable = Upstream::named("stable");
    let place = Place::new();
    let setup = Setup::single(&stable).listener("local", &place.lines());
    let mut first = setup.start();
    let failure = setup.try_start().expect_err("somebody answers there");
    assert!(failure.code == Some(1) && failure.log.contains("another process listens there"), "{}", failure.log);
    first.kill();
    assert!(place.path().exists(), "nobody took it away");
    let mut second = setup.start();
    assert!(place.get("").starts_with("HTTP/1.1 200 "));
    second.kill();
    std::fs::remove_file(place.path()).expect("it is there");
    std::fs::write(place.path(), "precious").expect("written");
    let failure = setup.try_start().expect_err("something else is there");
    assert!(failure.log.contains("no socket"), "{}", failure.log);
    assert_eq!(std::fs::read_to_string(place.path()).expect("it stays"), "precious");
}

#[test]
fn an_upgrade_hands_it_over_and_the_file_stays() {
    let stable = Upstream::named("stable");
    let place = Place::new();
    let mut weir = Setup::single(&stable).listener("local", &place.lines()).start();
    for _ in 0..2 {
        weir.upgrade(&[]);
        assert!(place.get("").starts_with("HTTP/1.1 200 "));
    }
    assert!(weir.ended_within(SOON).is_some());
    assert!(place.get("").starts_with("HTTP/1.1 200 "), "the process that ended left the file alone");
    let pid = weir.pid();
    weir.signal(libc::SIGTERM);
    eventually("it ends", SOON, || !Weir::lives(pid));
    assert!(!place.path().exists(), "the last one takes it away");
}

#[test]
fn tls_is_spoken_over_it_too() {
    let stable = Upstream::named("stable");
    let place = Place::new();
    let site = Issued::for_names(&["test"]);
    let tls = "tls = { certificates = [{ cert = \"site.crt\", key = \"site.key\" }] }";
    let setup = Setup::single(&stable).listener("local", &format!("{}\n{tls}", place.lines()));
    let _weir = setup.file("site.crt", &site.cert).file("site.key", &site.key).start();
    let mut stream = place.connect();
    let mut connection = crate::harness::Tls::of("test").connection();
    let mut secure = rustls::Stream::new(&mut connection, &mut stream);
    secure.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = Vec::new();
    secure.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn what_cannot_be_a_unix_socket_is_refused_with_its_place() {
    let stable = Upstream::named("stable");
    let long = format!("address = \"unix:/{}\"", "x".repeat(120));
    for (lines, said) in [
        ("address = \"unix:\"", "names no file"),
        ("address = \"unix:weir.sock\"", "is not absolute"),
        (&long, "at most 107"),
        ("address = \"unix:/run/a.sock\"\nmode = \"rw\"", "are no permission bits"),
        ("address = \"unix:/run/a.sock\"\nmode = \"1777\"", "are no permission bits"),
        ("address = \"127.0.0.1:0\"\nmode = \"0600\"", "without a unix socket"),
    ] {
        let failure = Setup::single(&stable).listener("local", lines).try_start().expect_err("it cannot be");
        assert!(failure.code == Some(2) && failure.log.contains(said), "{lines}: {}", failure.log);
    }
    let twice = Setup::single(&stable).listener("a", "address = \"unix:/run/a.sock\"");
    let failure = twice.listener("b", "address = \"unix:/run/a.sock\"").try_start().expect_err("it is one file");
    assert!(failure.log.contains("is taken by listener \"a\""), "{}", failure.log);
}
