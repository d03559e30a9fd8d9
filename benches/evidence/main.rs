//! How sure is the judge? Simulated rollouts through the real one: how often a healthy release is rolled back, and how
//! soon a bad one is found, beside the rules that others use. Seeded; the tables go to standard output.
//!
//!     cargo run --release --example evidence            # every scenario, 10 000 healthy rollouts each
//!     cargo run --release --example evidence -- --quick # 1 000 each; exit 1 when a promise is broken
//!     cargo run --release --example evidence -- --fine  # healthy ones in ticks of a second: ten times as long
//!     cargo run --release --example evidence -- --caches    # only the worlds with caches
//!
//! Healthy rollouts are simulated in ticks of ten seconds for speed: the tests hold for ticks of any length.

mod dice;
mod plot;
mod rules;
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use weir::config::Config;
use weir::config::rollouts::{Constraints, plan_from_profile, read_plan};
use weir::model::Name;
use weir::model::rollout::RolloutPlan;
use weir::rollout::evidence::band::wilson;
use weir::rollout::judge::Judge;
use weir::rollout::verdict::Verdict;

use self::rules::{NAMES, Rules};
use self::world::{Event, Kind, Run, World};

/// Length of a simulated rollout.
const HOUR: f64 = 3600.0;

/// Standard deviations of a 99 % interval.
const Z99: f64 = 2.576;

/// Healthy worlds: nobody may be rolled back here, but where the candidate is as much worse as is bearable.
const HEALTHY: [World; 24] = [
    World::plain("independent errors, 100/s, 0.5 %", 100.0, 0.005),
    World::plain("1000/s", 1000.0, 0.005),
    World::plain("20/s", 20.0, 0.005),
    World::plain("1/s", 1.0, 0.005),
    World::plain("no traffic", 0.0, 0.005),
    World::plain("no errors at all", 100.0, 0.0),
    World::plain("half of everything fails", 100.0, 0.5),
    World::plain("base rate moves by 5", 100.0, 0.003).of(Kind::Diurnal),
    World::plain("base rate rises with the share", 100.0, 0.005).of(Kind::Simpson),
    World::plain("shared outage, 20 % for 2 min", 100.0, 0.005).of(Kind::Outage),
    World::plain("sticky units, 1 error each", 100.0, 0.005).of(Kind::Sticky(1.0)),
    World::plain("sticky units, 5 errors each", 100.0, 0.005).of(Kind::Sticky(5.0)),
    World::plain("sticky units, 20 errors each", 100.0, 0.005).of(Kind::Sticky(20.0)),
    World::plain("sticky units, 100 errors each", 100.0, 0.005).of(Kind::Sticky(100.0)),
    World::plain("bursts of 5 on a connection", 100.0, 0.005).of(Kind::Bursts(5.0)),
    World::plain("rates jump from tick to tick", 100.0, 0.005).of(Kind::Jumpy),
    World::plain("pauses make both slow", 100.0, 0.005).of(Kind::Pauses),
    World::plain("cold start, excluded", 100.0, 0.005).of(Kind::Cold),
    World::plain("share changes every 10 s", 100.0, 0.005).of(Kind::Restless),
    World::plain("exact round robin", 100.0, 0.005).of(Kind::RoundRobin),
    World::plain("caches that miss 10 %", 100.0, 0.005).cached(0.1, 1.0, 0.0),
    World::plain("1.25 times the misses, the margin: not promised", 100.0, 0.005).cached(0.1, 1.25, 0.0),
    World::plain("a cold cache, excluded", 100.0, 0.005).cached_with(0.1, Event::Cold),
    World::plain("both caches emptied at minute 20", 100.0, 0.005).cached_with(0.1, Event::Purge),
];

