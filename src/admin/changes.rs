//! The paths that change something: weights, rollback, undo, reload, log level. Each reads a body, asks the board once
//! and tells what is live afterwards.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::access::Caller;
use super::body::{self, Fields};
use super::maintenance;
use super::problem::{Code, Problem};
use super::routes::Admin;
use super::serve::Peer;
use crate::model::{Name, Scope, Weight, Weights};
use crate::rollout::desk::By;
use crate::switchboard::change::{Applied, Cause, Change, How, Refused};
use crate::switchboard::history::Record;
use crate::switchboard::snapshot::Service;
use crate::switchboard::status::ServiceStatus;
use crate::switchboard::writer::Switchboard;
use crate::telemetry::names;

/// Longest reason that is kept, in characters; it is shown in a table and written to a record.
const REASON_MAX: usize = 500;

/// Longest name of who asked, in characters.
const WHO_MAX: usize = 80;

/// The header in which a caller may say who they are. It is noted, not believed.
pub(super) const WHO: &str = "x-weir-who";

/// The header in which a caller may say why; a reason in a body comes before it.
pub(super) const REASON: &str = "x-weir-reason";

pub(super) type ServicePath = Result<Path<String>, PathRejection>;

/// `GET /api/v1/services/{service}/weights`.
pub(super) async fn weights(State(admin): State<Arc<Admin>>, path: ServicePath) -> Result<Response, Problem> {
    let name = service_name(path)?;
    let status = admin.board.switchboard.status();
    let service = status.services.iter().find(|service| service.name == *name);
    let service = service.ok_or_else(|| Problem::unknown_service(&name))?;
    Ok(with_etag(status.generation, &shown(service, status.generation)))
}

/// `PUT /api/v1/services/{service}/weights`.
pub(super) async fn set_weights(
    State(admin): State<Arc<Admin>>,
    path: ServicePath,
    request: Request,
) -> Result<Response, Problem> {
    let service = service_name(path)?;
    let expected = if_match(request.headers())?;
    let cause = cause(&request);
    let weights = read_weights(body::read(request.into_body()).await?)?;
    let change = Change::Weights { service: service.clone(), weights };
    let applied = admin.apply("weights", change, cause, expected).await?;
    Ok(outcome(&admin, &service, &applied))
}

/// `POST /api/v1/services/{service}/rollback`. It asks for no generation: moving traffic to stable is never a conflict.
pub(super) async fn rollback(
    State(admin): State<Arc<Admin>>,
    path: ServicePath,
    request: Request,
) -> Result<Response, Problem> {
    let service = service_name(path)?;
    let mut cause = cause(&request);
    cause.reason = read_reason(request).await?.unwrap_or(cause.reason);
    let before = admin.board.switchboard.written(&service);
    let applied = admin.apply("rollback", Change::Rollback { service: service.clone() }, cause, None).await?;
    let mut body = told(&admin, &service, &applied);
    let snapshot = admin.board.switchboard.snapshot().load_full();
    // A killed service was at stable before; what a rollback changes is what the file says for afterwards.
    if let Some(killed) = snapshot.services.iter().find(|it| it.name == service).and_then(|it| it.killed.as_ref()) {
        body["killed"] = killed.reason.clone().into();
        body["written"] = json!(admin.board.switchboard.written(&service).map(Record));
        body["writtenBefore"] = json!(before.map(Record));
    }
    Ok(with_etag(applied.generation, &body))
}

/// `POST /api/v1/services/{service}/undo`.
pub(super) async fn undo(
    State(admin): State<Arc<Admin>>,
    path: ServicePath,
    request: Request,
) -> Result<Response, Problem> {
    let service = service_name(path)?;
    let expected = if_match(request.headers())?;
    let mut cause = cause(&request);
    cause.reason = read_reason(request).await?.unwrap_or(cause.reason);
    let applied = admin.apply("undo", Change::Undo { service: service.clone() }, cause, expected).await?;
    Ok(outcome(&admin, &service, &applied))
}

