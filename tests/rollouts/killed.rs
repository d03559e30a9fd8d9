//! `kill -9` at two hundred random points of rollouts, under load: what goes on afterwards is what was decided before,
//! or something safer.
//!
//! Between the kill and the new start the files are read as they lie there, and the new process is held against them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Asks, Crowd, Dice, Met, hits};
use crate::harness::rollouts::ROLLOUTS;
use crate::harness::temp::TempDir;
use crate::harness::upstream::own_address;
use crate::harness::{Behaviour, Client, Setup, Upstream, Weir};
use crate::rows;

/// Programs at once, and kills of each: 200.
const PROGRAMS: u64 = 10;
const KILLS: u64 = 20;

/// Everything that is drawn is drawn from it.
const SEED: u64 = 20_261_121;

/// Clients of each program.
const CLIENTS: usize = 2;

const PATIENCE: Duration = Duration::from_secs(20);

/// A rollout as the journal has it while nothing runs.
#[derive(Debug)]
struct Kept {
    state: String,
    phase: u64,
    share: f64,
    intended: f64,
    watched_ms: u64,
    retreats: bool,
    requests: u64,
    shares: Vec<f64>,
}

/// What the files say while nothing runs.
#[derive(Debug)]
struct Files {
    kept: Option<Kept>,
    /// The candidate's percent in the weights file.
    live: f64,
    audit: usize,
}

/// A command that was sent before the kill, and what was answered in time.
#[derive(Debug)]
struct Told {
    verb: &'static str,
    reason: String,
    answer: Option<(u16, Value)>,
}

/// How often something was seen.
type Tally = BTreeMap<String, u64>;

fn plan(dice: &mut Dice) -> Value {
    let min = format!("{}ms", 200 + dice.below(400));
    let strategy = ["immediate", "gradual", "phased"][dice.below(3) as usize];
    let phase = |percent: u64| json!({ "percent": percent, "min_duration": min, "max_duration": "700ms" });
    json!({
        "service": "engine",
        "candidate": "canary",
        "on_inconclusive": "advance",
        "phases": [phase(10), phase(30), phase(60), phase(100)],
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "50ms", "warm_up": "0s", "no_traffic": "10s" },
        "rollback": { "strategy": strategy, "step": "200ms" },
    })
}

/// An address that is the same after a restart.
fn steady() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("an own address can be bound");
    listener.local_addr().expect("it has an address")
}

