//! From bound to serving to drained: the order in which everything starts and ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout, timeout_at};

use super::acme::Automatic;
use super::control::{AtWork, Control};
use super::handover::{Heir, Memory};
use super::sockets::Bound;
use super::stop::{Signals, Wish};
use super::supervisor::Supervisor;
use super::upgrade::{self, Outcome};
use super::workers::{self, Ends};
use super::{AppError, Ended, Parts, otlp, sockets, tasks, tls};
use crate::admin::health::Readiness;
use crate::admin::upgrade::{Upgrades, Wanted};
use crate::model::{Bind, Origin};
use crate::proxy::worker::Seat;
use crate::proxy::worker::crew::Crew;
use crate::proxy::worker::listen::{self, Berth, Phase};
use crate::proxy::worker::porter::Door;
use crate::switchboard::change::{Cause, Change, How};
use crate::switchboard::writer::Switchboard;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::clock;
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::WorkerShard;
use crate::throttle;
use crate::upstream::{discovery, handed};

/// Time that the first lookups and probes get before the process listens.
const FIRST_ROUND: Duration = Duration::from_secs(1);

/// Time that workers get, beyond the drain, to notice that it is over.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Time that the access log gets to write what was handed to it.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// A process that serves.
pub(super) struct Running {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) access_log: Arc<AccessLog>,
    readiness: Arc<Readiness>,
    pub(super) phase: watch::Sender<Phase>,
    ends: Ends,
    workers: usize,
    meter: Arc<Sharded<WorkerShard>>,
    /// The sockets, for a process that takes over; workers have copies.
    pub(super) listeners: Vec<Bound>,
    pub(super) control: Control,
    /// None while another process takes over.
    pub(super) at_work: Option<AtWork>,
    asked: mpsc::Receiver<Wanted>,
    pub(super) supervisor: Supervisor,
    /// What a new process is started from.
    pub(super) binary: PathBuf,
    /// Dropped at the end, which ends its thread.
    _watcher: Arc<crate::config::watch::Watcher>,
    tasks: Vec<JoinHandle<()>>,
    pub(super) automatic: Option<Automatic>,
    /// Orders certificates; none while another process takes over.
    pub(super) keeper: Option<JoinHandle<()>>,
}

// === impl Parts ===

impl Parts {
    /// Starts everything, serves, ends everything.
    pub(super) async fn run(self) -> Result<Ended, AppError> {
        let mut signals = Signals::new().map_err(system("cannot listen to signals"))?;
        let binary = upgrade::own_binary();
        let mut running = self.start(binary).await?;
        let ended = running.serve(&mut signals).await;
        running.end().await;
        ended
    }

    async fn start(mut self, binary: PathBuf) -> Result<Running, AppError> {
        let switchboard = &self.switchboard;
        let watcher = tasks::watch_files(switchboard).map_err(system("cannot start the file watcher"))?;
        let watcher = Arc::new(watcher);
        let tasks = vec![
            tokio::spawn(tasks::follow_names(switchboard.clone(), self.upstreams.names().changes())),
            tokio::spawn(tasks::follow_config(switchboard.clone(), self.access_log.clone(), watcher.clone())),
            tokio::spawn(discovery::follow(self.upstreams.clone(), switchboard.config().docker.clone())),
            tokio::spawn(tasks::every_second(switchboard.clone())),
            tokio::spawn(tls::keep_fresh(
                self.sites.iter().flatten().chain(&self.admin_site).cloned().collect(),
                switchboard.clone(),
            )),
            tokio::spawn(otlp::send(self.switchboard.clone(), self.spans.clone())),
        ];
        self.first_round().await;
        self.go_on();
        let (phase, phases) = watch::channel(Phase::Serving);
        let ends = self.start_workers(&phases)?;
        let readiness = Arc::new(Readiness::default());
        let (upgrades, asked) = Upgrades::new();
        let (admin_address, socket) = self.admin;
        let control = Control {
            socket,
            access: self.access,
            site: self.admin_site,
            log_level: self.log_level,
            switchboard: self.switchboard.clone(),
            workers: self.meter.clone(),
            access_log: self.access_log.clone(),
            pairs: self.pairs.clone(),
            readiness: readiness.clone(),
            upgrades,
        };
        let refused = |source| AppError::bind("admin".into(), Bind::Tcp(admin_address), source);
        let at_work = Some(control.start().await.map_err(refused)?);
        readiness.listening();
        // Who takes over is not the one to be found yet.
        if self.heir.is_none() {
            self.supervisor.write_pid();
        }
        tell_addresses(self.ports_file.as_deref(), &self.listeners, admin_address)?;
        let (version, generation) = (env!("CARGO_PKG_VERSION"), self.switchboard.snapshot().load().generation);
        let (switchboard, access_log, meter, workers) = (self.switchboard, self.access_log, self.meter, self.workers);
        tracing::info!(admin = %admin_address, workers, version, generation, "weir serves");
        if let Some(heir) = self.heir {
            tell_the_one_before(heir, &switchboard).await;
            self.supervisor.write_pid();
        }
        let running = Running {
            switchboard,
            access_log,
            readiness,
            phase,
            ends,
            workers,
            meter,
            listeners: self.listeners,
            control,
            at_work,
            asked,
            supervisor: self.supervisor,
            binary,
            _watcher: watcher,
            tasks,
            keeper: self.automatic.as_ref().map(Automatic::start),
            automatic: self.automatic,
        };
        running.supervisor.ready(&running.status());
        Ok(running)
    }

