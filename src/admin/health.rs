//! `/healthz` says that the process lives, `/readyz` that a request would be served: it listens, it does not drain, and
//! every service has an endpoint that serves, in a pool that gets requests by its weight or by failover (stable).
//!
//! A pool that is down does not make weir unready while another one takes its share; one at weight 0 takes none.
//! Whoever starts containers in order should wait for `/healthz`, since weir itself may be what waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::routes::Admin;
use crate::telemetry::clock;
use crate::upstream::endpoint::Admission;

const STARTING: u8 = 0;
const LISTENING: u8 = 1;
const DRAINING: u8 = 2;

/// Whether the process takes requests. The composition root says so; `/readyz` shows it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

// === impl Readiness ===

impl Readiness {
    /// Every listener accepts and a snapshot is published.
    pub fn listening(&self) {
        let _ = self.0.compare_exchange(STARTING, LISTENING, Ordering::Release, Ordering::Relaxed);
    }

    /// The process stops; there is no way back.
    pub fn draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == LISTENING
    }
}

/// `GET /healthz`.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`, with every check when the query is `verbose`.
pub(super) async fn readyz(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let state = admin.readiness.0.load(Ordering::Acquire);
    let (code, word) = match state {
        LISTENING if !serves(&admin) => (StatusCode::SERVICE_UNAVAILABLE, "nothing serves"),
        LISTENING => (StatusCode::OK, "ready"),
        DRAINING => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    };
    let mut text = format!("{word}\n");
    if query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))) {
        checks(&admin, state, &mut text);
    }
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Whether every service has an endpoint that takes requests, in a pool that gets some.
fn serves(admin: &Admin) -> bool {
    let (snapshot, now_ms) = (admin.board.switchboard.snapshot().load_full(), clock::now().mono_ms);
    let mut services = snapshot.services.iter();
    services.all(|service| {
        let pools = service.pools.iter().enumerate().filter(|(at, _)| service.takes_traffic(*at));
        let mut endpoints = pools.flat_map(|(_, pool)| pool.endpoints.iter());
        endpoints.any(|endpoint| endpoint.admission(now_ms) == Admission::Serving)
    })
}

/// One line per check, as Kubernetes prints them.
fn checks(admin: &Admin, state: u8, text: &mut String) {
    let status = admin.board.switchboard.status();
    let mut line = |holds: bool, what: &str, note: &str| {
        let sign = if holds { '+' } else { '-' };
        text.push_str(&format!("[{sign}] {what}{note}\n"));
    };
    line(state == LISTENING, "listening", "");
    line(status.last_reload.ok, "configuration", if status.last_reload.ok { "" } else { ": the last reload failed" });
    for service in &status.services {
        for pool in &service.pools {
            let serving = pool.endpoints.iter().filter(|endpoint| endpoint.state == "serving").count();
            let note = format!(": {serving} of {} endpoints serving", pool.endpoints.len());
            line(serving > 0, &format!("{}/{}", service.name, pool.name), &note);
        }
    }
}
