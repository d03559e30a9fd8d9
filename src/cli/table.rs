//! The status as a table that can be read at three in the morning: first whether all is well, then the split, then who
//! changed what. Pure: a status and the time in, text out.

use std::fmt::Write as _;

use jiff::Zoned;

use super::figures::{milliseconds, moment, span};
use super::screen::{Paint, printable};
use crate::switchboard::change::How;
use crate::switchboard::history::{Entry, Record};
use crate::switchboard::status::{EndpointStatus, Minute, PoolStatus, ServiceStatus, Status};

/// Changes that are shown; all that are kept are in the JSON.
const CHANGES_SHOWN: usize = 8;

/// Where a line of the table begins.
const INDENT: &str = "  ";

/// The titles of the columns of a pool; the first is left-aligned, as is the last.
const TITLES: [&str; 11] =
    ["POOL", "WEIGHT", "SHARE", "LAST 60 S", "REQ/S", "ERRORS", "P50", "P95", "P99", "IN FLIGHT", "STATE"];

/// The whole table.
pub(super) fn render(status: &Status, now: &Zoned, paint: Paint) -> String {
    let mut text = headline(status, paint);
    let _ = writeln!(text, "{}", paint.dim(&format!("config   {}", printable(&status.config_file))));
    let _ = writeln!(text, "{}", paint.dim(&format!("weights  {}", printable(&status.weights_file))));
    warnings(&mut text, status, now, paint);
    for service in &status.services {
        self::service(&mut text, service, paint);
    }
    history(&mut text, &status.history, now, paint);
    text
}

/// Whether all is well, in one line.
fn headline(status: &Status, paint: Paint) -> String {
    let state = if status.safe_mode {
        paint.yellow("safe mode: everything goes to stable")
    } else if status.stale.is_some() {
        paint.red("serving, but a file can no longer be seen to change")
    } else if !status.last_reload.ok {
        paint.red("serving, but the last reload failed")
    } else if status.services.iter().any(|service| service.pending.is_some()) {
        paint.yellow("serving, but the weights file does not say what is live")
    } else if let Some(pool) = down(status) {
        paint.yellow(&format!("serving, but nothing serves in {pool}"))
    } else {
        paint.green("serving")
    };
    let workers = if status.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", status.workers) };
    let facts = format!(
        "generation {}, up {}, {workers}, pid {}, weir {}",
        status.generation,
        span(status.uptime_s),
        status.pid,
        printable(&status.version)
    );
    format!("{state}  {}\n", paint.dim(&facts))
}

/// A pool that should get traffic and has nothing that serves.
fn down(status: &Status) -> Option<String> {
    let dead = |pool: &&PoolStatus| pool.weight > 0 && !serves(pool);
    status.services.iter().find_map(|service| {
        service.pools.iter().find(dead).map(|pool| format!("{}/{}", printable(&service.name), printable(&pool.name)))
    })
}

fn serves(pool: &PoolStatus) -> bool {
    pool.endpoints.iter().any(|endpoint| endpoint.state == "serving")
}

/// What the breaker of a pool says, unless there is nothing that could serve.
fn state(pool: &PoolStatus) -> &str {
    if pool.state == "serving" && !serves(pool) { "down" } else { &pool.state }
}

fn warnings(text: &mut String, status: &Status, now: &Zoned, paint: Paint) {
    if let Some(stale) = &status.stale {
        let _ = writeln!(text, "\n{} {}", paint.red("!"), printable(stale));
    }
    if !status.last_reload.ok {
        let kept = format!("generation {} stays live", status.generation);
        let when = moment(&status.last_reload.at, now);
        let _ = writeln!(text, "\n{} last reload failed at {when}; {kept}", paint.red("!"));
        for problem in &status.last_reload.problems {
            for line in problem.lines() {
                let _ = writeln!(text, "    {}", printable(line));
            }
        }
    }
    for service in &status.services {
        if let Some(pending) = &service.pending {
            let _ = writeln!(text, "\n{} {}", paint.yellow("!"), printable(pending));
        }
    }
}

