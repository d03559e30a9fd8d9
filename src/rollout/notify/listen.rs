//! The listener: from the stream of events to the [`Notifier`], again after a restart, and anew when it falls over.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::runner::office::Office;
use super::super::stream::Stream;
use super::memory::{KEY, Memory, REPLAYED_MAX};
use super::notifier::Notifier;
use crate::model::notify::Notifications;

/// Time between two looks at what is to be kept, and at whether everybody who empties a queue still does.
const LOOK: Duration = Duration::from_millis(500);

/// Time before a listener that fell over begins anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts to listen to what the office tells, by these rules, as long as it is there, and goes on with what the process
/// before this one did not tell.
pub(in crate::rollout) async fn start(office: &Arc<Office>, rules: Notifications) {
    let (notifier, last) = (&office.notifier, office.stream.last());
    let kept = office.keeper.kept_word(KEY).await.and_then(|text| serde_json::from_str::<Memory>(&text).ok());
    let memory = kept.unwrap_or_else(|| Memory::after(last));
    let first = memory.begin(&rules).max(last.saturating_sub(REPLAYED_MAX));
    let events = if first < last { office.keeper.events(first, REPLAYED_MAX).await } else { None };
    notifier.set(rules);
    notifier.go_on(memory, events.unwrap_or_default(), last);
    let all = Arc::clone(office);
    office.spawn(async move {
        loop {
            let own = Arc::clone(&all);
            let task = all.spawn(async move {
                listen(&own.notifier, &own.stream, |memory| own.keeper.word(KEY, memory)).await;
            });
            let Err(error) = task.await else { return };
            if error.is_cancelled() {
                return;
            }
            tracing::error!(%error, "who listens for notifications failed inside weir and begins anew");
            sleep(AGAIN).await;
        }
    });
}

/// Listens until the stream ends. `keep` takes what is to survive a restart.
pub(super) async fn listen(notifier: &Notifier, stream: &Stream, keep: impl Fn(&str)) {
    let mut live = stream.subscribe();
    catch_up(notifier, stream);
    let mut kept = None;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = notifier.next_in();
        tokio::select! {
            // Events first: one that ends an incident goes before its escalation.
            biased;
            event = live.recv() => match event {
                Ok(event) if event.id <= notifier.heard() => {}
                Ok(event) => notifier.hear(&event),
                // It fell behind: it goes on with what is still in memory.
                Err(RecvError::Lagged(_)) => {
                    live = stream.subscribe();
                    catch_up(notifier, stream);
                }
                Err(RecvError::Closed) => return,
            },
            () = notifier.changed() => {}
            () = due(next) => notifier.tell_due(),
            _ = looks.tick() => {
                notifier.look_after_posts();
                let memory = notifier.memory();
                if kept.as_ref() != Some(&memory) {
                    keep(&serde_json::to_string(&memory).unwrap_or_default());
                    kept = Some(memory);
                }
            }
        }
    }
}

async fn due(next: Option<Duration>) {
    match next {
        Some(next) => sleep(next).await,
        None => pending().await,
    }
}

/// Hears what it has not heard, as far as it is in memory.
fn catch_up(notifier: &Notifier, stream: &Stream) {
    let events = stream.recent_after(notifier.heard()).unwrap_or_else(|| stream.recent());
    events.iter().for_each(|event| notifier.hear(event));
}
