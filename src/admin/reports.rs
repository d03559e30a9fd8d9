//! The paths that tell of rollouts: reports, ticks, series, issues, trends, alerts, statistics, the cost of a rollback.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::rollouts::read_id;
use super::routes::Admin;
use crate::rollout::event::{Event, Severity};
use crate::rollout::record::Record;
use crate::rollout::report::html;
use crate::rollout::verdict::{GateVerdict, Verdict};
use crate::rollout::view::rfc3339;

/// Ticks of one answer, when nobody asks for another number.
const TICKS: usize = 2_000;

/// Alerts of one answer.
const ALERTS: usize = 200;

type Id = Result<Path<String>, PathRejection>;

/// How much of something is wanted, and of which service.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    limit: Option<usize>,
    service: Option<String>,
}

/// `GET /api/v1/rollouts/{id}/report`.
pub(super) async fn report(State(admin): State<Arc<Admin>>, path: Id) -> Result<Json<Value>, Problem> {
    Ok(Json(admin.board.desk.report(&read_id(path)?).await?))
}

/// `GET /api/v1/rollouts/{id}/report.html`: a page that needs nothing else. What is in it cannot run.
pub(super) async fn page(State(admin): State<Arc<Admin>>, path: Id) -> Result<Response, Problem> {
    let page = html::page(&admin.board.desk.report(&read_id(path)?).await?);
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    Ok(response)
}

/// `GET /api/v1/rollouts/{id}/ticks`: the newest ones, oldest first.
pub(super) async fn ticks(
    State(admin): State<Arc<Admin>>,
    path: Id,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    let id = read_id(path)?;
    let ticks = admin.board.desk.ticks(&id).await?;
    let newest = newest(&ticks, wanted.limit);
    Ok(Json(json!({ "rolloutId": id, "ticks": newest })))
}

/// `GET /api/v1/rollouts/{id}/metrics`: both pools as series.
pub(super) async fn series(
    State(admin): State<Arc<Admin>>,
    path: Id,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    let id = read_id(path)?;
    let ticks = admin.board.desk.ticks(&id).await?;
    let points: Vec<Value> = newest(&ticks, wanted.limit).iter().map(point).collect();
    Ok(Json(json!({ "rolloutId": id, "metrics": points })))
}

fn point(record: &Record) -> Value {
    let seconds = record.tick.elapsed_ms as f64 / 1000.0;
    let arm = |arm: &crate::rollout::tick::Arm, latency: &crate::rollout::record::Quantiles| {
        let rate = |part: u64| (arm.attempts > 0).then(|| part as f64 / arm.attempts as f64);
        json!({
            "requests": arm.attempts,
            "requestsPerS": (seconds > 0.0).then(|| arm.attempts as f64 / seconds),
            "errorRate": rate(arm.errors),
            "availability": rate(arm.attempts.saturating_sub(arm.errors)),
            "disconnectRate": rate(arm.disconnects),
            "p50Ms": latency.p50,
            "p95Ms": latency.p95,
            "p99Ms": latency.p99,
        })
    };
    json!({
        "at": rfc3339(record.at_ms),
        "phase": record.phase,
        "verdict": record.judgement.verdict,
        "candidate": arm(&record.tick.candidate, &record.latency.candidate),
        "control": arm(&record.tick.control, &record.latency.control),
    })
}

fn newest(ticks: &[Record], limit: Option<usize>) -> &[Record] {
    &ticks[ticks.len().saturating_sub(limit.unwrap_or(TICKS))..]
}

