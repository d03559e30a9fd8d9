//! `weir rollout watch` and `status`: the screen of `picture`, again and again or once. On a terminal it is drawn over
//! itself on the alternate screen, and what was seen last stays behind; elsewhere there is a line whenever something
//! changed. Ctrl-C ends the watching, never the rollout.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::figures::{elapsed, evidence, percent};
use super::super::screen::{Canvas, Paint, printable};
use super::super::{Globals, events, kill, screen};
use super::gates::said;
use super::picture::{self, Room};
use super::view::{ArmView, EventView, View, word};
use super::{Which, banner, find, path};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Time for the events of the end.
const LAST_WORDS: Duration = Duration::from_millis(600);

/// Events that are kept for the screen.
const EVENTS_KEPT: usize = 12;

/// Without a terminal, a line at least so often although nothing changed.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C ends the watching and not the rollout.
Exit codes: 0 it was watched to its end or left, 1 weir cannot be asked.")]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Shows it once, as `status` does
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
}

/// Once.
pub(super) fn status(arguments: &Status, globals: &Globals) -> Result<(), Failure> {
    once(&arguments.which, globals)
}

fn once(which: &Which, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let found = find(&client, &which.name)?;
    if globals.json() {
        return screen::print_json(&found);
    }
    let mut view = read(&found)?;
    complete(&mut view, client.ask(Question::get("/api/v1/status")).ok().as_ref());
    let columns = screen::size().map_or(picture::COLUMNS, |(columns, _)| columns);
    screen::print(&picture::render(&view, &now(), Room { columns, rows: None }, Paint::stdout()))
}

/// Until it ends.
pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.once {
        return once(&arguments.which, globals);
    }
    let client = Client::new(globals)?;
    let found = find(&client, &arguments.which.name)?;
    let id = read(&found)?.rollout_id;
    let ended = follow(&client, &id, globals.json(), |_, _| false)?;
    if let Some(view) = ended.filter(|view| !view.is_live() && !globals.json()) {
        screen::print(&banner::shown(&view, view.standing()))?;
    }
    Ok(())
}

/// Shows a rollout until it ends, somebody ends the watching, or it is `over` by what is seen after so long; what was
/// seen last.
pub(in crate::cli) fn follow(
    client: &Client,
    id: &str,
    json: bool,
    over: impl Fn(&View, Duration) -> bool,
) -> Result<Option<View>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut looks = interval(PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let mut shown = Shown::new(json);
        let heard = RefCell::new(VecDeque::new());
        let mut feed = pin!(events::feed(client, |event| hear(&heard, event, id)));
        loop {
            tokio::select! {
                // An end goes first, so that Ctrl-C never waits for a look.
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => break,
                _ = looks.tick() => {}
                () = &mut feed => continue,
            }
            shown.events = heard.borrow().iter().cloned().collect();
            look(client, id, &mut shown).await?;
            let Some(view) = &shown.view else { continue };
            if !view.is_live() {
                // What it ended with is told a moment later.
                let _ = tokio::time::timeout(LAST_WORDS, &mut feed).await;
                shown.events = heard.borrow().iter().cloned().collect();
                look(client, id, &mut shown).await?;
                break;
            }
            if over(view, began.elapsed()) {
                break;
            }
        }
        shown.end()
    })
}

/// One look, shown.
async fn look(client: &Client, id: &str, shown: &mut Shown) -> Result<(), Failure> {
    let (rollout, status) = tokio::join!(document(client, path(id, "")), document(client, "/api/v1/status".into()));
    shown.show(rollout.as_ref(), status.as_ref())
}

/// Keeps an event of this rollout, and of those only the last ones.
fn hear(heard: &RefCell<VecDeque<EventView>>, event: &Value, id: &str) {
    let Ok(event) = serde_json::from_value::<EventView>(event.clone()) else { return };
    if event.rollout_id.as_deref() == Some(id) {
        let mut heard = heard.borrow_mut();
        heard.push_back(event);
        while heard.len() > EVENTS_KEPT {
            heard.pop_front();
        }
    }
}

/// An answer of success as a document; none when weir cannot be asked or refuses.
async fn document(client: &Client, path: String) -> Option<Value> {
    let answer = client.exchange(Question::get(path)).await.ok()?;
    answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok())?
}

fn read(document: &Value) -> Result<View, Failure> {
    View::read(document)
        .ok_or_else(|| Failure::failed("the running weir tells its rollouts in another way; see it with --output json"))
}

fn now() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::system())
}

