//! How the engine of the rollouts is, and what it knows of versions: with the fields that pipelines look for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::rollout::machine::State as Of;
use crate::rollout::report::json::{status as canary_status, suite};
use crate::rollout::view::{View, rfc3339};

/// `GET /api/v1/rollouts/health`; it answers also when the engine does not run.
pub(super) async fn health(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let desk = &admin.board.desk;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    Json(json!({
        "enabled": admin.board.rollouts_enabled,
        "running": desk.why_closed().is_none(),
        "reason": desk.why_closed(),
        "timestamp": now,
    }))
}

/// `GET /api/v1/rollouts/status`.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    let desk = &admin.board.desk;
    let views = desk.list().await?;
    let live: Vec<&Arc<View>> = views.iter().filter(|view| view.rollout.holds_service()).collect();
    let canary = |view: &&&Arc<View>| view.rollout.state.is_live() && view.rollout.share.percent() < 100.0;
    let version = |view: &Arc<View>| view.rollout.plan.version.clone();
    let newest = |wanted: &dyn Fn(&Arc<View>) -> bool| views.iter().filter(|view| wanted(view)).find_map(version);
    let mut versions = Map::new();
    for service in &admin.board.switchboard.snapshot().load().services {
        let own = |view: &Arc<View>| view.rollout.plan.service == service.name;
        versions.insert(service.name.to_string(), json!(newest(&own)));
    }
    let mut body = json!({
        "running": true,
        "versionWatcherActive": false,
        "activeCanaryTests": live.iter().filter(canary).count(),
        "activeRollouts": live.len(),
        "activeSweeps": desk.sweeps(),
        "knownVersions": versions,
        "recommendedBuilds": {
            "stable": newest(&|view| view.rollout.state == Of::Completed),
            "beta": newest(&|view| view.rollout.state.is_live()),
        },
    });
    body["rollouts"] = live.iter().map(|view| Value::Object(view.short())).collect();
    body["journal"] = json!(desk.journal());
    Ok(Json(body))
}

/// `GET /api/v1/versions`: every version that a rollout named, newest first, and whether it passed.
pub(super) async fn versions(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Problem> {
    let views = admin.board.desk.list().await?;
    let mut items: Vec<Value> = Vec::new();
    for view in &views {
        let rollout = &view.rollout;
        let Some(version) = &rollout.plan.version else { continue };
        let key = (json!(rollout.plan.service), json!(version));
        if items.iter().any(|item| (&item["providerId"], &item["version"]) == (&key.0, &key.1)) {
            continue;
        }
        let passed = rollout.state == Of::Completed;
        items.push(json!({
            "providerId": rollout.plan.service,
            "version": version,
            "releasedAt": rfc3339(rollout.started_at_ms),
            "sourceUrl": rollout.plan.labels.get("url"),
            "canaryPassed": passed,
            "canaryPassedAt": rollout.ended_at_ms.filter(|_| passed).map(rfc3339),
        }));
    }
    Ok(Json(json!({ "items": items })))
}

/// `GET /api/v1/canary/{buildId}/metrics`: the newest rollout of that version, or of that id.
pub(super) async fn canary(
    State(admin): State<Arc<Admin>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let unknown = || Problem::new(Code::UnknownRollout, "no rollout of such a build is known");
    let Path(build) = path.map_err(|_| unknown())?;
    let views = admin.board.desk.list().await?;
    let is_it = |view: &&Arc<View>| view.rollout.plan.version.as_ref() == Some(&build) || view.rollout.id == build;
    let view = views.iter().find(is_it).ok_or_else(unknown)?;
    Ok(Json(json!({
        "buildId": build,
        "rolloutId": view.rollout.id,
        "status": canary_status(view),
        "startedAt": rfc3339(view.rollout.started_at_ms),
        "completedAt": view.rollout.ended_at_ms.map(rfc3339),
        "metrics": suite(view),
    })))
}