    /// Lets endpoints be judged as they are from here on, closes what the process before this one had closed, for the
    /// time that was left, and counts on where its rate limits were.
    fn go_on(&self) {
        // From here on a new endpoint waits for its first pass; what was there had its round.
        self.upstreams.set_serving();
        let Memory { closed, buckets } = &self.handed;
        throttle::handed::take_over(&self.switchboard.snapshot().load().rate_limits, buckets);
        if closed.is_empty() {
            return;
        }
        let found = handed::restore(self.upstreams.registry(), closed, clock::now().mono_ms);
        let handed = closed.len();
        tracing::info!(handed, found, "ejections and rests of the process before this one go on");
    }

    /// Gives names and probes a moment, so that the first request meets what is there.
    async fn first_round(&self) {
        let deadline = Instant::now() + FIRST_ROUND;
        let names = self.upstreams.names().first_round(FIRST_ROUND).await;
        tasks::apply(self.switchboard.clone(), Change::EndpointsChanged, Cause::by(How::Dns)).await;
        let probes = self.upstreams.first_round(deadline.saturating_duration_since(Instant::now())).await;
        if !(names && probes) {
            tracing::warn!(names, probes, "not every name and endpoint has answered yet; serving all the same");
        }
    }

    fn start_workers(&mut self, phases: &watch::Receiver<Phase>) -> Result<Ends, AppError> {
        let mut of_worker: Vec<Vec<Vec<Door>>> = (0..self.workers).map(|_| Vec::new()).collect();
        for bound in &mut self.listeners {
            let doors = bound.listen().and_then(|()| bound.doors(self.workers));
            let refused = |source| AppError::bind(format!("listeners.{}", bound.name), bound.address.clone(), source);
            of_worker.iter_mut().zip(doors.map_err(refused)?).for_each(|(own, doors)| own.push(doors));
        }
        let hurry = self.upstreams.names().hurried();
        let hurry: Arc<dyn Fn(&Origin) + Send + Sync> = Arc::new(move |origin| hurry.call(origin));
        let instance: Arc<str> = instance().into();
        let (crew, handed) = Crew::new(self.workers);
        let seat = |index| Seat {
            index,
            published: self.switchboard.snapshot(),
            meter: self.meter.clone(),
            logger: self.access_log.logger(),
            spans: self.spans.clone(),
            hurry: hurry.clone(),
            instance: instance.clone(),
            sites: self.sites.clone(),
            pairs: self.pairs.clone(),
            challenges: self.automatic.as_ref().map(|automatic| automatic.challenges.clone()),
        };
        let berth = |(index, (doors, handed))| Berth {
            seat: seat(index),
            doors,
            revision: self.switchboard.subscribe(),
            phase: phases.clone(),
            crew: crew.clone(),
            handed,
        };
        let berths = of_worker.into_iter().zip(handed).enumerate().map(berth).collect();
        workers::spawn(berths, listen::run).map_err(system("cannot start a worker thread"))
    }
}

// === impl Running ===

impl Running {
    /// Waits for signals until one of them, another process that takes over, or a lost worker, ends this one; then
    /// drains.
    async fn serve(&mut self, signals: &mut Signals) -> Result<Ended, AppError> {
        let mut signs = self.supervisor.watchdog().map(interval);
        let mut beats = vec![0; self.workers];
        loop {
            let wish = tokio::select! {
                wish = signals.next() => wish,
                worker = self.ends.recv() => return Err(AppError::WorkerLost(worker.unwrap_or_default())),
                Some(wanted) = self.asked.recv() => {
                    match self.upgrade(wanted, signals).await {
                        Outcome::Failed => continue,
                        outcome => return Ok(self.give_way(outcome, signals).await),
                    }
                }
                () = due(&mut signs) => {
                    if self.all_turn(&mut beats) {
                        self.supervisor.alive();
                    } else {
                        tracing::error!("a worker stands still; systemd gets no sign of life");
                    }
                    continue;
                }
            };
            match wish {
                Wish::Reload => self.reload(),
                Wish::Reopen => self.access_log.reopen(),
                Wish::Upgrade => {
                    let wanted = Wanted { binary: None, who: "SIGUSR2".into() };
                    match self.upgrade(wanted, signals).await {
                        Outcome::Failed => {}
                        outcome => return Ok(self.give_way(outcome, signals).await),
                    }
                }
                Wish::Stop(signal) => return Ok(self.give_way(Outcome::Stop(signal), signals).await),
            }
        }
    }

