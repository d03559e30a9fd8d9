//! `POST /api/v1/maintenance`: a service, or every one, answers 503 until it ends. Written to the weights file, so that
//! it outlives the process; who and why stand in the history and in the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::changes::{self, by, cause};
use super::kills;
use super::problem::Problem;
use super::routes::Admin;
use super::{access, body};
use crate::model::Scope;
use crate::switchboard::change::Change;

/// `POST /api/v1/maintenance`: `{"service":"engine","reason":"…"}` begins it, `"end":true` in place of the
/// reason ends it; `"scope":"system"` is every service.
pub(super) async fn maintenance(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let (mut cause, mut by, allowed) = (cause(&request), by(&request), access::role(&request));
    let mut fields = body::read(request.into_body()).await?;
    let end = fields.flag("end")?;
    let scope = kills::read_scope(&mut fields, &mut by, allowed)?;
    fields.finish("scope, service, reason or end")?;
    cause.reason = by.reason;
    let reason = (!end).then(|| cause.reason.clone());
    let action = if end { "maintenance.end" } else { "maintenance" };
    let change = Change::Maintenance { scope: scope.clone(), reason };
    let applied = admin.apply(action, change, cause, None).await?;
    let service = match &scope {
        Scope::System => None,
        Scope::Service(name) => Some(name.as_str()),
    };
    let status = admin.board.switchboard.status();
    let closed = status.services.iter().filter(|it| service.is_none_or(|name| it.name == name));
    let closed: Vec<Value> = closed
        .filter_map(|it| Some((it, it.maintenance.as_ref()?)))
        .map(
            |(it, maintenance)| json!({ "service": it.name, "scope": maintenance.scope, "reason": maintenance.reason }),
        )
        .collect();
    Ok(Json(json!({
        "scope": if service.is_some() { "service" } else { "system" },
        "service": service,
        "maintenance": !end,
        "closed": closed,
        "generation": applied.generation,
        "changed": applied.changed,
        "weights_file": status.weights_file,
    })))
}

/// What is under maintenance at a scope, for the audit log.
pub(super) fn at(admin: &Admin, scope: &Scope) -> Value {
    let reason = admin.board.switchboard.closed_at(scope);
    json!({ "maintenance": reason.is_some(), "reason": reason.map(|reason| changes::clean(&reason)) })
}
