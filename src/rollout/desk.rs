//! Where people and programs come in: start, command, look. It can be cloned, and none of it waits for a runner longer
//! than it must: looking never does, and a rollback moves the traffic before it asks anybody.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use super::event::Event;
use super::machine::{Command, Input, Rollout, State};
use super::runner::guardian;
use super::runner::keep::Audit;
use super::runner::levers::{self, Moved};
use super::runner::office::{LIVE_MAX, Office, Order, Seat, now_ms};
use super::view::View;
use crate::model::Name;
use crate::model::rollout::{RolloutPlan, Share};

/// Time that a runner gets to answer an order; it may wait for a disk.
const ANSWER: Duration = Duration::from_secs(15);

/// The same for a rollback, whose traffic has moved by then.
const ROLLBACK_ANSWER: Duration = Duration::from_secs(3);

/// Longest id of a rollout, in bytes.
const ID_BYTES_MAX: usize = 100;

/// The handle.
#[derive(Debug, Clone)]
pub struct Desk(Result<Arc<Office>, Arc<str>>);

/// Who asks, from where and why.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// A person or program, as far as it is known.
    pub who: String,
    /// A peer address.
    pub from: String,
    /// Why.
    pub reason: String,
}

/// A rollout that is asked for.
#[derive(Debug, Clone)]
pub struct Start {
    /// What it goes by.
    pub plan: RolloutPlan,
    /// What it is to be called; made up when none is given.
    pub id: Option<String>,
    /// Whether one that runs gives way, rather than this one be refused.
    pub supersede: bool,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The engine does not run.
    #[error("{0}")]
    Unavailable(String),
    /// Another rollout holds the service, or has the id.
    #[error("{why}")]
    Conflict {
        /// The id of the rollout that runs.
        running: String,
        /// In words.
        why: String,
    },
    /// It cannot be done in this state.
    #[error("{0}")]
    Illegal(String),
    /// There is no such rollout.
    #[error("there is no rollout \"{0}\"")]
    Unknown(String),
    /// What was asked for does not hold.
    #[error("{0}")]
    Invalid(String),
    /// The traffic could not be moved.
    #[error("{0}")]
    NotMoved(String),
}

// === impl Desk ===

impl Desk {
    pub(super) fn of(office: Arc<Office>) -> Self {
        Self(Ok(office))
    }

    /// A desk behind which nobody works; `why` is what everybody is told.
    pub fn closed(why: impl Into<Arc<str>>) -> Self {
        Self(Err(why.into()))
    }

    pub(super) fn office(&self) -> Result<&Arc<Office>, DeskError> {
        self.0.as_ref().map_err(|why| DeskError::Unavailable(why.to_string()))
    }

    /// Whether somebody works here.
    pub fn open(&self) -> Result<(), DeskError> {
        self.office().map(drop)
    }

    /// Why nobody works here, when that is so.
    pub fn why_closed(&self) -> Option<&str> {
        self.0.as_ref().err().map(AsRef::as_ref)
    }

