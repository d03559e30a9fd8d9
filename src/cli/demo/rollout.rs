//! `weir demo --rollout good|bad|slow|quiet`: a whole rollout on one screen, with two upstreams, a load and a plan
//! whose times are minutes shortened to seconds. Nothing else is special: weir decides by the same evidence as ever.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use super::super::change;
use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::figures::{count, elapsed, percent};
use super::super::rollout::view::{Standing, View};
use super::super::rollout::{banner, watch};
use super::super::screen::{self, Paint};
use super::child::Child;
use super::directory::Directory;
use super::load::Load;
use super::{Arguments, POOLS, Upstreams, free_unless, named, public_address};
use crate::rollout::report::html;

/// What the plan and its file are called.
const PLAN: &str = "demo";

/// Most time that is watched, if the ending does not come.
const PATIENCE: Duration = Duration::from_secs(115);

/// Both pools fail this part of their requests and take this long: no service is perfect, and a comparison with one
/// that never fails would be too easy.
const ERROR_RATE: f64 = 0.02;
const DELAY: Duration = Duration::from_millis(5);

/// Requests a second, and where it is quiet.
const PER_SECOND: u32 = 800;
const QUIET_PER_SECOND: u32 = 2;

/// How the rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ending {
    /// As good as stable: promoted
    Good,
    /// Five times the errors: rolled back
    Bad,
    /// Four times as slow: rolled back
    Slow,
    /// Too little traffic to tell: said so, and left to a person
    Quiet,
}

/// Starts everything, shows the rollout to its end and says whether it was the one that was promised.
pub(super) fn execute(ending: Ending, arguments: &Arguments) -> Result<(), Failure> {
    let public = public_address(arguments.port)?;
    // Nobody has to know its port: the configuration says it, and several demos may run beside each other.
    let admin = free_unless(0)?;
    let upstreams = Upstreams::start(ending.upstreams())?;
    let directory = Directory::new(arguments.dir.as_deref(), public, admin, &upstreams.addresses)?;
    // Everything begins at stable, whatever an earlier demo left in a directory that was kept.
    std::fs::write(directory.weights(), "[engine]\nstable = 100\ncanary = 0\n")?;
    let plan = directory.plan(PLAN, &plan())?;
    let mut child = Child::start(&directory)?;
    child.wait_until_it_serves(&directory)?;
    let try_it = format!("in another terminal: WEIR_CONFIG={} weir rollout pause engine", directory.config().display());
    screen::print(&format!(
        "{}\n\nplan {}, load {} requests a second, both pools fail {} of them by nature\n{try_it}\n\n",
        ending.promise(),
        plan.display(),
        ending.per_second(),
        percent(ERROR_RATE * 100.0)
    ))?;
    let load = Load::start(public, ending.per_second());
    let client = Client::at(admin.to_string());
    let ended = shown(&client, ending, arguments);
    let report = ended.as_ref().ok().and_then(|view| kept_report(&client, view, &directory));
    let (sent, failed) = load.stop();
    let stopped = child.stop();
    upstreams.stop();
    let view = ended?;
    stopped?;
    screen::print(&told(&view, sent, failed))?;
    if let Some(report) = report {
        screen::print(&format!("the report: {report}\n"))?;
    }
    if ending.is(&view) { Ok(()) } else { Err(Failure::failed(format!("it should have been: {}", ending.promise()))) }
}

fn shown(client: &Client, ending: Ending, arguments: &Arguments) -> Result<View, Failure> {
    let question = Question::post("/api/v1/rollouts", json!({ "plan": PLAN, "reason": "weir demo" }));
    let started = client.ask(change::signed(question, ""))?;
    let id = started["rolloutId"].as_str().unwrap_or_default().to_owned();
    let most = arguments.seconds.map_or(PATIENCE, Duration::from_secs).min(PATIENCE);
    let over = |view: &View, elapsed: Duration| elapsed >= most || ending == Ending::Quiet && view.state == "paused";
    let last = watch::follow(client, &id, false, over)?;
    last.ok_or_else(|| Failure::failed("weir did not tell how the rollout stands"))
}

/// The report beside the files, when they stay.
fn kept_report(client: &Client, view: &View, directory: &Directory) -> Option<String> {
    let report = client.ask(Question::get(format!("/api/v1/rollouts/{}/report", view.rollout_id))).ok()?;
    let file = directory.kept()?.join("report.html");
    std::fs::write(&file, html::page(&report)).ok()?;
    Some(file.display().to_string())
}

/// The banner, and what it cost.
fn told(view: &View, sent: u64, failed: u64) -> String {
    let cost = format!(
        "it took {}; {} requests were sent, {} of them failed\n",
        elapsed(view.watched_ms),
        count(sent),
        count(failed)
    );
    format!("{}{cost}", banner::render(view, view.standing(), Paint::stdout()))
}

// === impl Ending ===

impl Ending {
    fn upstreams(self) -> [super::Upstream; 2] {
        let (delay, errors) = match self {
            Ending::Good | Ending::Quiet => (DELAY, ERROR_RATE),
            Ending::Bad => (DELAY, ERROR_RATE * 5.0),
            Ending::Slow => (DELAY * 4, ERROR_RATE),
        };
        let [stable, canary] = POOLS.map(named);
        [stable.misbehaving(DELAY, ERROR_RATE), canary.misbehaving(delay, errors)]
    }

    fn per_second(self) -> u32 {
        if self == Ending::Quiet { QUIET_PER_SECOND } else { PER_SECOND }
    }

    fn promise(self) -> &'static str {
        match self {
            Ending::Good => "a canary as good as stable: weir promotes it",
            Ending::Bad => "a canary with five times the errors: weir rolls it back",
            Ending::Slow => "a canary four times as slow: weir rolls it back",
            Ending::Quiet => "hardly a request: weir says that it cannot tell, and leaves it to a person",
        }
    }

    /// Whether it came as promised.
    fn is(self, view: &View) -> bool {
        match self {
            Ending::Good => view.standing() == Standing::Passed,
            Ending::Bad | Ending::Slow => view.standing() == Standing::Failed,
            Ending::Quiet => view.state == "paused" && view.standing() == Standing::Inconclusive,
        }
    }
}

/// The plan: what would take an hour elsewhere, in less than two minutes.
fn plan() -> String {
    let mut text = String::from(
        "# The plan of `weir demo --rollout`: times of a real rollout are minutes and hours.\n\
         service = \"engine\"\n\
         candidate = \"canary\"\n\
         on_failure = \"rollback\"\n\
         on_inconclusive = \"pause\"         # too quiet to tell: a person decides\n\n\
         [evidence]\n\
         settle = \"1s\"                     # after each change of weights\n\
         warm_up = \"2s\"                    # of a new instance; its latency does not count\n",
    );
    for phase in [5, 25, 50, 100] {
        text += &format!("\n[[phases]]\npercent = {phase}\nmin_duration = \"8s\"\nmax_duration = \"20s\"\n");
    }
    text + "\n[[gates]]\nkind = \"error_rate\"            # evidence against stable\n\n\
            [[gates]]\nkind = \"latency\"\nquantile = 0.95\n"
}