/// Bad worlds, and the longest median time until they are found, where one is promised.
const BAD: [(World, Option<f64>); 22] = [
    (World::plain("errors 1.5 times, 100/s", 100.0, 0.005).worse(1.5, 0.0), None),
    (World::plain("errors 2 times, 100/s", 100.0, 0.005).worse(2.0, 0.0), Some(1500.0)),
    (World::plain("errors 5 times, 100/s", 100.0, 0.005).worse(5.0, 0.0), None),
    (World::plain("errors 20 times, 100/s", 100.0, 0.005).worse(20.0, 0.0), Some(60.0)),
    (World::plain("errors 50 times, 100/s", 100.0, 0.005).worse(50.0, 0.0), None),
    (World::plain("errors 2 times, 1000/s", 1000.0, 0.005).worse(2.0, 0.0), Some(360.0)),
    (World::plain("errors 5 times, 1000/s", 1000.0, 0.005).worse(5.0, 0.0), None),
    (World::plain("errors 20 times, 1000/s", 1000.0, 0.005).worse(20.0, 0.0), Some(15.0)),
    (World::plain("errors 20 times, 20/s", 20.0, 0.005).worse(20.0, 0.0), None),
    (World::plain("errors 20 times of 0.05 %, 100/s", 100.0, 0.0005).worse(20.0, 0.0), None),
    (World::plain("errors 2 times of 5 %, 100/s", 100.0, 0.05).worse(2.0, 0.0), None),
    (World::plain("5 times from minute 20 on, 100/s", 100.0, 0.005).worse(5.0, 1200.0), None),
    (World::plain("5 times from minute 40 on, 100/s", 100.0, 0.005).worse(5.0, 2400.0), None),
    (World::plain("one endpoint of four 20 times, 100/s", 100.0, 0.005).worse(20.0, 0.0).partly(0.25), None),
    (World::plain("1 % of users 100 times, 1000/s", 1000.0, 0.005).worse(100.0, 0.0).partly(0.01), None),
    (World::plain("tail twice as heavy, 100/s", 100.0, 0.005).slow(0.1), None),
    (World::plain("tail four times as heavy, 100/s", 100.0, 0.005).slow(0.2), None),
    (
        World::plain("sticky units, 5 times as many fail, 100/s", 100.0, 0.005).of(Kind::Sticky(5.0)).worse(5.0, 0.0),
        None,
    ),
    (World::plain("misses 1.5 times of 10 % from minute 10 on, 100/s", 100.0, 0.005).cached(0.1, 1.5, 600.0), None),
    (World::plain("misses 2 times of 10 % from minute 10 on, 100/s", 100.0, 0.005).cached(0.1, 2.0, 600.0), None),
    (World::plain("no hit any more from minute 10 on, 100/s", 100.0, 0.005).cached(0.1, 10.0, 600.0), None),
    (World::plain("no hit any more from minute 10 on, 20/s", 20.0, 0.005).cached(0.1, 10.0, 600.0), None),
];

/// What became of one simulated rollout.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// Second at which it was rolled back.
    found: Option<f64>,
    /// The candidate's requests until then, and failed ones; in a world with caches, those that missed.
    requests: u64,
    failed: u64,
    degraded: bool,
    rules: [Option<u64>; 8],
}

