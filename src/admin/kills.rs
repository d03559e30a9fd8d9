//! The kill switch: pull it, let it go, look at it. It works also when the engine of the rollouts does not.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::access::Role;
use super::body::Fields;
use super::changes::{self, by};
use super::problem::{Code, Problem};
use super::routes::Admin;
use super::{access, body};
use crate::model::{Name, Scope};
use crate::rollout::desk::By;
use crate::switchboard::change::Applied;

/// `POST /api/v1/kill`.
pub(super) async fn kill(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let (scope, by) = read(request).await?;
    let applied = admin.board.desk.kill(&scope, &by).await?;
    Ok(told(&admin, &scope, &applied))
}

/// `POST /api/v1/unkill`.
pub(super) async fn unkill(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let (scope, by) = read(request).await?;
    let was = admin.board.switchboard.killed_at(&scope).is_some();
    let applied = admin.board.desk.unkill(&scope, &by).await?;
    let Json(mut body) = told(&admin, &scope, &applied);
    // Whether there was a kill of exactly this scope to take back.
    body["unkilled"] = was.into();
    Ok(Json(body))
}

/// `GET /api/v1/kill`.
pub(super) async fn kills(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(admin.board.desk.kills())
}

fn told(admin: &Admin, scope: &Scope, applied: &Applied) -> Json<Value> {
    let mut body = admin.board.desk.kills();
    let (word, service) = match scope {
        Scope::System => ("system", None),
        Scope::Service(name) => ("service", Some(name)),
    };
    for (key, value) in [
        ("scope", json!(word)),
        ("service", json!(service)),
        ("generation", applied.generation.into()),
        ("changed", applied.changed.into()),
        ("pending", json!(applied.pending)),
    ] {
        body[key] = value;
    }
    Json(body)
}

/// `{"scope":"service","service":"engine","reason":"…"}`; a scope alone is the system, a service alone that service.
async fn read(request: Request) -> Result<(Scope, By), Problem> {
    let mut by = by(&request);
    let allowed = access::role(&request);
    let mut fields = body::read(request.into_body()).await?;
    let scope = read_scope(&mut fields, &mut by, allowed)?;
    fields.finish("scope, service or reason")?;
    Ok((scope, by))
}

/// The scope of a body, with the reason; every service takes the role admin.
pub(super) fn read_scope(fields: &mut Fields, by: &mut By, allowed: Role) -> Result<Scope, Problem> {
    let (scope, service) = (fields.text("scope")?, fields.text("service")?);
    if let Some(reason) = fields.text("reason")? {
        by.reason = changes::clean(&reason);
    }
    let scope = match (scope.as_deref(), service) {
        (Some("system"), None) => Scope::System,
        (Some("service") | None, Some(service)) => {
            Scope::Service(Name::new(&service).map_err(|_| Problem::unknown_service(&service))?)
        }
        (Some("service"), None) => return Err(Problem::new(Code::BadBody, "\"service\" is missing")),
        (Some("system"), Some(_)) => {
            return Err(Problem::new(Code::BadBody, "the scope is the system or a service, not both"));
        }
        (Some(_), _) => return Err(Problem::new(Code::BadBody, "\"scope\" is \"service\" or \"system\"")),
        (None, None) => return Err(Problem::new(Code::BadBody, "say {\"scope\":\"service\",\"service\":NAME}")),
    };
    if scope == Scope::System {
        allowed.must_be_admin("stopping or starting everything")?;
    }
    Ok(scope)
}