/// `POST /api/v1/reload`.
pub(super) async fn reload(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, Problem> {
    let cause = cause(&request);
    body::read(request.into_body()).await?.finish("no members")?;
    let applied = admin.apply("reload", Change::Reload, cause, None).await?;
    let body = json!({
        "generation": applied.generation,
        "revision": applied.revision,
        "changed": applied.changed,
        "pending": applied.pending,
    });
    Ok(with_etag(applied.generation, &body))
}

/// `PUT /api/v1/log-level`.
pub(super) async fn log_level(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, Problem> {
    let (client, by) = (peer(&request), by(&request));
    let mut fields = body::read(request.into_body()).await?;
    let level = fields.text("level")?.ok_or_else(|| Problem::new(Code::BadBody, "\"level\" is missing"))?;
    fields.finish("level")?;
    (admin.board.log_level)(&level).map_err(|why| Problem::new(Code::Invalid, why))?;
    metrics::counter!(names::ADMIN_CHANGES.name, "action" => "log_level").increment(1);
    tracing::info!(client, level, "the log level was changed");
    admin.board.desk.note(&by, "log_level", "", Value::Null, json!({ "level": level }));
    Ok(Json(json!({ "level": level })).into_response())
}

impl Admin {
    /// Applies a change on a thread that may wait for a disk. It is done even when the caller goes away meanwhile.
    pub(super) async fn apply(
        self: &Arc<Self>,
        action: &'static str,
        change: Change,
        cause: Cause,
        expected: Option<u64>,
    ) -> Result<Applied, Problem> {
        let admin = Arc::clone(self);
        let (from, who) = (cause.from.clone(), cause.who.clone());
        let work = move || -> Result<Applied, Refused> {
            let board = &admin.board;
            let service = named(&change).cloned();
            let scope = match &change {
                Change::Maintenance { scope, .. } => Some(scope.clone()),
                _ => None,
            };
            let seen = || match &scope {
                Some(scope) => maintenance::at(&admin, scope),
                None => live(&board.switchboard, service.as_ref()),
            };
            let before = seen();
            let applied = board.switchboard.apply(change, &cause, expected)?;
            let by = By { who: cause.who, from: cause.from, reason: cause.reason, cli: cause.how == How::Cli };
            let after = seen();
            // Who ends what never was has changed nothing, and the record does not say that somebody did.
            if scope.is_none() || before != after {
                board.desk.note(&by, action, service.as_deref().unwrap_or_default(), before, after);
            }
            Ok(applied)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(applied)) => {
                metrics::counter!(names::ADMIN_CHANGES.name, "action" => action).increment(1);
                Ok(applied)
            }
            Ok(Err(refused)) => {
                tracing::warn!(action, from, who, %refused, "the admin API refused a change");
                Err(refused.into())
            }
            Err(error) => {
                tracing::error!(action, from, who, %error, "a change failed inside weir");
                Err(Problem::new(Code::Internal, "the log tells more"))
            }
        }
    }
}

/// The service that a change is about.
fn named(change: &Change) -> Option<&Name> {
    match change {
        Change::Weights { service, .. } | Change::Rollback { service } | Change::Undo { service } => Some(service),
        Change::Maintenance { scope: Scope::Service(service), .. } => Some(service),
        _ => None,
    }
}

/// What is live, for the audit log: the weights of a service, or the generation.
fn live(switchboard: &Switchboard, service: Option<&Name>) -> Value {
    let snapshot = switchboard.snapshot().load_full();
    let found = snapshot.services.iter().find(|found| Some(&found.name) == service);
    // While a service is killed its weights are what the file says, although they do not count.
    let said = |found: &Service| switchboard.written(&found.name).filter(|_| found.killed.is_some());
    let weights = |found: &Service| json!(Record(said(found).unwrap_or_else(|| found.weights.clone())));
    found.map_or_else(|| json!({ "generation": snapshot.generation }), weights)
}

pub(super) fn service_name(path: ServicePath) -> Result<Name, Problem> {
    let Path(text) = path.map_err(|_| Problem::unknown_service("?"))?;
    Name::new(&text).map_err(|_| Problem::unknown_service(&text))
}

/// The weights of an object such as `{"stable":50,"canary":50}` or `{"stable":"90%","canary":"10%"}`.
pub(super) fn read_weights(fields: Fields) -> Result<Weights, Problem> {
    if fields.is_empty() {
        return Err(Problem::new(Code::BadBody, "send the weights, such as {\"stable\":50,\"canary\":50}"));
    }
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for (pool, value) in fields.into_members() {
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                problems
                    .push(format!("pool {pool:?}: a weight is an integer or a percentage, not {}", body::kind(other)));
                continue;
            }
        };
        match (Name::new(&pool), Weight::parse(&text)) {
            (Ok(name), Ok(weight)) => entries.push((name, weight)),
            (Err(error), _) => problems.push(error.to_string()),
            (_, Err(error)) => problems.push(format!("pool {pool:?}: {error}")),
        }
    }
    if let [first, ..] = problems.as_slice() {
        return Err(Problem::new(Code::Invalid, first.clone()).with("problems", problems));
    }
    Weights::new(entries).map_err(|error| Refused::from(error).into())
}

