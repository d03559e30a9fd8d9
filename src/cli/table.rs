//! The status as a table that can be read at three in the morning: first whether all is well, then the split, then who
//! changed what. Pure: a status and the time in, text out.

use std::fmt::Write as _;

use jiff::Zoned;

use super::certificates;
use super::figures::{moment, percent, ratio, span};
use super::pools::{self, FAILING, failed, serves, state};
use super::rollout::view::{View, word};
use super::screen::{Paint, printable};
use crate::switchboard::change::How;
use crate::switchboard::history::{Entry, Record};
use crate::switchboard::status::{EndpointStatus, MaintenanceStatus, PoolStatus, ServiceStatus, Status, StreamStatus};

/// Changes that are shown; all that are kept are in the JSON.
const CHANGES_SHOWN: usize = 8;

/// Where a line of the table begins.
const INDENT: &str = "  ";

/// What is shown beside the status: it comes from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Rollouts that run.
    pub(super) rollouts: Vec<View>,
    /// What is killed and why: the whole system (none) and services.
    pub(super) killed: Vec<(Option<String>, String)>,
    /// Kill switches that do something, a line each.
    pub(super) switches: Vec<String>,
    /// The kill switch whose countdown ends first: `engine-errors kills service engine in 4 s`.
    pub(super) countdown: Option<String>,
}

/// The whole table, for a terminal of so many columns.
pub(super) fn render(status: &Status, extras: &Extras, now: &Zoned, columns: usize, paint: Paint) -> String {
    let mut text = headline(status, extras, paint);
    let _ = writeln!(text, "{}", paint.dim(&format!("config   {}", printable(&status.config_file))));
    let _ = writeln!(text, "{}", paint.dim(&format!("weights  {}", printable(&status.weights_file))));
    warnings(&mut text, status, now, paint);
    extras.switches.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    certificates::render(&mut text, status, now, paint);
    for service in &status.services {
        self::service(&mut text, service, extras, columns, paint);
    }
    history(&mut text, &status.history, now, paint);
    text
}

