//! Commands: a rollback moves the traffic before anybody is asked, everything else is the runner's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::start::take;
use super::{By, Desk, DeskError, named, verb};
use crate::model::rollout::Share;
use crate::rollout::machine::{Command, Input, State};
use crate::rollout::runner::guardian;
use crate::rollout::runner::levers::{self, Moved};
use crate::rollout::runner::office::{Office, Order, Seat, now_ms};
use crate::rollout::view::View;

/// Time that a runner gets to answer an order; it may wait for a disk.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// The same for a rollback, whose traffic has moved by then.
const ROLLBACK_ANSWER: Duration = Duration::from_secs(3);

// === impl Desk ===

impl Desk {
    /// Gives a rollout a command; what it looks like afterwards. When a rollback is answered, the weights give the
    /// candidate nothing any more, whatever its runner does.
    pub async fn command(&self, id: &str, command: Command, by: &By) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        let seat = match office.seat(id) {
            Some(seat) => seat,
            None => self.reopen(office, id, &command, by).await?,
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
        self.written(office).await;
        Ok(view)
    }

    /// Takes up a rollout that ended: for going back to the previous version while it is kept. Any other command is
    /// refused in the machine's own words.
    async fn reopen(&self, office: &Arc<Office>, id: &str, command: &Command, by: &By) -> Result<Arc<Seat>, DeskError> {
        let rollout = self.one(id).await?.rollout.clone();
        let input = Input::Command { command: command.clone(), who: named(by), reason: by.reason.clone() };
        rollout.clone().step(now_ms(), input).map_err(|illegal| DeskError::Illegal(illegal.to_string()))?;
        let beside = office.keeper.rollout(id).await.map(|kept| kept.beside).unwrap_or_default();
        let (seat, orders) = guardian::seat(office, rollout, beside);
        if let Some(running) = office.seat_of(&seat.service) {
            let why = format!("rollout {} of service {} is under way; command that one", running.id, seat.service);
            return Err(DeskError::Conflict { running: running.id.clone(), why });
        }
        office.ended().retain(|view| view.rollout.id != id);
        take(office, &seat)?;
        let live = levers::live_share(&office.switchboard, &seat.view.load().rollout.plan).unwrap_or(Share::ZERO);
        office.spawn(guardian::guard(Arc::clone(office), Arc::clone(&seat), orders, Input::Recovered { live }));
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
}
