//! Plans as they are asked for: by name, by profile, or written out; listed and checked. Reading them is the business
//! of [`crate::config::rollouts`].

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::body::{self, Fields};
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::config::rollouts::{Checked, Constraints, Plans, Read, plan_from_json, profiles, take_name};
use crate::config::{Config, Problems};
use crate::model::Name;
use crate::model::rollout::RolloutPlan;

/// `GET /api/v1/plans`: every plan beside the main file with what is wrong with it, and the built-in profiles.
pub(super) async fn plans(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    let config = admin.board.switchboard.config();
    let load = move || Plans::load(&config.path, &config.plan, &config.rollouts.constraints());
    let plans = tokio::task::spawn_blocking(load).await;
    let plans = plans.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let list: Vec<Value> = plans.by_name.iter().map(|(name, read)| listed(name, read)).collect();
    Ok(Json(json!({ "plans": list, "profiles": profiles() })))
}

/// `POST /api/v1/rollouts/check`: what would be said of a plan; with `"strict": true` (or `strictMode`),
/// recommendations are errors. `{"config": PLAN, "context": {"resourceConstraints": {…}}}` checks a plan within tighter
/// limits than those of this weir.
pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Value>, Problem> {
    let mut fields = body::read_plan(request.into_body()).await?;
    let strict = fields.flag("strict")? | fields.flag("strictMode")?;
    let options = ["rolloutId", "id", "supersede", "automatic", "dryRun", "dry_run", "reason"];
    options.iter().for_each(|key| drop(fields.take(key)));
    let mut limits = admin.board.switchboard.config().rollouts.constraints();
    if let Some(Value::Object(plan)) = fields.take("config") {
        let context = fields.take("context").unwrap_or_default();
        tighten(&mut limits, &context["resourceConstraints"]);
        drop(fields.take("type"));
        fields.finish("type, config, context or strictMode")?;
        fields = Fields::from(plan);
    }
    let read = match asked_within(&admin, fields, None, &limits).await? {
        Some(read) => read,
        None => return Err(Problem::new(Code::UnknownPlan, "there is no such plan")),
    };
    let checked = Checked::of(&read, strict);
    Ok(Json(serde_json::to_value(checked).unwrap_or_default()))
}

/// `maxTrafficPercentage` and `maxRollbackTime` in ms: they only ever narrow what this weir allows.
fn tighten(limits: &mut Constraints, asked: &Value) {
    if let Some(percent) = asked["maxTrafficPercentage"].as_f64() {
        limits.max_percent = limits.max_percent.min(percent);
    }
    if let Some(ms) = asked["maxRollbackTime"].as_u64() {
        let most = Duration::from_millis(ms);
        limits.max_rollback = Some(limits.max_rollback.map_or(most, |own| own.min(most)));
    }
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
async fn asked(admin: &Admin, fields: Fields, id: Option<&str>) -> Result<Option<Result<Read, Problems>>, Problem> {
    let limits = admin.board.switchboard.config().rollouts.constraints();
    asked_within(admin, fields, id, &limits).await
}

async fn asked_within(
    admin: &Admin,
    mut fields: Fields,
    id: Option<&str>,
    limits: &Constraints,
) -> Result<Option<Result<Read, Problems>>, Problem> {
    let config = admin.board.switchboard.config();
    match fields.take("plan") {
        Some(Value::String(name)) => {
            drop(fields.take("name"));
            let version = fields.text("version")?;
            fields.finish("plan, rolloutId, version, supersede, dryRun or reason")?;
            let read = by_name(config, name, *limits).await?;
            Ok(read.map(|read| {
                read.map(|mut read| {
                    read.plan.version = version.or(read.plan.version);
                    read
                })
            }))
        }
        Some(plan @ Value::Object(_)) => {
            let said = fields.text("name")?;
            fields.finish("plan, name, rolloutId, supersede, dryRun or reason")?;
            written(&config, plan, said.as_deref().or(id), limits).map(Some)
        }
        Some(other) => {
            let found = body::kind(&other);
            Err(Problem::new(Code::BadBody, format!("\"plan\" must be a name or a plan, not {found}")))
        }
        None => written(&config, fields.into_value(), id, limits).map(Some),
    }
}

async fn by_name(
    config: Arc<Config>,
    name: String,
    limits: Constraints,
) -> Result<Option<Result<Read, Problems>>, Problem> {
    let work = move || Plans::one(&config.path, &name, &config.plan, &limits);
    // It reads a file, which may stand on a disk that hangs.
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn written(
    config: &Config,
    mut body: Value,
    name: Option<&str>,
    limits: &Constraints,
) -> Result<Result<Read, Problems>, Problem> {
    let said = take_name(&mut body);
    let name = said.as_deref().or(name).or(body["profile"].as_str());
    let service = body["service"].as_str().or(body["serviceName"].as_str());
    let only = config.plan.services.first().map(|spec| spec.name.as_str());
    let name = name.or(service).or(only).unwrap_or("rollout");
    let name = Name::new(name).map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
    Ok(plan_from_json(&body, &name, &config.plan, limits))
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