pub(super) fn clean(reason: &str) -> String {
    reason.chars().take(REASON_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The reason, cut and cleaned rather than refused: nothing about it may stand in the way of a rollback.
async fn read_reason(request: Request) -> Result<Option<String>, Problem> {
    let mut fields = body::read(request.into_body()).await?;
    let reason = fields.text("reason")?;
    fields.finish("reason")?;
    Ok(reason.map(|reason| clean(&reason)))
}

/// The generation of `If-Match`: quoted as the `ETag` was, or bare. `*` asks only that something is live.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    match bare.parse::<u64>() {
        Ok(generation) if values.next().is_none() && bare.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(generation)),
        Err(_) if text == "*" => Ok(None),
        _ => Err(Problem::new(Code::BadIfMatch, "If-Match holds one generation, such as \"7\" or 7")),
    }
}

fn peer(request: &Request) -> String {
    request.extensions().get::<Peer>().map(|Peer(address)| address.to_string()).unwrap_or_default()
}

/// Who asks, as far as it is known, and why by the header; a reason in the body comes before that.
pub(super) fn by(request: &Request) -> By {
    let Cause { who, from, how, reason } = cause(request);
    By { who, from, reason, cli: how == How::Cli }
}

pub(super) fn cause(request: &Request) -> Cause {
    let said = request.headers().get(REASON).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let reason = clean(&said.unwrap_or_default());
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let claimed: String = text(WHO).chars().filter(|c| !c.is_control()).take(WHO_MAX).collect();
    let known = request.extensions().get::<Caller>().and_then(|caller| caller.name.clone());
    // The name of a token is known; what a header says beside it is only said.
    let who = match known {
        Some(name) if claimed.is_empty() || claimed == name => name,
        Some(name) => format!("{name} ({claimed})"),
        None => claimed,
    };
    let how = if text("user-agent").starts_with("weir/") { How::Cli } else { How::Api };
    Cause { who, from: peer(request), how, reason }
}

fn shown(service: &ServiceStatus, generation: u64) -> Value {
    json!({
        "service": service.name,
        "generation": generation,
        "weights": service.weights,
        "stable": service.stable,
        "pending": service.pending,
        "undo": service.undo,
    })
}

/// What is live after a change. When a later change came in between, the generation is still this one's.
fn outcome(admin: &Admin, service: &Name, applied: &Applied) -> Response {
    with_etag(applied.generation, &told(admin, service, applied))
}

fn told(admin: &Admin, service: &Name, applied: &Applied) -> Value {
    let status = admin.board.switchboard.status();
    let found = status.services.iter().find(|status| status.name == **service);
    let mut body = found.map_or_else(|| json!({ "service": service }), |found| shown(found, applied.generation));
    body["generation"] = applied.generation.into();
    body["revision"] = applied.revision.into();
    body["changed"] = applied.changed.into();
    body["pending"] = applied.pending.clone().into();
    body
}

fn with_etag(generation: u64, body: &Value) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{generation}\"")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_one_generation_quoted_or_bare() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            if_match(&headers)
        };
        assert_eq!(read("\"7\"").unwrap(), Some(7));
        assert_eq!(read("7").unwrap(), Some(7));
        assert_eq!(read("*").unwrap(), None);
        for bad in ["", "W/\"7\"", "\"7\", \"8\"", "-7", "+7", "seven", "\"7", "99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
    }
}
