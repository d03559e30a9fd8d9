//! The built program under test: started in a directory of its own, edited, signalled, measured, and ended.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::h2c::H2Client;
use super::log::Log;
use super::setup::Setup;
use super::temp::TempDir;

/// How long the program may take until it listens: the first probe round is allowed a second of it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A user without any right of its own; root would write where the mode forbids it.
const NOBODY: u32 = 65_534;

/// How the program ended instead of listening.
#[derive(Debug)]
pub struct Failure {
    /// Its exit code, if it ended.
    pub code: Option<i32>,
    /// What it wrote to stderr and stdout.
    pub log: String,
}

/// A running program. Killed on drop; a panic in its log fails the test.
#[derive(Debug)]
pub struct Weir {
    directory: TempDir,
    process: Child,
    /// The process that serves: the one that was started, or one that took over.
    leader: AtomicU32,
    stdout: Log,
    stderr: Log,
    listeners: BTreeMap<String, SocketAddr>,
    admin: SocketAddr,
}

impl Weir {
    /// Writes the directory, starts the program, reads its ports.
    pub fn start(setup: &Setup) -> Result<Self, Failure> {
        let directory = TempDir::new();
        std::fs::create_dir(directory.path().join("config")).expect("a fresh directory takes a child");
        let config = directory.path().join("config");
        write(&config.join("weir.toml"), &setup.config_text());
        if let Some(weights) = setup.weights_text() {
            write(&config.join("weights.toml"), weights);
        }
        for (name, content) in setup.extra_files() {
            write(&config.join(name), content);
        }
        if setup.is_read_only() {
            forbid_writing(&directory);
        }
        Self::start_in(directory, setup)
    }

