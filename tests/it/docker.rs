//! Containers as endpoints: an engine that a test plays on a socket, and requests that go where its labels say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::temp::TempDir;
use crate::harness::{Setup, Upstream, Weir, eventually, never};

const SOON: Duration = Duration::from_secs(5);

/// An engine with containers that the test chooses. It ends with its value.
struct Engine {
    directory: TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    containers: Vec<Value>,
    /// Who follows events.
    followers: Vec<UnixStream>,
    /// Whether every request is refused.
    broken: bool,
}

impl Engine {
    fn new() -> Self {
        let engine = Self { directory: TempDir::new(), state: Arc::default() };
        engine.listen();
        engine
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn listen(&self) {
        let _ = std::fs::remove_file(self.path());
        let (listener, state) = (UnixListener::bind(self.path()).expect("a socket"), Arc::clone(&self.state));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || answer(stream, &state));
            }
        });
    }

    /// Has these containers from now on, and says so by an event about one of them.
    fn now(&self, containers: Vec<Value>, action: &str, id: &str, attributes: Value) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.containers = containers;
        let event = json!({ "Type": "container", "Action": action, "Actor": { "ID": id, "Attributes": attributes } });
        let line = format!("{event}\n");
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        state.followers.retain_mut(|follower| follower.write_all(chunk.as_bytes()).is_ok());
    }

    /// Breaks every stream and refuses what comes.
    fn breaks(&self, broken: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.broken = broken;
        for follower in state.followers.drain(..) {
            let _ = follower.shutdown(std::net::Shutdown::Both);
        }
    }

    /// `weir.toml` for pools that are containers.
    fn setup(&self) -> Setup {
        let engine = format!("[docker]\nengine = \"unix://{}\"", self.path().display());
        Setup::new().pool_at("stable", &["docker://"]).pool_at("canary", &["docker://"]).text(&engine).split([100, 0])
    }
}

fn answer(mut stream: UnixStream, state: &Mutex<State>) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let text = match &*target {
        _ if state.broken => reply("500 Internal Server Error", ""),
        events if events.starts_with("/events?") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            return state.followers.push(stream);
        }
        list if list.starts_with("/containers/json?") => {
            reply("200 OK", &Value::from(state.containers.clone()).to_string())
        }
        _ => reply("404 Not Found", "{}"),
    };
    let _ = stream.write_all(text.as_bytes());
}

/// A container at the address of a test upstream.
fn container(id: &str, pool: &str, upstream: &Upstream, status: &str) -> Value {
    let address = upstream.address();
    json!({
        "Id": id, "Names": [format!("/shop_{id}_1")], "State": "running", "Status": status,
        "Labels": { "weir.service": "engine", "weir.pool": pool, "weir.port": address.port().to_string() },
        "NetworkSettings": { "Networks": { "front": { "IPAddress": address.ip().to_string() } } },
    })
}

/// Which upstream answers next.
fn who(weir: &Weir) -> String {
    weir.client().get("/").upstream().to_owned()
}

#[test]
fn labelled_containers_are_endpoints_and_follow_start_and_health() {
    let (first, second) = (Upstream::named("first"), Upstream::named("second"));
    let engine = Engine::new();
    engine.now(vec![container("a", "stable", &first, "Up 5 seconds")], "start", "a", json!({}));
    let weir = engine.setup().start();
    assert_eq!(who(&weir), "first", "they are known before weir listens");
    let starting = container("b", "stable", &second, "Up 1 second (health: starting)");
    engine.now(vec![container("a", "stable", &first, "Up"), starting], "start", "b", json!({}));
    never("it serves before it is healthy", Duration::from_millis(300), || who(&weir) == "second");
    let healthy = container("b", "stable", &second, "Up 2 seconds (healthy)");
    engine.now(vec![container("a", "stable", &first, "Up"), healthy], "health_status: healthy", "b", json!({}));
    eventually("both serve", SOON, || who(&weir) == "second");
    let (_, out, _) = weir.verb(&["status"]);
    assert!(out.contains(&second.address().to_string()), "{out}");
}

#[test]
fn a_container_that_is_told_to_stop_gets_no_new_request_while_it_still_runs() {
    let (first, second) = (Upstream::named("first"), Upstream::named("second"));
    let engine = Engine::new();
    let both = vec![container("a", "stable", &first, "Up"), container("b", "stable", &second, "Up")];
    engine.now(both.clone(), "start", "a", json!({}));
    let weir = engine.setup().start();
    eventually("both serve", SOON, || who(&weir) == "second");
    engine.now(both.clone(), "kill", "b", json!({ "signal": "1" }));
    eventually("a signal that ends nothing changes nothing", SOON, || who(&weir) == "second");
    engine.now(both.clone(), "kill", "b", json!({ "signal": "15" }));
    eventually("it is left out", SOON, || weir.metrics().sum("weir_endpoint_up", &[("pool", "stable")]) == 1.0);
    second.forget();
    (0..50).for_each(|_| assert_eq!(who(&weir), "first"));
    assert_eq!(second.count(), 0);
    engine.now(vec![both[0].clone()], "die", "b", json!({}));
    engine.now(both, "start", "b", json!({}));
    eventually("it is back after its start", SOON, || who(&weir) == "second");
}

#[test]
fn an_engine_that_goes_away_leaves_what_was_found_and_is_asked_again() {
    let (first, second) = (Upstream::named("first"), Upstream::named("second"));
    let engine = Engine::new();
    engine.now(vec![container("a", "stable", &first, "Up")], "start", "a", json!({}));
    let weir = engine.setup().start();
    engine.breaks(true);
    eventually("it is told", SOON, || weir.log().text().contains("containers cannot be looked for"));
    assert_eq!(who(&weir), "first");
    engine.breaks(false);
    engine.now(vec![container("b", "stable", &second, "Up")], "start", "b", json!({}));
    eventually("the new list counts", SOON, || who(&weir) == "second");
}

#[test]
fn without_an_engine_weir_starts_says_why_and_finds_it_when_it_comes() {
    let first = Upstream::named("first");
    let engine = Engine::new();
    engine.breaks(true);
    let weir = engine.setup().start();
    assert_eq!(weir.client().get("/").status, 503);
    assert!(weir.log().text().contains("answered 500"), "{}", weir.log().text());
    engine.breaks(false);
    engine.now(vec![container("a", "stable", &first, "Up")], "start", "a", json!({}));
    eventually("it serves", SOON, || weir.client().get("/").status == 200);
    let wrong = Setup::new().pool_at("stable", &["docker://engine"]).try_start();
    assert!(wrong.is_err_and(|failure| failure.log.contains("write \"docker://\" alone")));
}

#[test]
fn a_pool_may_become_containers_by_a_reload() {
    let (first, second) = (Upstream::named("first"), Upstream::named("second"));
    let engine = Engine::new();
    engine.now(vec![container("a", "stable", &second, "Up")], "start", "a", json!({}));
    let setup = engine.setup();
    let weir = setup.clone().start();
    assert_eq!(who(&weir), "second");
    let text = setup.config_text();
    weir.save_config(&text.replacen("docker://", &first.url(), 1));
    eventually("by address", SOON, || who(&weir) == "first");
    weir.save_config(&text);
    eventually("by label", SOON, || who(&weir) == "second");
}
