//! Starting: a new rollout, the same plan again, one in the place of another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::command::ANSWER;
use super::{By, Desk, DeskError, ID_BYTES_MAX, Start, window};
use crate::model::Name;
use crate::rollout::journal::JournalError;
use crate::rollout::machine::{Command, Input, Rollout, State};
use crate::rollout::runner::guardian;
use crate::rollout::runner::levers;
use crate::rollout::runner::office::{LIVE_MAX, Office, Order, Seat, now_ms};
use crate::rollout::view::View;

/// Time that a rollout which ended gets to let go of its service before another is refused; its checks take a second.
const FINISH: Duration = Duration::from_secs(5);

// === impl Desk ===

impl Desk {
    /// Starts a rollout; what it looks like once its first effects are done.
    pub async fn start(&self, start: Start, by: &By) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        let Start { plan, id, supersede, automatic } = start;
        let service = plan.service.clone();
        let live = levers::live_share(&office.switchboard, &plan);
        let live = live.ok_or_else(|| DeskError::Invalid(format!("there is no service \"{service}\"")))?;
        if automatic {
            self.must_not_rest(&plan).await?;
        }
        if let Some(running) = office.seat_of(&service).filter(|_| supersede) {
            self.supersede(office, &running, by).await?;
        }
        let_finish(office, &service).await;
        let id = id.map(|id| checked(&id)).transpose()?.unwrap_or_else(|| fresh_id(office, &plan.name));
        let rollout = Rollout::new(id.clone(), plan, by.who.clone(), by.reason.clone(), now_ms(), live);
        let (seat, orders) = guardian::seat(office, rollout, Vec::new());
        take(office, &seat)?;
        if let Err(held) = office.keeper.lock(&service, &id, false).await {
            office.seats().remove(&id);
            return Err(DeskError::Conflict { why: held.to_string(), running: holder(&held) });
        }
        let window_closed = window(&seat.view.load().rollout.plan);
        self.audit(by, "rollout.start", &seat, json!({ "percent": live.percent() }), json!({ "rolloutId": id }));
        office.spawn(guardian::guard(Arc::clone(office), Arc::clone(&seat), orders, Input::Start { window_closed }));
        let view = self.settled(&seat).await;
        self.written(office).await;
        Ok(view)
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

    /// The same plan again, as a new rollout.
    pub async fn retry(&self, id: &str, by: &By) -> Result<Arc<View>, DeskError> {
        let view = self.one(id).await?;
        if view.rollout.state.is_live() {
            return Err(DeskError::Illegal(format!(
                "rollout {id} is {}; only one that ended can be tried again",
                view.rollout.state.as_str()
            )));
        }
        let start = Start { plan: view.rollout.plan.clone(), id: None, supersede: false, automatic: false };
        let mut by = by.clone();
        if by.reason.is_empty() {
            by.reason = format!("{id} again");
        }
        self.start(start, &by).await
    }
}

/// Waits a little for a rollout that ended and is only checking what its rollback left behind: who starts the next one
/// has nothing to do with that.
async fn let_finish(office: &Office, service: &Name) {
    let ends = || office.seat_of(service).is_some_and(|seat| !seat.view.load().rollout.state.is_live());
    let until = tokio::time::Instant::now() + FINISH;
    while ends() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The rollout of another process that holds the service.
fn holder(held: &JournalError) -> String {
    match held {
        JournalError::Held { rollout, .. } => rollout.clone(),
        _ => String::new(),
    }
}

/// Takes the service for a rollout, or says who holds it.
pub(super) fn take(office: &Office, seat: &Arc<Seat>) -> Result<(), DeskError> {
    let mut seats = office.seats();
    if let Some(running) = seats.values().find(|other| other.service == seat.service) {
        let (running, live) = (running.id.clone(), running.view.load().rollout.state.is_live());
        let why = match live {
            true => format!("rollout {running} of service {} is under way", seat.service),
            false => format!("rollout {running} of service {} is not verified yet; try again soon", seat.service),
        };
        return Err(DeskError::Conflict { running, why });
    }
    if seats.contains_key(&seat.id) || office.ended().iter().any(|view| view.rollout.id == seat.id) {
        let why = format!("there was a rollout {} already; choose another id", seat.id);
        return Err(DeskError::Conflict { running: seat.id.clone(), why });
    }
    if seats.len() >= LIVE_MAX {
        return Err(DeskError::Unavailable(format!("{LIVE_MAX} rollouts are under way; that is the most")));
    }
    seats.insert(seat.id.clone(), Arc::clone(seat));
    Ok(())
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
