//! Kill switches by name: look at them, pull one, stop its countdown, let it go.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use serde_json::{Value, json};

use super::access::{self, Caller};
use super::body;
use super::changes::{self, by};
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::model::Scope;
use crate::rollout::desk::Word;

pub(super) type Name = Result<Path<String>, PathRejection>;

/// `GET /api/v1/kill-switches`.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    admin.board.desk.open()?;
    let switches: Vec<Value> = admin.board.desk.switches().iter().map(|shown| shown.json()).collect();
    Ok(Json(json!({ "switches": switches })))
}

/// `GET /api/v1/kill-switches/{name}`.
pub(super) async fn one(State(admin): State<Arc<Admin>>, name: Name) -> Result<Json<Value>, Problem> {
    Ok(Json(admin.board.desk.switch(&read_name(name)?)?.json()))
}

/// `POST /api/v1/kill-switches/{name}/trigger`: its scope is killed when this answers, without a grace.
pub(super) async fn trigger(state: State<Arc<Admin>>, name: Name, request: Request) -> Result<Json<Value>, Problem> {
    tell(state, name, request, Word::Pull).await
}

/// `POST /api/v1/kill-switches/{name}/cancel`: ends its countdown.
pub(super) async fn cancel(state: State<Arc<Admin>>, name: Name, request: Request) -> Result<Json<Value>, Problem> {
    tell(state, name, request, Word::Cancel).await
}

/// `POST /api/v1/kill-switches/{name}/recover`: lets its scope go, whatever its attempts came to.
pub(super) async fn recover(state: State<Arc<Admin>>, name: Name, request: Request) -> Result<Json<Value>, Problem> {
    tell(state, name, request, Word::LetGo).await
}

async fn tell(
    State(admin): State<Arc<Admin>>,
    name: Name,
    request: Request,
    word: Word,
) -> Result<Json<Value>, Problem> {
    let (name, desk) = (read_name(name)?, &admin.board.desk);
    let (mut by, role) = (by(&request), access::role(&request));
    let known = request.extensions().get::<Caller>().is_some_and(|caller| caller.name.is_some());
    let mut fields = body::read(request.into_body()).await?;
    if let Some(reason) = fields.text("reason")? {
        by.reason = changes::clean(&reason);
    }
    // Who has a name of their own cannot act as somebody else.
    if let Some(actor) = fields.text("actor")?.filter(|_| !known) {
        by.who = changes::clean(&actor);
    }
    fields.finish("reason or actor")?;
    if desk.switch_scope(&name)? == Scope::System {
        role.must_be_admin("stopping or starting everything")?;
    }
    let shown = desk.tell_switch(&name, word, &by).await?;
    let mut body = shown.json();
    body["kills"] = desk.kills();
    Ok(Json(body))
}

fn read_name(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name).map_err(|_| Problem::new(Code::UnknownSwitch, "there is no such kill switch"))
}
