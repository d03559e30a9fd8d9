//! Spans of recorded traces on their way to a collector: one JSON object each (OTLP 1.x, `trace/v1/trace.proto` in its
//! JSON mapping), in one bounded queue that all workers fill. It sends nothing: the composition root does.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::access_log::Record;
use super::names;
use crate::model::Why;

/// Spans that wait to be sent; what comes on top is dropped and counted.
pub const WAITING_MAX: usize = 2048;

/// Bytes of a path or host that a span shows.
const SHOWN_BYTES_MAX: usize = 512;

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// What names a span.
#[derive(Debug, Clone, Copy)]
pub struct SpanIds {
    /// The trace.
    pub trace_id: [u8; 32],
    /// The span itself.
    pub span_id: [u8; 16],
    /// The span that it came from.
    pub parent_id: Option<[u8; 16]>,
}

/// The queue.
#[derive(Debug)]
pub struct Spans {
    queue: Sender<String>,
    waiting: Mutex<Option<Receiver<String>>>,
}

// === impl Spans ===

impl Default for Spans {
    fn default() -> Self {
        let (queue, waiting) = channel(WAITING_MAX);
        Self { queue, waiting: Mutex::new(Some(waiting)) }
    }
}

impl Spans {
    /// Queues the span of a request, or drops it.
    pub fn push(&self, ids: &SpanIds, record: &Record<'_>) {
        if self.queue.try_send(span(ids, record).to_string()).is_err() {
            count("dropped", 1);
        }
    }

    /// The other end, for the one who sends; none for a second one.
    pub fn receiver(&self) -> Option<Receiver<String>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// Counts what became of spans: `sent`, `failed` or `dropped`.
pub fn count(result: &'static str, spans: u64) {
    metrics::counter!(names::TRACE_SPANS.name, "result" => result).increment(spans);
}

/// The body of one call: spans of one service.
pub fn body(service_name: &str, spans: &[String]) -> String {
    let resource = json!({ "attributes": [
        text("service.name", service_name.as_bytes()),
        text("service.version", env!("CARGO_PKG_VERSION").as_bytes()),
    ] });
    let scope = json!({ "name": "weir", "version": env!("CARGO_PKG_VERSION") });
    let spans = spans.join(",");
    format!(r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{scope},"spans":[{spans}]}}]}}]}}"#)
}

/// A request as a span of a server; names of attributes are those of OpenTelemetry's semantic conventions for HTTP.
fn span(ids: &SpanIds, record: &Record<'_>) -> Value {
    let start_ns = u128::from(record.unix_us) * 1000;
    let end_ns = start_ns + u128::from(record.duration_us) * 1000;
    let path = record.path.split(|&byte| byte == b'?').next().unwrap_or_default();
    let method = String::from_utf8_lossy(record.method);
    let mut attributes = vec![
        text("http.request.method", record.method),
        text("server.address", record.host),
        text("url.path", path),
        text("network.protocol.version", record.protocol.trim_start_matches("HTTP/").as_bytes()),
        number("http.response.status_code", record.status.into()),
        number("http.request.body.size", record.bytes_in),
        number("http.response.body.size", record.bytes_out),
        text("weir.request_id", record.request_id),
        number("weir.generation", record.generation),
    ];
    let words = [
        ("weir.service", record.service),
        ("weir.pool", record.pool),
        ("weir.why", record.why.map(Why::as_str)),
        ("weir.endpoint", record.endpoint),
        ("weir.attempts", Some(record.attempts).filter(|text| !text.is_empty())),
        ("error.type", record.fault.map(|fault| fault.as_str())),
    ];
    attributes.extend(words.iter().filter_map(|(name, word)| Some(text(name, (*word)?.as_bytes()))));
    attributes.extend(record.user_agent.map(|agent| text("user_agent.original", agent)));
    attributes.extend(record.client_ip.map(|ip| text("client.address", ip.to_string().as_bytes())));
    attributes.extend(record.upstream_us.map(|us| number("weir.upstream_us", us)));
    let digits = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
    let mut span = json!({
        "traceId": digits(&ids.trace_id),
        "spanId": digits(&ids.span_id),
        "name": record.service.map_or_else(|| method.to_string(), |service| format!("{method} {service}")),
        "kind": SERVER,
        "startTimeUnixNano": start_ns.to_string(),
        "endTimeUnixNano": end_ns.to_string(),
        "attributes": attributes,
        "status": if record.status >= 500 { json!({ "code": ERROR }) } else { json!({}) },
    });
    if let Some(parent) = &ids.parent_id {
        span["parentSpanId"] = digits(parent).into();
    }
    span
}

fn text(key: &str, value: &[u8]) -> Value {
    let shown = String::from_utf8_lossy(&value[..value.len().min(SHOWN_BYTES_MAX)]);
    json!({ "key": key, "value": { "stringValue": shown } })
}

/// Integers of 64 bits are strings in this mapping.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}
