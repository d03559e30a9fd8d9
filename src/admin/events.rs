//! `GET /api/v1/events`: what happens, as it happens, as server-sent events. Whoever comes back names the last event it
//! saw (`Last-Event-ID`) and misses none that is still kept. A listener that does not read is sent away.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::rollout::desk::Desk;
use crate::rollout::event::Event;

/// Listeners at once: fewer than admin connections, so that they never keep an operator out.
pub(super) const LISTENERS_MAX: usize = 24;

/// A comment is sent this often, so that a proxy in between keeps the connection and a listener that went is noticed.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Events that are read from the record at once.
const PAGE: usize = 500;

/// Chunks that wait for one listener.
const CHUNKS_MAX: usize = 64;

/// Time that a listener may take to read anything at all.
const STALLED: Duration = Duration::from_secs(30);

/// Where to begin, for a program that cannot set a header; and whether to end after what is kept.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    after: Option<u64>,
    service: Option<String>,
    #[serde(default)]
    once: Option<bool>,
    limit: Option<usize>,
}

/// The chunks of one answer.
struct Chunks {
    received: mpsc::Receiver<Bytes>,
    /// Given back when the listener goes.
    _permit: OwnedSemaphorePermit,
}

/// The places of listeners.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS_MAX)))
    }
}

/// `GET /api/v1/events`; as a plain list when JSON is asked for.
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let desk = &admin.board.desk;
    let last =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let live = desk.subscribe()?;
    if accepts.contains("application/json") && !accepts.contains("text/event-stream") {
        let events = desk.events(last.or(wanted.after).unwrap_or(0), wanted.limit.unwrap_or(PAGE).min(PAGE)).await?;
        let events: Vec<_> = events.iter().filter(|event| fits(event, &wanted)).map(|event| &**event).collect();
        return Ok(axum::Json(serde_json::json!({ "events": events })).into_response());
    }
    let Ok(permit) = Arc::clone(&admin.places.0).try_acquire_owned() else {
        let problem = Problem::new(Code::Overloaded, format!("{LISTENERS_MAX} listeners are there already"));
        return Err(problem.header(header::RETRY_AFTER, HeaderValue::from_static("10")));
    };
    // Without a number a listener gets what comes from now on; with one, everything after it.
    let after = last.or(wanted.after).map_or_else(|| desk.last_event(), Ok)?;
    let (chunks, received) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(feed(desk.clone(), live, after, wanted, chunks));
    let mut response = Body::new(Chunks { received, _permit: permit }).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// Sends what is kept after `after`, then what comes, until the listener goes or falls behind.
async fn feed(desk: Desk, mut live: Receiver<Arc<Event>>, after: u64, wanted: Wanted, chunks: mpsc::Sender<Bytes>) {
    let mut last = after;
    if !send(&chunks, Bytes::from_static(b"retry: 2000\n: weir\n\n")).await {
        return;
    }
    loop {
        let page = desk.events(last, PAGE).await.unwrap_or_default();
        let Some(newest) = page.last().map(|event| event.id) else { break };
        for event in page.iter().filter(|event| fits(event, &wanted)) {
            if !send(&chunks, written(event)).await {
                return;
            }
        }
        last = newest;
    }
    if wanted.once == Some(true) {
        return;
    }
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats.reset();
    loop {
        let chunk = tokio::select! {
            event = live.recv() => match event {
                // What came between listening and reading the record was sent already.
                Ok(event) if event.id <= last || !fits(&event, &wanted) => continue,
                Ok(event) => {
                    last = event.id;
                    written(&event)
                }
                // It fell behind, or weir ends: it comes back with the number of its last event.
                Err(_) => return,
            },
            _ = beats.tick() => Bytes::from_static(b": still here\n\n"),
            () = chunks.closed() => return,
        };
        if !send(&chunks, chunk).await {
            return;
        }
    }
}

async fn send(chunks: &mpsc::Sender<Bytes>, chunk: Bytes) -> bool {
    chunks.send_timeout(chunk, STALLED).await.is_ok()
}

fn fits(event: &Event, wanted: &Wanted) -> bool {
    wanted.service.as_ref().is_none_or(|service| event.service == *service)
}

/// One event in the format of server-sent events. JSON holds no raw line feed, so the data is one line.
fn written(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.as_str()).into()
}

// === impl Chunks ===

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.received.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
