//! The table of paths, and the layers around it: bounded concurrency and time, the guard, headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tower::{BoxError, ServiceBuilder};

use super::access::Access;
use super::board::Board;
use super::guard::Guard;
use super::health::{self, Readiness};
use super::problem::{Code, Problem};
use super::serve::Peer;
use super::{audit, changes, engine, events, explain, kills, notifications, plans, reports, rollouts, views};
use crate::telemetry::clock;

/// Requests worked on at once; more than the connections can ask would be a mistake somewhere.
const CONCURRENCY_MAX: usize = 64;

/// Longest time for one request. A change waits for a disk, so it is generous.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// On every answer: nothing here may be cached, framed, sniffed, embedded or run.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The admin API, ready to be served.
#[derive(Debug)]
pub struct Admin {
    pub(super) board: Board,
    pub(super) guard: Guard,
    pub(super) readiness: Arc<Readiness>,
    pub(super) places: events::Places,
}

/// A path, its methods and what answers.
pub(super) type Route = (&'static str, &'static [&'static str], MethodRouter<Arc<Admin>>);

// === impl Admin ===

impl Admin {
    /// An API over `board` for those whom `access` lets in.
    pub fn new(board: Board, access: Access, readiness: Arc<Readiness>) -> Arc<Self> {
        Arc::new(Self { board, guard: Guard::new(access), readiness, places: events::Places::default() })
    }
}

/// Every path. A test compares it with `openapi.json`.
pub(super) fn routes() -> Vec<Route> {
    vec![
        ("/healthz", &["GET"], get(health::healthz)),
        ("/readyz", &["GET"], get(health::readyz)),
        ("/metrics", &["GET"], get(views::exposition)),
        ("/version", &["GET"], get(views::version)),
        ("/api/v1/status", &["GET"], get(views::status)),
        ("/api/v1/services/{service}/weights", &["GET", "PUT"], get(changes::weights).put(changes::set_weights)),
        ("/api/v1/services/{service}/rollback", &["POST"], post(changes::rollback)),
        ("/api/v1/services/{service}/undo", &["POST"], post(changes::undo)),
        ("/api/v1/rollouts", &["GET", "POST"], get(rollouts::list).post(rollouts::start)),
        ("/api/v1/rollouts/check", &["POST"], post(plans::check)),
        ("/api/v1/rollouts/status", &["GET"], get(engine::status)),
        ("/api/v1/rollouts/health", &["GET"], get(engine::health)),
        ("/api/v1/rollouts/statistics", &["GET"], get(reports::statistics)),
        ("/api/v1/versions", &["GET"], get(engine::versions)),
        ("/api/v1/canary/{buildId}/metrics", &["GET"], get(engine::canary)),
        ("/api/v1/alerts", &["GET"], get(reports::alerts)),
        ("/api/v1/rollouts/{id}/report", &["GET"], get(reports::report)),
        ("/api/v1/rollouts/{id}/report.html", &["GET"], get(reports::page)),
        ("/api/v1/rollouts/{id}/ticks", &["GET"], get(reports::ticks)),
        ("/api/v1/rollouts/{id}/metrics", &["GET"], get(reports::series)),
        ("/api/v1/rollouts/{id}/issues", &["GET"], get(reports::issues)),
        ("/api/v1/rollouts/{id}/trends", &["GET"], get(reports::trends)),
        ("/api/v1/rollouts/{id}/impact", &["GET"], get(reports::impact)),
        ("/api/v1/plans", &["GET"], get(plans::plans)),
        ("/api/v1/rollouts/{id}", &["GET", "PUT"], get(rollouts::one).put(rollouts::put)),
        ("/api/v1/rollouts/{id}/pause", &["POST"], told("pause")),
        ("/api/v1/rollouts/{id}/resume", &["POST"], told("resume")),
        ("/api/v1/rollouts/{id}/advance", &["POST"], told("advance")),
        ("/api/v1/rollouts/{id}/rollback", &["POST"], told("rollback")),
        ("/api/v1/rollouts/{id}/approve", &["POST"], told("approve")),
        ("/api/v1/rollouts/{id}/cancel", &["POST"], told("cancel")),
        ("/api/v1/rollouts/{id}/retry", &["POST"], told("retry")),
        ("/api/v1/rollouts/{id}/drill", &["POST"], told("drill")),
        ("/api/v1/kill", &["GET", "POST"], get(kills::kills).post(kills::kill)),
        ("/api/v1/unkill", &["POST"], post(kills::unkill)),
        ("/api/v1/audit", &["GET"], get(audit::audit)),
        ("/api/v1/audit/verify", &["GET"], get(audit::verify)),
        ("/api/v1/events", &["GET"], get(events::events)),
        ("/api/v1/notifications", &["GET"], get(notifications::notifications)),
        ("/api/v1/notifications/test", &["POST"], post(notifications::test)),
        ("/api/v1/notifications/acknowledge", &["POST"], post(notifications::acknowledge)),
        ("/api/v1/explain", &["POST"], post(explain::explain)),
        ("/api/v1/reload", &["POST"], post(changes::reload)),
        ("/api/v1/log-level", &["PUT"], put(changes::log_level)),
        ("/api/v1/openapi.json", &["GET"], get(views::openapi)),
    ]
}

/// A command to a rollout.
fn told(verb: &'static str) -> MethodRouter<Arc<Admin>> {
    post(move |state: State<Arc<Admin>>, path: rollouts::Id, request: Request| {
        rollouts::command(verb, state, path, request)
    })
}

/// The table with its layers; the first of the builder is the outermost.
pub(super) fn router(admin: &Arc<Admin>) -> Router {
    let table = routes().into_iter().fold(Router::new(), |table, (path, _, service)| table.route(path, service));
    let layers = ServiceBuilder::new()
        .layer(from_fn(dress))
        .layer(HandleErrorLayer::new(overload))
        .load_shed()
        .concurrency_limit(CONCURRENCY_MAX)
        .timeout(REQUEST_TIMEOUT)
        .layer(from_fn_with_state(Arc::clone(admin), guard));
    table.fallback(|| async { Problem::not_found() }).layer(layers).with_state(Arc::clone(admin))
}

async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
    let Some(client) = client else { return Problem::not_found().into_response() };
    let (mut parts, body) = request.into_parts();
    let checked = admin.guard.check(&parts, client, clock::now().mono_ms);
    match checked.map(|caller| parts.extensions.insert(caller)) {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

/// Puts a refused method into words and the same headers on every answer.
async fn dress(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        let problem = Problem::new(Code::MethodNotAllowed, "see the Allow header");
        response = match allow {
            Some(allow) => problem.header(header::ALLOW, allow).into_response(),
            None => problem.into_response(),
        };
    }
    for (name, value) in HEADERS {
        // A page of our own says more exactly what may be in it.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn overload(error: BoxError) -> Problem {
    if error.is::<tower::timeout::error::Elapsed>() {
        return Problem::new(Code::Timeout, "it did not finish within 30 s; ask /api/v1/status what is live");
    }
    let problem = Problem::new(Code::Overloaded, "try again");
    problem.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}
