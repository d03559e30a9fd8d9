//! The paths that only show: status, version, metrics, the description of the API itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::metrics;
use super::routes::Admin;
use crate::switchboard::status::Status;
use crate::telemetry::text;

/// The description of every path, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/v1/status`.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(admin.board.switchboard.status())
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
    };
    ([(header::CONTENT_TYPE, text::CONTENT_TYPE)], metrics::render(&facts)).into_response()
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
