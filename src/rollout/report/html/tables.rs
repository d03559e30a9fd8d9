//! The words and tables of a report's page: how it ended, the facts, gates, latencies, phases, arithmetic, events.

use std::fmt::Write as _;

use serde_json::Value;

use super::plot::{clock, escaped};
use super::read::{ARMS, Point, QUANTILES, Series, member, milliseconds, text, wilson};

/// Events that are shown; all are in the JSON.
const EVENTS_MAX: usize = 200;

/// `engine: canary 2.1 against stable`.
pub(super) fn head(report: &Value) -> String {
    let or = |names: &[&str], other: &str| {
        Some(text(report, names)).filter(|it| !it.is_empty()).unwrap_or_else(|| other.into())
    };
    let version = text(report, &["version"]);
    let version = if version.is_empty() { version } else { format!(" {version}") };
    let title = format!(
        "{}: {}{version} against {}",
        or(&["service"], "service"),
        or(&["candidate"], "candidate"),
        or(&["control", "stable"], "stable")
    );
    let id = or(&["rolloutId", "id"], "");
    format!("<h1>{}</h1>\n<p class=\"soft\">Report of rollout <code>{}</code></p>\n", escaped(&title), escaped(&id))
}

/// How it ended, and why.
pub(super) fn banner(report: &Value) -> String {
    let state = text(report, &["state"]);
    let dry = report["dryRun"].as_bool() == Some(true) || report["dry_run"].as_bool() == Some(true);
    let (class, word) = match state.as_str() {
        "completed" => ("good", "Canary passed"),
        "rolled_back" => ("bad", "Canary failed, rolled back"),
        "paused" => ("wait", "Paused"),
        _ => ("wait", "Not decided yet"),
    };
    let why = text(report, &["because", "rollback_reason", "rollbackReason", "detail"]);
    let why = if why.is_empty() { String::new() } else { format!("<p>{}</p>", escaped(&why)) };
    let dry = if dry { " (dry run: no weight was touched)" } else { "" };
    format!("<div class=\"banner {class}\"><strong>{word}{dry}</strong>{why}</div>\n")
}

/// The numbers that somebody asks for first.
pub(super) fn facts(report: &Value, series: &Series) -> String {
    let total = |pick: fn(&Point) -> [u64; 2]| {
        series.points.iter().map(pick).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    };
    let (requests, errors) = (total(|point| point.requests), total(|point| point.errors));
    let mut list = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let wide = if value.chars().count() > 40 { " class=\"wide\"" } else { "" };
            let _ = writeln!(list, "<div{wide}><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(&value));
        }
    };
    fact("started", moment(&text(report, &["startedAt"])));
    fact("ended", moment(&text(report, &["endedAt", "completedAt"])));
    fact("by", text(report, &["startedBy", "started_by"]));
    fact("why", text(report, &["reason"]));
    let plan = &report["plan"];
    fact("plan", plan.as_str().map_or_else(|| text(plan, &["name"]), str::to_owned));
    let watched = milliseconds(member(report, &["watchedMs", "watched_ms"])).map(|ms| clock(ms / 1000.0));
    fact("watched", watched.unwrap_or_else(|| clock(series.seconds())));
    if requests != [0, 0] {
        fact("requests to the candidate", grouped(requests[0]));
        fact("bad ones", rate(errors[0], requests[0]));
        fact("requests to the control", grouped(requests[1]));
        fact("bad ones there", rate(errors[1], requests[1]));
    }
    let bound = report["bound"].as_f64().filter(|bound| bound.is_finite());
    fact("excludes regressions of", bound.map(|bound| format!("{bound:.1}× or more")).unwrap_or_default());
    let plain = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fact("smoke test exit", plain(member(report, &["smoke_returncode", "smokeReturncode"])));
    fact("verified afterwards", plain(member(report, &["verified"])));
    format!("<dl class=\"facts\">\n{list}</dl>\n")
}

/// `2026-11-21 03:00:10` of RFC 3339.
fn moment(at: &str) -> String {
    let cut = at.split(['.', 'Z']).next().unwrap_or(at);
    let utc = if at.ends_with('Z') { " UTC" } else { "" };
    if cut.is_empty() { String::new() } else { format!("{}{utc}", cut.replacen('T', " ", 1)) }
}

/// Thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or_default());
    groups.collect::<Vec<_>>().join("\u{202f}")
}

/// `12 (0.52 %)`.
fn rate(errors: u64, requests: u64) -> String {
    if requests == 0 {
        return grouped(errors);
    }
    format!("{} ({})", grouped(errors), percent(errors as f64 / requests as f64))
}