    fn start_in(directory: TempDir, setup: &Setup) -> Result<Self, Failure> {
        let ports = directory.path().join("ports.json");
        let _ = std::fs::remove_file(&ports);
        let mut command = command();
        command.arg("run").arg("--config").arg(directory.path().join("config/weir.toml"));
        command.env("WEIR_PORTS_FILE", &ports).envs(setup.environment().iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(count) = setup.descriptor_limit() {
            limit_descriptors(&mut command, count);
        }
        if !setup.sockets().is_empty() {
            command = activated(&command, setup.sockets());
        }
        if setup.is_mounted() {
            mount_weights(&mut command, directory.path());
        }
        if let Some(kib) = setup.small_state_kib() {
            mount_state(&mut command, directory.path(), kib);
        }
        // SAFETY: a plain system call without arguments.
        if setup.is_read_only() && unsafe { libc::geteuid() } == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) if setup.is_mounted() || setup.small_state_kib().is_some() => {
                return Err(Failure { code: None, log: error.to_string() });
            }
            Err(error) => panic!("the built binary cannot be started: {error}"),
        };
        let output = process.stdout.take().expect("stdout is piped");
        let mut stdout = if setup.is_unread() { Log::unread(output) } else { Log::of(output) };
        let mut stderr = Log::of(process.stderr.take().expect("stderr is piped"));
        let began = Instant::now();
        loop {
            if let Some((listeners, admin)) = read_ports(&ports) {
                let leader = AtomicU32::new(process.id());
                return Ok(Self { directory, process, leader, stdout, stderr, listeners, admin });
            }
            let ended = process.try_wait().expect("a child can be asked");
            if ended.is_some() || began.elapsed() > START_PATIENCE {
                let _ = process.kill();
                let _ = process.wait();
                stdout.finish();
                stderr.finish();
                let log = format!("{}\n{}", stderr.text(), stdout.text());
                return Err(Failure { code: ended.and_then(|status| status.code()), log });
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Runs a verb to its end with this program's configuration and admin address.
    pub fn verb(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = command();
        command.args(arguments).env("WEIR_CONFIG", self.config_path()).env("WEIR_ADMIN", self.admin.to_string());
        let output = command.stdin(Stdio::null()).output().expect("the built binary can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The public listener.
    pub fn address(&self) -> SocketAddr {
        self.listener("public")
    }

    /// A listener by name.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.listeners[name]
    }

    /// The admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// A new connection to the public listener.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::to(self.address())
    }

    /// A new HTTP/2 connection to the public listener.
    #[track_caller]
    pub fn h2(&self) -> H2Client {
        H2Client::to(self.address())
    }

    /// The directory that holds both files.
    pub fn config_directory(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// `weir.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.config_directory().join("weir.toml")
    }

    /// `weights.toml`.
    pub fn weights_path(&self) -> PathBuf {
        self.config_directory().join("weights.toml")
    }

    /// The weights file outside of the mount, when it is mounted as a single file.
    pub fn outside_path(&self) -> PathBuf {
        self.directory.path().join("outside/weights.toml")
    }

    /// The weights file as it is now.
    pub fn weights_text(&self) -> String {
        std::fs::read_to_string(self.weights_path()).expect("the weights file can be read")
    }

    /// Saves the weights file in place: open, truncate, write, close.
    pub fn save_weights(&self, text: &str) {
        write(&self.weights_path(), text);
    }

    /// Saves the weights of stable and canary in place.
    pub fn save_split(&self, [stable, canary]: [u32; 2]) {
        self.save_weights(&format!("[engine]\nstable = {stable}\ncanary = {canary}\n"));
    }

    /// Saves the weights file as most editors do: a new file renamed over the old.
    pub fn replace_weights(&self, text: &str) {
        let new = self.config_directory().join(".weights.toml.swp");
        write(&new, text);
        std::fs::rename(&new, self.weights_path()).expect("a rename inside one directory works");
    }

    /// Saves `weir.toml` in place.
    pub fn save_config(&self, text: &str) {
        write(&self.config_path(), text);
    }

    /// Sends a signal by number.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id fits");
        // SAFETY: the process was started here, or is the child of one that was.
        unsafe { libc::kill(pid, signal) };
    }

    /// Has another process take over and goes on with that one; its id.
    #[track_caller]
    pub fn upgrade(&self, arguments: &[&str]) -> u32 {
        let (code, out, err) = self.verb(&[&["upgrade", "--output", "json"], arguments].concat());
        assert_eq!(code, Some(0), "{out}{err}\n--- log ---\n{}", self.stderr.text());
        self.follow()
    }

    /// Goes on with the process that answers now; its id.
    #[track_caller]
    pub fn follow(&self) -> u32 {
        let pid = self.admin_get("/api/v1/upgrade").json()["pid"].as_u64().expect("a process id");
        let pid = u32::try_from(pid).expect("a process id fits");
        self.leader.store(pid, Ordering::Relaxed);
        pid
    }

    /// Whether a process is there and not only waited for.
    pub fn lives(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Waits for the program's own end; its status, if it ends within `time`.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < time {
            if let Some(status) = self.process.try_wait().expect("a child can be asked") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Ends the program by `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends the program by `kill -9`, unless it has ended, and starts it again in the same directory.
    pub fn restart(mut self) -> Result<Self, Failure> {
        self.kill();
        let directory = std::mem::replace(&mut self.directory, TempDir::new());
        Self::start_in(directory, &Setup::new())
    }

    /// From now on the program may write no file beyond this many bytes: a disk that is full, wherever it writes. None:
    /// any size again.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = libc::rlimit { rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY), rlim_max: libc::RLIM_INFINITY };
        let pid = i32::try_from(self.process.id()).expect("a process id fits");
        // SAFETY: a system call with a pointer to a live value, on a process that was started here.
        let done = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(done, 0, "an own process can be limited: {}", std::io::Error::last_os_error());
    }

    /// The state directory as the program sees it, also when it is mounted for the program alone.
    pub fn state_directory(&self) -> PathBuf {
        let inside = self.config_directory().join(".weir");
        Path::new(&format!("/proc/{}/root", self.pid())).join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.leader.load(Ordering::Relaxed)
    }

    /// What it wrote to stderr: its own log.
    pub fn log(&self) -> &Log {
        &self.stderr
    }

    /// What it wrote to stdout: the access log.
    pub fn access_log(&self) -> &Log {
        &self.stdout
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Processor time used so far, user and system.
    pub fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        let after = stat.rsplit(')').next().unwrap_or("");
        let field = |n: usize| after.split_whitespace().nth(n).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        // utime and stime are fields 14 and 15 of proc(5), in ticks of 10 ms on Linux.
        Duration::from_millis((field(11) + field(12)) * 10)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let own = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let heirs = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in heirs.chain([self.pid()]).filter(|pid| *pid != own) {
            // SAFETY: a descendant of the process that was started here.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.stdout.finish();
        self.stderr.finish();
        if std::thread::panicking() {
            eprintln!("--- log of weir ---\n{}", self.stderr.text());
        } else {
            let panics: Vec<_> = self.stderr.lines().into_iter().filter(|line| line.contains("panicked")).collect();
            assert!(panics.is_empty(), "weir panicked: {panics:#?}");
        }
    }
}

/// The built binary with no setting of the surroundings. `WEIR_TEST_BINARY` names another one, such as that of the
/// release profile.
pub fn command() -> Command {
    let built = || env!("CARGO_BIN_EXE_weir").into();
    let mut command = Command::new(std::env::var_os("WEIR_TEST_BINARY").unwrap_or_else(built));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("WEIR_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Leaves the ports file as the only thing that another user can make.
fn forbid_writing(directory: &TempDir) {
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode of an own file can be changed");
    };
    mode(directory.path(), 0o777);
    let config = directory.path().join("config");
    for entry in std::fs::read_dir(&config).expect("the directory is there") {
        mode(&entry.expect("an entry").path(), 0o444);
    }
    mode(&config, 0o555);
}

/// The same command, started as systemd does with sockets: descriptors from 3 on, and variables that name the process.
fn activated(plain: &Command, sockets: &[(String, Arc<OwnedFd>)]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    command.env("LISTEN_FDS", sockets.len().to_string());
    // Without names systemd sends the unit's, which is none of the listeners'.
    command.env("LISTEN_FDNAMES", names.join(":"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let sockets: Vec<Arc<OwnedFd>> = sockets.iter().map(|(_, socket)| Arc::clone(socket)).collect();
    let place = move || {
        // Out of the way first, so that none is overwritten.
        for (at, socket) in sockets.iter().enumerate() {
            let to = 100 + at as i32;
            // SAFETY: system calls on descriptors that live as long as the closure.
            if unsafe { libc::dup2(socket.as_raw_fd(), to) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        for at in 0..sockets.len() as i32 {
            // SAFETY: as above.
            if unsafe { libc::dup2(100 + at, 3 + at) } < 0 || unsafe { libc::close(100 + at) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(place) };
    command
}

/// Limits the child's file descriptors.
fn limit_descriptors(command: &mut Command, count: u64) {
    let set = move || {
        let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
        // SAFETY: a system call with a pointer to a live value.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only makes a system call.
    unsafe { command.pre_exec(set) };
}

/// Lets the child see `outside/weights.toml` bound over its weights file, in a mount namespace of its own, as a
/// container does with a single file. Starting it fails where the machine does not allow that.
fn mount_weights(command: &mut Command, directory: &Path) {
    let outside = directory.join("outside/weights.toml");
    std::fs::create_dir_all(directory.join("outside")).expect("a new directory");
    std::fs::copy(directory.join("config/weights.toml"), &outside).expect("the file can be copied");
    let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    let (outside, inside) = (path(&outside), path(&directory.join("config/weights.toml")));
    let bind = move || {
        let none = std::ptr::null();
        // SAFETY: system calls on strings that live as long as the closure; nothing is allocated after the fork.
        let done = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
                && libc::mount(outside.as_ptr(), inside.as_ptr(), none, libc::MS_BIND, none.cast()) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: see above; the closure only makes system calls.
    unsafe { command.pre_exec(bind) };
}

/// Lets the child have a small disk for its state directory, in a mount namespace of its own. Starting it fails where
/// the machine does not allow that.
fn mount_state(command: &mut Command, directory: &Path, kib: u64) {
    let state = directory.join("config/.weir");
    std::fs::create_dir_all(&state).expect("a new directory");
    let state = CString::new(state.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    let size = CString::new(format!("size={kib}k")).expect("no NUL");
    let mount = move || {
        let none = std::ptr::null();
        // SAFETY: system calls on strings that live as long as the closure; nothing is allocated after the fork.
        let done = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
                && libc::mount(c"none".as_ptr(), state.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast()) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: see above; the closure only makes system calls.
    unsafe { command.pre_exec(mount) };
}

fn read_ports(path: &Path) -> Option<(BTreeMap<String, SocketAddr>, SocketAddr)> {
    let text = std::fs::read(path).ok()?;
    let ports: serde_json::Value = serde_json::from_slice(&text).expect("the ports file is written atomically");
    let address = |value: &serde_json::Value| value.as_str()?.parse::<SocketAddr>().ok();
    let listeners = ports["listeners"].as_object()?;
    // A unix socket has no port; whoever uses one knows its file.
    let tcp = listeners.iter().filter(|(_, value)| !value.as_str().is_some_and(|text| text.starts_with("unix:")));
    let listeners = tcp.map(|(name, value)| Some((name.clone(), address(value)?)));
    Some((listeners.collect::<Option<_>>()?, address(&ports["admin"])?))
}
