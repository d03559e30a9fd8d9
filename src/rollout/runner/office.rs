//! What all rollouts of the process share: the switchboard, what is kept, who listens, and who holds which service.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::super::event::{Event, Kind, Severity};
use super::super::journal::Kept;
use super::super::journal::audit::Entry;
use super::super::machine::{Command, Illegal};
use super::super::notify::notifier::Notifier;
use super::super::record::{Record, Records};
use super::super::stream::{Draft, Stream};
use super::super::view::View;
use super::beside::Beside;
use super::keep::Keeper;
use super::levers::{self, Fence};
use super::locked;
use super::sweeps::Sweeps;
use super::switches::Switches;
use crate::model::Name;
use crate::switchboard::writer::Switchboard;

/// Orders that wait for one rollout's runner.
pub(in crate::rollout) const ORDERS_MAX: usize = 64;

/// Rollouts that ended and are still in memory, for when the journal cannot tell them.
const ENDED_MAX: usize = 100;

/// Rollouts that ended and whose ticks are still in memory.
const TICKS_OF_MAX: usize = 8;

/// Rollouts at once; one for each service, so this is a bound for memory and not a limit that anybody meets.
pub(in crate::rollout) const LIVE_MAX: usize = 256;

/// What all rollouts share.
pub(in crate::rollout) struct Office {
    pub(in crate::rollout) switchboard: Arc<Switchboard>,
    pub(in crate::rollout) keeper: Keeper,
    pub(in crate::rollout) stream: Stream,
    pub(in crate::rollout) tick: Duration,
    /// Where the main file is: what plans name is looked for there.
    pub(in crate::rollout) directory: Option<PathBuf>,
    pub(in crate::rollout) counts: Counts,
    pub(in crate::rollout) sweeps: Sweeps,
    pub(in crate::rollout) switches: Switches,
    pub(in crate::rollout) notifier: Notifier,
    /// What was wrong with the journal at the last look.
    journal_trouble: Mutex<Option<String>>,
    seats: Mutex<BTreeMap<String, Arc<Seat>>>,
    ended: Mutex<VecDeque<Arc<View>>>,
    /// The ticks of those that ended last.
    ticks: Mutex<VecDeque<(String, Records)>>,
    tasks: Mutex<Tasks>,
}

/// Everything that works by itself here.
#[derive(Debug, Default)]
struct Tasks {
    running: Vec<AbortHandle>,
    closed: bool,
}

/// What the engine counts of itself.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Counts {
    pub(in crate::rollout) ticks: AtomicU64,
    pub(in crate::rollout) judge_ns: AtomicU64,
    pub(in crate::rollout) judge_max_ns: AtomicU64,
    pub(in crate::rollout) rollbacks_automatic: AtomicU64,
    pub(in crate::rollout) rollbacks_manual: AtomicU64,
    pub(in crate::rollout) restarts: AtomicU64,
}

/// One rollout that holds its service.
#[derive(Debug)]
pub(in crate::rollout) struct Seat {
    pub(in crate::rollout) id: String,
    pub(in crate::rollout) service: Name,
    pub(in crate::rollout) orders: mpsc::Sender<Order>,
    pub(in crate::rollout) view: ArcSwap<View>,
    pub(in crate::rollout) fence: Fence,
    /// Whether a drill moves the weights: they are nobody's edit.
    pub(in crate::rollout) drilling: AtomicBool,
    /// Its ticks.
    pub(in crate::rollout) records: Mutex<Records>,
    /// What a runner begins with that takes over after another one fell.
    pub(in crate::rollout) beside: Mutex<Vec<u8>>,
}

/// Something that somebody wants of a rollout's runner.
#[derive(Debug)]
pub(in crate::rollout) enum Order {
    /// A command; answered when its effects are done.
    Command { command: Command, who: String, reason: String, answer: oneshot::Sender<Result<Arc<View>, Illegal>> },
    /// Let go of the service: another rollout takes its place. Nothing is done after this.
    Retire { answer: oneshot::Sender<()> },
}

// === impl Office ===

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("tick", &self.tick).finish_non_exhaustive()
    }
}