fn percent(ratio: f64) -> String {
    if ratio == 0.0 {
        "0 %".into()
    } else if ratio < 0.001 {
        format!("{:.3} %", ratio * 100.0)
    } else {
        format!("{:.2} %", ratio * 100.0)
    }
}

fn number(value: &Value) -> String {
    value
        .as_f64()
        .map(|value| match value.abs() {
            0.0 => "0".into(),
            size if size >= 1e6 => format!("{value:.1e}"),
            size if size >= 100.0 => format!("{value:.0}"),
            size if size >= 1.0 => format!("{value:.2}"),
            size if size >= 0.001 => format!("{value:.4}"),
            _ => format!("{value:.1e}"),
        })
        .unwrap_or_default()
}

/// What a verdict is to somebody who looks for trouble.
fn class(verdict: &str) -> &'static str {
    match verdict {
        "shown_safe" => "good",
        "fail" => "bad",
        "error" | "environment_degraded" | "no_traffic" => "wait",
        _ => "",
    }
}

fn verdict(gate: &Value) -> String {
    let word = text(gate, &["verdict"]);
    let dry = if member(gate, &["dryRun", "dry_run"]).as_bool() == Some(true) { " (dry run)" } else { "" };
    format!("<span class=\"verdict {}\">{}{dry}</span>", class(&word), escaped(&word.replace('_', " ")))
}

