//! The upgrade as the old process sees it: which step comes when, and what is taken back when one fails. What is said
//! between the processes is [`super::handover`].

use std::path::{Path, PathBuf};

use super::acme::Automatic;
use super::handover::{HandoverError, Memory, Parcel, Step, Successor};
use super::run::Running;
use super::stop::{Signals, Wish};
use crate::admin::upgrade::{Progress, Wanted};
use crate::proxy::worker::listen::Phase;
use crate::telemetry::clock;
use crate::throttle::handed::remembered;
use crate::upstream::handed;

/// How an upgrade ended.
pub(super) enum Outcome {
    /// Another process serves.
    HandedOver,
    /// Everything is as before.
    Failed,
    /// It was called off, because this process is to stop.
    Stop(&'static str),
}

/// The program that this process was started from, as a path that a newer one can be put at.
pub(super) fn own_binary() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "weir".into())
}

// === impl Running ===

impl Running {
    /// Has a new process take over; whatever goes wrong, this one goes on.
    pub(super) async fn upgrade(&mut self, wanted: Wanted, signals: &mut Signals) -> Outcome {
        let binary = wanted.binary.unwrap_or_else(|| self.binary.clone());
        tracing::info!(binary = %binary.display(), who = wanted.who, "upgrade: starting a new process");
        let why = if std::process::id() == 1 {
            "weir is process 1 here, and its container ends with it; replace the container instead".to_owned()
        } else {
            match self.hand_over(&binary, signals).await {
                Ok(outcome) => return outcome,
                Err(error) => reasons(&error),
            }
        };
        tracing::error!(binary = %binary.display(), why, "upgrade: it failed; this process goes on");
        self.control.upgrades.show(Progress::Failed(why));
        Outcome::Failed
    }

    async fn hand_over(&mut self, binary: &Path, signals: &mut Signals) -> Result<Outcome, HandoverError> {
        let parcels = self.parcels().map_err(super::handover::system("cannot copy the listening sockets"))?;
        let program = binary.to_owned();
        let mut starting = blocking(move || Successor::start(&program, &parcels)?.wait_for(Step::Checked));
        let successor = loop {
            tokio::select! {
                // Stopping goes first; the new process ends when it finds this one gone.
                biased;
                wish = signals.next() => match wish {
                    Wish::Stop(signal) => return Ok(Outcome::Stop(signal)),
                    Wish::Reload => self.reload(),
                    Wish::Reopen => self.access_log.reopen(),
                    Wish::Upgrade => {}
                },
                started = &mut starting => break started?,
            }
        };
        let pid = successor.pid();
        self.rest().await;
        let memory = self.memory();
        let turn = blocking(move || successor.go(&memory).and_then(|()| successor.wait_for(Step::Serving))).await;
        let successor = match turn {
            Ok(successor) => successor,
            Err(error) => {
                self.take_up().await;
                return Err(error);
            }
        };
        self.supervisor.leads(pid);
        // First, since what is let through from here on is not handed over any more.
        self.phase.send_replace(Phase::Draining);
        let snapshot = self.switchboard.snapshot().load_full();
        let _ = tokio::task::spawn_blocking(move || successor.leads(&remembered(&snapshot.rate_limits))).await;
        tracing::info!(pid, "upgrade: the new process serves");
        Ok(Outcome::HandedOver)
    }

    /// Every listening socket, for another process.
    fn parcels(&self) -> std::io::Result<Vec<Parcel>> {
        let mut parcels = self.listeners.iter().map(|bound| bound.parcel()).collect::<std::io::Result<Vec<_>>>()?;
        let config = self.switchboard.config();
        let socket = self.control.socket.try_clone()?.into();
        let asked = Some(config.admin.address.to_string());
        parcels.push(Parcel { what: "admin".into(), asked, sockets: vec![socket] });
        Ok(parcels)
    }

    /// What takes no requests now because of its answers, and what rate limits have counted.
    fn memory(&self) -> Memory {
        let snapshot = self.switchboard.snapshot().load_full();
        let pools = || snapshot.services.iter().flat_map(|service| &service.pools);
        let endpoints = pools().flat_map(|pool| pool.endpoints.iter().map(|endpoint| &**endpoint));
        let closed = handed::closed(pools().map(|pool| &*pool.state), endpoints, clock::now().mono_ms);
        Memory { closed, buckets: remembered(&snapshot.rate_limits) }
    }

    /// Lets go of everything that only one process may write. Traffic goes on, and so does what files say of it.
    async fn rest(&mut self) {
        if let Some(at_work) = self.at_work.take() {
            at_work.rest().await;
        }
        if let Some((automatic, keeper)) = self.automatic.as_ref().zip(self.keeper.take()) {
            automatic.rest(keeper).await;
        }
        let switchboard = self.switchboard.clone();
        // It waits for a change that is under way, which may wait for a disk.
        let _ = tokio::task::spawn_blocking(move || switchboard.rest()).await;
    }

    /// Takes everything up again: nobody took over.
    async fn take_up(&mut self) {
        self.switchboard.go_on();
        self.keeper = self.automatic.as_ref().map(Automatic::start);
        match self.control.start().await {
            Ok(at_work) => self.at_work = Some(at_work),
            Err(error) => tracing::error!(%error, "the admin API does not come back; traffic goes on"),
        }
    }
}

/// Runs what waits for another process on a thread that may.
fn blocking(
    work: impl FnOnce() -> Result<Successor, HandoverError> + Send + 'static,
) -> impl Future<Output = Result<Successor, HandoverError>> + Unpin {
    let task = tokio::task::spawn_blocking(work);
    Box::pin(async move {
        let failed = |error: tokio::task::JoinError| HandoverError::Refused(format!("it failed inside weir: {error}"));
        task.await.map_err(failed)?
    })
}

fn reasons(error: &HandoverError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
