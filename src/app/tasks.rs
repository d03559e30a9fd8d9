//! What runs on the control side: watching files, following names and the configuration, and the second's round.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::watch::{Event, Watcher, spawn};
use crate::rollout::desk::Desk;
use crate::switchboard::change::{Cause, Change, How};
use crate::switchboard::writer::Switchboard;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::control;

/// Seconds between two rounds of upkeep of the metrics facade (its own listener would do one every 5 s).
const UPKEEP_S: u64 = 5;

/// Applies a change on a thread that may wait for a disk. What was refused is in the log already.
pub(super) async fn apply(switchboard: Arc<Switchboard>, change: Change, cause: Cause) {
    let work = move || switchboard.apply(change, &cause, None).is_ok();
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "a change failed inside weir");
    }
}

/// Starts to watch both files. What changed is applied on the watcher's own thread, so that a shift waits for nobody.
pub(super) fn watch_files(switchboard: &Arc<Switchboard>) -> io::Result<Watcher> {
    let config = switchboard.config();
    let (known_config, known_weights) = switchboard.known();
    let (handle, switchboard) = (Handle::current(), switchboard.clone());
    spawn(config.path.clone(), known_config, config.weights_path.clone(), known_weights, move |event| {
        let _within = handle.enter();
        heard(&switchboard, event);
    })
}

fn heard(switchboard: &Switchboard, event: Event) {
    match event {
        Event::Changed { main, weights } => {
            let readings = [&main, &weights].into_iter().flatten();
            readings.clone().for_each(|reading| switchboard.note_fresh(&reading.path));
            let from = readings.map(|reading| reading.path.display().to_string());
            let cause = Cause::by(How::File).from(from.collect::<Vec<_>>().join(", "));
            let change = Change::FileChanged {
                config: main.map(|reading| reading.hash),
                weights: weights.map(|reading| reading.hash),
            };
            // Whatever was wrong is logged and kept for `status` by the switchboard.
            let _ = switchboard.apply(change, &cause, None);
        }
        Event::Stale { path } => switchboard.note_stale(format!(
            "{} is a bind mount of a single file that was replaced on the host: no edit can arrive any more; \
             mount its directory instead and start weir anew",
            path.display()
        )),
        Event::PollOnly { reason } => {
            tracing::warn!(reason, "no file events here; saved files are found by a look every second");
        }
    }
}

/// Publishes anew when names stand for other addresses.
pub(super) async fn follow_names(switchboard: Arc<Switchboard>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        apply(switchboard.clone(), Change::EndpointsChanged, Cause::by(How::Dns)).await;
    }
}

/// Hands on what a reload changes outside the snapshot: the access log and the weights file that is watched.
pub(super) async fn follow_config(switchboard: Arc<Switchboard>, access_log: Arc<AccessLog>, watcher: Arc<Watcher>) {
    let mut revisions = switchboard.subscribe();
    let mut live = switchboard.config();
    while revisions.changed().await.is_ok() {
        let config = switchboard.config();
        if config.plan.access_log != live.plan.access_log {
            access_log.change(&config.plan.access_log);
        }
        if config.weights_path != live.weights_path {
            watcher.set_weights(config.weights_path.clone());
        }
        live = config;
    }
}

/// Hands on who is told what happens to rollouts.
pub(super) async fn follow_notifications(switchboard: Arc<Switchboard>, desk: Desk) {
    let mut revisions = switchboard.subscribe();
    loop {
        desk.set_notifications(switchboard.config().notifications.clone());
        if revisions.changed().await.is_err() {
            return;
        }
    }
}

/// Once a second: samples, the end of drains, another key; now and then the upkeep of the metrics facade.
pub(super) async fn every_second(switchboard: Arc<Switchboard>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0_u64.. {
        seconds.tick().await;
        let switchboard = switchboard.clone();
        // It takes the writer's lock, which may wait for a disk.
        if let Err(error) = tokio::task::spawn_blocking(move || switchboard.tick()).await {
            tracing::error!(%error, "the round of a second failed inside weir");
        }
        if count.is_multiple_of(UPKEEP_S) {
            control::upkeep();
        }
    }
}
