//! Endpoints at sockets in the file system: reached, probed, kept, and told apart when they cannot be.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::temp::TempDir;
use crate::harness::{Behaviour, Load, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// A socket in front of a server of this stage.
struct Socket {
    path: PathBuf,
    accepted: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Socket {
    fn before(upstream: &Upstream, path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket can be made");
        let (accepted, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends, address) = (Arc::clone(&accepted), Arc::clone(&over), upstream.address());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = std::net::TcpStream::connect(address) else { continue };
                std::thread::spawn(move || carry(client, server));
            }
        });
        Self { path: path.to_owned(), accepted, over }
    }

    fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The accepting thread wakes, sees that it is over, and ends.
        let _ = UnixStream::connect(&self.path);
    }
}

/// Copies both ways until either side ends.
fn carry(mut client: UnixStream, mut server: std::net::TcpStream) {
    let (mut up_from, mut up_to) = (client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = up.join();
}

fn setup(url: &str) -> Setup {
    Setup::new()
        .workers(1)
        .pool_at("stable", &[url])
        .table("health", "kind = \"off\"")
        .table("timeouts", "connect = \"300ms\"")
        .table("breaker", "failures = 1000000\nmin_requests = 1000000")
}

fn endpoint(weir: &Weir) -> serde_json::Value {
    weir.status()["services"][0]["pools"][0]["endpoints"][0].clone()
}

#[test]
fn requests_of_every_kind_go_over_a_socket_and_the_connection_is_kept() {
    let (directory, stable) = (TempDir::new(), Upstream::named("stable"));
    let socket = Socket::before(&stable, &directory.path().join("app.sock"));
    let weir = setup(&socket.url()).start();
    let mut client = weir.client();
    for n in 0..10 {
        let answer = client.get(&format!("/a?n={n}"));
        assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    }
    assert_eq!(stable.last().field("host"), Some("test"), "the client's Host is kept");
    assert_eq!(stable.last().field("x-forwarded-for"), Some("127.0.0.1"));
    let long = vec![b'x'; 2_000_000];
    stable.behave_on("/echo", Behaviour::Echo);
    assert!(client.ask("POST", "/echo", &[], &long).body == long);
    assert!(weir.h2().ask("POST", "/echo", &[], &long).expect("an answer").body == long);
    assert_eq!(socket.accepted(), 1);
    assert_eq!(endpoint(&weir)["address"], socket.url());
    assert_eq!(weir.metrics().sum("weir_requests_total", &[("endpoint", &socket.url())]), 12.0);
    let (code, text, _) = weir.verb(&["status"]);
    assert!(code == Some(0) && text.contains("app.sock"), "{text}");
}

#[test]
fn an_endpoint_at_a_socket_gets_its_own_host_when_the_clients_is_not_kept() {
    let (directory, stable) = (TempDir::new(), Upstream::named("stable"));
    let socket = Socket::before(&stable, &directory.path().join("app.sock"));
    let weir = setup(&socket.url()).service("preserve_host = false").start();
    assert_eq!(weir.client().get("/").status, 200);
    assert_eq!(stable.last().field("host"), Some("localhost"));
}

#[test]
fn a_websocket_goes_over_a_socket() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          x-upstream: stable\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (directory, stable) = (TempDir::new(), Upstream::named("stable"));
    stable.behave_on("/ws", Behaviour::Raw(SWITCH.as_bytes().to_vec(), Then::Echo));
    let socket = Socket::before(&stable, &directory.path().join("app.sock"));
    let weir = setup(&socket.url()).start();
    let mut client = weir.client().lenient();
    client.send(ASK.as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 101);
    client.send(b"hello").expect("it is sent");
    let mut back = Vec::new();
    client.wire().exactly(5, &mut back).expect("it comes back");
    assert_eq!(back, b"hello");
}

#[test]
fn a_socket_that_cannot_be_reached_is_told_by_its_reason() {
    let (directory, stable) = (TempDir::new(), Upstream::named("stable"));
    let path = directory.path().join("app.sock");
    let weir = setup(&format!("unix:{}", path.display())).start();
    let refused = |reason: &str| {
        assert_eq!(weir.client().get("/").status, 502, "{reason}");
        assert_eq!(endpoint(&weir)["last_error"], reason);
    };
    refused("socket_missing");
    drop(UnixListener::bind(&path).expect("a socket can be made"));
    refused("connect_refused");
    std::fs::remove_file(&path).expect("it is there");
    // Linux says at once that a queue is full; weir asks again until the time to connect is over.
    let full = UnixListener::bind(&path).expect("a socket can be made");
    let mut waiting = Vec::new();
    fill(&path, &mut waiting);
    refused("connect_timeout");
    drop((full, waiting));
    std::fs::remove_file(&path).expect("it is there");
    let socket = Socket::before(&stable, &path);
    assert_eq!(weir.client().get("/").status, 200);
    assert_eq!(socket.accepted(), 1);
}