fn service(text: &mut String, service: &ServiceStatus, paint: Paint) {
    let mut facts = vec![format!("rollback goes to {}", printable(&service.stable))];
    facts.extend(service.undo.as_ref().map(|undo| format!("undo goes to {}", record(undo))));
    facts.extend(
        service.draining.as_ref().map(|drain| {
            format!("{} drains for {} more", printable(&drain.pools.join(", ")), span(drain.seconds_left))
        }),
    );
    let _ = writeln!(text, "\n{}  {}", paint.bold(&printable(&service.name)), paint.dim(&facts.join("; ")));
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(service.pools.iter().map(|pool| pool_row(service, pool)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; TITLES.len()] = std::array::from_fn(width);
    let line = |row: &[String; TITLES.len()]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ if column == TITLES.len() - 1 => cell.clone(),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let _ = writeln!(text, "{INDENT}{}", paint.dim(&line(&rows[0])));
    let address = service.pools.iter().flat_map(|pool| &pool.endpoints).map(|e| e.address.chars().count());
    let address = address.max().unwrap_or(0);
    for (pool, row) in service.pools.iter().zip(&rows[1..]) {
        let _ = writeln!(text, "{INDENT}{}", tinted(pool, &line(row), paint));
        for endpoint in &pool.endpoints {
            let _ = writeln!(text, "{INDENT}{INDENT}{}", endpoint_line(endpoint, address, paint));
        }
        if pool.endpoints.is_empty() {
            let _ = writeln!(text, "{INDENT}{INDENT}{}", paint.red("no endpoint: its names have not resolved"));
        }
    }
}

fn pool_row(service: &ServiceStatus, pool: &PoolStatus) -> [String; TITLES.len()] {
    let weight = service.weights.0.iter().find(|(name, _)| name.as_str() == pool.name);
    let weight = weight.map_or_else(|| pool.weight.to_string(), |(_, weight)| weight.to_string());
    let minute = pool.last_minute.as_ref();
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".into(), |ratio| format!("{:.1}%", ratio * 100.0));
    let time = |pick: fn(&Minute) -> Option<f64>| minute.and_then(pick).map_or_else(|| "-".into(), milliseconds);
    [
        printable(&pool.name),
        weight,
        ratio(Some(pool.configured_share)),
        ratio(minute.and_then(|minute| minute.effective_share)),
        minute.map_or_else(|| "-".into(), |minute| format!("{:.1}", minute.requests_per_s)),
        minute
            .and_then(|minute| minute.error_ratio)
            .map_or_else(|| "-".into(), |ratio| format!("{:.2}%", ratio * 100.0)),
        time(|minute| minute.p50_ms),
        time(|minute| minute.p95_ms),
        time(|minute| minute.p99_ms),
        pool.in_flight.to_string(),
        printable(state(pool)),
    ]
}

/// A pool that fails stands out, one without traffic steps back.
fn tinted(pool: &PoolStatus, line: &str, paint: Paint) -> String {
    let errors = pool.last_minute.as_ref().and_then(|minute| minute.error_ratio).unwrap_or(0.0);
    match () {
        () if state(pool) != "serving" || errors >= 0.05 => paint.red(line),
        () if errors > 0.0 => paint.yellow(line),
        () if pool.weight == 0 => paint.dim(line),
        () => line.to_owned(),
    }
}

fn endpoint_line(endpoint: &EndpointStatus, width: usize, paint: Paint) -> String {
    let state = match endpoint.state.as_str() {
        "serving" => paint.green("serving "),
        "draining" | "unproved" => paint.yellow(&format!("{:8}", endpoint.state)),
        other => paint.red(&format!("{:8}", printable(other))),
    };
    let mut notes = Vec::new();
    notes.extend(endpoint.state_for_s.map(|seconds| format!("for {}", span(seconds))));
    if endpoint.in_flight > 0 {
        notes.push(format!("{} in flight", endpoint.in_flight));
    }
    if endpoint.ejections > 0 {
        notes.push(format!("ejected {} time{}", endpoint.ejections, if endpoint.ejections == 1 { "" } else { "s" }));
    }
    if let Some(error) = &endpoint.last_error {
        notes.push(format!("last error: {}", printable(error)));
    }
    let origin = printable(&endpoint.origin);
    if !origin.contains(&endpoint.address) {
        notes.push(format!("found at {origin}"));
    }
    let line = format!("{:width$}  {state}  {}", printable(&endpoint.address), paint.dim(&notes.join(", ")));
    line.trim_end().to_owned()
}

fn history(text: &mut String, entries: &[Entry], now: &Zoned, paint: Paint) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.bold("last changes"));
    let shown = &entries[..entries.len().min(CHANGES_SHOWN)];
    let rows: Vec<[String; 4]> = shown.iter().map(|entry| change_row(entry, now)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (generation, at, who) = (width(0), width(1), width(2));
    for [number, when, by, what] in &rows {
        let left = paint.dim(&format!("{number:>generation$}  {when:at$}  {by:who$}"));
        let _ = writeln!(text, "{INDENT}{left}  {what}");
    }
    if entries.len() > shown.len() {
        let more = format!("{} more with --output json", entries.len() - shown.len());
        let _ = writeln!(text, "{INDENT}{}", paint.dim(&more));
    }
}

