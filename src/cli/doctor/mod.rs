//! `weir doctor`: what is wrong, in the order in which it is to be mended: the files, the running process, its traffic,
//! its endpoints, its rollouts, the machine. It changes nothing, and sends endpoints what a probe sends them.
//!
//! The looks are pure, but for [`files`], which reads, and [`reach`], which connects; each gives [`finding`]s.

mod files;
mod finding;
mod live;
mod machine;
mod reach;
mod rollouts;
mod samples;
#[cfg(test)]
mod screens;
mod service;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::files::Files;
use self::finding::{Finding, Severity};
use self::samples::Samples;
use super::client::{Client, ClientError, Question};
use super::failure::{Failure, WRONG};
use super::screen::{self, Paint};
use super::{Globals, place, rollout};
use crate::switchboard::status::Status;

#[derive(Debug, Args)]
#[command(after_help = "\
It reads the files, asks the running weir, and connects to every endpoint from here, as a
probe does. Findings come in the order in which they are to be mended, each with what would
be right and the command to run next.

Exit codes: 0 nothing is wrong (there may be notes), 1 errors or warnings were found,
2 wrong usage, or the files do not hold.

Examples:
  weir doctor
  weir doctor --no-connect
  weir doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .found'")]
pub(super) struct Arguments {
    /// Print data, as --output json does
    #[arg(long)]
    json: bool,
    /// Do not connect to endpoints from here
    #[arg(long)]
    no_connect: bool,
}

/// What the running weir says of itself.
#[derive(Debug, Default)]
struct Answers {
    /// `/api/v1/status`, as this weir knows it and as it came.
    status: Option<(Status, Value)>,
    samples: Samples,
    rollouts: Vec<rollout::view::View>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let json = arguments.json || globals.json();
    let files = files::look(&place::config_path(globals), globals.token_file());
    let place = place::admin(globals)?;
    let here = place.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()) || place.host() == "localhost";
    let cores = here.then(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut findings = Vec::new();
    let answers = ask(&Client::new(globals)?, &mut findings);
    findings.extend(judged(&files, &answers, cores, Timestamp::now()));
    if let Some(config) = files.config.as_ref().filter(|_| !arguments.no_connect) {
        let status = answers.status.as_ref().map(|(status, _)| status);
        merge(&mut findings, reach::look(config, status), status);
    }
    // What stands first within a kind is what the rest may follow from.
    findings.sort_by_key(|finding| finding.severity);
    let asked = match &answers.status {
        Some((status, _)) => format!("weir {} at {}, generation {}", status.version, place.url(), status.generation),
        None => format!("no weir was asked at {}", place.url()),
    };
    let wrong = findings.iter().any(|finding| finding.severity != Severity::Note);
    if json {
        screen::print_json(&json!({
            "ok": !wrong, "asked": place.url(), "running": answers.status.is_some(), "findings": findings,
        }))?;
    } else {
        screen::print(&finding::screen(&asked, &findings, Paint::stdout()))?;
    }
    match (files.ok, wrong) {
        (false, _) => Err(Failure::Said(WRONG)),
        (true, true) => Err(Failure::Said(1)),
        (true, false) => Ok(()),
    }
}

/// Everything that the files and the answers tell. Pure.
fn judged(files: &Files, answers: &Answers, cores: Option<usize>, now: Timestamp) -> Vec<Finding> {
    let mut findings = files.findings.clone();
    let Some((status, raw)) = &answers.status else { return findings };
    let live = live::look(status, raw, files, now);
    // What the running weir says of its files says more than the same line read from here.
    findings.retain(|own| !live.iter().any(|it| it.place == own.place && it.found.ends_with(&own.found)));
    findings.extend(live);
    for service in &status.services {
        let spec = files.config.as_ref().and_then(|it| it.plan.services.iter().find(|it| *it.name == service.name));
        findings.extend(service::look(service, spec, &answers.samples));
    }
    findings.extend(service::limits(&answers.samples));
    findings.extend(live::certificates(status, now));
    findings.extend(machine::look(status, &answers.samples, cores));
    findings.extend(answers.rollouts.iter().flat_map(rollouts::look));
    findings
}

/// Adds what was found from here: to what weir found of the same endpoint, else by itself. What weir reaches and this
/// machine does not is only worth knowing.
fn merge(findings: &mut Vec<Finding>, reached: Vec<Finding>, status: Option<&Status>) {
    for found in reached {
        if let Some(known) = findings.iter_mut().find(|known| known.place == found.place) {
            known.found = format!("{}; {}", known.found, found.found);
            (known.right, known.next) = (found.right, found.next);
            continue;
        }
        let severity = if status.is_some() { Severity::Note } else { Severity::Error };
        findings.push(Finding { severity, ..found });
    }
}

/// Asks the running weir everything; what it does not answer is a finding.
fn ask(client: &Client, findings: &mut Vec<Finding>) -> Answers {
    let unanswered = |findings: &mut Vec<Finding>, found: String, right: &str, next: &str| {
        findings.push(Severity::Error.of("the admin API", found).right(right).next(next));
        Answers::default()
    };
    let answer = match client.send(Question::get("/api/v1/status")) {
        Ok(answer) => answer,
        Err(error @ ClientError::NotRunning { .. }) => {
            let right = "start it, or name where it takes commands with --admin URL";
            return unanswered(findings, error.to_string(), right, "weir run --config FILE");
        }
        Err(error @ ClientError::Token { .. }) => {
            return unanswered(
                findings,
                error.to_string(),
                "name a file that can be read",
                "weir status --token-file FILE",
            );
        }
        Err(error @ ClientError::NoAnswer { .. }) => {
            let right = "name the admin address with --admin URL; https:// where it speaks TLS";
            return unanswered(findings, error.to_string(), right, "weir healthcheck");
        }
    };
    let raw = match client.document(&answer) {
        Ok(raw) => raw,
        Err(error) => {
            let right = "a token that this weir takes, in a file that --token-file names";
            return unanswered(findings, format!("it answered {}: {error}", answer.status), right, "weir status");
        }
    };
    let Ok(status) = serde_json::from_value::<Status>(raw.clone()) else {
        let found = "the running weir tells its status in another way than this program knows";
        return unanswered(findings, found.into(), "ask with the program that runs", "weir version");
    };
    let text = client.send(Question::get("/metrics")).map(|answer| answer.body).unwrap_or_default();
    let samples = Samples::read(&String::from_utf8_lossy(&text));
    Answers { status: Some((status, raw)), samples, rollouts: rollout::running(client) }
}