/// Connects until the queue of a socket that nobody accepts from is full.
fn fill(path: &Path, waiting: &mut Vec<socket2::Socket>) {
    let address = socket2::SockAddr::unix(path).expect("a path that fits");
    for _ in 0..10_000 {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket can be told not to block");
        if socket.connect(&address).is_err() {
            return;
        }
        waiting.push(socket);
    }
    panic!("the queue of a socket has an end");
}

#[test]
fn a_queue_that_is_full_for_a_moment_fails_no_request() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket can be made");
    let weir = setup(&format!("unix:{}", path.display()))
        .table("retry", "attempts = 0")
        .table("health", "kind = \"off\"")
        .config_text();
    let weir = weir.replacen("\n[services.engine.health]\nkind = \"off\"\n", "\n", 1).replace("300ms", "5s");
    let plain = setup(&format!("unix:{}", path.display()));
    let running = plain.start();
    running.save_config(&weir);
    eventually("it is live", SOON, || running.status()["generation"] == 2);
    let mut waiting = Vec::new();
    fill(&path, &mut waiting);
    let mut client = running.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    drop(waiting);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut waste = [0; 4096];
            if stream.read(&mut waste).is_ok_and(|n| n > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx-upstream: s\r\nContent-Length: 2\r\n\r\nok");
                return;
            }
        }
    });
    assert_eq!(client.answer().expect("an answer").text(), "ok");
}

#[test]
fn probes_go_over_the_socket() {
    let (directory, stable) = (TempDir::new(), Upstream::named("stable"));
    let path = directory.path().join("app.sock");
    for kind in ["path = \"/healthz\"", "kind = \"tcp\""] {
        let socket = Socket::before(&stable, &path);
        let health = format!("{kind}\ninterval = \"50ms\"\ntimeout = \"300ms\"\nfall = 2\nrise = 1");
        let weir = Setup::new().pool_at("stable", &[&socket.url()]).table("health", &health).start();
        eventually("it was probed", SOON, || socket.accepted() > 2);
        assert_eq!(endpoint(&weir)["state"], "serving");
        drop(socket);
        std::fs::remove_file(&path).expect("it is there");
        eventually("it is down", SOON, || endpoint(&weir)["state"] == "down");
        assert!(endpoint(&weir)["last_error"].to_string().contains("No such file"), "{}", endpoint(&weir));
        let socket = Socket::before(&stable, &path);
        eventually("it is back", SOON, || endpoint(&weir)["state"] == "serving");
        drop(socket);
        std::fs::remove_file(&path).expect("it is there");
    }
}

#[test]
fn weights_move_under_load_between_sockets_and_addresses_and_no_request_fails() {
    let (directory, stable, canary) = (TempDir::new(), Upstream::named("stable"), Upstream::named("canary"));
    let socket = Socket::before(&canary, &directory.path().join("app.sock"));
    let weir = Setup::new().pool("stable", &[&stable]).pool_at("canary", &[&socket.url()]).split([100, 0]).start();
    let load = Load::start(weir.address(), 8, Duration::from_millis(1));
    for canary in [10, 50, 100, 0, 100] {
        weir.save_split([100 - canary, canary]);
        eventually("it is live", SOON, || weir.split() == [100 - u64::from(canary), u64::from(canary)]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = load.stop();
    report.assert_flawless();
    assert_eq!(report.by_upstream.len(), 2);
}

#[test]
fn a_bad_path_of_a_socket_is_refused_with_what_would_be_right() {
    let long = format!("unix:/{}", "x".repeat(200));
    for (url, found) in [
        ("unix:app.sock", "is no path from the root"),
        ("unix:", "is no path from the root"),
        ("unix:/run/", "is a directory"),
        (&*long, "is longer than the 107 bytes"),
    ] {
        let failure = setup(url).try_start().expect_err("it is refused");
        assert!(format!("{failure:?}").contains(found), "{url}: {failure:?}");
    }
}