/// The rollout to be under way at the kill: the one that is, or a new one.
fn under_way(weir: &Weir, canary: &Upstream, dice: &mut Dice) -> String {
    let fails = dice.below(3) == 0;
    let seed = dice.next();
    canary.behave(Behaviour::chosen(move |_, n| {
        if fails && hits(seed, n, 0.3) { Behaviour::status(500) } else { Behaviour::Answer }
    }));
    let began = Instant::now();
    loop {
        let body = plan(dice).to_string();
        if weir.admin_get(ROLLOUTS).json()["rollouts"][0]["state"] == "completed" {
            assert_eq!(weir.rollback("the next one begins with stable").status, 200);
        }
        let answer = weir.admin("POST", ROLLOUTS, &[], &body);
        let id = answer.json()["rolloutId"].as_str().unwrap_or_default().to_owned();
        match answer.status {
            201 => return id,
            409 if answer.json()["code"] == "rollout_running" => return id,
            _ => assert!(began.elapsed() < PATIENCE, "{}", answer.text()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a command; what was answered, if it was.
fn tell(admin: SocketAddr, id: &str, verb: &str, reason: &str) -> Option<(u16, Value)> {
    let mut client = Client::try_to(admin).ok()?.host(&admin.to_string());
    let body = json!({ "reason": reason }).to_string();
    let fields = [("content-type", "application/json")];
    let answer = client.try_ask("POST", &format!("{ROLLOUTS}/{id}/{verb}"), &fields, body.as_bytes()).ok()?;
    Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

fn read_files(weir: &Weir, id: &str) -> Files {
    let aside = TempDir::new();
    for name in ["weir.db", "weir.db-wal"] {
        // Without a log beside it the file is whole.
        let _ = std::fs::copy(weir.config_directory().join(".weir").join(name), aside.path().join(name));
    }
    let (kept, audit) = read_journal(&aside.path().join("weir.db"), id);
    let weights: toml::Table = weir.weights_text().parse().expect("the weights file is whole");
    // Relative weights, or percentages where shares are finer.
    let weight = |pool: &str| match &weights["engine"][pool] {
        toml::Value::Integer(weight) => *weight as f64,
        other => other.as_str().and_then(|it| it.trim_end_matches('%').parse().ok()).expect("a percentage"),
    };
    let live = 100.0 * weight("canary") / (weight("canary") + weight("stable"));
    Files { kept, live, audit }
}

fn read_journal(path: &Path, id: &str) -> (Option<Kept>, usize) {
    let journal = rusqlite::Connection::open(path).expect("the journal can be opened");
    let row = journal.query_row("SELECT document, beside FROM rollouts WHERE id = ?1", [id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    });
    let audit: i64 = journal.query_row("SELECT COUNT(*) FROM audit", [], |row| row.get(0)).expect("a number");
    let kept = row.ok().map(|(document, beside)| {
        let document: Value = serde_json::from_str(&document).expect("a document");
        let beside: Value = serde_json::from_slice(&beside).unwrap_or_default();
        let percent = |value: &Value| value.as_u64().expect("a share") as f64 / 10_000.0;
        let phases = document["plan"]["phases"].as_array().expect("phases");
        Kept {
            state: document["state"].as_str().expect("a state").to_owned(),
            phase: document["phase"].as_u64().expect("a phase"),
            share: percent(&document["share"]),
            intended: percent(&document["intended"]),
            watched_ms: document["watchedMs"].as_u64().expect("a time"),
            retreats: !document["inner"]["retreat"].is_null(),
            requests: beside["figures"]["arms"][0]["attempts"].as_u64().unwrap_or(0),
            shares: phases.iter().map(|phase| percent(&phase["share"])).collect(),
        }
    });
    (kept, audit as usize)
}

/// Holds the first look at the new process against the files that it found.
fn compare(look: &Value, files: &Files, told: Option<&Told>, up: Instant, tally: &mut Tally) -> Result<(), String> {
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let (state, phase) = (look["state"].as_str().unwrap_or(""), look["phase"].as_u64().unwrap_or(99));
    let live = look["livePercentage"].as_f64().unwrap_or(-1.0);
    let Some(kept) = &files.kept else {
        *tally.entry("killed before it was kept".into()).or_default() += 1;
        return must(live <= files.live, "a share rose for a rollout that nobody knows");
    };
    let stage = if kept.retreats { "going back" } else { &kept.state };
    *tally.entry(format!("killed while {stage}")).or_default() += 1;
    // It may go on by itself while we look: one phase at most in so short a time, never by time that nobody watched.
    let since = up.elapsed().as_millis() as u64 + 100;
    must(look["watchedMs"].as_u64().unwrap_or(0) <= kept.watched_ms + since, "time that nobody watched was counted")?;
    must(phase >= kept.phase && phase <= kept.phase + 1, "the phase is another one")?;
    let decided = match kept.state.as_str() {
        "rolled_back" => files.live,
        _ => files.live.max(kept.intended).max(if phase > kept.phase { kept.shares[phase as usize] } else { 0.0 }),
    };
    must(live <= decided, "a restart raised the share")?;
    let same = match kept.state.as_str() {
        "rolled_back" | "completed" | "paused" => state == kept.state,
        _ => true,
    };
    must(same, "the state is another one")?;
    must(look["arms"][0]["requests"].as_u64().unwrap_or(0) >= kept.requests, "evidence is lost")?;
    if state == "paused" && kept.state != "paused" {
        *tally
            .entry("safer: paused, since the traffic had moved and nobody had written down why".into())
            .or_default() += 1;
    }
    if kept.share != kept.intended {
        *tally.entry("killed between what was intended and what was done".into()).or_default() += 1;
    }
    let Some((200, answer)) = told.and_then(|told| told.answer.as_ref()) else { return Ok(()) };
    match told.map_or("", |told| told.verb) {
        "rollback" => must(state == "rolled_back" && live == 0.0, "a rollback that was answered is forgotten"),
        "pause" => must(matches!(state, "paused" | "rolled_back"), "a pause that was answered is forgotten"),
        "advance" => must(phase >= answer["phase"].as_u64().unwrap_or(0), "an advance that was answered is forgotten"),
        _ => Ok(()),
    }
}

/// The e-values of the first gate, once it speaks.
fn evidence(weir: &Weir, id: &str) -> (Value, Value, Value) {
    let (_, view) = weir.watch_rollout(id, PATIENCE, |view| view["gates"][0]["eValue"].is_number());
    let gate = &view["gates"][0];
    (gate["eValue"].clone(), gate["safeEValue"].clone(), view["arms"][0]["requests"].clone())
}

/// One program, killed again and again.
fn program(number: u64) -> (Tally, Met) {
    let mut dice = Dice::new(SEED + number);
    let mut tally = Tally::new();
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let address = steady();
    let setup = Setup::pair(&stable, &canary, [100, 0]).public(address).text("[rollouts]\ntick = \"50ms\"");
    let mut weir = setup.start();
    let crowd = Crowd::at(address, &Asks { clients: CLIENTS, pause: Duration::from_millis(8), ..Asks::default() });
    for kill in 0..KILLS {
        let id = under_way(&weir, &canary, &mut dice);
        // One in four without traffic at the end, so that evidence stands still and can be compared bit by bit.
        let still = dice.below(4) == 0;
        let wait = Duration::from_millis(dice.below(900));
        let verb = ["pause", "resume", "advance", "rollback", "rollback"][dice.below(5) as usize];
        let reason = format!("{verb} {number}-{kill}");
        let commands = !still && dice.below(2) == 0;
        // Now and then the kill meets the command on its way.
        let close = Duration::from_micros(dice.below(150_000));
        let admin = weir.admin_address();
        std::thread::sleep(wait);
        crowd.rest(still);
        let before = still.then(|| {
            let mut seen = evidence(&weir, &id);
            loop {
                std::thread::sleep(Duration::from_millis(250));
                // Asking for the chain waits until everything that came before is on disk.
                assert_eq!(weir.admin_get("/api/v1/audit/verify").status, 200);
                let now = evidence(&weir, &id);
                if std::mem::replace(&mut seen, now.clone()) == now {
                    break now;
                }
            }
        });
        let told = std::thread::scope(|scope| {
            let (id, reason) = (&id, &reason);
            let sent = commands.then(|| scope.spawn(move || tell(admin, id, verb, reason)));
            std::thread::sleep(if commands { close } else { Duration::ZERO });
            weir.kill();
            sent.map(|sent| Told { verb, reason: reason.clone(), answer: sent.join().expect("no panic") })
        });
        let files = read_files(&weir, &id);
        let up = Instant::now();
        weir = weir.restart().expect("it starts again");
        let answer = weir.admin_get(&format!("{ROLLOUTS}/{id}"));
        if answer.status == 200 {
            let look = answer.json();
            let compared = compare(&look, &files, told.as_ref(), up, &mut tally);
            compared.unwrap_or_else(|what| panic!("{number}-{kill}: {what}: {files:?} {told:?} {look:#}"));
        } else {
            assert!(files.kept.is_none(), "{number}-{kill}: {files:?} {}", answer.text());
            assert_eq!(files.live, 0.0, "traffic moved for a rollout that nobody knows");
            *tally.entry("killed before it was kept".into()).or_default() += 1;
        }
        if let Some(before) = before {
            // It may have ended before the load did; then there is nothing that goes on.
            if weir.rollout(&id)["state"] == "rolling_out" {
                assert_eq!(evidence(&weir, &id), before, "{number}-{kill}");
                *tally.entry("evidence compared bit by bit and equal".into()).or_default() += 1;
            }
        }
        crowd.rest(false);
        let verified = weir.admin_get("/api/v1/audit/verify").json();
        assert!(verified["ok"] == true, "{verified}");
        assert!(verified["entries"].as_u64().is_some_and(|n| n >= files.audit as u64), "{verified} {files:?}");
        if let Some(told) = told.filter(|told| told.answer.as_ref().is_some_and(|(status, _)| *status == 200)) {
            *tally.entry(format!("{} answered just before", told.verb)).or_default() += 1;
            let audit = weir.admin_get("/api/v1/audit").text();
            assert!(audit.contains(&told.reason), "{number}-{kill}: {told:?} is not in the audit log");
        }
    }
    drop(weir);
    (tally, crowd.stop())
}

#[test]
fn whenever_it_is_killed_what_goes_on_is_what_was_decided_or_safer() {
    let began = Instant::now();
    let all: Vec<(Tally, Met)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PROGRAMS).map(|number| scope.spawn(move || program(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("its checks hold")).collect()
    });
    let (mut tally, mut good, mut broken, mut unread, mut odd) = (Tally::new(), 0, 0, 0, Vec::new());
    for (seen, met) in all {
        seen.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count);
        good += met.good;
        unread += met.unread;
        for (_, what) in met.failed {
            match what.split(' ').next() {
                // The failing candidate's own answers.
                Some("500") => good += 1,
                Some("502" | "503" | "504") => odd.push(what),
                _ => broken += 1,
            }
        }
    }
    let mut lines: Vec<String> = tally.iter().map(|(what, count)| format!("| {what} | {count} |")).collect();
    lines.push(format!("| requests answered | {good} |"));
    lines.push(format!("| requests under way at a kill, or on a connection that it closed | {broken} |"));
    lines.push(format!("| connections that the dying process did not take any more | {unread} |"));
    lines.push(format!("{} kills in {:.0} s", PROGRAMS * KILLS, began.elapsed().as_secs_f64()));
    rows::keep("killed", &lines);
    // One of each client at each kill, and one at the end.
    let most = CLIENTS as u64 * PROGRAMS * (KILLS + 1);
    assert!(broken <= most, "{broken} requests broke, {most} can have been under way");
    assert!(odd.is_empty(), "{odd:?}");
}
