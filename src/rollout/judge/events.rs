//! Which counts of a tick a gate looks at: by the kind of event, by request or by unit.

use crate::model::rollout::Event;
use crate::rollout::evidence::ratio::Counted;
use crate::rollout::tick::{Arm, Tick};

/// Items and bad ones of an arm for a kind of event.
pub(super) fn of(arm: &Arm, event: Event, by_unit: bool) -> (u64, u64) {
    match event {
        Event::Error if by_unit => (arm.attempts, arm.first_errors),
        Event::Error => (arm.attempts, arm.errors),
        Event::ClientError => (arm.attempts, arm.client_errors),
        Event::Disconnect => (arm.attempts, arm.disconnects),
        Event::FailedUnit => (arm.units.max(arm.first_errors), arm.first_errors),
    }
}

/// A tick as the ratio test takes it: units count once and with the share that the weights assign, since a unit that
/// fails has that chance to be the candidate's whatever it does; requests count with the share that they really had.
pub(super) fn counted(tick: &Tick, event: Event) -> Counted {
    let (candidate, control) = (of(&tick.candidate, event, tick.by_unit), of(&tick.control, event, tick.by_unit));
    let total = candidate.0 + control.0;
    let realised = if total == 0 { tick.share } else { candidate.0 as f64 / total as f64 };
    let by_unit = tick.by_unit && matches!(event, Event::Error | Event::FailedUnit);
    let share = if by_unit { tick.share } else { realised };
    Counted { share, items: [candidate.0, control.0], bad: [candidate.1, control.1] }
}
