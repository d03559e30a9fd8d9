//! A configuration directory, written as prose.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::upstream::Upstream;
use super::weir::{Failure, Weir};

/// What `weir` is started with: one service, `engine`, with its pools.
#[derive(Debug, Clone)]
pub struct Setup {
    top: String,
    pools: Vec<(String, Vec<String>)>,
    pool_lines: String,
    service: String,
    tail: String,
    weights: Option<String>,
    listeners: Vec<(String, String)>,
    admin: String,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    workers: usize,
    read_only: bool,
    unread: bool,
    mounted: bool,
    descriptors: Option<u64>,
    small_state: Option<u64>,
    sockets: Vec<(String, Arc<OwnedFd>)>,
}

impl Setup {
    /// No pools yet, two workers, no weights file.
    pub fn new() -> Self {
        Self {
            top: String::new(),
            pools: Vec::new(),
            pool_lines: String::new(),
            service: String::new(),
            tail: String::new(),
            weights: None,
            listeners: vec![("public".to_owned(), String::new())],
            admin: String::new(),
            environment: Vec::new(),
            files: Vec::new(),
            workers: 2,
            read_only: false,
            unread: false,
            mounted: false,
            descriptors: None,
            small_state: None,
            sockets: Vec::new(),
        }
    }

    /// Stable and canary with one endpoint each and these weights.
    pub fn pair(stable: &Upstream, canary: &Upstream, weights: [u32; 2]) -> Self {
        Self::new().pool("stable", &[stable]).pool("canary", &[canary]).split(weights)
    }

    /// One pool, `stable`, with one endpoint.
    pub fn single(stable: &Upstream) -> Self {
        Self::new().pool("stable", &[stable])
    }

    /// One more pool.
    pub fn pool(self, name: &str, endpoints: &[&Upstream]) -> Self {
        let urls: Vec<String> = endpoints.iter().map(|u| u.url()).collect();
        self.pool_at(name, &urls.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// One more pool, by endpoint URLs.
    pub fn pool_at(mut self, name: &str, urls: &[&str]) -> Self {
        self.pools.push((name.to_owned(), urls.iter().map(|&url| url.to_owned()).collect()));
        self
    }

    /// Lines of the last pool that was named.
    pub fn pool_lines(mut self, lines: &str) -> Self {
        let _ = writeln!(self.pool_lines, "{lines}");
        self
    }

    /// The weights of stable and canary.
    pub fn split(self, [stable, canary]: [u32; 2]) -> Self {
        self.weights(&format!("stable = {stable}\ncanary = {canary}\n"))
    }

    /// The lines under `[engine]` in the weights file.
    pub fn weights(mut self, lines: &str) -> Self {
        self.weights = Some(format!("[engine]\n{lines}"));
        self
    }

    /// Lines under `[services.engine]`.
    pub fn service(mut self, lines: &str) -> Self {
        let _ = writeln!(self.service, "{lines}");
        self
    }

    /// Lines of a table of the service, such as `affinity`.
    pub fn table(mut self, name: &str, lines: &str) -> Self {
        let _ = writeln!(self.tail, "\n[services.engine.{name}]\n{lines}");
        self
    }

    /// Probes of `/healthz` every 100 ms, three failures down, two passes up.
    pub fn probed(self) -> Self {
        self.table("health", "path = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"200ms\"\nfall = 3\nrise = 2")
    }

    /// More text at the end of the file: routes, other tables.
    pub fn text(mut self, lines: &str) -> Self {
        let _ = writeln!(self.tail, "\n{lines}");
        self
    }

    /// Lines before the first table.
    pub fn top(mut self, lines: &str) -> Self {
        let _ = writeln!(self.top, "{lines}");
        self
    }

    /// One more listener on a port of its own, with these lines.
    pub fn listener(mut self, name: &str, lines: &str) -> Self {
        self.listeners.push((name.to_owned(), lines.to_owned()));
        self
    }

    /// The public listener on this address rather than on a free port: one that is the same after a restart.
    pub fn public(mut self, address: std::net::SocketAddr) -> Self {
        self.listeners[0].1 = format!("address = \"{address}\"\n");
        self
    }

    /// Lines under `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        let _ = writeln!(self.admin, "{lines}");
        self
    }

    /// How many workers; exact promises about the splitter hold for one.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The program may read the directory but write nothing in it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The program sees its weights file as a mount of that single file.
    pub fn mounted(mut self) -> Self {
        self.mounted = true;
        self
    }

    /// The state directory is a disk of its own with this many KiB, in a mount namespace of the program's own.
    pub fn small_state(mut self, kib: u64) -> Self {
        self.small_state = Some(kib);
        self
    }

    /// How large the state directory is, if it is a disk of its own.
    pub fn small_state_kib(&self) -> Option<u64> {
        self.small_state
    }

    /// Whether the weights file is a mount of its own.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// The program may open this many file descriptors.
    pub fn descriptors(mut self, count: u64) -> Self {
        self.descriptors = Some(count);
        self
    }

    /// How many file descriptors the program may open, if that is limited.
    pub fn descriptor_limit(&self) -> Option<u64> {
        self.descriptors
    }

    /// The program is started with this socket under this name, as by systemd.
    pub fn socket(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push((name.to_owned(), Arc::new(socket.into())));
        self
    }

    /// The sockets that the program is started with.
    pub fn sockets(&self) -> &[(String, Arc<OwnedFd>)] {
        &self.sockets
    }

    /// Nobody reads the program's standard output.
    pub fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Whether nobody reads the program's standard output.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether the program may write nothing in its directory.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// One variable in the program's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more file beside `weir.toml`.
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// The text of `weir.toml`.
    pub fn config_text(&self) -> String {
        let mut text = format!("weights = \"weights.toml\"\nworkers = {}\n{}\n", self.workers, self.top);
        for (name, lines) in &self.listeners {
            let address = if lines.contains("address") { "" } else { "address = \"127.0.0.1:0\"\n" };
            let _ = writeln!(text, "[listeners.{name}]\n{address}{lines}");
        }
        let address = if self.admin.contains("address") { "" } else { "address = \"127.0.0.1:0\"\n" };
        let _ = writeln!(text, "[admin]\n{address}{}\n[services.engine]\n{}", self.admin, self.service);
        for (name, urls) in &self.pools {
            let _ = writeln!(text, "\n[services.engine.pools.{name}]\nendpoints = {urls:?}");
        }
        let _ = writeln!(text, "{}", self.pool_lines);
        text.push_str(&self.tail);
        text
    }

    /// The text of `weights.toml`, if there is one.
    pub fn weights_text(&self) -> Option<&str> {
        self.weights.as_deref()
    }

    /// Files besides the two.
    pub fn extra_files(&self) -> &[(String, String)] {
        &self.files
    }

    /// Variables of the environment.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Starts the program and waits until it listens; fails the test when it does not.
    #[track_caller]
    pub fn start(&self) -> Weir {
        self.try_start().unwrap_or_else(|failure| panic!("weir did not start: {failure:#?}"))
    }

    /// Starts the program, or says how it ended.
    pub fn try_start(&self) -> Result<Weir, Failure> {
        Weir::start(self)
    }
}