/// Whether all is well, in one line.
fn headline(status: &Status, extras: &Extras, paint: Paint) -> String {
    let (gone, down, failing) = (gone(status), down(status), failing(status));
    let state = if !gone.is_empty() {
        let all = if gone.len() == status.services.len() { "NOT SERVING" } else { "NOT SERVING ALL" };
        paint.red(&format!("{all}: nothing serves in {}", gone.join("; ")))
    } else if let Some(service) = status.services.iter().find(|service| service.maintenance.is_some()) {
        paint.red(&format!("serving, but {} is under maintenance and answers 503", printable(&service.name)))
    } else if extras.killed.iter().any(|(service, _)| service.is_none()) {
        paint.red("serving, but killed: everything of every service goes to stable")
    } else if let Some((Some(service), _)) = extras.killed.first() {
        paint.red(&format!("serving, but {} is killed: everything goes to stable", printable(service)))
    } else if let Some(countdown) = &extras.countdown {
        paint.red(&format!("serving, but {countdown}"))
    } else if status.safe_mode {
        paint.yellow("safe mode: everything goes to stable")
    } else if status.stale.is_some() {
        paint.red("serving, but a file can no longer be seen to change")
    } else if !status.last_reload.ok {
        paint.red("serving, but the last reload failed")
    } else if status.tls.iter().any(|tls| !tls.failed.is_empty())
        || status.upstream_tls.iter().any(|tls| !tls.failed.is_empty())
    {
        paint.red("serving, but a certificate's new files do not hold")
    } else if status.acme.iter().any(|acme| acme.error.is_some()) {
        paint.red("serving, but a certificate could not be ordered")
    } else if status.services.iter().any(|service| service.pending.is_some()) {
        paint.yellow("serving, but the weights file does not say what is live")
    } else if !down.is_empty() {
        paint.yellow(&format!("serving, but nothing serves in {}", down.join(", ")))
    } else if !failing.is_empty() {
        paint.red(&format!("serving, but {}", failing.join("; ")))
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

/// Services of which nothing serves that gets requests, by weight or by failover, with those pools.
fn gone(status: &Status) -> Vec<String> {
    let gets = |service: &ServiceStatus, pool: &PoolStatus| pool.weight > 0 || pool.name == service.stable;
    let dead = |service: &&ServiceStatus| !service.pools.iter().any(|pool| gets(service, pool) && serves(pool));
    let named = |service: &ServiceStatus| {
        let pools = service.pools.iter().filter(|pool| gets(service, pool));
        let pools: Vec<String> = pools.map(|pool| printable(&pool.name)).collect();
        format!("{} ({})", printable(&service.name), pools.join(", "))
    };
    status.services.iter().filter(dead).map(named).collect()
}

/// Pools that should get traffic and have nothing that serves.
fn down(status: &Status) -> Vec<String> {
    let of = |service: &ServiceStatus| {
        let dead = service.pools.iter().filter(|pool| pool.weight > 0 && !serves(pool));
        dead.map(|pool| format!("{}/{}", printable(&service.name), printable(&pool.name))).collect::<Vec<_>>()
    };
    status.services.iter().flat_map(of).collect()
}

/// Pools that get traffic and fail a good part of it.
fn failing(status: &Status) -> Vec<String> {
    let of = |service: &ServiceStatus| {
        let failing = service.pools.iter().filter(|pool| pool.weight > 0 && failed(pool) >= FAILING);
        let said = |pool: &PoolStatus| {
            let (service, pool, ratio) = (printable(&service.name), printable(&pool.name), failed(pool) * 100.0);
            format!("{service}/{pool} failed {ratio:.1} % of its requests in the last minute")
        };
        failing.map(said).collect::<Vec<_>>()
    };
    status.services.iter().flat_map(of).collect()
}

fn warnings(text: &mut String, status: &Status, now: &Zoned, paint: Paint) {
    if let Some(stale) = &status.stale {
        let _ = writeln!(text, "\n{} {}", paint.red("!"), printable(stale));
    }
    if let Some(journal) = &status.journal {
        let _ = writeln!(text, "\n{} {}", paint.red("!"), printable(journal));
    }
    if let Some(resting) = &status.resting {
        let shown = resting.longest.iter().take(3);
        let shown: Vec<String> =
            shown.map(|it| format!("{} ({} s)", printable(&it.address), it.seconds_left)).collect();
        let more = if resting.addresses > 3 { ", .." } else { "" };
        let count =
            if resting.addresses == 1 { "1 address is".into() } else { format!("{} addresses are", resting.addresses) };
        let _ =
            writeln!(text, "\n{} {count} turned away for what they did: {}{more}", paint.yellow("!"), shown.join(", "));
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

fn service(text: &mut String, service: &ServiceStatus, extras: &Extras, columns: usize, paint: Paint) {
    let mut facts = vec![format!("rollback goes to {}", printable(&service.stable))];
    facts.extend(service.undo.as_ref().map(|undo| format!("undo goes to {}", record(undo))));
    facts.extend(
        service.draining.as_ref().map(|drain| {
            format!("{} drains for {} more", printable(&drain.pools.join(", ")), span(drain.seconds_left))
        }),
    );
    let _ = writeln!(text, "\n{}  {}", paint.bold(&printable(&service.name)), paint.dim(&facts.join("; ")));
    moved_by(text, service, extras, paint);
    let (rows, left_out) = pools::rows(service, columns.saturating_sub(INDENT.len()));
    let _ = writeln!(text, "{INDENT}{}", paint.dim(&rows[0]));
    let address = service.pools.iter().flat_map(|pool| &pool.endpoints).map(|e| e.address.chars().count());
    let address = address.max().unwrap_or(0);
    for (pool, row) in service.pools.iter().zip(&rows[1..]) {
        let _ = writeln!(text, "{INDENT}{}", tinted(pool, row, paint));
        for endpoint in &pool.endpoints {
            let _ = writeln!(text, "{INDENT}{INDENT}{}", endpoint_line(endpoint, address, paint));
        }
        if !pool.streams.is_empty() {
            let _ = writeln!(text, "{INDENT}{INDENT}{}", streams(pool, paint));
        }
        if let Some(hits) = pool.last_minute.as_ref().and_then(|minute| minute.cache_hit_ratio) {
            let line = format!("cache hits: {} in the last minute", ratio(hits));
            let _ = writeln!(text, "{INDENT}{INDENT}{}", paint.dim(&line));
        }
        if pool.endpoints.is_empty() {
            let _ = writeln!(text, "{INDENT}{INDENT}{}", paint.red("no endpoint: its names have not resolved"));
        }
    }
    if !left_out.is_empty() {
        let left_out = format!("too narrow here for {}; --output json has them", left_out.join(", "));
        let _ = writeln!(text, "{INDENT}{}", paint.dim(&left_out));
    }
}

/// The long streams of a pool.
fn streams(pool: &PoolStatus, paint: Paint) -> String {
    let of = |stream: &StreamStatus| {
        let draining = match stream.draining {
            0 => String::new(),
            closing => format!(", {closing} about to be closed"),
        };
        format!("{} {} (oldest {}{draining})", stream.running, printable(&stream.kind), span(stream.oldest_s))
    };
    let all = pool.streams.iter().map(of).collect::<Vec<_>>().join("; ");
    let line = format!("long streams: {all}");
    if pool.streams.iter().any(|stream| stream.draining > 0) { paint.yellow(&line) } else { paint.dim(&line) }
}

/// A kill or a rollout of the service: where it stands, and what to do next.
fn moved_by(text: &mut String, service: &ServiceStatus, extras: &Extras, paint: Paint) {
    let name = printable(&service.name);
    for (whose, reason) in extras.killed.iter().filter(|(whose, _)| whose.as_ref().is_none_or(|it| *it == service.name))
    {
        let back = if whose.is_some() { name.as_str() } else { "--all" };
        let what = paint.red("killed, everything goes to stable");
        let why = if reason.is_empty() { String::new() } else { format!(": {}", printable(reason)) };
        let _ = writeln!(text, "{INDENT}{what}{why}  {}", paint.dim(&format!("`weir unkill {back}`")));
    }
    if let Some(MaintenanceStatus { scope, pools, reason, .. }) = &service.maintenance {
        let back = if scope == "system" { "--all" } else { name.as_str() };
        let whose = if pools.is_empty() { String::new() } else { format!(" of {}", pools.join(", ")) };
        let what = paint.red(&format!("maintenance{whose}, answers 503"));
        let next = paint.dim(&format!("`weir maintenance {back} --end`"));
        let why = if reason.is_empty() { String::new() } else { format!(": {}", printable(reason)) };
        let _ = writeln!(text, "{INDENT}{what}{why}  {next}");
    }
    for rollout in extras.rollouts.iter().filter(|rollout| rollout.is_live() && rollout.service == service.name) {
        let what = format!(
            "rollout {} is {} at {}",
            printable(&rollout.rollout_id),
            word(&rollout.state),
            percent(rollout.current_percentage)
        );
        let (what, next) = match rollout.state.as_str() {
            "paused" => {
                (paint.yellow(&what), format!("`weir rollout resume {name}` or `weir rollout rollback {name}`"))
            }
            "pending" => (paint.yellow(&what), format!("`weir rollout explain {name}`")),
            _ if rollout.verdict == "fail" => (paint.red(&what), format!("`weir rollout explain {name}`")),
            _ => (what, format!("`weir rollout watch {name}`")),
        };
        let why = Some(rollout.because.as_str()).filter(|why| !why.is_empty() && rollout.state == "paused");
        let verdict = Some(word(&rollout.verdict)).filter(|verdict| !verdict.is_empty());
        let more = why.map(printable).or(verdict).map(|more| format!(": {more}")).unwrap_or_default();
        let _ = writeln!(text, "{INDENT}{what}{more}  {}", paint.dim(&next));
    }
}

/// A pool that fails stands out, one without traffic steps back.
fn tinted(pool: &PoolStatus, line: &str, paint: Paint) -> String {
    let errors = failed(pool);
    match () {
        () if state(pool) != "serving" || errors >= FAILING => paint.red(line),
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
    if let Some(done) = &entry.what {
        what = if what.is_empty() { printable(done) } else { format!("{}: {what}", printable(done)) };
    }
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

    /// Columns that everything fits into.
    const WIDE: usize = 120;

    fn status() -> Status {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli/status.json");
        let text = std::fs::read_to_string(path).expect("the status is there");
        serde_json::from_str(&text).expect("it is a status")
    }

    /// The same with nothing wrong.
    fn quiet() -> Status {
        let mut status = status();
        status.stale = None;
        status.last_reload.ok = true;
        status.services.truncate(1);
        status.services[0].pending = None;
        for pool in &mut status.services[0].pools {
            pool.endpoints.retain(|endpoint| endpoint.state == "serving");
        }
        status
    }

    fn now() -> Zoned {
        let now: Timestamp = "2026-11-21T03:02:10Z".parse().expect("a time");
        now.to_zoned(TimeZone::UTC)
    }

    #[test]
    fn a_night_with_everything_wrong_is_told_in_one_table() {
        golden("status.txt", &render(&status(), &Extras::default(), &now(), WIDE, Paint::plain()));
    }

    #[test]
    fn a_narrow_terminal_gets_whole_words_and_is_told_what_is_left_out() {
        let extras = Extras { countdown: Some("errors kills service engine in 4 s".into()), ..Extras::default() };
        let table = render(&status(), &extras, &now(), 80, Paint::plain());
        let wrapped = crate::cli::screen::wrapped(&table, 80);
        golden("status-80.txt", &wrapped);
        let columns = |line: &str| line.chars().count();
        assert!(wrapped.lines().all(|line| columns(line) <= 80), "{wrapped}");
    }

    #[test]
    fn a_pool_whose_answers_tell_of_caches_has_a_line_about_them_and_no_other_has() {
        let mut status = quiet();
        let minute = status.services[0].pools[0].last_minute.as_mut().expect("traffic");
        minute.cache_hit_ratio = Some(0.925);
        let table = render(&status, &Extras::default(), &now(), WIDE, Paint::plain());
        assert!(table.contains("    cache hits: 92.5 % in the last minute\n"), "{table}");
        assert_eq!(table.matches("cache hits").count(), 1, "{table}");
    }

    #[test]
    fn a_pool_that_answers_with_errors_is_not_called_well_nor_is_a_countdown() {
        let mut status = quiet();
        let endpoints = status.services[0].pools[0].endpoints.clone();
        let canary = &mut status.services[0].pools[1];
        (canary.weight, canary.state, canary.endpoints) = (10, "serving".into(), endpoints);
        let minute = canary.last_minute.as_mut().expect("traffic");
        (minute.failed, minute.failed_ratio, minute.error_ratio) = (1_500, Some(0.5208), Some(0.0));
        let table = render(&status, &Extras::default(), &now(), WIDE, Paint::plain());
        let first = "serving, but engine/canary failed 52.1 % of its requests in the last minute  generation 12";
        assert!(table.starts_with(first) && table.contains("52.08%"), "{table}");
        let extras = Extras { countdown: Some("errors kills service engine in 4 s".into()), ..Extras::default() };
        let table = render(&status, &extras, &now(), WIDE, Paint::plain());
        assert!(table.starts_with("serving, but errors kills service engine in 4 s  "), "{table}");
    }

    #[test]
    fn a_quiet_night_begins_with_serving() {
        let table = render(&quiet(), &Extras::default(), &now(), WIDE, Paint::plain());
        assert!(table.starts_with("serving  generation 12"), "{table}");
        assert!(!table.contains('!'), "{table}");
    }

    #[test]
    fn a_service_of_which_nothing_serves_is_not_called_serving() {
        let mut status = status();
        for endpoint in status.services.iter_mut().flat_map(|it| &mut it.pools).flat_map(|pool| &mut pool.endpoints) {
            endpoint.state = "down".into();
        }
        let table = render(&status, &Extras::default(), &now(), WIDE, Paint::plain());
        assert!(table.starts_with("NOT SERVING: nothing serves in engine (stable); shop (blue, green)  "), "{table}");
        status.services.remove(0);
        status.services[0].pools[0].weight = 0;
        let table = render(&status, &Extras::default(), &now(), WIDE, Paint::plain());
        assert!(table.starts_with("NOT SERVING: nothing serves in shop (blue, green)"), "{table}");
    }

    #[test]
    fn a_rollout_and_a_kill_say_where_they_stand_and_what_to_do_next() {
        let rollout = View {
            rollout_id: "engine-2-01".into(),
            service: "engine".into(),
            state: "paused".into(),
            current_percentage: 5.0,
            because: "ann changed the weights by hand".into(),
            ..View::default()
        };
        let killed = vec![(Some("engine".into()), "errors on /pay".into())];
        let extras = Extras { rollouts: vec![rollout], killed, ..Extras::default() };
        let table = render(&status(), &extras, &now(), WIDE, Paint::plain());
        for line in [
            "  killed, everything goes to stable: errors on /pay  `weir unkill engine`\n",
            "  rollout engine-2-01 is paused at 5 %: ann changed the weights by hand  \
             `weir rollout resume engine` or `weir rollout rollback engine`\n",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let mut status = status();
        status.history[0].cause.reason = "\u{1b}[2Jgone".into();
        status.services[0].pools[0].endpoints[0].last_error = Some("\u{1b}]0;title\u{7}".into());
        status.last_reload.problems = vec!["\u{1b}[31m".into()];
        assert!(!render(&status, &Extras::default(), &now(), WIDE, Paint::plain()).contains('\u{1b}'));
    }
}
