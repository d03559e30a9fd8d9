//! The paths of rollouts: start, look, command, report. Each reads a body, asks the desk once and tells the answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{self, Caller, Role};
use super::body::{self, Fields};
use super::changes::{self, by};
use super::plans;
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::model::rollout::RolloutPlan;
use crate::rollout::desk::{By, DeskError, Start};
use crate::rollout::event::Event;
use crate::rollout::machine::Command;
use crate::rollout::view::View;

/// Rollouts in one list, when nobody asks for another number; and the most that is given.
const LISTED: usize = 50;

/// See [`LISTED`].
const LISTED_MAX: usize = 500;

/// Events that are shown with one rollout.
const EVENTS_SHOWN: usize = 20;

pub(super) type Id = Result<Path<String>, PathRejection>;

/// What a list is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    service: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
}

/// `POST /api/v1/rollouts`.
pub(super) async fn start(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, Problem> {
    admin.board.desk.open()?;
    let (mut by, role) = (starter(&request), access::role(&request));
    let fields = body::read_plan(request.into_body()).await?;
    let start = read_start(&admin, fields, None, &mut by, role).await?;
    started(&admin, start, &by).await
}

/// `PUT /api/v1/rollouts/{id}`: the same twice is the same once.
pub(super) async fn put(State(admin): State<Arc<Admin>>, path: Id, request: Request) -> Result<Response, Problem> {
    admin.board.desk.open()?;
    let id = read_id(path)?;
    let (mut by, role) = (starter(&request), access::role(&request));
    let fields = body::read_plan(request.into_body()).await?;
    let start = read_start(&admin, fields, Some(id.clone()), &mut by, role).await?;
    match admin.board.desk.one(&id).await {
        Ok(view) => again(&admin, &view, &start.plan),
        Err(DeskError::Unknown(_)) => match admin.board.desk.start(start.clone(), &by).await {
            Ok(view) => Ok(created(&admin, &view)),
            // Somebody put the same at the same time.
            Err(DeskError::Conflict { running, .. }) if running == id => {
                again(&admin, &*admin.board.desk.one(&id).await?, &start.plan)
            }
            Err(other) => Err(other.into()),
        },
        Err(other) => Err(other.into()),
    }
}

/// A rollout that is there already: the same, or another one under that name.
fn again(admin: &Admin, view: &View, plan: &RolloutPlan) -> Result<Response, Problem> {
    if view.rollout.plan == *plan {
        return Ok(Json(whole(admin, view)).into_response());
    }
    let id = view.rollout.id.clone();
    let why = format!("rollout {id} goes by another plan");
    Err(DeskError::Conflict { running: id, why }.into())
}

/// `GET /api/v1/rollouts`.
pub(super) async fn list(State(admin): State<Arc<Admin>>, wanted: Query<Wanted>) -> Result<Response, Problem> {
    let Query(wanted) = wanted;
    let views = admin.board.desk.list().await?;
    let fits = |view: &&Arc<View>| {
        let state = view.rollout.state.as_str();
        wanted.service.as_ref().is_none_or(|service| view.rollout.plan.service.as_str() == service)
            && wanted.state.as_ref().is_none_or(|wanted| wanted == state)
    };
    let most = wanted.limit.unwrap_or(LISTED).min(LISTED_MAX);
    let list: Vec<_> = views.iter().filter(fits).take(most).map(|view| view.short()).collect();
    Ok(Json(json!({ "rollouts": list })).into_response())
}

/// `GET /api/v1/rollouts/{id}`.
pub(super) async fn one(State(admin): State<Arc<Admin>>, path: Id) -> Result<Response, Problem> {
    let view = admin.board.desk.one(&read_id(path)?).await?;
    let events = admin.board.desk.history_of(&view.rollout.id, EVENTS_SHOWN).await;
    Ok(Json(with_events(&view, &events)).into_response())
}

/// `POST /api/v1/rollouts/{id}/pause` and the other verbs.
pub(super) async fn command(
    verb: &'static str,
    State(admin): State<Arc<Admin>>,
    path: Id,
    request: Request,
) -> Result<Response, Problem> {
    let id = read_id(path)?;
    let (mut by, role) = (by(&request), access::role(&request));
    let person = person(&request);
    let mut fields = body::read(request.into_body()).await?;
    if let Some(reason) = fields.text("reason")? {
        by.reason = changes::clean(&reason);
    }
    let desk = &admin.board.desk;
    let view = match verb {
        "pause" => plain(fields, Command::Pause)?,
        "resume" => plain(fields, Command::Resume)?,
        "rollback" => plain(fields, Command::Rollback)?,
        "cancel" => plain(fields, Command::Cancel)?,
        "advance" => {
            let force = fields.flag("force")?;
            if force {
                role.must_be_admin("going past a gate by force")?;
            }
            plain(fields, Command::Advance { force })?
        }
        "approve" => {
            // Who has a name of their own cannot approve for somebody else, nor twice by another one.
            let said = fields.text("by")?.map(|said| changes::clean(&said));
            let who = person.or(said).unwrap_or_else(|| by.who.clone());
            plain(fields, Command::Approve { by: who })?
        }
        "drill" => {
            fields.finish("reason")?;
            return Ok(match desk.drill(&id, &by).await? {
                Some(drilled) => Json(drilled).into_response(),
                None => {
                    let body = json!({ "rolloutId": id, "message": "the drill goes on; its end is an event" });
                    (StatusCode::ACCEPTED, Json(body)).into_response()
                }
            });
        }
        "retry" => {
            fields.finish("reason")?;
            let view = desk.retry(&id, &by).await?;
            return Ok(created(&admin, &view));
        }
        _ => return Err(Problem::not_found()),
    };
    let view = desk.command(&id, view, &by).await?;
    Ok(Json(whole(&admin, &view)).into_response())
}

fn plain(fields: Fields, command: Command) -> Result<Command, Problem> {
    let expected = match command {
        Command::Advance { .. } => "reason or force",
        Command::Approve { .. } => "reason or by",
        _ => "reason",
    };
    fields.finish(expected)?;
    Ok(command)
}

async fn started(admin: &Admin, start: Start, by: &By) -> Result<Response, Problem> {
    let view = admin.board.desk.start(start, by).await?;
    Ok(created(admin, &view))
}

fn created(admin: &Admin, view: &View) -> Response {
    let mut response = (StatusCode::CREATED, Json(whole(admin, view))).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/api/v1/rollouts/{}", view.rollout.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// One rollout with its newest events.
fn whole(admin: &Admin, view: &View) -> Value {
    with_events(view, &admin.board.desk.events_of(&view.rollout.id, EVENTS_SHOWN))
}

fn with_events(view: &View, events: &[Arc<Event>]) -> Value {
    let mut body = view.json();
    body["events"] = json!(events.iter().map(|event| &**event).collect::<Vec<_>>());
    body
}

/// The name that a token has; nothing that is said beside it counts where persons are counted.
fn person(request: &Request) -> Option<String> {
    request.extensions().get::<Caller>().and_then(|caller| caller.name.clone())
}

/// Who starts a rollout: by exactly this name, since who starts one does not approve it.
fn starter(request: &Request) -> By {
    let by = by(request);
    By { who: person(request).unwrap_or_else(|| by.who.clone()), ..by }
}

pub(super) fn read_id(path: Id) -> Result<String, Problem> {
    path.map(|Path(id)| id).map_err(|_| Problem::new(Code::UnknownRollout, "there is no such rollout"))
}

/// What is to be started: a plan of this weir by its name, a profile for a service, or a plan itself.
async fn read_start(
    admin: &Admin,
    mut fields: Fields,
    id: Option<String>,
    by: &mut By,
    role: Role,
) -> Result<Start, Problem> {
    let posted = !fields.is_text("plan");
    let named = ["rolloutId", "id"].into_iter().find_map(|key| fields.text(key).transpose()).transpose()?;
    let (supersede, automatic) = (fields.flag("supersede")?, fields.flag("automatic")?);
    let dry_run = fields.flag("dryRun")? | fields.flag("dry_run")?;
    if let Some(reason) = fields.text("reason")? {
        by.reason = changes::clean(&reason);
    }
    let mut plan: RolloutPlan = plans::read(admin, fields, id.as_deref().or(named.as_deref())).await?;
    plan.dry_run |= dry_run;
    // Who may write a file beside the main file may run commands anyway; who only has a token of the API may not.
    if posted && plan.runs_commands() {
        role.must_be_admin("a plan with commands that is no file of rollouts/")?;
    }
    Ok(Start { plan, id: id.or(named), supersede, automatic })
}