    /// Reads the files again, on a thread that may wait for a disk.
    pub(super) fn reload(&self) {
        self.supervisor.reloading();
        let cause = Cause::by(How::Signal).from("SIGHUP");
        let (switchboard, supervisor, status) = (self.switchboard.clone(), self.supervisor.clone(), self.status());
        tokio::spawn(async move {
            tasks::apply(switchboard, Change::Reload, cause).await;
            supervisor.ready(&status);
        });
        self.access_log.reopen();
    }

    /// One line on what is served, for systemd.
    fn status(&self) -> String {
        let generation = self.switchboard.snapshot().load().generation;
        format!("serving on {} listeners, generation {generation}", self.listeners.len())
    }

    /// Whether every worker's event loop has turned since `beats` was taken; takes it anew.
    fn all_turn(&self, beats: &mut [u64]) -> bool {
        let mut all = true;
        for (index, before) in beats.iter_mut().enumerate() {
            let now = self.meter.of(index).beats.value();
            all &= std::mem::replace(before, now) != now;
        }
        all
    }

    /// Ends this process's part, for whatever reason.
    async fn give_way(&mut self, outcome: Outcome, signals: &mut Signals) -> Ended {
        let why = match outcome {
            Outcome::Stop(signal) => {
                self.supervisor.stopping();
                self.supervisor.remove_pid();
                self.listeners.iter().for_each(Bound::remove);
                signal
            }
            Outcome::HandedOver | Outcome::Failed => "upgrade",
        };
        // Workers have copies of their own; with the last one a socket refuses who comes.
        self.listeners.clear();
        self.drain(why, signals).await
    }

    /// Lets requests in flight finish; a second signal ends the wait.
    async fn drain(&mut self, signal: &'static str, signals: &mut Signals) -> Ended {
        let patience = self.switchboard.snapshot().load().limits.drain;
        tracing::info!(signal, patience_ms = patience.as_millis() as u64, "stopping: finishing what is in flight");
        self.readiness.draining();
        self.phase.send_replace(Phase::Draining);
        let deadline = Instant::now() + patience;
        let mut ended = Ended::Gracefully;
        let mut left = self.workers;
        while left > 0 {
            tokio::select! {
                // The second signal goes first: whoever sends it does not want to wait.
                biased;
                wish = signals.next() => if let Wish::Stop(signal) = wish {
                    tracing::warn!(signal, "stopping at once");
                    ended = Ended::ByForce;
                    break;
                },
                worker = timeout_at(deadline, self.ends.recv()) => match worker {
                    Ok(_) => left -= 1,
                    Err(_) => {
                        tracing::warn!(workers = left, "the time to drain is over; what is in flight is cut");
                        break;
                    }
                },
            }
        }
        self.phase.send_replace(Phase::Ended);
        let rest = async {
            for _ in 0..left {
                self.ends.recv().await;
            }
        };
        // A worker that hangs is left behind; the process ends without it.
        let _ = timeout(LAST_WORDS, rest).await;
        ended
    }

    /// Ends what runs beside the workers.
    async fn end(self) {
        self.tasks.iter().chain(&self.keeper).for_each(JoinHandle::abort);
        if let Some(at_work) = self.at_work {
            at_work.end(LAST_WORDS).await;
        }
        let access_log = self.access_log;
        let written = tokio::task::spawn_blocking(move || access_log.stop(LOG_PATIENCE)).await;
        if !written.unwrap_or(false) {
            tracing::warn!("the last access log lines were not written");
        }
        tracing::info!("stopped");
    }
}

/// Waits until the next sign of life is due; for ever when nobody asks for one.
async fn due(signs: &mut Option<tokio::time::Interval>) {
    match signs {
        Some(signs) => drop(signs.tick().await),
        None => std::future::pending().await,
    }
}

/// Says that this process serves, and hears what rate limits counted in the one before it meanwhile.
async fn tell_the_one_before(heir: Heir, switchboard: &Switchboard) {
    let published = switchboard.snapshot();
    let counted = move |some: &_| throttle::handed::catch_up(&published.load().rate_limits, some);
    let _ = tokio::task::spawn_blocking(move || heir.serving(counted)).await;
}

/// Says where clients can connect from now on.
fn tell_addresses(ports_file: Option<&Path>, listeners: &[Bound], admin: SocketAddr) -> Result<(), AppError> {
    let addresses: Vec<_> = listeners.iter().map(|bound| (bound.name.clone(), bound.address.clone())).collect();
    if let Some(path) = ports_file {
        sockets::write_ports(path, &addresses, admin).map_err(system("cannot write the ports file"))?;
    }
    for (name, address) in &addresses {
        tracing::info!(listener = name.as_str(), %address, "listening");
    }
    Ok(())
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> AppError {
    move |source| AppError::System { what, source }
}

/// A name for this process that tells two replicas apart in `Via`.
fn instance() -> String {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        bytes = std::process::id().to_ne_bytes();
    }
    format!("weir-{:08x}", u32::from_ne_bytes(bytes))
}
