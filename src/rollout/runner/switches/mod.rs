//! The kill switches under way: each tick they look at the meters, step, and what comes out is done. A kill goes before
//! everything that may wait for a disk; letting go comes after its attempt is kept.

mod act;
mod dead;
mod meters;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::super::kill::machine::{Input, Switch};
use super::super::kill::watch::{Watch, together};
use super::office::{Office, now_ms};
use crate::model::KillSwitch;
pub use act::Word;
pub(in crate::rollout) use act::scope_of;
use dead::Dead;
pub(in crate::rollout) use dead::down;
use meters::Meters;
use record::Records;
pub(in crate::rollout) use record::{Pulled, scope_key};

/// Pause before the task is started anew after it fell over.
const AGAIN: Duration = Duration::from_millis(500);

/// Every kill switch of the process.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Switches {
    watching: Mutex<Watching>,
    shown: ArcSwap<Vec<Arc<Shown>>>,
    pub(in crate::rollout) records: Records,
}

/// A kill switch as everybody sees it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What it is configured to be.
    pub spec: KillSwitch,
    /// What it does.
    pub switch: Switch,
    /// How often it killed since the process began.
    pub kills: u64,
}

#[derive(Debug, Default)]
struct Watching {
    specs: Option<Arc<[KillSwitch]>>,
    list: Vec<Watched>,
    meters: Meters,
    dead: Dead,
    last: Option<Instant>,
}

/// One kill switch under way.
#[derive(Debug)]
struct Watched {
    spec: KillSwitch,
    switch: Switch,
    watches: Vec<Watch>,
    kills: u64,
    /// As it was kept last.
    kept: Switch,
}

/// Looks at the kill switches for as long as the process runs.
pub(in crate::rollout) fn spawn(office: &Arc<Office>) {
    let own = Arc::clone(office);
    office.spawn(async move {
        let office = own;
        loop {
            let running = office.spawn(run(Arc::clone(&office)));
            let Err(fallen) = running.await else { return };
            if fallen.is_cancelled() {
                return;
            }
            office.alarm("", None, "the kill switches fell over and start anew; what is killed stays killed".into());
            tokio::time::sleep(AGAIN).await;
        }
    });
}

async fn run(office: Arc<Office>) {
    let mut ticks = interval(office.tick);
    // A tick that comes late is one long tick, not several short ones.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        office.switches.look(&office).await;
    }
}

// === impl Switches ===

impl Switches {
    /// Every switch as it was after the last step.
    pub(in crate::rollout) fn shown(&self) -> Arc<Vec<Arc<Shown>>> {
        self.shown.load_full()
    }

    /// Takes up what is configured, and what was kept of it.
    pub(in crate::rollout) async fn begin(&self, office: &Office) {
        self.records.begin(office).await;
        self.look(office).await;
    }

    /// One tick.
    async fn look(&self, office: &Office) {
        let mut watching = self.watching.lock().await;
        watching.take_up(office).await;
        let snapshot = office.switchboard.snapshot().load_full();
        office.watch_journal();
        self.records.look(office, &snapshot);
        watching.dead.look(office, &snapshot);
        let elapsed = watching.last.replace(Instant::now()).map_or(Duration::ZERO, |last| last.elapsed());
        if watching.list.is_empty() {
            return self.publish(&watching);
        }
        let elapsed_ms = elapsed.as_millis() as u64;
        let Watching { list, meters, .. } = &mut *watching;
        meters.read(list.iter().flat_map(|watched| watched.needs()), &snapshot);
        for watched in list {
            watched.watch(meters, &snapshot, elapsed_ms);
            let scope = &watched.spec.scope;
            let live = office.switchboard.killed_at(scope);
            let who = self.records.of(scope).map(|pulled| pulled.by()).unwrap_or_default();
            let (seen, serves) = (together(&watched.watches), meters::serves(&snapshot, scope));
            let input = Input::Tick { elapsed_ms, live, who, seen, serves };
            // Only people's words can be refused, and what could not be done is tried again.
            let _ = watched.step(office, input, None).await;
        }
        self.publish(&watching);
    }

    fn publish(&self, watching: &Watching) {
        let shown = |watched: &Watched| {
            let Watched { spec, switch, kills, .. } = watched;
            Arc::new(Shown { spec: spec.clone(), switch: switch.clone(), kills: *kills })
        };
        self.shown.store(Arc::new(watching.list.iter().map(shown).collect()));
    }
}

// === impl Watching ===

impl Watching {
    /// Whether it knows what is configured.
    fn is_current(&self, office: &Office) -> bool {
        let specs = &office.switchboard.config().kill_switches;
        self.specs.as_ref().is_some_and(|known| Arc::ptr_eq(known, specs))
    }

    /// Follows the configuration. A switch that is taken out leaves what it killed as it is.
    async fn take_up(&mut self, office: &Office) {
        if self.is_current(office) {
            return;
        }
        let specs = Arc::clone(&office.switchboard.config().kill_switches);
        let mut before = std::mem::take(&mut self.list);
        for spec in specs.iter() {
            let known = before.iter().position(|watched| watched.spec.name == spec.name);
            self.list.push(match known.map(|at| before.swap_remove(at)) {
                Some(known) if known.spec.scope == spec.scope => known.with(spec.clone()),
                _ => Watched::new(spec.clone(), office).await,
            });
        }
        self.specs = Some(specs);
    }
}

// === impl Watched ===

impl Watched {
    /// As it was kept, when it was kept for the same scope; else armed.
    async fn new(spec: KillSwitch, office: &Office) -> Self {
        let kept = office.keeper.kept_word(&key(&spec)).await.unwrap_or_default();
        let switch: Switch = serde_json::from_str(&kept).unwrap_or_default();
        let watches = spec.triggers.iter().cloned().map(Watch::new).collect();
        Self { spec, kept: switch.clone(), switch, watches, kills: 0 }
    }

    /// The same with another configuration; triggers that stay keep what they saw.
    fn with(mut self, spec: KillSwitch) -> Self {
        let mut before = std::mem::take(&mut self.watches);
        let watch = |trigger: &crate::model::Trigger| {
            let known = before.iter().position(|watch| watch.trigger() == trigger);
            known.map_or_else(|| Watch::new(trigger.clone()), |at| before.swap_remove(at))
        };
        self.watches = spec.triggers.iter().map(watch).collect();
        self.spec = spec;
        self
    }

    /// Keeps it, when it is another one than was kept last; of a countdown every second is enough, however short the
    /// tick is.
    fn keep(&mut self, office: &Office) {
        let coarse = |switch: &Switch| Switch {
            left_ms: switch.left_ms.div_ceil(1000),
            quiet_ms: switch.quiet_ms.div_ceil(1000),
            mute_ms: switch.mute_ms.div_ceil(1000),
            ..switch.clone()
        };
        if coarse(&self.kept) != coarse(&self.switch) {
            let text = serde_json::to_string(&self.switch).unwrap_or_default();
            office.keeper.word(&key(&self.spec), &text);
            self.kept = self.switch.clone();
        }
    }
}

/// Where a switch is kept. Another scope under the same name is another switch.
fn key(spec: &KillSwitch) -> String {
    format!("kill_switch.{}.{}", spec.name, scope_key(&spec.scope))
}

/// Now, for what is shown.
fn now() -> u64 {
    now_ms()
}