impl Office {
    pub(in crate::rollout) fn new(
        switchboard: Arc<Switchboard>,
        keeper: Keeper,
        stream: Stream,
        tick: Duration,
        directory: Option<PathBuf>,
    ) -> Self {
        // What was found at the start is told by whoever starts.
        let health = keeper.health();
        let found = health.failing.or(health.found);
        Self {
            switchboard,
            keeper,
            stream,
            tick,
            directory,
            counts: Counts::default(),
            sweeps: Sweeps::default(),
            switches: Switches::default(),
            notifier: Notifier::new(tokio::runtime::Handle::current()),
            journal_trouble: Mutex::new(found),
            seats: Mutex::default(),
            ended: Mutex::default(),
            ticks: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Starts something that works by itself until it ends or the office closes; in a closed one nothing begins.
    pub(in crate::rollout) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task = tokio::spawn(work);
        let mut tasks = locked(&self.tasks);
        tasks.running.retain(|running| !running.is_finished());
        tasks.running.push(task.abort_handle());
        if tasks.closed {
            task.abort();
        }
        task
    }

    /// Ends everything that works by itself, as the end of the process would, and writes down what is to be kept. Who
    /// opens the journal next goes on from there.
    pub(in crate::rollout) async fn close(&self) {
        let running = {
            let mut tasks = locked(&self.tasks);
            tasks.closed = true;
            std::mem::take(&mut tasks.running)
        };
        running.iter().for_each(AbortHandle::abort);
        self.notifier.rest();
        // A task that is aborted ends where it waits next.
        while running.iter().any(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
        self.keeper.flush().await;
    }

    /// Whether it closed.
    pub(in crate::rollout) fn is_closed(&self) -> bool {
        locked(&self.tasks).closed
    }

    /// Every rollout that holds its service, by id.
    pub(in crate::rollout) fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Seat>>> {
        locked(&self.seats)
    }

    pub(in crate::rollout) fn seat(&self, id: &str) -> Option<Arc<Seat>> {
        self.seats().get(id).cloned()
    }

    /// The rollout that holds this service.
    pub(in crate::rollout) fn seat_of(&self, service: &Name) -> Option<Arc<Seat>> {
        self.seats().values().find(|seat| seat.service == *service).cloned()
    }

    /// Lets a service go; what is known of its rollout stays in memory for a while.
    pub(in crate::rollout) fn leave(&self, seat: &Seat) {
        let view = seat.view.load_full();
        {
            let mut ended = self.ended();
            ended.retain(|other| other.rollout.id != seat.id);
            ended.push_front(view);
            ended.truncate(ENDED_MAX);
        }
        let records = std::mem::take(&mut *locked(&seat.records));
        {
            let mut ticks = locked(&self.ticks);
            ticks.push_front((seat.id.clone(), records));
            ticks.truncate(TICKS_OF_MAX);
        }
        self.seats().remove(&seat.id);
        self.keeper.unlock(&seat.service, &seat.id);
    }

    /// The ticks of a rollout, oldest first.
    pub(in crate::rollout) fn records(&self, id: &str) -> Vec<Record> {
        if let Some(seat) = self.seat(id) {
            return locked(&seat.records).list().to_vec();
        }
        let ticks = locked(&self.ticks);
        ticks.iter().find(|(other, _)| other == id).map(|(_, records)| records.list().to_vec()).unwrap_or_default()
    }

    /// Rollouts that ended in this process, newest first.
    pub(in crate::rollout) fn ended(&self) -> MutexGuard<'_, VecDeque<Arc<View>>> {
        locked(&self.ended)
    }

    /// A rollout of which only the journal knows, as it would be shown.
    pub(in crate::rollout) fn view_of(&self, kept: Kept) -> View {
        let beside = Beside::read(&kept.beside);
        let plan = &kept.rollout.plan;
        let snapshot = self.switchboard.snapshot().load_full();
        let stable = levers::service(&snapshot, &plan.service).map(|service| service.spec.stable.clone());
        View {
            control: plan.baseline.clone().or(stable).unwrap_or_else(|| plan.candidate.clone()),
            live_share: levers::live_share(&self.switchboard, plan),
            judgement: beside.as_ref().and_then(|beside| beside.judgement.clone()),
            figures: beside.map(|beside| beside.figures).unwrap_or_default(),
            tick: None,
            per_s: [None; 2],
            killed: None,
            window_closed: None,
            trouble: None,
            rollout: kept.rollout,
        }
    }

    /// Tells an event to everybody.
    pub(in crate::rollout) fn tell(&self, draft: Draft) -> Arc<Event> {
        let event = self.stream.tell(now_ms(), draft);
        let (service, rollout, message) = (&*event.service, event.rollout_id.as_deref().unwrap_or(""), &*event.message);
        match event.severity {
            Severity::Info => tracing::info!(service, rollout, kind = event.kind.as_str(), "{message}"),
            Severity::Warning => tracing::warn!(service, rollout, kind = event.kind.as_str(), "{message}"),
            Severity::Critical => tracing::error!(service, rollout, kind = event.kind.as_str(), "{message}"),
        }
        self.keeper.event(&event);
        event
    }

    /// An alarm of the engine itself.
    pub(in crate::rollout) fn alarm(&self, service: &str, rollout_id: Option<&str>, message: String) {
        self.tell(Draft {
            kind: Kind::Alarm,
            severity: Severity::Critical,
            service: service.into(),
            rollout_id: rollout_id.map(Into::into),
            who: "weir".into(),
            message,
            data: serde_json::Value::Null,
        });
    }

    /// Tells when the journal begins to fail, and when it is well again; whoever looks first.
    pub(in crate::rollout) fn watch_journal(&self) {
        let health = self.keeper.health();
        let now = health.failing.as_ref().or(health.found.as_ref()).cloned();
        let before = std::mem::replace(&mut *locked(&self.journal_trouble), now.clone());
        match (&before, &now) {
            (None, Some(why)) if health.failing.is_some() => {
                self.alarm("", None, format!("the journal cannot be written ({why}); everything goes on in memory"));
            }
            (before, Some(why)) if before.as_ref() != Some(why) && health.failing.is_none() => {
                self.alarm("", None, why.clone());
            }
            _ => {}
        }
    }

    /// What is wrong with the journal, in words.
    pub(in crate::rollout) fn trouble(&self) -> Option<String> {
        let why = self.keeper.health().failing?;
        Some(format!("the journal cannot be written ({why}); everything goes on in memory, a restart forgets it"))
    }

    /// An entry of the audit log.
    pub(in crate::rollout) fn note(&self, entry: Entry) {
        self.keeper.audit(entry);
    }
}

// === impl Counts ===

impl Counts {
    /// Takes note of a tick and the time that its judge took.
    pub(in crate::rollout) fn judged(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.judge_ns.fetch_add(ns, Ordering::Relaxed);
        self.judge_max_ns.fetch_max(ns, Ordering::Relaxed);
    }
}

/// Now, in ms since the Unix epoch.
pub(in crate::rollout) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