/// `GET /api/v1/rollouts/{id}/issues`: the gates that do not hold now.
pub(super) async fn issues(State(admin): State<Arc<Admin>>, path: Id) -> Result<Json<Value>, Problem> {
    let view = admin.board.desk.one(&read_id(path)?).await?;
    let gates = view.judgement.as_ref().map(|judgement| judgement.gates.as_slice()).unwrap_or_default();
    let issue = |gate: &GateVerdict| {
        let severity = match gate.verdict {
            Verdict::Fail if !gate.dry_run && !gate.waits => "critical",
            Verdict::Fail | Verdict::EnvironmentDegraded | Verdict::Error => "warning",
            Verdict::NoTraffic | Verdict::Inconclusive | Verdict::NotCompared | Verdict::ShownSafe => return None,
        };
        Some(json!({ "gate": gate.name, "severity": severity, "verdict": gate.verdict, "detail": gate.detail }))
    };
    let mut issues: Vec<Value> = gates.iter().filter_map(issue).collect();
    if let Some(trouble) = &view.trouble {
        issues.push(json!({ "gate": null, "severity": "critical", "verdict": "error", "detail": trouble }));
    }
    Ok(Json(json!({ "rolloutId": view.rollout.id, "issues": issues })))
}

/// `GET /api/v1/rollouts/{id}/trends`: the newer half against the older one.
pub(super) async fn trends(State(admin): State<Arc<Admin>>, path: Id) -> Result<Json<Value>, Problem> {
    let id = read_id(path)?;
    let ticks = admin.board.desk.ticks(&id).await?;
    let (older, newer) = ticks.split_at(ticks.len() / 2);
    let rate = |ticks: &[Record], of: fn(&Record) -> (u64, u64)| {
        let (bad, all) = ticks.iter().map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (all > 0).then(|| bad as f64 / all as f64)
    };
    let p95 = |ticks: &[Record]| {
        let mut values: Vec<f64> = ticks.iter().filter_map(|record| record.latency.candidate.p95).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let trend = |metric: &str, older: Option<f64>, newer: Option<f64>| {
        let direction = match (older, newer) {
            (Some(older), Some(newer)) if newer > older * 1.1 + 1e-9 => "rising",
            (Some(older), Some(newer)) if newer < older * 0.9 - 1e-9 => "falling",
            (Some(_), Some(_)) => "steady",
            _ => "unknown",
        };
        json!({ "metric": metric, "older": older, "newer": newer, "direction": direction })
    };
    let own = |record: &Record| (record.tick.candidate.errors, record.tick.candidate.attempts);
    let other = |record: &Record| (record.tick.control.errors, record.tick.control.attempts);
    let trends = [
        trend("error_rate", rate(older, own), rate(newer, own)),
        trend("control_error_rate", rate(older, other), rate(newer, other)),
        trend("latency_p95_ms", p95(older), p95(newer)),
    ];
    Ok(Json(json!({ "rolloutId": id, "trends": trends })))
}

/// `GET /api/v1/alerts`: what somebody should look at, newest first.
pub(super) async fn alerts(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    let desk = &admin.board.desk;
    let after = desk.last_event()?.saturating_sub(crate::rollout::stream::RECENT_MAX as u64);
    let events = desk.events(after, usize::MAX).await?;
    let live = desk.list().await?;
    let active = |event: &Event| {
        let of = |id: &String| live.iter().any(|view| view.rollout.id == *id && view.rollout.holds_service());
        event.rollout_id.as_ref().is_some_and(of)
    };
    let fits = |event: &&Arc<Event>| {
        event.severity >= Severity::Warning && wanted.service.as_ref().is_none_or(|name| event.service == *name)
    };
    let alerts = events.iter().rev().filter(fits).take(wanted.limit.unwrap_or(ALERTS).min(ALERTS));
    let alerts: Vec<Value> = alerts
        .map(|event| {
            let mut alert = serde_json::to_value(&**event).unwrap_or_default();
            alert["active"] = active(event).into();
            alert
        })
        .collect();
    Ok(Json(json!({ "alerts": alerts })))
}

/// `GET /api/v1/rollouts/statistics`.
pub(super) async fn statistics(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(admin.board.desk.statistics(wanted.service.as_deref()).await?))
}

/// `GET /api/v1/rollouts/{id}/impact`.
pub(super) async fn impact(State(admin): State<Arc<Admin>>, path: Id) -> Result<Response, Problem> {
    Ok(Json(admin.board.desk.impact(&read_id(path)?).await?).into_response())
}
