//! The paths that only show: status, version, metrics, the description of the API itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};

use super::metrics;
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::switchboard::status::Status;
use crate::telemetry::text;

/// The description of every path, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/v1/status`: the state of the switchboard, and of each service the rollout that holds it and
/// who killed it; and the kill switches.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let status = Status { journal: admin.board.desk.trouble(), ..admin.board.switchboard.status() };
    let mut body = serde_json::to_value(&status).unwrap_or_default();
    let desk = &admin.board.desk;
    let (live, mut kills) = (desk.live(), desk.kills());
    for service in body["services"].as_array_mut().into_iter().flatten() {
        let own = live.iter().find(|view| service["name"] == view.rollout.plan.service.as_str());
        service["rollout"] = own.map_or(Value::Null, |view| Value::Object(view.short()));
        let killed =
            kills["killed"].as_array().and_then(|list| list.iter().find(|it| it["service"] == service["name"]));
        if let Some(killed) = killed {
            service["killed"] = killed.clone();
        }
    }
    body["killSwitches"] = kills["switches"].take();
    body["rollouts"] = json!({ "running": desk.why_closed().is_none(), "reason": desk.why_closed() });
    Json(body)
}

/// `GET /api/v1/diff`: what is live against what is saved.
pub(super) async fn diff(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    let unsaved = tokio::task::spawn_blocking(move || admin.board.switchboard.unsaved()).await;
    let unsaved = unsaved.map_err(|_| Problem::new(Code::Internal, "the log tells more"))??;
    Ok(Json(json!({ "changes": unsaved.changes, "restart": unsaved.restart })))
}

/// `GET /version`.
pub(super) async fn version() -> Response {
    Json(json!({ "name": "weir", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

/// `GET /metrics`.
pub(super) async fn exposition(State(admin): State<Arc<Admin>>) -> Response {
    let board = &admin.board;
    let snapshot = board.switchboard.snapshot().load_full();
    let facts = metrics::Facts {
        snapshot: &snapshot,
        shares: &board.switchboard.effective_shares(&snapshot, metrics::SHARES_S),
        status: &board.switchboard.status(),
        workers: &board.workers,
        log_dropped: board.access_log.dropped(),
        pairs: &board.pairs,
        desk: &board.desk,
    };
    ([(header::CONTENT_TYPE, text::CONTENT_TYPE)], metrics::render(&facts)).into_response()
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
