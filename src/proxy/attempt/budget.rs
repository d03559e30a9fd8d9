//! The retry budget: retries may be a part of the requests, so that a brown-out is not multiplied.

use crate::model::Retry;

/// Most retries that can be saved up per worker and service: enough for every request in flight to an endpoint that
/// has just died.
const BALANCE_MAX: f64 = 1000.0;

/// Balance at the start, so that the first failure after a start can be retried.
const BALANCE_START: f64 = 100.0;

/// A worker's budgets, by service slot.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Vec<Budget>);

#[derive(Debug)]
struct Budget {
    balance: f64,
    refilled_ms: u64,
}

// === impl Budgets ===

impl Budgets {
    /// A request came: it pays in its part.
    #[inline]
    pub(crate) fn deposit(&mut self, slot: usize, policy: &Retry) {
        let budget = self.of(slot);
        budget.balance = (budget.balance + policy.budget).min(BALANCE_MAX);
    }

    /// Whether a retry may happen now; it is paid for when it may.
    pub(crate) fn withdraw(&mut self, slot: usize, policy: &Retry, now_ms: u64) -> bool {
        let budget = self.of(slot);
        let elapsed_s = now_ms.saturating_sub(budget.refilled_ms) as f64 / 1000.0;
        budget.refilled_ms = now_ms;
        let refill = elapsed_s.min(10.0) * f64::from(policy.min_per_second);
        budget.balance = (budget.balance + refill).min(BALANCE_MAX);
        let affordable = budget.balance >= 1.0;
        if affordable {
            budget.balance -= 1.0;
        }
        affordable
    }

    fn of(&mut self, slot: usize) -> &mut Budget {
        while self.0.len() <= slot {
            self.0.push(Budget { balance: BALANCE_START, refilled_ms: 0 });
        }
        &mut self.0[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_at_a_fifth_of_the_requests_plus_ten_a_second() {
        let (mut budgets, policy) = (Budgets::default(), Retry::default());
        let spent =
            |budgets: &mut Budgets, now_ms| (0..10_000).filter(|_| budgets.withdraw(0, &policy, now_ms)).count();
        spent(&mut budgets, 10_000);
        for _ in 0..1000 {
            budgets.deposit(0, &policy);
        }
        // A thousand times 0.2 is a hair below 200 in floating point.
        assert_eq!(spent(&mut budgets, 10_000), 199);
        assert_eq!(spent(&mut budgets, 12_000), 20);
    }
}
