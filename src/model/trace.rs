//! What becomes of W3C trace contexts: continued, begun, told to a collector. Policy only; the header fields themselves
//! are read where requests are.

use super::notify::{Address, Secret};

/// `[tracing]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Part of the traces that begin here which is recorded, 0 to 1. Those that come in keep their mark.
    pub sample: f64,
    /// Whether the trace context of anybody is believed, or that of trusted proxies alone.
    pub believe: Believe,
    /// Where spans of recorded traces are posted; none: nowhere.
    pub otlp: Option<Collector>,
    /// `service.name` of the spans.
    pub service_name: String,
}

/// Where spans are posted: OTLP over HTTP, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// Its address, such as `http://127.0.0.1:4318/v1/traces`.
    pub url: Address,
    /// What is sent as `Authorization`.
    pub authorization: Option<Secret>,
}

/// Whose trace context is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Believe {
    /// Everybody's (default).
    Everybody,
    /// That of trusted proxies; other traces begin here.
    Trusted,
}
