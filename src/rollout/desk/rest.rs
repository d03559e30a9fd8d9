//! After an automatic rollback a service rests: what starts by itself waits until its cooldown is over, and after
//! several of them in a row until a person has started one. A person who starts a rollout is never kept from it.

use super::{Desk, DeskError};
use crate::model::rollout::{RollbackPolicy, RolloutPlan};
use crate::rollout::machine::{Rollout, State};
use crate::rollout::runner::office::now_ms;

// === impl Desk ===

impl Desk {
    /// Refuses a start of a program while the service of `plan` rests.
    pub(super) async fn must_not_rest(&self, plan: &RolloutPlan) -> Result<(), DeskError> {
        let views = self.list().await?;
        let own = views.iter().map(|view| &view.rollout).filter(|rollout| rollout.plan.service == plan.service);
        match rests(&plan.rollback, own, now_ms()) {
            Some(why) => Err(DeskError::Illegal(format!("{why}; a person may start one all the same"))),
            None => Ok(()),
        }
    }
}

/// Why a service rests, by its rollouts, newest first.
fn rests<'a>(policy: &RollbackPolicy, newest: impl Iterator<Item = &'a Rollout>, unix_ms: u64) -> Option<String> {
    let failed = |rollout: &&Rollout| rollout.state == State::RolledBack && rollout.inner.rolled_back_by_weir;
    let failed: Vec<&Rollout> = newest.filter(|rollout| !rollout.state.is_live()).take_while(failed).collect();
    let last = failed.first()?;
    if failed.len() >= policy.max_automatic as usize {
        return Some(format!("the last {} rollouts of {} were rolled back by weir", failed.len(), last.plan.service));
    }
    let over_ms = last.ended_at_ms.unwrap_or(unix_ms).saturating_add(policy.cooldown.as_millis() as u64);
    let left_ms = over_ms.saturating_sub(unix_ms);
    (left_ms > 0).then(|| {
        let left_s = left_ms.div_ceil(1_000);
        format!("{} was rolled back by weir; {} rests for another {left_s} s", last.id, last.plan.service)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::Share;
    use crate::rollout::testing;

    fn ended(at_ms: u64, by_weir: bool) -> Rollout {
        let mut rollout = Rollout::new(
            "r".into(),
            testing::plan(&[50.0, 100.0], Vec::new()),
            "ann".into(),
            String::new(),
            0,
            Share::ZERO,
        );
        rollout.state = State::RolledBack;
        rollout.ended_at_ms = Some(at_ms);
        rollout.inner.rolled_back_by_weir = by_weir;
        rollout
    }

    #[test]
    fn a_service_rests_for_its_cooldown_and_after_three_in_a_row_until_a_person_comes() {
        let policy = RollbackPolicy::default();
        let rest = |rollouts: &[Rollout], at_ms| rests(&policy, rollouts.iter(), at_ms);
        assert_eq!(rest(&[], 0), None);
        let one = [ended(1_000, true)];
        assert!(rest(&one, 300_999).is_some_and(|why| why.contains("another 1 s")), "{:?}", rest(&one, 300_999));
        assert_eq!(rest(&one, 301_000), None);
        let three = [ended(3_000, true), ended(2_000, true), ended(1_000, true)];
        assert!(rest(&three, u64::MAX).is_some_and(|why| why.contains("last 3")));
        let person = [ended(3_000, true), ended(2_500, false), ended(2_000, true), ended(1_000, true)];
        assert_eq!(rest(&person, 400_000), None, "somebody looked at it in between");
    }
}