    /// Starts a rollout; what it looks like once its first effects are done.
    pub async fn start(&self, start: Start, by: &By) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        let Start { plan, id, supersede } = start;
        let service = plan.service.clone();
        let live = levers::live_share(&office.switchboard, &plan);
        let live = live.ok_or_else(|| DeskError::Invalid(format!("there is no service \"{service}\"")))?;
        if let Some(running) = office.seat_of(&service).filter(|_| supersede) {
            self.supersede(office, &running, by).await?;
        }
        let id = id.map(|id| checked(&id)).transpose()?.unwrap_or_else(|| fresh_id(office, &plan.name));
        let rollout = Rollout::new(id.clone(), plan, by.who.clone(), by.reason.clone(), now_ms(), live);
        let (seat, orders) = guardian::seat(office, rollout, Vec::new());
        take(office, &seat)?;
        let window_closed = window(&seat.view.load().rollout.plan);
        self.audit(by, "rollout.start", &seat, json!({ "percent": live.percent() }), json!({ "rolloutId": id }));
        tokio::spawn(guardian::guard(Arc::clone(office), Arc::clone(&seat), orders, Input::Start { window_closed }));
        Ok(self.settled(&seat).await)
    }

    /// What a rollout looks like once its runner has taken it up.
    async fn settled(&self, seat: &Seat) -> Arc<View> {
        for _ in 0..100 {
            let view = seat.view.load_full();
            if view.rollout.state != State::Pending || !view.rollout.because.is_empty() {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seat.view.load_full()
    }

    async fn supersede(&self, office: &Arc<Office>, running: &Arc<Seat>, by: &By) -> Result<(), DeskError> {
        let mut by = by.clone();
        by.reason = format!("superseded: {}", by.reason);
        match self.command(&running.id, Command::Rollback, &by).await {
            Ok(_) | Err(DeskError::Illegal(_)) => {}
            Err(other) => return Err(other),
        }
        let (answer, answered) = oneshot::channel();
        let retire = running.orders.send(Order::Retire { answer });
        let _ = timeout(ANSWER, async { (retire.await, answered.await) }).await;
        for _ in 0..200 {
            if office.seat(&running.id).is_none() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Its runner does not answer; the fence keeps it from touching anything but stable.
        office.leave(running);
        Ok(())
    }

    /// Gives a rollout a command; what it looks like afterwards. When a rollback is answered, the weights give the
    /// candidate nothing any more, whatever its runner does.
    pub async fn command(&self, id: &str, command: Command, by: &By) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        let seat = match office.seat(id) {
            Some(seat) => seat,
            None => self.reopen(office, id, &command, by)?,
        };
        let before = seat.view.load_full();
        let rolls_back = command == Command::Rollback && before.rollout.state != State::RolledBack;
        if rolls_back {
            self.to_stable(office, &seat, by).await?;
        }
        let action = format!("rollout.{}", verb(&command));
        let (answer, answered) = oneshot::channel();
        let (who, reason) = (named(by), by.reason.clone());
        let order = Order::Command { command, who, reason, answer };
        let patience = if rolls_back { ROLLBACK_ANSWER } else { ANSWER };
        let result = timeout(patience, async {
            seat.orders.send(order).await.map_err(drop)?;
            answered.await.map_err(drop)
        });
        let view = match result.await {
            Ok(Ok(Ok(view))) => view,
            Ok(Ok(Err(illegal))) => return Err(DeskError::Illegal(illegal.to_string())),
            // The traffic has moved; that the record of it is late is said, and no failure.
            _ if rolls_back => seat.view.load_full(),
            _ => return Err(DeskError::Unavailable("the runner of this rollout does not answer; try again".into())),
        };
        let shown = |view: &View| json!({ "state": view.rollout.state, "percent": view.rollout.share.percent() });
        self.audit(by, &action, &seat, shown(&before), shown(&view));
        Ok(view)
    }

    /// Takes up a rollout that ended: for going back to the previous version while it is kept. Any other command is
    /// refused in the machine's own words.
    fn reopen(&self, office: &Arc<Office>, id: &str, command: &Command, by: &By) -> Result<Arc<Seat>, DeskError> {
        let rollout = self.one(id)?.rollout.clone();
        let input = Input::Command { command: command.clone(), who: named(by), reason: by.reason.clone() };
        rollout.clone().step(now_ms(), input).map_err(|illegal| DeskError::Illegal(illegal.to_string()))?;
        let (seat, orders) = guardian::seat(office, rollout, office.beside_of(id));
        if let Some(running) = office.seat_of(&seat.service) {
            let why = format!("rollout {} of service {} is under way; command that one", running.id, seat.service);
            return Err(DeskError::Conflict { running: running.id.clone(), why });
        }
        office.ended().retain(|view| view.rollout.id != id);
        take(office, &seat)?;
        let live = levers::live_share(&office.switchboard, &seat.view.load().rollout.plan).unwrap_or(Share::ZERO);
        tokio::spawn(guardian::guard(Arc::clone(office), Arc::clone(&seat), orders, Input::Recovered { live }));
        Ok(seat)
    }

    /// Takes everything from the candidate now.
    async fn to_stable(&self, office: &Arc<Office>, seat: &Arc<Seat>, by: &By) -> Result<(), DeskError> {
        let view = seat.view.load_full();
        if view.rollout.plan.dry_run {
            return Ok(());
        }
        let (office, seat) = (Arc::clone(office), Arc::clone(seat));
        let cause = levers::cause(&named(by), &seat.id, &by.reason);
        let work = move || seat.fence.to_stable(&office.switchboard, &view.rollout.plan, &cause);
        match tokio::task::spawn_blocking(work).await {
            Ok(Moved::Live(_)) => Ok(()),
            Ok(Moved::Fenced) => Ok(()),
            Ok(Moved::Refused(why)) => Err(DeskError::NotMoved(why)),
            Err(error) => Err(DeskError::NotMoved(format!("the change failed inside weir: {error}"))),
        }
    }

    /// The same plan again, as a new rollout.
    pub async fn retry(&self, id: &str, by: &By) -> Result<Arc<View>, DeskError> {
        let view = self.one(id)?;
        if view.rollout.state.is_live() {
            return Err(DeskError::Illegal(format!(
                "rollout {id} is {}; only one that ended can be tried again",
                view.rollout.state.as_str()
            )));
        }
        let start = Start { plan: view.rollout.plan.clone(), id: None, supersede: false };
        let mut by = by.clone();
        if by.reason.is_empty() {
            by.reason = format!("{id} again");
        }
        self.start(start, &by).await
    }

    /// One rollout, live or ended.
    pub fn one(&self, id: &str) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        if let Some(seat) = office.seat(id) {
            return Ok(seat.view.load_full());
        }
        let ended = office.ended().iter().find(|view| view.rollout.id == id).cloned();
        ended.or_else(|| office.kept(id)).ok_or_else(|| DeskError::Unknown(id.chars().take(ID_BYTES_MAX).collect()))
    }

    /// The rollouts that hold a service, then those that ended, newest first.
    pub fn list(&self) -> Result<Vec<Arc<View>>, DeskError> {
        let office = self.office()?;
        let mut views: Vec<_> = office.seats().values().map(|seat| seat.view.load_full()).collect();
        let known = |views: &[Arc<View>], id: &str| views.iter().any(|view| view.rollout.id == id);
        let ended: Vec<_> = office.ended().iter().cloned().collect();
        for view in ended.into_iter().chain(office.all_kept()) {
            if !known(&views, &view.rollout.id) {
                views.push(view);
            }
        }
        views.sort_by_key(|view| (!view.rollout.state.is_live(), std::cmp::Reverse(view.rollout.started_at_ms)));
        Ok(views)
    }

    /// Events after the one with this number, oldest first, at most `most`.
    pub fn events(&self, after: u64, most: usize) -> Result<Vec<Arc<Event>>, DeskError> {
        let office = self.office()?;
        let mut events = office.stream.recent_after(after).unwrap_or_else(|| office.events_kept(after, most));
        events.truncate(most);
        Ok(events)
    }

    /// The number of the newest event.
    pub fn last_event(&self) -> Result<u64, DeskError> {
        Ok(self.office()?.stream.last())
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Result<broadcast::Receiver<Arc<Event>>, DeskError> {
        Ok(self.office()?.stream.subscribe())
    }

    /// The newest events of one rollout, oldest first.
    pub fn events_of(&self, id: &str, most: usize) -> Vec<Arc<Event>> {
        self.office().map(|office| office.stream.recent_of(id, most)).unwrap_or_default()
    }

    /// Notes what somebody did elsewhere.
    pub fn note(&self, by: &By, action: &str, service: &str, before: Value, after: Value) {
        if let Ok(office) = self.office() {
            office.note(Audit {
                at_ms: now_ms(),
                who: by.who.clone(),
                from: by.from.clone(),
                action: action.into(),
                service: service.into(),
                rollout_id: None,
                reason: by.reason.clone(),
                before,
                after,
            });
        }
    }

    fn audit(&self, by: &By, action: &str, seat: &Seat, before: Value, after: Value) {
        if let Ok(office) = self.office() {
            office.note(Audit {
                at_ms: now_ms(),
                who: by.who.clone(),
                from: by.from.clone(),
                action: action.into(),
                service: seat.service.to_string(),
                rollout_id: Some(seat.id.clone()),
                reason: by.reason.clone(),
                before,
                after,
            });
        }
    }
}

/// Takes the service for a rollout, or says who holds it.
fn take(office: &Office, seat: &Arc<Seat>) -> Result<(), DeskError> {
    let mut seats = office.seats();
    if let Some(running) = seats.values().find(|other| other.service == seat.service) {
        let running = running.id.clone();
        let why = format!("rollout {running} of service {} is under way", seat.service);
        return Err(DeskError::Conflict { running, why });
    }
    if seats.contains_key(&seat.id) || office.ended().iter().any(|view| view.rollout.id == seat.id) {
        let why = format!("there is a rollout {} already", seat.id);
        return Err(DeskError::Conflict { running: seat.id.clone(), why });
    }
    if seats.len() >= LIVE_MAX {
        return Err(DeskError::Unavailable(format!("{LIVE_MAX} rollouts are under way; that is the most")));
    }
    seats.insert(seat.id.clone(), Arc::clone(seat));
    Ok(())
}

/// The window in force that keeps a rollout from starting.
fn window(_plan: &RolloutPlan) -> Option<String> {
    None
}

/// Letters, digits, dots, dashes, underscores: what stands in a path as it is.
fn checked(id: &str) -> Result<String, DeskError> {
    let holds = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(holds) && !id.starts_with('.') {
        return Ok(id.into());
    }
    Err(DeskError::Invalid("an id is 1 to 100 letters, digits, dots, dashes or underscores".into()))
}

/// `PLAN-YYYYMMDD-HHMMSS`, with a number after it when there is one already.
fn fresh_id(office: &Office, plan: &Name) -> String {
    let at = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let name: String = plan.chars().take(ID_BYTES_MAX - 25).collect();
    let taken = |id: &str| office.seat(id).is_some() || office.ended().iter().any(|view| view.rollout.id == id);
    let first = format!("{name}-{at}");
    if !taken(&first) {
        return first;
    }
    (2_u32..).map(|n| format!("{first}-{n}")).find(|id| !taken(id)).unwrap_or(first)
}

fn named(by: &By) -> String {
    if by.who.is_empty() { "somebody".into() } else { by.who.clone() }
}

fn verb(command: &Command) -> &'static str {
    match command {
        Command::Pause => "pause",
        Command::Resume => "resume",
        Command::Advance { .. } => "advance",
        Command::Rollback => "rollback",
        Command::Approve { .. } => "approve",
        Command::Cancel => "cancel",
    }
}

/// The share of a rollout's candidate before it began; for previews.
pub fn share_before(view: &View) -> Share {
    view.rollout.share_before
}
