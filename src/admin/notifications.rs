//! Who is told what happens: how it goes, trying it, and saying that somebody looks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::Value;

use super::body;
use super::changes::{self, by};
use super::problem::Problem;
use super::routes::Admin;

/// `GET /api/v1/notifications`.
pub(super) async fn notifications(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    Ok(Json(admin.board.desk.notifications()?))
}

/// `POST /api/v1/notifications/test`; `{"channel":"ops"}`, or all of them.
pub(super) async fn test(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let by = by(&request);
    let mut fields = body::read(request.into_body()).await?;
    let channel = fields.text("channel")?;
    fields.finish("channel")?;
    Ok(Json(admin.board.desk.try_notifications(channel.as_deref(), &by).await?))
}

/// `POST /api/v1/notifications/acknowledge`; `{"service":"engine"}`, `{"rolloutId":"…"}`, or everything.
pub(super) async fn acknowledge(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let mut by = by(&request);
    let mut fields = body::read(request.into_body()).await?;
    let which = fields.text("rolloutId")?.or(fields.text("service")?);
    if let Some(reason) = fields.text("reason")? {
        by.reason = changes::clean(&reason);
    }
    fields.finish("service, rolloutId or reason")?;
    Ok(Json(admin.board.desk.acknowledge(which.as_deref(), &by)?))
}