/// Every gate with its numbers.
pub(super) fn gates(report: &Value) -> String {
    let gates = report["gates"].as_array().map(Vec::as_slice).unwrap_or_default();
    if gates.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for gate in gates {
        let of = |value: &[&str], limit: &[&str]| {
            let (value, limit) = (number(member(gate, value)), number(member(gate, limit)));
            if value.is_empty() || limit.is_empty() { value } else { format!("{value} of {limit}") }
        };
        let times = |names: &[&str]| {
            member(gate, names).as_f64().filter(|it| it.is_finite()).map(|it| format!("{it:.1}×")).unwrap_or_default()
        };
        let cells = [
            of(&["eValue", "e_value"], &["limit"]),
            of(&["safeEValue", "safe_e_value"], &["safeLimit", "safe_limit"]),
            number(&gate["candidate"]),
            number(&gate["control"]),
            times(&["ratio"]),
            times(&["bound"]),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{}</td>", escaped(cell))).collect();
        let (name, detail) = (escaped(&text(gate, &["name"])), escaped(&text(gate, &["detail"])));
        let above = if detail.is_empty() { "" } else { " class=\"above\"" };
        let _ = writeln!(rows, "<tr{above}><td>{name}</td><td>{}</td>{cells}</tr>", verdict(gate));
        if !detail.is_empty() {
            let _ = writeln!(rows, "<tr class=\"more\"><td colspan=\"8\">{detail}</td></tr>");
        }
    }
    let titles = ["evidence against", "evidence of safety", "candidate", "control", "ratio", "excludes"];
    let titles: String = titles.iter().map(|title| format!("<th class=\"n\">{title}</th>")).collect();
    format!(
        "<h2>Gates</h2>\n<p class=\"soft\">As they stood at the end. Evidence against the candidate rolls back at its \
         limit; evidence of safety lets the share rise at its own.</p>\n<div class=\"scroll\"><table>\n\
         <tr><th>gate</th><th>verdict</th>{titles}</tr>\n{rows}</table></div>\n"
    )
}

/// Quantiles of both pools beside each other, with their bounds where the report has them.
pub(super) fn latency(report: &Value) -> String {
    let latency = &report["latency"];
    let mut rows = String::new();
    for quantile in QUANTILES {
        let ms = format!("{quantile}Ms");
        let cell = |arm: &str| {
            let value = member(&latency[arm], &[quantile, ms.as_str()]);
            let point = value.as_f64().or_else(|| member(value, &["value", "ms", "estimate"]).as_f64());
            let bounds = (member(value, &["low", "lower"]).as_f64(), member(value, &["high", "upper"]).as_f64());
            let bounds =
                if let (Some(low), Some(high)) = bounds { format!(" ({low:.2} to {high:.2})") } else { String::new() };
            (point, point.map(|ms| format!("{ms:.2} ms{bounds}")).unwrap_or_default())
        };
        let [(candidate, left), (control, right)] = ARMS.map(cell);
        if left.is_empty() && right.is_empty() {
            continue;
        }
        let change = candidate.zip(control).filter(|(_, control)| *control > 0.0);
        let change = change.map(|(candidate, control)| {
            format!("{:+.1} %, {:+.2} ms", (candidate / control - 1.0) * 100.0, candidate - control)
        });
        let cells =
            [left, right, change.unwrap_or_default()].map(|cell| format!("<td class=\"n\">{}</td>", escaped(&cell)));
        let _ = writeln!(rows, "<tr><td>{quantile}</td>{}</tr>", cells.concat());
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Latency compared</h2>\n<div class=\"scroll\"><table>\n<tr><th>quantile</th><th class=\"n\">candidate</th>\
         <th class=\"n\">control</th><th class=\"n\">difference</th></tr>\n{rows}</table></div>\n"
    )
}

/// What was counted at each share.
pub(super) fn phases(report: &Value, series: &Series) -> String {
    let mut stretches: Vec<(f64, f64, Point)> = Vec::new();
    let mut before = 0.0;
    for point in &series.points {
        let length = point.at - before;
        before = point.at;
        match stretches.last_mut().filter(|(share, ..)| *share == point.share) {
            Some((_, seconds, sum)) => {
                *seconds += length;
                for arm in 0..2 {
                    sum.requests[arm] += point.requests[arm];
                    sum.errors[arm] += point.errors[arm];
                }
            }
            None => stretches.push((point.share, length, point.clone())),
        }
    }
    if stretches.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for (share, seconds, sum) in &stretches {
        let interval = |arm: usize| {
            let bounds = wilson(sum.errors[arm], sum.requests[arm]);
            bounds.map(|(low, high)| format!("{} to {}", percent(low), percent(high))).unwrap_or_default()
        };
        let cells = [
            format!("{} %", super::trimmed(*share)),
            clock(*seconds),
            grouped(sum.requests[0]),
            rate(sum.errors[0], sum.requests[0]),
            interval(0),
            grouped(sum.requests[1]),
            rate(sum.errors[1], sum.requests[1]),
            interval(1),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{}</td>", escaped(cell))).collect();
        let _ = writeln!(rows, "<tr>{cells}</tr>");
    }
    let [candidate, control] = super::pools(report).map(|name| escaped(&name));
    format!(
        "<h2>Share by share</h2>\n<div class=\"scroll\"><table>\n<tr>\
         <th class=\"n\">share</th><th class=\"n\">time</th>\
         <th class=\"n\">{candidate}: requests</th><th class=\"n\">bad</th><th class=\"n\">95 %</th>\
         <th class=\"n\">{control}: requests</th><th class=\"n\">bad</th><th class=\"n\">95 %</th></tr>\n\
         {rows}</table></div>\n"
    )
}

/// The verdict's arithmetic: lines, or whatever the report holds.
pub(super) fn arithmetic(report: &Value) -> String {
    let words = match &report["arithmetic"] {
        Value::Null => return String::new(),
        Value::Array(lines) if lines.iter().all(Value::is_string) => {
            lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
        }
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    format!("<h2>The verdict's arithmetic</h2>\n<pre>{}</pre>\n", escaped(&words))
}

pub(super) fn events(report: &Value) -> String {
    let events = report["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if events.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for event in &events[..events.len().min(EVENTS_MAX)] {
        let at = text(event, &["at"]);
        let at = if at.is_empty() {
            let ms =
                member(event, &["atMs", "at_ms"]).as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            ms.map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
        } else {
            moment(&at)
        };
        let severity = text(event, &["severity"]);
        let cells = [text(event, &["kind"]).replace('_', " "), text(event, &["who"]), text(event, &["message"])]
            .map(|cell| escaped(&cell));
        let [kind, who, message] = cells;
        let _ = writeln!(
            rows,
            "<tr><td class=\"soft\">{}</td><td><span class=\"sev {}\">{kind}</span></td><td>{who}</td>\
             <td class=\"word\">{message}</td></tr>",
            escaped(&at),
            escaped(&severity),
        );
    }
    let more = events.len().saturating_sub(EVENTS_MAX);
    let more = if more > 0 { format!("<p class=\"soft\">and {more} more in the JSON</p>\n") } else { String::new() };
    format!(
        "<h2>Events</h2>\n<div class=\"scroll\"><table>\n\
         <tr><th>time (UTC)</th><th>what</th><th>who</th><th></th></tr>\n\
         {rows}</table></div>\n{more}"
    )
}

/// The plan that it went by, as it was when it began.
pub(super) fn plan(report: &Value) -> String {
    if !report["plan"].is_object() {
        return String::new();
    }
    let words = serde_json::to_string_pretty(&report["plan"]).unwrap_or_default();
    format!("<details><summary>The plan that it went by</summary>\n<pre>{}</pre></details>\n", escaped(&words))
}
