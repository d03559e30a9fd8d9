//! The rehearsal of a rollback: everything to stable, what a rollback checks, and forth again, without a fault. A drill
//! that finds something wrong leaves everything with stable and pauses the rollout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::{By, Desk, DeskError, named};
use crate::model::rollout::Share;
use crate::rollout::event::{Kind, Severity};
use crate::rollout::machine::{Command, State};
use crate::rollout::runner::levers::{self, Moved};
use crate::rollout::runner::office::{Office, Seat};
use crate::rollout::runner::verify;
use crate::rollout::stream::Draft;

/// Time that somebody waits for a drill.
const PATIENCE: Duration = Duration::from_secs(25);

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drilled {
    /// The rollout.
    pub rollout_id: String,
    /// Whether everything was as after a real rollback it should be, and the share is back.
    pub ok: bool,
    /// What the candidate had before, and has again.
    pub percent: f64,
    /// Time from the decision until no new request went to the candidate.
    pub moved_ms: u64,
    /// Time until it was verified.
    pub verified_ms: u64,
    /// In words.
    pub message: String,
}

// === impl Desk ===

impl Desk {
    /// Rehearses the rollback of a rollout that runs or is paused. It goes on to its end although whoever asked goes;
    /// none when it takes longer than anybody waits, and the events tell how it ends.
    pub async fn drill(&self, id: &str, by: &By) -> Result<Option<Drilled>, DeskError> {
        let (desk, id, by) = (self.clone(), id.to_owned(), by.clone());
        let office = Arc::clone(self.office()?);
        let drill = office.spawn(async move { desk.rehearse(&id, &by).await });
        match timeout(PATIENCE, drill).await {
            Ok(Ok(drilled)) => drilled.map(Some),
            Ok(Err(error)) => Err(DeskError::NotMoved(format!("the drill failed inside weir: {error}"))),
            Err(_) => Ok(None),
        }
    }

    async fn rehearse(&self, id: &str, by: &By) -> Result<Drilled, DeskError> {
        let office = self.office()?;
        let Some(seat) = office.seat(id) else {
            let view = self.one(id).await?;
            return Err(DeskError::Illegal(format!("rollout {id} is {}", view.rollout.state.as_str())));
        };
        let view = seat.view.load_full();
        let plan = &view.rollout.plan;
        let runs = matches!(view.rollout.state, State::RollingOut | State::Paused) && view.killed.is_none();
        let share = levers::live_share(&office.switchboard, plan).unwrap_or(Share::ZERO);
        if !runs || plan.dry_run || share == Share::ZERO {
            return Err(DeskError::Illegal("there is no traffic to take back: nothing to rehearse".into()));
        }
        let was_paused = view.rollout.state == State::Paused;
        if !was_paused {
            self.command(id, Command::Pause, &By { reason: "drill".into(), ..by.clone() }).await?;
        }
        self.tell(office, &seat, by, Severity::Info, format!("a rollback is rehearsed from {share}"));
        let began = Instant::now();
        moved(set(office, &seat, Share::ZERO, by).await)?;
        let moved_ms = began.elapsed().as_millis() as u64;
        let (ok, detail) = verify::verify(office, plan).await;
        let verified_ms = began.elapsed().as_millis() as u64;
        if !ok {
            // From here on it is an edit like any other, which pauses the rollout.
            seat.drilling.store(false, std::sync::atomic::Ordering::SeqCst);
            let message = format!("the drill found what a rollback would meet: {detail}; everything stays with stable");
            self.tell(office, &seat, by, Severity::Critical, message.clone());
            let percent = share.percent();
            return Ok(Drilled { rollout_id: id.into(), ok, percent, moved_ms, verified_ms, message });
        }
        // A real rollback meanwhile keeps the share where it is.
        moved(set(office, &seat, share, by).await)?;
        if !was_paused {
            self.command(id, Command::Resume, &By { reason: "the drill is over".into(), ..by.clone() }).await?;
        }
        let message = format!("drill: stable had everything after {moved_ms} ms; {detail}");
        self.tell(office, &seat, by, Severity::Info, message.clone());
        Ok(Drilled { rollout_id: id.into(), ok, percent: share.percent(), moved_ms, verified_ms, message })
    }

    fn tell(&self, office: &Office, seat: &Seat, by: &By, severity: Severity, message: String) {
        office.tell(Draft {
            // One that passes alarms nobody.
            kind: if severity == Severity::Info { Kind::Action } else { Kind::Alarm },
            severity,
            service: seat.service.to_string(),
            rollout_id: Some(seat.id.clone()),
            who: named(by),
            message,
            data: json!({ "drill": true }),
        });
    }
}

async fn set(office: &Arc<Office>, seat: &Arc<Seat>, share: Share, by: &By) -> Moved {
    let (office, seat) = (Arc::clone(office), Arc::clone(seat));
    seat.drilling.store(true, std::sync::atomic::Ordering::SeqCst);
    let cause = levers::cause(&named(by), &seat.id, "drill");
    let work = move || {
        let plan = seat.view.load().rollout.plan.clone();
        let moved = seat.fence.set(&office.switchboard, &plan, share, &cause);
        seat.drilling.store(share == Share::ZERO, std::sync::atomic::Ordering::SeqCst);
        moved
    };
    let moved = tokio::task::spawn_blocking(work).await;
    moved.unwrap_or_else(|error| Moved::Refused(format!("the change failed inside weir: {error}")))
}

fn moved(moved: Moved) -> Result<(), DeskError> {
    match moved {
        Moved::Live(_) => Ok(()),
        Moved::Fenced => {
            Err(DeskError::Illegal("a rollback was asked for meanwhile; everything stays with stable".into()))
        }
        Moved::Refused(why) => Err(DeskError::NotMoved(why)),
    }
}
