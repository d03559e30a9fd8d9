//! The audit log: who changed what, from where and why; and whether its chain is whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;

use super::problem::Problem;
use super::routes::Admin;

/// Entries of one answer, when nobody asks for another number; and the most that is given.
const LISTED: usize = 100;

/// See [`LISTED`].
const LISTED_MAX: usize = 1_000;

/// Which entries.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    service: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/audit`: the newest first.
pub(super) async fn audit(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    let most = wanted.limit.unwrap_or(LISTED).min(LISTED_MAX);
    Ok(Json(admin.board.desk.audit_log(wanted.service.as_deref(), most).await?))
}

/// `GET /api/v1/audit/verify`.
pub(super) async fn verify(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    Ok(Json(admin.board.desk.verify_audit().await?))
}
