//! A/A: two equal pools, again and again. Nothing may be rolled back but by the chance that was promised.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Asks, Crowd, hits, mixed};
use crate::harness::rollouts::ROLLOUTS;
use crate::harness::wire::Head;
use crate::harness::{Behaviour, Setup, Upstream, Weir, eventually};
use crate::rows;

/// Processes at once, services in each, rollouts of each service one after the other: 200.
const PROCESSES: u64 = 5;
const ROUNDS: usize = 10;

/// Rollouts of 200 that may be rolled back at a promised chance of one in a hundred: more than five would be seen with
/// healthy code once in sixty runs of this test, if the whole chance were spent.
const ROLLED_BACK_MAX: usize = 5;

/// Rollouts of 200 that may be paused because stable seemed unwell: who fails is chance here too, and stable's few
/// users may be the failing ones.
const PAUSED_MAX: usize = 2;

/// How long one rollout may take on a machine that does other things; it takes about nine seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the services are like: name, and what both of their pools do.
const SERVICES: [(&str, &str); 4] = [
    ("engine", "no errors"),
    ("shop", "2 % errors"),
    ("mail", "sticky clients, errors in clusters"),
    ("feed", "slow one time in ten"),
];

fn behaviour(kind: usize, seed: u64) -> Behaviour {
    let quick = move |number: u64| Behaviour::Late(Duration::from_micros(200 + mixed(seed ^ number) % 2_000));
    match kind {
        1 => Behaviour::chosen(move |_, n| if hits(seed, n, 0.02) { Behaviour::status(500) } else { quick(n) }),
        2 => Behaviour::chosen(move |head: &Head, n| {
            let unit = head.field("x-unit").and_then(|unit| unit[1..].parse::<u64>().ok()).unwrap_or(0);
            // Which units are broken is the same for both pools: it is the users' doing.
            let broken = hits(99, unit, 0.03) && hits(seed, n, 0.8);
            if broken { Behaviour::status(500) } else { quick(n) }
        }),
        3 => Behaviour::chosen(move |_, n| {
            if hits(seed, n, 0.1) { Behaviour::Late(Duration::from_millis(20 + mixed(n) % 60)) } else { quick(n) }
        }),
        _ => Behaviour::chosen(move |_, n| quick(n)),
    }
}

/// The plan of a service; no number of the statistics is changed, but that a test begins anew every 3 s.
fn plan(service: &str) -> Value {
    json!({
        "service": service,
        "candidate": "canary",
        "on_inconclusive": "advance",
        "phases": [
            { "percent": 40, "min_duration": "1s", "max_duration": "7s" },
            { "percent": 60, "min_duration": "1s", "max_duration": "2s" },
            { "percent": 100, "min_duration": "200ms" },
        ],
        "gates": [{ "kind": "error_rate" }, { "kind": "latency", "quantile": 0.95 }],
        "evidence": { "settle": "100ms", "warm_up": "0s", "epoch": "3s" },
    })
}

/// One weir with all services in it.
fn start(servers: &[[Upstream; 2]]) -> Weir {
    let mut text = "[rollouts]\ntick = \"50ms\"\n".to_owned();
    let mut weights = "stable = 100\ncanary = 0\n".to_owned();
    for (index, (name, _)) in SERVICES.iter().enumerate() {
        let _ = writeln!(text, "[[routes]]\nservice = \"{name}\"\nmatch.host = \"{name}.test\"\n");
        if index > 0 {
            for server in &servers[index] {
                let _ = writeln!(text, "[services.{name}.pools.{}]\nendpoints = [\"{}\"]", server.name(), server.url());
            }
            let _ = writeln!(weights, "\n[{name}]\nstable = 100\ncanary = 0");
        }
        if index == 2 {
            let _ = writeln!(text, "[services.{name}.affinity]\nby = \"header\"\nname = \"x-unit\"");
        }
    }
    let [stable, canary] = &servers[0];
    Setup::new().pool("stable", &[stable]).pool("canary", &[canary]).weights(&weights).text(&text).start()
}

/// What became of one rollout.
#[derive(Debug, Clone, PartialEq)]
enum Became {
    Promoted,
    /// It went on because the plan says so, with less evidence than it asks for.
    Inconclusive,
    /// It waits, because stable itself seemed unwell.
    Degraded(String),
    RolledBack(String),
    Other(String),
}

