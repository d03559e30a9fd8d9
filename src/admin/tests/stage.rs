//! An admin API to talk to, and the bluntest client there is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::super::access::{Access, Grant, Role, Token};
use super::super::board::Board;
use super::super::health::Readiness;
use super::super::routes::Admin;
use super::super::serve::serve;
use super::super::upgrade::{Upgrades, Wanted};
use crate::config::Config;
use crate::model::AccessLog as Policy;
use crate::rollout::engine;
use crate::switchboard::writer::{Mode, Switchboard};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::count::Sharded;
use crate::upstream::names::Lookups;
use crate::upstream::upstreams::Upstreams;

pub(super) const TOKEN: &str = "a-token-of-the-tests-0123456789";

const CONFIG: &str = r#"
[services.engine.health]
kind = "off"
[services.engine.pools.stable]
endpoints = ["http://127.0.0.1:8001"]
[services.engine.pools.canary]
endpoints = ["http://127.0.0.1:8002", "http://127.0.0.1:8003"]
"#;

/// Whose token that of a role is.
pub(super) fn name_of(role: Role) -> &'static str {
    match role {
        Role::Viewer => "vera",
        Role::Operator => "olga",
        Role::Admin => "ada",
    }
}

/// The token of a role.
pub(super) fn token_of(role: Role) -> String {
    format!("token-of-{}-0123456789", name_of(role))
}

/// A served API; stopped and cleaned up when it is dropped.
pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) board: Arc<Switchboard>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) workers: Arc<Sharded<crate::telemetry::meter::WorkerShard>>,
    dir: PathBuf,
    /// Upgrades that were asked for go no further.
    _asked: tokio::sync::mpsc::Receiver<Wanted>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// An answer, taken apart.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

// === impl Stage ===

impl Stage {
    pub(super) fn open() -> Self {
        Self::start(None, &[], "")
    }

    pub(super) fn with_token() -> Self {
        Self::start(Some(TOKEN), &[], "")
    }

    /// Further tokens, [`token_of`] each role, and more lines of `weir.toml`.
    pub(super) fn with_roles(more: &str) -> Self {
        Self::start(Some(TOKEN), &[Role::Viewer, Role::Operator, Role::Admin], more)
    }

    fn start(token: Option<&str>, roles: &[Role], more: &str) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-admin-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("weir.toml"), format!("{more}\n{CONFIG}")).unwrap();
        std::fs::write(dir.join("weights.toml"), "# kept\n[engine]\nstable = 90\ncanary = 10\n").unwrap();
        let token_file = token.map(|token| {
            std::fs::write(dir.join("token"), token).unwrap();
            dir.join("token")
        });
        let config = Config::load(dir.join("weir.toml")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let within = runtime.enter();
        let board = Switchboard::open(config, Mode::Normal, 1, Upstreams::start(1, Lookups::default())).unwrap();
        drop(within);
        let board = Arc::new(board);
        let (tick, notifications) = (Duration::from_millis(20), board.config().notifications.clone());
        let parts = engine::Parts { enabled: true, tick, state_dir: None, directory: None, notifications };
        let desk = runtime.block_on(engine::start(Arc::clone(&board), parts));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Arc::new(Readiness::default());
        let workers = Arc::new(Sharded::new(1));
        let (upgrades, asked) = Upgrades::new();
        let seam = Board {
            switchboard: Arc::clone(&board),
            desk,
            rollouts_enabled: true,
            workers: Arc::clone(&workers),
            access_log: Arc::new(AccessLog::start(&Policy::default())),
            pairs: Arc::default(),
            upgrades,
            explain: Box::new(|snapshot, described| {
                let head = &described.head;
                let cookie = head.cookie("a").map(String::from_utf8_lossy);
                let seen = [head.method(), head.host(), head.target(), &cookie.unwrap_or_default()].join(" ");
                Ok(serde_json::json!({ "generation": snapshot.generation, "seen": seen, "ip": described.client_ip }))
            }),
            log_level: Box::new(|level| if level == "nonsense" { Err("not a level".into()) } else { Ok(()) }),
        };
        let grants = roles.iter().map(|role| {
            let file = dir.join(format!("{role:?}.token"));
            std::fs::write(&file, token_of(*role)).unwrap();
            Grant { name: name_of(*role).into(), role: *role, token: Token::read(&file).unwrap() }
        });
        let access = Access::with_grants(address, token_file.as_deref(), false, grants.collect()).unwrap();
        let admin = Admin::new(seam, access, Arc::clone(&readiness));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let stopped = async { drop(stopped.await) };
            runtime.block_on(serve(listener, None, admin, stopped)).unwrap();
        });
        Self { address, board, readiness, workers, dir, _asked: asked, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn generation(&self) -> u64 {
        self.board.snapshot().load().generation
    }

    /// Stable and canary, as the data plane has them.
    pub(super) fn live(&self) -> (u32, u32) {
        let snapshot = self.board.snapshot().load_full();
        (snapshot.services[0].weights.of("stable"), snapshot.services[0].weights.of("canary"))
    }

    pub(super) fn weights_file(&self) -> PathBuf {
        self.dir.join("weights.toml")
    }

    /// A request with a proper `Host`, further header lines and a body.
    pub(super) fn ask(&self, request: &str, headers: &[&str], body: &str) -> Reply {
        let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        headers.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.raw(format!("{text}\r\n{body}").as_bytes())
    }

    /// A JSON body as a program sends it.
    pub(super) fn json(&self, request: &str, body: &str) -> Reply {
        self.ask(request, &["Content-Type: application/json"], body)
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// These bytes, and everything that comes back until the end.
    pub(super) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that has read enough may close before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Reply::of(&answer)
    }

    /// Stops the API and waits for its end.
    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().map(std::thread::JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(result.is_none_or(|result| result.is_ok()), "the server panicked");
        }
    }
}

// === impl Reply ===

impl Reply {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.into() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// Asserts a refusal of this kind and gives its body.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{} {}", self.head, self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let value = self.value();
        assert_eq!(value["code"], code, "{value}");
        assert_eq!(value["type"], format!("urn:weir:problem:{code}"));
        assert_eq!(value["status"], status);
        assert!(value["title"].is_string() && value["detail"].is_string(), "{value}");
        value
    }
}