fn main() -> std::process::ExitCode {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    let (quick, tick_s) = (asked("--quick"), if asked("--fine") { 1.0 } else { 10.0 });
    let healthy_runs = if quick { 1_000 } else { 10_000 };
    let bad_runs = if quick { 100 } else { 500 };
    let worlds = |world: &World| !asked("--caches") || world.cache.is_some();
    let plans = [plan(false), plan(true)];
    let of = |world: &World| &plans[usize::from(world.cache.is_some())];
    let mut broken = Vec::new();
    println!("Healthy releases that were rolled back, of {healthy_runs} in each world (an hour on 1, 5 and 25 %):\n");
    println!("| world | rolled back | at most (99 %) | paused: environment |\n|---|---|---|---|");
    let mut false_alarms = Vec::new();
    for (index, world) in HEALTHY.iter().enumerate().filter(|(_, world)| worlds(world)) {
        let outcomes = run_all(of(world), *world, healthy_runs, 1 + index as u64, tick_s);
        let alarms = outcomes.iter().filter(|outcome| outcome.found.is_some()).count() as u64;
        let degraded = outcomes.iter().filter(|outcome| outcome.degraded).count();
        let [_, high] = wilson(alarms, healthy_runs, Z99);
        println!("| {} | {} | {} | {} |", world.name, percent(alarms, healthy_runs), share(high), degraded);
        // With fewer runs the interval is wider: the quick form asks for what 1 000 runs can show.
        if world.is_promised() && high > if quick { 0.025 } else { 0.01 } {
            broken.push(format!("{}: up to {} of healthy releases are rolled back", world.name, share(high)));
        }
        false_alarms.push(outcomes);
    }
    if tick_s < 10.0 {
        return verdict(&broken);
    }
    println!("\nBad releases, {bad_runs} in each world:\n");
    println!("| world | found | median | 95 % | its requests until then | failed ones |\n|---|---|---|---|---|---|");
    let mut curve = Vec::new();
    for (index, (world, promised)) in BAD.iter().enumerate().filter(|(_, (world, _))| worlds(world)) {
        let mut outcomes = run_all(of(world), *world, bad_runs, 1_000 + index as u64, 1.0);
        outcomes.sort_by(|a, b| a.found.unwrap_or(f64::MAX).total_cmp(&b.found.unwrap_or(f64::MAX)));
        let found = outcomes.iter().filter(|outcome| outcome.found.is_some()).count() as u64;
        let at = |part: f64| outcomes[((bad_runs - 1) as f64 * part) as usize];
        let onset = world.worse.1;
        let time = |part: f64| at(part).found.map_or("not within the hour".into(), |s| seconds(s - onset));
        let median = at(0.5);
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            world.name,
            percent(found, bad_runs),
            time(0.5),
            time(0.95),
            median.requests,
            median.failed
        );
        if let Some(limit) = promised
            && median.found.is_none_or(|s| s > *limit)
        {
            broken.push(format!("{}: median {}, promised {limit} s", world.name, time(0.5)));
        }
        curve.push((world.name, world.worse.0, median.found));
    }
    if asked("--caches") {
        return verdict(&broken);
    }
    let plan = &plans[0];
    comparators(plan, &false_alarms, bad_runs);
    match plot::write(plan, &curve) {
        Ok(files) => println!("\nPlots: {files}"),
        Err(error) => eprintln!("no plots: {error}"),
    }
    verdict(&broken)
}

fn verdict(broken: &[String]) -> std::process::ExitCode {
    for promise in broken {
        eprintln!("BROKEN: {promise}");
    }
    if broken.is_empty() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// What the rules of others do with the same traffic.
fn comparators(plan: &RolloutPlan, healthy: &[Vec<Outcome>], runs: u64) {
    let worlds = [
        World::plain("", 100.0, 0.005).worse(2.0, 0.0),
        World::plain("", 100.0, 0.005).worse(5.0, 0.0),
        World::plain("", 100.0, 0.005).worse(20.0, 0.0),
    ];
    let bad: Vec<Vec<Outcome>> =
        worlds.iter().enumerate().map(|(i, world)| run_all(plan, *world, runs, 5_000 + i as u64, 10.0)).collect();
    println!(
        "\nThe same traffic (100/s, 0.5 %) under other rules: healthy releases rolled back, and the median time to"
    );
    println!("find 2, 5 and 20 times the errors. A rule that fires on everything is fast.\n");
    println!("| rule | healthy, 100/s | healthy, 20/s | shared outage | 2 times | 5 times | 20 times |");
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, of: &dyn Fn(&Outcome) -> Option<f64>| {
        let rate = |outcomes: &[Outcome]| {
            percent(outcomes.iter().filter(|outcome| of(outcome).is_some()).count() as u64, outcomes.len() as u64)
        };
        let median = |outcomes: &[Outcome]| {
            let mut times: Vec<f64> = outcomes.iter().map(|outcome| of(outcome).unwrap_or(f64::MAX)).collect();
            times.sort_by(f64::total_cmp);
            let middle = times[times.len() / 2];
            if middle == f64::MAX { "-".to_owned() } else { seconds(middle) }
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            rate(&healthy[0]),
            rate(&healthy[2]),
            rate(&healthy[9]),
            median(&bad[0]),
            median(&bad[1]),
            median(&bad[2])
        );
    };
    row("**weir**", &|outcome| outcome.found);
    for (index, name) in NAMES.iter().enumerate() {
        row(name, &|outcome| outcome.rules[index].map(|s| s as f64));
    }
}

/// Runs a world many times, on every core. The seeds are those of the world, whatever the cores do.
fn run_all(plan: &RolloutPlan, world: World, runs: u64, family: u64, tick_s: f64) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut all: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let work = || {
            let mut own = Vec::new();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs {
                    return own;
                }
                own.push((run, simulate(plan, world, family << 32 | run, tick_s)));
            }
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a simulation does not panic")).collect()
    });
    all.sort_by_key(|(run, _)| *run);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