fn change_row(entry: &Entry, now: &Zoned) -> [String; 4] {
    let how = entry.cause.how.as_str();
    let by = if entry.cause.who.is_empty() { how.to_owned() } else { format!("{how} {}", printable(&entry.cause.who)) };
    let one = |change: &crate::switchboard::history::WeightsChange| {
        let before = change.before.as_ref().map(|before| format!("{} → ", record(before))).unwrap_or_default();
        format!("{} {before}{}", printable(&change.service), record(&change.after))
    };
    let mut what = entry.changes.iter().map(one).collect::<Vec<_>>().join("; ");
    if what.is_empty() {
        what = if entry.cause.how == How::Start { "started" } else { "configuration" }.into();
    }
    if !entry.cause.reason.is_empty() {
        let _ = write!(what, "  \"{}\"", printable(&entry.cause.reason));
    }
    [entry.generation.to_string(), moment(&entry.at, now), by, what]
}

fn record(record: &Record) -> String {
    record.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    /// Compares with a file of `tests/golden/cli`; `WEIR_UPDATE_GOLDEN=1` refreshes it.
    #[track_caller]
    fn golden(name: &str, actual: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name);
        if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual).expect("the golden directory can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(expected, actual, "WEIR_UPDATE_GOLDEN=1 refreshes {}", path.display());
    }

    fn status() -> Status {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli/status.json");
        let text = std::fs::read_to_string(path).expect("the status is there");
        serde_json::from_str(&text).expect("it is a status")
    }

    fn now() -> Zoned {
        let now: Timestamp = "2026-11-21T03:02:10Z".parse().expect("a time");
        now.to_zoned(TimeZone::UTC)
    }

    #[test]
    fn a_night_with_everything_wrong_is_told_in_one_table() {
        golden("status.txt", &render(&status(), &now(), Paint::plain()));
    }

    #[test]
    fn a_quiet_night_begins_with_serving() {
        let mut status = status();
        status.stale = None;
        status.last_reload.ok = true;
        status.services.truncate(1);
        status.services[0].pending = None;
        for pool in &mut status.services[0].pools {
            pool.endpoints.retain(|endpoint| endpoint.state == "serving");
        }
        let table = render(&status, &now(), Paint::plain());
        assert!(table.starts_with("serving  generation 12"), "{table}");
        assert!(!table.contains('!'), "{table}");
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let mut status = status();
        status.history[0].cause.reason = "\u{1b}[2Jgone".into();
        status.services[0].pools[0].endpoints[0].last_error = Some("\u{1b}]0;title\u{7}".into());
        status.last_reload.problems = vec!["\u{1b}[31m".into()];
        assert!(!render(&status, &now(), Paint::plain()).contains('\u{1b}'));
    }
}