fn one(weir: &Weir, service: &str) -> Became {
    let mut id = String::new();
    // One that was rolled back holds its service until that is verified.
    eventually("the service is free", PATIENCE, || {
        let answer = weir.admin("POST", ROLLOUTS, &[], &plan(service).to_string());
        id = answer.json()["rolloutId"].as_str().unwrap_or_default().to_owned();
        answer.status == 201
    });
    let (ended, view) = weir.watch_rollout(&id, PATIENCE, |view| {
        let state = view["state"].as_str().unwrap_or("");
        matches!(state, "completed" | "rolled_back" | "paused")
    });
    let events = view["events"].as_array().cloned().unwrap_or_default();
    let unshown = |event: &Value| event["message"].as_str().is_some_and(|it| it.contains("without enough evidence"));
    let became = match view["state"].as_str() {
        Some("completed") if events.iter().any(unshown) => Became::Inconclusive,
        Some("completed") => Became::Promoted,
        Some("rolled_back") => Became::RolledBack(format!("{id}: {}", view["because"])),
        Some("paused") if view["because"].as_str().is_some_and(|it| it.starts_with("stable itself is not well")) => {
            Became::Degraded(format!("{id}: {}", view["because"]))
        }
        state => Became::Other(format!("{id} is {state:?} (ended: {ended}): {}, {view}", view["because"])),
    };
    if became != Became::Promoted && became != Became::Inconclusive {
        weir.command_rollout(&id, "rollback", "the next one");
    }
    // The next one begins with stable again.
    let back = weir.admin("POST", &format!("/api/v1/services/{service}/rollback"), &[], r#"{"reason":"again"}"#);
    assert_eq!(back.status, 200, "{}", back.text());
    became
}

fn process(number: u64) -> Vec<(usize, Became)> {
    let server = |name: &str, kind: usize, side: u64| {
        let server = Upstream::named(name).forgetful();
        server.behave(behaviour(kind, 1 + side + 2 * kind as u64 + 100 * number));
        server
    };
    let servers: Vec<[Upstream; 2]> =
        (0..SERVICES.len()).map(|kind| [server("stable", kind, 0), server("canary", kind, 1)]).collect();
    let weir = start(&servers);
    let hosts = ["engine.test", "shop.test", "mail.test", "feed.test"];
    let crowds: Vec<Crowd> = (0..SERVICES.len())
        .map(|kind| {
            let units = if kind == 2 { 300 } else { 0 };
            let asks = Asks { clients: 3, pause: Duration::from_millis(13), host: hosts[kind], units };
            Crowd::at(weir.address(), &asks)
        })
        .collect();
    eventually("every stable has been seen", PATIENCE, || servers.iter().all(|pair| pair[0].asked() > 150));
    let all = std::thread::scope(|scope| {
        let weir = &weir;
        let run = |kind: usize| move || (0..ROUNDS).map(|_| (kind, one(weir, SERVICES[kind].0))).collect::<Vec<_>>();
        let threads: Vec<_> = (0..SERVICES.len()).map(|kind| scope.spawn(run(kind))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its rollouts ran")).collect()
    });
    drop(crowds);
    all
}

#[test]
fn of_two_hundred_healthy_rollouts_no_more_are_rolled_back_than_was_promised() {
    let began = Instant::now();
    let all: Vec<(usize, Became)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PROCESSES).map(|number| scope.spawn(move || process(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its process ran")).collect()
    });
    let mut lines = Vec::new();
    let count =
        |kind: usize, is: fn(&Became) -> bool| all.iter().filter(|(it, became)| *it == kind && is(became)).count();
    for (kind, (_, what)) in SERVICES.iter().enumerate() {
        let promoted = count(kind, |it| *it == Became::Promoted);
        let inconclusive = count(kind, |it| *it == Became::Inconclusive);
        let paused = count(kind, |it| matches!(it, Became::Degraded(_)));
        let back = count(kind, |it| matches!(it, Became::RolledBack(_)));
        let run = PROCESSES as usize * ROUNDS;
        lines.push(format!("| {what} | {run} | {promoted} | {inconclusive} | {paused} | {back} |"));
    }
    lines.push(format!("{} rollouts in {:.0} s", all.len(), began.elapsed().as_secs_f64()));
    rows::keep("healthy", &lines);
    let told = |(kind, became): &(usize, Became)| format!("{}: {became:?}", SERVICES[*kind].0);
    let back: Vec<_> = all.iter().filter(|(_, it)| matches!(it, Became::RolledBack(_))).map(told).collect();
    let paused: Vec<_> = all.iter().filter(|(_, it)| matches!(it, Became::Degraded(_))).map(told).collect();
    let other: Vec<_> = all.iter().filter(|(_, it)| matches!(it, Became::Other(_))).map(told).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert!(paused.len() <= PAUSED_MAX, "{} paused: {paused:#?}", paused.len());
    assert_eq!(all.len(), 200);
    assert!(back.len() <= ROLLED_BACK_MAX, "{} rolled back: {back:#?}", back.len());
}