/// Fills in what the rollout itself does not tell: what both pools do by the status.
pub(in crate::cli) fn complete(view: &mut View, status: Option<&Value>) {
    let services = status.and_then(|status| status["services"].as_array());
    let Some(service) = services.and_then(|list| list.iter().find(|it| it["name"] == view.service.as_str())) else {
        return;
    };
    let control = view.control.clone().or_else(|| service["stable"].as_str().map(str::to_owned)).unwrap_or_default();
    view.control = Some(control.clone());
    if view.arms.is_empty() {
        let arm = |pool: &str| ArmView { pool: pool.to_owned(), ..ArmView::default() };
        view.arms = vec![arm(&view.candidate), arm(&control)];
    }
    for arm in &mut view.arms {
        let pools = service["pools"].as_array();
        let Some(pool) = pools.and_then(|list| list.iter().find(|it| it["name"] == arm.pool.as_str())) else {
            continue;
        };
        let minute = &pool["last_minute"];
        let fill = |own: &mut Option<f64>, key: &str| *own = own.or_else(|| minute[key].as_f64());
        fill(&mut arm.requests_per_s, "requests_per_s");
        fill(&mut arm.p50_ms, "p50_ms");
        fill(&mut arm.p95_ms, "p95_ms");
        fill(&mut arm.p99_ms, "p99_ms");
        if arm.pool == view.candidate && view.realised_percentage.is_none() {
            view.realised_percentage = minute["effective_share"].as_f64().map(|share| share * 100.0);
        }
    }
    let killed = status.map(kill::killed).unwrap_or_default();
    let own = killed.into_iter().find(|(whose, _)| whose.as_ref().is_none_or(|whose| *whose == view.service));
    view.killed = view.killed.take().or(own.map(|(_, reason)| reason));
}

/// What is on the screen.
struct Shown {
    json: bool,
    canvas: Option<Canvas>,
    view: Option<View>,
    events: Vec<EventView>,
    line: String,
    told: Instant,
}

// === impl Shown ===

impl Shown {
    fn new(json: bool) -> Self {
        let canvas = (!json && screen::is_terminal()).then(Canvas::open);
        Self { json, canvas, view: None, events: Vec::new(), line: String::new(), told: Instant::now() }
    }

    fn show(&mut self, rollout: Option<&Value>, status: Option<&Value>) -> Result<(), Failure> {
        if self.json {
            // One document a line, for programs.
            self.view = rollout.and_then(View::read).or(self.view.take());
            return rollout.map_or(Ok(()), |rollout| screen::print(&format!("{rollout}\n")));
        }
        let lost = rollout.is_none();
        if let Some(mut view) = rollout.and_then(View::read) {
            complete(&mut view, status);
            if !self.events.is_empty() {
                view.events.clone_from(&self.events);
            }
            self.view = Some(view);
        }
        let Some(view) = &self.view else { return Ok(()) };
        match &self.canvas {
            Some(canvas) => {
                let (columns, rows) = screen::size().unwrap_or((picture::COLUMNS, 24));
                // The last column stays free: a line that fills it would lose its last letter when its rest is erased.
                let room = Room { columns: columns.saturating_sub(1), rows: Some(rows.saturating_sub(1).max(1)) };
                let mut text = picture::render(view, &now(), room, Paint::stdout());
                if lost {
                    let note = Paint::stdout().red("weir does not answer; this is what was seen last");
                    text = text.lines().take(rows.saturating_sub(2)).map(|line| format!("{line}\n")).collect();
                    text += &note;
                }
                canvas.draw(&text, rows)
            }
            None => {
                let line = if lost { "weir does not answer".to_owned() } else { line(view) };
                if line == self.line && self.told.elapsed() < SILENCE {
                    return Ok(());
                }
                (self.line, self.told) = (line.clone(), Instant::now());
                screen::print(&format!("{}  {line}\n", now().strftime("%H:%M:%S")))
            }
        }
    }

    /// Gives the terminal back and leaves the last picture on it.
    fn end(self) -> Result<Option<View>, Failure> {
        if let Some(canvas) = self.canvas {
            canvas.close();
            if let Some(view) = &self.view {
                let columns = screen::size().map_or(picture::COLUMNS, |(columns, _)| columns);
                screen::print(&picture::render(view, &now(), Room { columns, rows: None }, Paint::stdout()))?;
            }
        }
        Ok(self.view)
    }
}

/// The rollout in one line, for logs. It tells what matters and leaves out what moves every second.
fn line(view: &View) -> String {
    let phase = if view.phases.is_empty() {
        format!("phase {}", view.phase + 1)
    } else {
        format!("phase {} of {}", (view.phase + 1).min(view.phases.len()), view.phases.len())
    };
    let gate = |gate: &super::view::GateView| {
        let against = gate.e_value.zip(gate.limit);
        // Rounded to tens of percent of the way, or there were a line every second.
        let against = against.map(|(value, limit)| {
            let part = (value.max(1.0).ln() / limit.max(1.1).ln()).clamp(0.0, 1.0);
            match part {
                part if part >= 1.0 => format!(" ({} of {})", evidence(value), evidence(limit)),
                part if part >= 0.1 => format!(" ({:.0} % of the way to its limit)", (part * 10.0).floor() * 10.0),
                _ => String::new(),
            }
        });
        format!("{} {}{}", printable(&gate.name), said(&gate.verdict), against.unwrap_or_default())
    };
    let gates: Vec<String> = view.gates.iter().map(gate).collect();
    let mut parts = vec![format!("{} at {}", word(&view.state), percent(view.current_percentage)), phase];
    parts.extend(gates);
    if !view.is_live() {
        parts.push(format!("took {}", elapsed(view.watched_ms)));
        parts.extend(Some(view.why()).filter(|why| !why.is_empty()));
    }
    parts.join("; ")
}