/// One rollout: an hour, or until it is rolled back. Every hundredth judge is written down and read back on its way.
fn simulate(plan: &RolloutPlan, world: World, seed: u64, tick_s: f64) -> Outcome {
    let mut judge = Judge::new(plan);
    let mut run = Run::new(world, seed);
    let mut rules = Rules::default();
    let mut outcome = Outcome::default();
    let ticks = (HOUR / tick_s) as u64;
    for index in 1..=ticks {
        let second = index as f64 * tick_s;
        let tick = run.tick(second, tick_s);
        if tick_s >= 10.0 {
            rules.look(&tick);
        }
        if outcome.found.is_none() {
            let judgement = judge.observe(&tick);
            outcome.requests += tick.candidate.attempts;
            let cached = world.cache.is_some();
            outcome.failed += if cached { tick.candidate.cache_misses } else { tick.candidate.errors };
            outcome.degraded |= judgement.verdict == Verdict::EnvironmentDegraded;
            if judgement.verdict == Verdict::Fail {
                outcome.found = Some(second);
            }
        } else if tick_s < 10.0 {
            break;
        }
        if seed.is_multiple_of(100) && index % 97 == 0 {
            let text = serde_json::to_string(&judge).expect("a judge is data");
            let again: Judge = serde_json::from_str(&text).expect("it is its own");
            assert_eq!(again, judge, "a restart changed the evidence");
            judge = again;
        }
    }
    outcome.rules = rules.fired;
    outcome
}

/// The plan that weir makes when nothing is said; `cached`: with a gate about caches that does not wait.
fn plan(cached: bool) -> RolloutPlan {
    let main = "[services.engine]\ncount_cache = true\n\
                [services.engine.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                [services.engine.pools.canary]\nendpoints = [\"http://127.0.0.1:2\"]\n";
    let config = Config::parse(main, Path::new("weir.toml"), &|_| None).expect("it holds");
    let engine = Name::new("engine").expect("a name");
    let (routes, limits) = (&config.plan, Constraints::default());
    let mut plan = plan_from_profile("default", &engine, routes, &limits).expect("it holds").plan;
    if cached {
        let text = "service = \"engine\"\n[[phases]]\npercent = 5\n\
                    [[gates]]\nkind = \"cache_hit\"\non_failure = \"plan\"\n";
        let own = read_plan(text, Path::new("caches.toml"), routes, &limits).expect("it holds").plan;
        plan.gates.extend(own.gates);
    }
    plan
}

fn percent(part: u64, whole: u64) -> String {
    share(part as f64 / whole as f64)
}

fn share(ratio: f64) -> String {
    format!("{:.2} %", 100.0 * ratio)
}

fn seconds(s: f64) -> String {
    if s < 120.0 { format!("{s:.0} s") } else { format!("{:.1} min", s / 60.0) }
}
