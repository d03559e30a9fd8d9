//! The table of paths, and the layers around it: bounded concurrency and time, the guard, headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tower::{BoxError, ServiceBuilder};

use super::access::{self, Access, Role};
use super::board::Board;
use super::guard::Guard;
use super::health::{self, Readiness};
use super::problem::{Code, Problem};
use super::serve::Peer;
use super::{
    audit, changes, engine, events, explain, kills, maintenance, notifications, plans, reports, rollouts, switches,
    upgrade, views,
};
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

/// Methods of a path and the role that each takes at least.
pub(super) type Roles = &'static [(&'static str, Role)];

/// A path, its methods with their roles, and what answers.
pub(super) type Route = (&'static str, Roles, MethodRouter<Arc<Admin>>);

const LOOK: Roles = &[("GET", Role::Viewer)];
/// A question with a body; it changes nothing.
const ASK: Roles = &[("POST", Role::Viewer)];
const DO: Roles = &[("POST", Role::Operator)];
const SET: Roles = &[("PUT", Role::Operator)];
const LOOK_DO: Roles = &[("GET", Role::Viewer), ("POST", Role::Operator)];
/// It starts a program, so it takes more than an operator.
const LOOK_ORDER: Roles = &[("GET", Role::Viewer), ("POST", Role::Admin)];
const LOOK_SET: Roles = &[("GET", Role::Viewer), ("PUT", Role::Operator)];

// === impl Admin ===

impl Admin {
    /// An API over `board` for those whom `access` lets in.
    pub fn new(board: Board, access: Access, readiness: Arc<Readiness>) -> Arc<Self> {
        Arc::new(Self { board, guard: Guard::new(access), readiness, places: events::Places::default() })
    }
}

/// Every path, with the role that each of its methods takes at least; a method without one is not served. Tests compare
/// it with `openapi.json` and ask every path with every role.
pub(super) fn routes() -> Vec<Route> {
    vec![
        ("/healthz", LOOK, get(health::healthz)),
        ("/readyz", LOOK, get(health::readyz)),
        ("/metrics", LOOK, get(views::exposition)),
        ("/version", LOOK, get(views::version)),
        ("/api/v1/status", LOOK, get(views::status)),
        ("/api/v1/services/{service}/weights", LOOK_SET, get(changes::weights).put(changes::set_weights)),
        ("/api/v1/services/{service}/rollback", DO, post(changes::rollback)),
        ("/api/v1/services/{service}/undo", DO, post(changes::undo)),
        ("/api/v1/rollouts", LOOK_DO, get(rollouts::list).post(rollouts::start)),
        ("/api/v1/rollouts/check", ASK, post(plans::check)),
        ("/api/v1/rollouts/status", LOOK, get(engine::status)),
        ("/api/v1/rollouts/health", LOOK, get(engine::health)),
        ("/api/v1/rollouts/statistics", LOOK, get(reports::statistics)),
        ("/api/v1/versions", LOOK, get(engine::versions)),
        ("/api/v1/canary/{buildId}/metrics", LOOK, get(engine::canary)),
        ("/api/v1/alerts", LOOK, get(reports::alerts)),
        ("/api/v1/rollouts/{id}/report", LOOK, get(reports::report)),
        ("/api/v1/rollouts/{id}/report.html", LOOK, get(reports::page)),
        ("/api/v1/rollouts/{id}/ticks", LOOK, get(reports::ticks)),
        ("/api/v1/rollouts/{id}/metrics", LOOK, get(reports::series)),
        ("/api/v1/rollouts/{id}/issues", LOOK, get(reports::issues)),
        ("/api/v1/rollouts/{id}/trends", LOOK, get(reports::trends)),
        ("/api/v1/rollouts/{id}/impact", LOOK, get(reports::impact)),
        ("/api/v1/plans", LOOK, get(plans::plans)),
        ("/api/v1/rollouts/{id}", LOOK_SET, get(rollouts::one).put(rollouts::put)),
        ("/api/v1/rollouts/{id}/pause", DO, told("pause")),
        ("/api/v1/rollouts/{id}/resume", DO, told("resume")),
        ("/api/v1/rollouts/{id}/advance", DO, told("advance")),
        ("/api/v1/rollouts/{id}/rollback", DO, told("rollback")),
        ("/api/v1/rollouts/{id}/approve", DO, told("approve")),
        ("/api/v1/rollouts/{id}/cancel", DO, told("cancel")),
        ("/api/v1/rollouts/{id}/retry", DO, told("retry")),
        ("/api/v1/rollouts/{id}/drill", DO, told("drill")),
        ("/api/v1/kill", LOOK_DO, get(kills::kills).post(kills::kill)),
        ("/api/v1/unkill", DO, post(kills::unkill)),
        ("/api/v1/maintenance", DO, post(maintenance::maintenance)),
        ("/api/v1/kill-switches", LOOK, get(switches::list)),
        ("/api/v1/kill-switches/{name}", LOOK, get(switches::one)),
        ("/api/v1/kill-switches/{name}/trigger", DO, post(switches::trigger)),
        ("/api/v1/kill-switches/{name}/cancel", DO, post(switches::cancel)),
        ("/api/v1/kill-switches/{name}/recover", DO, post(switches::recover)),
        ("/api/v1/audit", LOOK, get(audit::audit)),
        ("/api/v1/audit/verify", LOOK, get(audit::verify)),
        ("/api/v1/events", LOOK, get(events::events)),
        ("/api/v1/notifications", LOOK, get(notifications::notifications)),
        ("/api/v1/notifications/test", DO, post(notifications::test)),
        ("/api/v1/notifications/acknowledge", DO, post(notifications::acknowledge)),
        ("/api/v1/explain", ASK, post(explain::explain)),
        ("/api/v1/diff", LOOK, get(views::diff)),
        ("/api/v1/reload", DO, post(changes::reload)),
        ("/api/v1/upgrade", LOOK_ORDER, get(upgrade::look).post(upgrade::ask)),
        ("/api/v1/log-level", SET, put(changes::log_level)),
        ("/api/v1/openapi.json", LOOK, get(views::openapi)),
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
    let table = routes().into_iter().fold(Router::new(), |table, (path, roles, service)| {
        let allowed = from_fn(move |request: Request, next: Next| allowed(roles, request, next));
        table.route(path, service.layer(allowed))
    });
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

/// Lets a caller through whose role is enough for this method of the path. A method without a role is not served,
/// whatever handlers there are.
async fn allowed(roles: Roles, request: Request, next: Next) -> Response {
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    let Some((_, needed)) = roles.iter().find(|(name, _)| *name == method) else {
        let names: Vec<&str> = roles.iter().map(|(name, _)| if *name == "GET" { "GET,HEAD" } else { name }).collect();
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, names.join(","))]).into_response();
    };
    let what = format!("{method} {}", request.uri().path());
    match access::role(&request).must_be(*needed, &what) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let who = access::name(&request);
            tracing::warn!(who, what, needed = needed.as_str(), "a token asked for more than its role allows");
            problem.into_response()
        }
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
