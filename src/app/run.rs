//! From bound to serving to drained: the order in which everything starts and ends.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::stop::{Signals, Wish};
use super::workers::{self, Ends};
use super::{AppError, Ended, Parts, otlp, plane, sockets, tasks, tls};
use crate::admin::board::Board;
use crate::admin::health::Readiness;
use crate::admin::routes::Admin;
use crate::admin::serve::serve;
use crate::model::Origin;
use crate::proxy::listen::{self, Berth, Crew, Phase};
use crate::proxy::worker::Seat;
use crate::rollout::engine;
use crate::switchboard::change::{Cause, Change, How};
use crate::switchboard::writer::Switchboard;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::discovery;

/// Time that the first lookups and probes get before the process listens.
const FIRST_ROUND: Duration = Duration::from_secs(1);

/// Time that workers get, beyond the drain, to notice that it is over.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Time that the access log gets to write what was handed to it.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// A process that serves.
struct Running {
    switchboard: Arc<Switchboard>,
    access_log: Arc<AccessLog>,
    readiness: Arc<Readiness>,
    phase: watch::Sender<Phase>,
    ends: Ends,
    workers: usize,
    admin: AdminTask,
    /// Dropped at the end, which ends its thread.
    _watcher: Arc<crate::config::watch::Watcher>,
    tasks: Vec<JoinHandle<()>>,
}

/// The admin API under way; it ends when `stop` is dropped.
struct AdminTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Hands on who is told what happens.
    follow: JoinHandle<()>,
}

// === impl Parts ===

impl Parts {
    /// Starts everything, serves, ends everything.
    pub(super) async fn run(self) -> Result<Ended, AppError> {
        let mut signals = Signals::new().map_err(system("cannot listen to signals"))?;
        let mut running = self.start().await?;
        let ended = running.serve(&mut signals).await;
        running.end().await;
        ended
    }

    async fn start(mut self) -> Result<Running, AppError> {
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
        // From here on a new endpoint waits for its first pass; what was there had its round.
        self.upstreams.set_serving();
        let addresses: Vec<_> = self.listeners.iter().map(|bound| (bound.name.clone(), bound.address)).collect();
        let (phase, phases) = watch::channel(Phase::Serving);
        let ends = self.start_workers(&phases)?;
        let readiness = Arc::new(Readiness::default());
        let (ports_file, workers, admin_address) = (self.ports_file.take(), self.workers, self.admin.0);
        let (switchboard, access_log) = (self.switchboard.clone(), self.access_log.clone());
        let admin = self.start_admin(readiness.clone()).await?;
        readiness.listening();
        if let Some(path) = ports_file {
            sockets::write_ports(&path, &addresses, admin_address).map_err(system("cannot write the ports file"))?;
        }
        for (name, address) in &addresses {
            tracing::info!(listener = name.as_str(), %address, "listening");
        }
        let (version, generation) = (env!("CARGO_PKG_VERSION"), switchboard.snapshot().load().generation);
        tracing::info!(admin = %admin_address, workers, version, generation, "weir serves");
        Ok(Running { switchboard, access_log, readiness, phase, ends, workers, admin, _watcher: watcher, tasks })
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
        let mut of_worker: Vec<Vec<TcpListener>> = (0..self.workers).map(|_| Vec::new()).collect();
        for bound in self.listeners.drain(..) {
            let (what, address) = (format!("listeners.{}", bound.name), bound.address);
            let sockets = bound.listen().map_err(|source| AppError::bind(what, address, source))?;
            of_worker.iter_mut().zip(sockets).for_each(|(own, socket)| own.push(socket));
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
        };
        let berth = |(index, (listeners, handed))| Berth {
            seat: seat(index),
            listeners,
            revision: self.switchboard.subscribe(),
            phase: phases.clone(),
            crew: crew.clone(),
            handed,
        };
        let berths = of_worker.into_iter().zip(handed).enumerate().map(berth).collect();
        workers::spawn(berths, listen::run).map_err(system("cannot start a worker thread"))
    }

    async fn start_admin(self, readiness: Arc<Readiness>) -> Result<AdminTask, AppError> {
        let (address, socket) = self.admin;
        let listener =
            sockets::listen_admin(socket).map_err(|source| AppError::bind("admin".into(), address, source))?;
        let log_level = self.log_level;
        let config = self.switchboard.config();
        let spec = config.rollouts.clone();
        let enabled = spec.enabled;
        let main = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
        let directory = main.parent().map(Into::into);
        let (state_dir, notifications) = (Some(spec.state_dir), config.notifications.clone());
        let parts = engine::Parts { enabled, tick: spec.tick, state_dir, directory, notifications };
        let desk = engine::start(self.switchboard.clone(), parts).await;
        let follow = tokio::spawn(tasks::follow_notifications(self.switchboard.clone(), desk.clone()));
        let board = Board {
            switchboard: self.switchboard,
            desk,
            rollouts_enabled: enabled,
            workers: self.meter,
            access_log: self.access_log,
            explain: Box::new(plane::explain),
            log_level: Box::new(move |text| log_level.set(text).map_err(|error| error.to_string())),
        };
        board.desk.retain(config.rollouts.retention);
        let (stop, stopped) = oneshot::channel::<()>();
        let admin = Admin::new(board, self.access, readiness);
        let served = serve(listener, self.admin_site, admin, async {
            // The sender being dropped is the sign.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async {
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin API ended; traffic goes on");
            }
        });
        Ok(AdminTask { stop, task, follow })
    }
}

// === impl Running ===

impl Running {
    /// Waits for signals until one of them, or a lost worker, ends the process; then drains.
    async fn serve(&mut self, signals: &mut Signals) -> Result<Ended, AppError> {
        loop {
            let wish = tokio::select! {
                wish = signals.next() => wish,
                worker = self.ends.recv() => return Err(AppError::WorkerLost(worker.unwrap_or_default())),
            };
            match wish {
                Wish::Reload => {
                    let cause = Cause::by(How::Signal).from("SIGHUP");
                    tokio::spawn(tasks::apply(self.switchboard.clone(), Change::Reload, cause));
                    self.access_log.reopen();
                }
                Wish::Reopen => self.access_log.reopen(),
                Wish::Stop(signal) => return Ok(self.drain(signal, signals).await),
            }
        }
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
        self.tasks.iter().for_each(JoinHandle::abort);
        self.admin.follow.abort();
        drop(self.admin.stop);
        let _ = timeout(LAST_WORDS, self.admin.task).await;
        let access_log = self.access_log;
        let written = tokio::task::spawn_blocking(move || access_log.stop(LOG_PATIENCE)).await;
        if !written.unwrap_or(false) {
            tracing::warn!("the last access log lines were not written");
        }
        tracing::info!("stopped");
    }
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
