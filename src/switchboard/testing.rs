//! What the tests of this room share: a directory of their own and a switchboard over two real files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Runtime;

use super::change::{Applied, Cause, Change, How, Refused};
use super::writer::{Mode, StartError, Switchboard};
use crate::config::Config;
use crate::config::watch::ContentHash;
use crate::model::{Name, Weight, Weights};
use crate::upstream::names::Lookups;
use crate::upstream::upstreams::Upstreams;

/// The configuration of most tests.
pub(super) const CONFIG: &str = r#"
[services.engine.pools.stable]
endpoints = ["http://127.0.0.1:8001"]

[services.engine.pools.canary]
endpoints = ["http://127.0.0.1:8002"]
"#;

/// A directory that is gone at the end of the test.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

/// A switchboard and its two files.
pub(super) struct Bench {
    pub(super) dir: Dir,
    pub(super) board: Switchboard,
    /// Where probes and lookups would run; nothing drives it.
    runtime: Runtime,
}

// === impl Dir ===

impl Dir {
    pub(super) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-switchboard-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// === impl Bench ===

impl Bench {
    pub(super) fn new(config: &str, weights: Option<&str>) -> Self {
        let dir = Dir::new();
        std::fs::write(dir.path().join("weir.toml"), config).expect("written");
        if let Some(weights) = weights {
            std::fs::write(dir.path().join("weights.toml"), weights).expect("written");
        }
        let runtime = runtime();
        let board = open(&dir, Mode::Normal, &runtime).expect("a switchboard");
        Self { dir, board, runtime }
    }

    /// The same files under a new process.
    pub(super) fn restarted(self, mode: Mode) -> Self {
        let board = open(&self.dir, mode, &self.runtime).expect("a switchboard");
        Self { board, ..self }
    }

    pub(super) fn weights_path(&self) -> PathBuf {
        self.dir.path().join("weights.toml")
    }

    pub(super) fn weights_text(&self) -> String {
        std::fs::read_to_string(self.weights_path()).expect("a weights file")
    }

    pub(super) fn save_weights(&self, text: &str) -> Result<Applied, Refused> {
        std::fs::write(self.weights_path(), text).expect("written");
        self.seen(None, Some(text))
    }

    pub(super) fn save_config(&self, text: &str) -> Result<Applied, Refused> {
        std::fs::write(self.dir.path().join("weir.toml"), text).expect("written");
        self.seen(Some(text), None)
    }

    /// What the watcher does when it has read these texts.
    pub(super) fn seen(&self, config: Option<&str>, weights: Option<&str>) -> Result<Applied, Refused> {
        let change = Change::FileChanged { config: config.map(ContentHash::of), weights: weights.map(ContentHash::of) };
        self.apply(change, How::File)
    }

    pub(super) fn apply(&self, change: Change, how: How) -> Result<Applied, Refused> {
        let _within = self.runtime.enter();
        self.board.apply(change, &Cause::by(how), None)
    }

    pub(super) fn set(&self, stable: u32, canary: u32, expected: Option<u64>) -> Result<Applied, Refused> {
        let change = Change::Weights { service: engine(), weights: weights(stable, canary) };
        let _within = self.runtime.enter();
        self.board.apply(change, &Cause::by(How::Api), expected)
    }

    pub(super) fn rollback(&self) -> Result<Applied, Refused> {
        self.apply(Change::Rollback { service: engine() }, How::Cli)
    }

    pub(super) fn undo(&self) -> Result<Applied, Refused> {
        self.apply(Change::Undo { service: engine() }, How::Cli)
    }

    /// Stable and canary of the first service, as workers see them.
    pub(super) fn live(&self) -> (u32, u32) {
        let snapshot = self.board.snapshot().load_full();
        let service = &snapshot.services[0];
        let of = |pool: &str| service.pools.iter().find(|p| p.name.as_str() == pool).map_or(0, |p| p.weight);
        assert_eq!((of("stable"), of("canary")), (service.weights.of("stable"), service.weights.of("canary")));
        (of("stable"), of("canary"))
    }

    pub(super) fn generation(&self) -> u64 {
        self.board.snapshot().load().generation
    }

    /// Makes the weights file one that must not be written, also not by root.
    pub(super) fn make_read_only(&self) {
        self.mode(0o444);
    }

    pub(super) fn make_writable(&self) {
        self.mode(0o644);
    }

    fn mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.weights_path(), permissions).expect("a mode");
    }
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(super) fn engine() -> Name {
    Name::new("engine").expect("a name")
}

pub(super) fn weights(stable: u32, canary: u32) -> Weights {
    let name = |text| Name::new(text).expect("a name");
    Weights::new(vec![(name("stable"), Weight::Relative(stable)), (name("canary"), Weight::Relative(canary))])
        .expect("weights")
}

pub(super) fn open(dir: &Dir, mode: Mode, runtime: &Runtime) -> Result<Switchboard, StartError> {
    let config = Config::load(dir.path().join("weir.toml")).map_err(StartError::Problems)?;
    let _within = runtime.enter();
    Switchboard::open(config, mode, 1, Upstreams::start(1, Lookups::default()))
}
