//! Empties the queue of one channel, one message at a time and in order, with growing time between tries. Nobody else
//! waits for that channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::runner::office::now_ms;
use super::outbox::Outbox;
use super::send::{SendError, send};
use crate::model::notify::Channel;

/// Time before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest time between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whoever empties the queue of a channel; it ends with this.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) channel: Arc<Channel>,
    pub(super) outbox: Arc<Outbox>,
    task: JoinHandle<()>,
}

// === impl Post ===

impl Post {
    pub(super) fn start(runtime: &Handle, channel: Channel, outbox: Arc<Outbox>) -> Self {
        let channel = Arc::new(channel);
        let task = runtime.spawn(empty(Arc::clone(&channel), Arc::clone(&outbox)));
        Self { channel, outbox, task }
    }

    /// Whether it fell over; it never ends otherwise.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn empty(channel: Arc<Channel>, outbox: Arc<Outbox>) {
    loop {
        let message = outbox.next().await;
        let name = channel.name.as_str();
        let mut attempt = 1;
        loop {
            let Err(error) = send(&channel, &message).await else {
                outbox.sent(now_ms());
                tracing::debug!(channel = name, event = message.event.id, attempt, "a notification was taken");
                break;
            };
            outbox.went_wrong(now_ms(), error.to_string());
            let last = matches!(error, SendError::Lasting(_)) || attempt >= channel.attempts;
            if last {
                outbox.counts.failed.fetch_add(1, Ordering::Relaxed);
                let event = message.event.id;
                tracing::error!(channel = name, event, attempt, %error, "a notification could not be told");
                break;
            }
            outbox.counts.retried.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(channel = name, event = message.event.id, attempt, %error, "a notification is tried again");
            sleep(pause(attempt)).await;
            attempt += 1;
        }
        outbox.done();
    }
}

/// Time after a failed try, counted from 1.
fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_tries_doubles_up_to_a_bound() {
        let seconds: Vec<u64> = [1, 2, 3, 5, 6, 20].map(|attempt| pause(attempt).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 16, 30, 30]);
    }
}
