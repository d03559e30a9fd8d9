//! Plans as they are asked for: by name, by profile, or written out; listed and checked. Reading them is the business
//! of [`crate::config::rollouts`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::body::{self, Fields};
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::config::rollouts::{Checked, Constraints, Plans, Read, plan_from_json, profiles};
use crate::config::{Config, Problems};
use crate::model::Name;
use crate::model::rollout::RolloutPlan;

/// `GET /api/v1/plans`: every plan beside the main file with what is wrong with it, and the built-in profiles.
pub(super) async fn plans(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    let config = admin.board.switchboard.config();
    let load = move || Plans::load(&config.path, &config.plan, &Constraints::default());
    let plans = tokio::task::spawn_blocking(load).await;
    let plans = plans.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let list: Vec<Value> = plans.by_name.iter().map(|(name, read)| listed(name, read)).collect();
    Ok(Json(json!({ "plans": list, "profiles": profiles() })))
}

/// `POST /api/v1/rollouts/check`: what would be said of a plan; with `"strict": true`, recommendations are errors.
pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let mut fields = body::read_plan(request.into_body()).await?;
    let strict = fields.flag("strict")?;
    let options = ["rolloutId", "id", "supersede", "automatic", "dryRun", "dry_run", "reason"];
    options.iter().for_each(|key| drop(fields.take(key)));
    let read = match asked(&admin, fields, None).await? {
        Some(read) => read,
        None => return Err(Problem::new(Code::UnknownPlan, "there is no such plan")),
    };
    let checked = Checked::of(&read, strict);
    Ok(Json(serde_json::to_value(checked).unwrap_or_default()))
}

/// The plan that a body asks for.
pub(super) async fn read(admin: &Admin, fields: Fields, id: Option<&str>) -> Result<RolloutPlan, Problem> {
    match asked(admin, fields, id).await? {
        None => Err(Problem::new(Code::UnknownPlan, "there is no such plan; GET /api/v1/plans lists those there are")),
        Some(Err(problems)) => Err(refused(&problems)),
        Some(Ok(read)) => Ok(read.plan),
    }
}

/// `{"plan": NAME}`, `{"plan": {…}}`, `{"service", "profile"}` or a plan written out; none when no plan has that name.
async fn asked(admin: &Admin, mut fields: Fields, id: Option<&str>) -> Result<Option<Result<Read, Problems>>, Problem> {
    let config = admin.board.switchboard.config();
    let said = fields.text("name")?;
    match fields.take("plan") {
        Some(Value::String(name)) => {
            let version = fields.text("version")?;
            fields.finish("plan, rolloutId, version, supersede, automatic, dryRun or reason")?;
            let read = by_name(config, name).await?;
            Ok(read.map(|read| {
                read.map(|mut read| {
                    read.plan.version = version.or(read.plan.version);
                    read
                })
            }))
        }
        Some(plan @ Value::Object(_)) => {
            fields.finish("plan, rolloutId, supersede, automatic, dryRun or reason")?;
            written(&config, plan, said.as_deref().or(id)).map(Some)
        }
        Some(other) => {
            let found = body::kind(&other);
            Err(Problem::new(Code::BadBody, format!("\"plan\" must be a name or a plan, not {found}")))
        }
        None => written(&config, fields.into_value(), said.as_deref().or(id)).map(Some),
    }
}

async fn by_name(config: Arc<Config>, name: String) -> Result<Option<Result<Read, Problems>>, Problem> {
    let work = move || Plans::one(&config.path, &name, &config.plan, &Constraints::default());
    // It reads a file, which may stand on a disk that hangs.
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn written(config: &Config, body: Value, name: Option<&str>) -> Result<Result<Read, Problems>, Problem> {
    let service = body["service"].as_str().or(body["serviceName"].as_str());
    let only = || config.plan.services.first().map(|spec| spec.name.to_string());
    let name = name.or(body["profile"].as_str()).map(str::to_owned).or(service.map(str::to_owned)).or_else(only);
    let name = name.unwrap_or_else(|| "rollout".into());
    let name = Name::new(&name).map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
    Ok(plan_from_json(&body, &name, &config.plan, &Constraints::default()))
}

fn refused(problems: &Problems) -> Problem {
    let list = serde_json::to_value(problems).unwrap_or_default();
    Problem::new(Code::InvalidPlan, problems.to_string()).with("problems", list)
}

fn listed(name: &str, read: &Result<Read, Problems>) -> Value {
    let checked = serde_json::to_value(Checked::of(read, false)).unwrap_or_default();
    let mut entry = json!({ "name": name });
    if let Ok(read) = read {
        let phases: Vec<f64> = read.plan.phases.iter().map(|phase| phase.share.percent()).collect();
        entry["service"] = json!(read.plan.service);
        entry["candidate"] = json!(read.plan.candidate);
        entry["phases"] = json!(phases);
        entry["gates"] = json!(read.plan.gates.iter().map(|gate| &gate.name).collect::<Vec<_>>());
    }
    if let (Value::Object(entry), Value::Object(checked)) = (&mut entry, checked) {
        entry.extend(checked);
    }
    entry
}
