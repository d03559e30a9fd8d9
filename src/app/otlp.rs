//! Sends spans of recorded traces to the collector that the configuration names. It makes none: workers do.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use crate::model::Collector;
use crate::outside::http::{Call, call};
use crate::switchboard::writer::Switchboard;
use crate::telemetry::spans::{Spans, body, count};

/// Spans of one call.
const BATCH_MAX: usize = 512;

/// How long the first span of a call waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// Time for a call.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries for a batch; what is made meanwhile waits in the queue, which is bounded.
const TRIES: u32 = 3;

/// Sends for ever.
pub(super) async fn send(switchboard: Arc<Switchboard>, spans: Arc<Spans>) {
    let Some(mut queue) = spans.receiver() else { return };
    let mut well = true;
    while let Some(batch) = gather(&mut queue).await {
        let Some(tracing) = switchboard.config().plan.tracing.clone() else { continue };
        let Some(collector) = &tracing.otlp else { continue };
        let result = post(collector, body(&tracing.service_name, &batch)).await;
        count(if result.is_ok() { "sent" } else { "failed" }, batch.len() as u64);
        match result {
            Err(why) if std::mem::take(&mut well) => {
                tracing::warn!(collector = collector.url.shown(), why, "spans are not taken; traffic goes on");
            }
            Ok(()) if !std::mem::replace(&mut well, true) => tracing::info!("spans are taken again"),
            _ => {}
        }
    }
}

/// At least one span, and those that come within a moment; none at the end.
async fn gather(queue: &mut Receiver<String>) -> Option<Vec<String>> {
    let mut batch = vec![queue.recv().await?];
    let more = async {
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            if queue.recv_many(&mut batch, room).await == 0 {
                return;
            }
        }
    };
    let _ = timeout(LINGER, more).await;
    Some(batch)
}

/// Posts a batch; what the protocol calls retryable is tried again, later each time.
async fn post(collector: &Collector, body: String) -> Result<(), String> {
    let mut fields = vec![("content-type".to_owned(), "application/json".to_owned())];
    fields.extend(collector.authorization.as_ref().map(|it| ("authorization".to_owned(), it.reveal().to_owned())));
    let url = collector.url.reveal().to_owned();
    let request = Call { method: "POST".into(), url, fields, body: body.into(), timeout: PATIENCE };
    let mut why = String::new();
    for tried in 0..TRIES {
        match call(&request).await {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            // OTLP 1.x, "Failures": these and no connection are worth another try.
            Ok(answer) if matches!(answer.status, 429 | 502..=504) => why = format!("status {}", answer.status),
            Ok(answer) => return Err(format!("status {}", answer.status)),
            Err(error) => why = error.to_string(),
        }
        if tried + 1 < TRIES {
            sleep(Duration::from_millis(500) * 2_u32.pow(tried)).await;
        }
    }
    Err(why)
}
