//! `weir demo`: two upstreams in this process, weir as a child of it, and one line that shows the split as it happens.
//!
//! weir runs as a process of its own, exactly as `weir run` would, so that what is seen here is what will be had. It
//! gets a process group of its own: Ctrl-C reaches the demo alone, which then ends everything in order.

mod child;
mod directory;
mod live;
mod load;
mod rollout;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::child::Child;
use self::directory::Directory;
use self::live::{Live, Second};
use self::load::Load;
use super::client::{Client, Question};
use super::failure::Failure;
use super::screen;
use super::upstream::{self, Upstream};
use crate::switchboard::status::Status;

/// Where clients connect unless it is taken: the port of the examples.
const PORT: u16 = 8080;

/// The admin port unless it is taken: the default of the configuration.
const ADMIN_PORT: u16 = 9901;

/// The pools of the demo.
const POOLS: [&str; 2] = ["stable", "canary"];

/// Time that an answer of the admin API may take before the line goes on without it.
const STATUS_TIMEOUT: Duration = Duration::from_millis(800);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir demo
  weir demo --load
  weir demo --load --seconds 30 --dir ./try --port 9000
  weir demo --rollout bad                   a rollout to its end, in less than two minutes")]
pub(super) struct Arguments {
    /// Send a gentle load of 200 requests a second as well
    #[arg(long)]
    load: bool,
    /// Keep the files here instead of in a directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where clients connect; without it 8080, or a free port when that is taken
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// End by itself after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Run a whole rollout with a load of its own, and end with it: a good canary is promoted, a bad one (errors) and a
    /// slow one are rolled back, and where it is too quiet to tell, that is said
    #[arg(long, value_name = "ENDING", value_enum, conflicts_with = "load")]
    rollout: Option<rollout::Ending>,
}

/// The upstreams and the threads that they run on.
struct Upstreams {
    upstreams: [Arc<Upstream>; 2],
    addresses: [SocketAddr; 2],
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(ending) = arguments.rollout {
        return rollout::execute(ending, arguments);
    }
    let public = public_address(arguments.port)?;
    let admin = free_unless(ADMIN_PORT)?;
    let upstreams = Upstreams::start(POOLS.map(named))?;
    let directory = Directory::new(arguments.dir.as_deref(), public, admin, &upstreams.addresses)?;
    let mut child = Child::start(&directory)?;
    child.wait_until_it_serves(&directory)?;
    screen::print(&invitation(&directory, public, arguments))?;
    let load = arguments.load.then(|| Load::start(public, load::PER_SECOND));
    let ended = watch_it(arguments, &upstreams, &mut child, admin, load.as_ref());
    let summary = load.map(Load::stop);
    let stopped = child.stop();
    upstreams.stop();
    ended?;
    stopped?;
    if let Some((sent, failed)) = summary {
        screen::print(&format!("{sent} requests sent, {failed} failed\n"))?;
    }
    match directory.kept() {
        Some(path) => screen::print(&format!("the files are still in {}\n", path.display())),
        None => Ok(()),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// This port when nobody has it, else a free one.
fn free_unless(port: u16) -> io::Result<SocketAddr> {
    let bound = std::net::TcpListener::bind(loopback(port)).or_else(|_| std::net::TcpListener::bind(loopback(0)));
    bound?.local_addr()
}

fn public_address(port: Option<u16>) -> Result<SocketAddr, Failure> {
    let Some(port) = port else { return Ok(free_unless(PORT)?) };
    let bound = std::net::TcpListener::bind(loopback(port));
    let bound = bound.map_err(|error| {
        Failure::Failed(anyhow::Error::new(error).context(format!("cannot listen on {}", loopback(port))))
    })?;
    Ok(bound.local_addr()?)
}

/// Shows one line a second until somebody or the clock ends it.
fn watch_it(
    arguments: &Arguments,
    upstreams: &Upstreams,
    child: &mut Child,
    admin: SocketAddr,
    load: Option<&Load>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let client = Client::at(admin.to_string()).within(STATUS_TIMEOUT);
        let began = Instant::now();
        let mut live = Live::new(load.is_some());
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // An end goes first, so that Ctrl-C never waits for a line.
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => break,
                _ = seconds.tick() => {}
            }
            child.check()?;
            let answer = client.exchange(Question::get("/api/v1/status")).await;
            let status = answer.ok().and_then(|answer| serde_json::from_slice::<Status>(&answer.body).ok());
            let served = upstreams.upstreams.each_ref().map(|upstream| upstream.served());
            live.show(&Second { status, served, failed: load.map(Load::failed) })?;
            if arguments.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds)) {
                break;
            }
        }
        live.end()
    })
}

// === impl Upstreams ===

impl Upstreams {
    fn start(upstreams: [Upstream; 2]) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (mut addresses, mut threads) = ([loopback(0); 2], Vec::new());
        let upstreams = upstreams.map(Arc::new);
        for (address, upstream) in addresses.iter_mut().zip(&upstreams) {
            let listener = upstream::listen(loopback(0), false)?;
            *address = listener.local_addr()?;
            let (upstream, stopped) = (upstream.clone(), stopped.clone());
            threads.push(std::thread::spawn(move || upstream::serve_here(upstream, listener, stopped)));
        }
        Ok(Self { upstreams, addresses, stop, threads })
    }

    fn stop(self) {
        self.stop.send_replace(true);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// One that answers at once and well.
fn named(name: &'static str) -> Upstream {
    Upstream::named(HeaderValue::from_static(name))
}

/// What to try, with commands that can be copied as they are.
fn invitation(directory: &Directory, public: SocketAddr, arguments: &Arguments) -> String {
    let program = program();
    let (config, weights) = (directory.config().display().to_string(), directory.weights().display().to_string());
    let as_meant = public.port() == PORT || arguments.port.is_some();
    let port = if as_meant { "" } else { "   (8080 is taken)" };
    let width = weights.len().max(31);
    let load =
        if arguments.load { "" } else { "\nNothing sends requests yet: use curl, or start the demo with --load.\n" };
    format!(
        "weir splits http://{public}/ between two upstreams, stable and canary, 90 to 10.{port}\n\n\
         Edit this file and save it; the next request goes by it:\n  {weights}\n\n\
         Or try in another terminal:\n  \
           {curl:width$}   which of the two answers?\n  \
           export WEIR_CONFIG={config}\n  \
           {program} set engine stable=50 canary=50\n  \
           {program} rollback engine --reason \"only trying\"\n  \
           {program} undo engine\n  \
           {program} status --watch\n\n\
         The log of weir is {log}. Ctrl-C ends everything.\n{load}\n",
        curl = format!("curl -i http://{public}/"),
        log = directory.log().display(),
    )
}

/// This program as it would be typed here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return "weir".into() };
    let on_path = std::env::var_os("PATH").is_some_and(|list| {
        let mut found = std::env::split_paths(&list).map(|directory| directory.join("weir"));
        found.find(|file| file.exists()).is_some_and(|file| file.canonicalize().ok() == path.canonicalize().ok())
    });
    if on_path {
        return "weir".into();
    }
    let beside = std::env::current_dir().ok().and_then(|here| path.strip_prefix(&here).ok().map(Path::to_owned));
    beside.map_or_else(|| path.display().to_string(), |path| format!("./{}", path.display()))
}
