//! When the next order of a name is due. Pure: certificate, record, moment and chance in, a moment out. All moments are
//! Unix milliseconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest that an authority is waited for when it says when to come back.
pub(super) const COME_BACK_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Orders that an end of the process broke off and that are taken up again at once; a later one waits as a failed one.
pub(super) const RESUMES_MAX: u32 = 3;

/// How often an order that an authority is not done with is looked at again before another one is opened: for eight
/// hours, with waits that double from two minutes.
const LOOKS_MAX: u32 = 8;

/// What was just issued rests at least for so long, whatever the authority suggests; half of its time if that is less.
const SUGGESTION_REST: u64 = 86_400_000;

/// How often an authority is asked when it would like a certificate to be renewed: as it says, within these bounds
/// (RFC 9773 §4.3.2 has one minute and one day as those of a client with sense).
const ASK_MIN: Duration = Duration::from_secs(60);
const ASK_MAX: Duration = Duration::from_secs(86_400);

/// What was tried for a name since its last certificate. It outlives the process, so that no restart makes an authority
/// be asked more often.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Orders in a row that failed, one that is under way included.
    pub(super) failures: u32,
    /// No order before this.
    pub(super) wait_until: u64,
    /// When what is held was issued.
    pub(super) issued: u64,
    /// When the authority would like it to be renewed, if it says so (RFC 9773).
    pub(super) suggested: Option<u64>,
    /// When it is to be asked for that again.
    pub(super) ask_at: u64,
    /// Why the last one failed.
    pub(super) error: Option<String>,
    /// The order that is under way, or that the authority was not done with.
    pub(super) order: Option<String>,
    /// How often that was taken up again: from [`RESUMES_MAX`] on only after a wait.
    pub(super) resumed: u32,
}

/// From when and until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Before the end of a certificate; none: a third of its time.
    pub(super) renew_before: Option<Duration>,
    /// After a first failure; doubled by each further one.
    pub(super) retry_min: Duration,
    /// At most.
    pub(super) retry_max: Duration,
}

// === impl Validity ===

impl Validity {
    /// When it is to be renewed: never in the first half of its time, whatever the file says, or each new certificate
    /// would be due at once.
    pub(super) fn renewal(self, before: Option<Duration>) -> u64 {
        let lifetime = self.until.saturating_sub(self.from);
        let before = before.map_or(lifetime / 3, millis);
        self.until.saturating_sub(before).max(self.from + lifetime / 2)
    }
}

// === impl Record ===

impl Record {
    /// After a certificate was issued.
    pub(super) fn issued(now: u64) -> Self {
        Self { issued: now, ..Self::default() }
    }

    /// Takes note of an order that begins, as if it had failed: whatever ends this process, the next one waits.
    pub(super) fn begin(&mut self) {
        let at_once = self.order.is_some() && self.resumed < RESUMES_MAX;
        match self.order {
            Some(_) => self.resumed = self.resumed.saturating_add(1),
            None => self.resumed = 0,
        }
        if !at_once {
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Takes note of why an order failed. With `keep` it is gone on with after the wait, with the key that it has,
    /// unless that was tried too often.
    pub(super) fn failed(&mut self, error: String, keep: bool) {
        (self.failures, self.error) = (self.failures.max(1), Some(error));
        if !keep || self.resumed >= RESUMES_MAX + LOOKS_MAX {
            self.order = None;
        }
        self.resumed = if self.order.is_some() { self.resumed.max(RESUMES_MAX) } else { 0 };
    }

    /// Takes note of the window that the authority suggests for a renewal, and of when it wants to be asked again.
    /// `chance` (0 to 1) is where in the window.
    pub(super) fn suggest(&mut self, window: Option<(u64, u64)>, ask_in: Duration, now: u64, chance: f64) {
        let into =
            |(start, end): (u64, u64)| start + (end.saturating_sub(start) as f64 * chance.clamp(0.0, 1.0)) as u64;
        // As long as the window is the same, so is the moment in it.
        let same = |(start, end): (u64, u64)| self.suggested.is_some_and(|at| (start..=end).contains(&at));
        if !window.is_some_and(same) {
            self.suggested = window.map(into);
        }
        self.ask_at = now.saturating_add(millis(ask_in.clamp(ASK_MIN, ASK_MAX)));
    }
}

// === impl Pace ===

impl Pace {
    /// When the next order is due.
    pub(super) fn due(&self, held: Option<Validity>, record: &Record, now: u64) -> u64 {
        if record.order.is_some() && record.resumed < RESUMES_MAX {
            return now;
        }
        // A clock that was wrong when it was written must not hold a name for ever.
        let wait = record.wait_until.min(now.saturating_add(self.longest()));
        held.map_or(0, |held| self.renewal(held, record)).max(wait)
    }

    /// When what is held is to be renewed. However old it says it is, and whatever the authority suggests, it rests for
    /// a while: else one whose clock is late, or who suggests nonsense, would be asked without end.
    fn renewal(&self, held: Validity, record: &Record) -> u64 {
        let half = held.until.saturating_sub(record.issued) / 2;
        let rest = |time: u64| record.issued.saturating_add(time).min(held.until);
        let own = held.renewal(self.renew_before).max(rest(half));
        let suggested = record.suggested.map_or(own, |at| at.max(rest(half.min(SUGGESTION_REST))));
        own.min(suggested)
    }

    /// Until when is waited after so many failures in a row. `chance` (0 to 1) spreads those of many names and
    /// replicas; `come_back` is what the authority says.
    pub(super) fn wait_until(&self, failures: u32, now: u64, chance: f64, come_back: Option<u64>) -> u64 {
        let doubled = millis(self.retry_min).saturating_mul(1 << failures.saturating_sub(1).min(30));
        let wait = doubled.min(millis(self.retry_max));
        let spread = wait + (wait as f64 / 4.0 * chance.clamp(0.0, 1.0)) as u64;
        let asked = come_back.unwrap_or(0).min(now.saturating_add(millis(COME_BACK_MAX)));
        now.saturating_add(spread).max(asked)
    }

    fn longest(&self) -> u64 {
        let spread = millis(self.retry_max).saturating_mul(5) / 4;
        spread.max(millis(COME_BACK_MAX))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const PACE: Pace =
        Pace { renew_before: None, retry_min: Duration::from_secs(120), retry_max: Duration::from_secs(12 * 3600) };

    #[test]
    fn a_name_without_a_certificate_is_due_at_once_and_one_with_it_when_a_third_is_left() {
        assert_eq!(PACE.due(None, &Record::default(), 5), 0);
        let held = Validity { from: 0, until: 90 * 24 * HOUR };
        assert_eq!(PACE.due(Some(held), &Record::default(), 5), 60 * 24 * HOUR);
        let pace = Pace { renew_before: Some(Duration::from_secs(86_400)), ..PACE };
        assert_eq!(pace.due(Some(held), &Record::default(), 5), 89 * 24 * HOUR);
        let pace = Pace { renew_before: Some(Duration::from_secs(365 * 86_400)), ..PACE };
        assert_eq!(pace.due(Some(held), &Record::default(), 5), 45 * 24 * HOUR, "never in its first half");
    }

    #[test]
    fn five_failures_fit_into_the_first_hour_and_then_the_wait_grows_to_half_a_day() {
        let (mut now, mut at) = (0, Vec::new());
        for failures in 1..=20 {
            at.push(now);
            now = PACE.wait_until(failures, now, 0.0, None);
        }
        assert_eq!(at.iter().filter(|at| **at < HOUR).count(), 5);
        assert_eq!(at[19] - at[18], 12 * HOUR);
    }

    #[test]
    fn an_order_that_was_broken_off_is_taken_up_at_once_but_not_for_ever() {
        let broken = |resumed| Record { order: Some("url".into()), wait_until: 9, resumed, ..Record::default() };
        assert_eq!(PACE.due(None, &broken(0), 5), 5);
        assert_eq!(PACE.due(None, &broken(RESUMES_MAX), 5), 9);
    }

    #[test]
    fn an_order_that_is_not_done_is_gone_on_with_after_the_wait_but_not_for_ever() {
        let mut record = Record::default();
        record.begin();
        record.order = Some("url".into());
        let mut failures = Vec::new();
        while record.order.is_some() {
            record.failed("not yet".into(), true);
            record.wait_until = 9;
            assert_eq!(PACE.due(None, &record, 5), 9, "not at once");
            failures.push(record.failures);
            record.begin();
        }
        assert_eq!(failures, (1..=LOOKS_MAX + 1).collect::<Vec<_>>());
        assert_eq!((record.resumed, record.failures), (0, LOOKS_MAX + 2));
        let mut refused = Record { order: Some("url".into()), resumed: 1, ..Record::default() };
        refused.failed("no".into(), false);
        assert_eq!((refused.order, refused.resumed, refused.failures), (None, 0, 1));
    }

    #[test]
    fn what_was_just_issued_rests_however_old_it_says_it_is_and_a_lost_one_is_due_at_once() {
        let held = Validity { from: 0, until: 90 * 24 * HOUR };
        let now = 89 * 24 * HOUR;
        let record = Record::issued(now);
        assert_eq!(PACE.due(Some(held), &record, now), now + 12 * HOUR);
        assert_eq!(PACE.due(None, &record, now), 0);
        let wrong = Record::issued(u64::MAX);
        assert_eq!(PACE.due(Some(held), &wrong, now), held.until, "never after its end");
    }

    #[test]
    fn an_authority_may_have_a_certificate_renewed_sooner_but_never_later_and_not_at_once() {
        let (held, day) = (Validity { from: 0, until: 90 * 24 * HOUR }, 24 * HOUR);
        let due = |window: (u64, u64)| {
            let mut record = Record::issued(0);
            record.suggest(Some(window), Duration::from_secs(1), 0, 0.5);
            assert_eq!(record.ask_at, 60_000);
            PACE.due(Some(held), &record, 0)
        };
        assert_eq!(due((50 * day, 52 * day)), 51 * day);
        assert_eq!(due((80 * day, 82 * day)), 60 * day, "a third is left");
        assert_eq!(due((0, 0)), day, "it is revoked, or nonsense");
        let mut record = Record { suggested: Some(50 * day), ..Record::issued(0) };
        record.suggest(Some((49 * day, 52 * day)), ASK_MAX * 2, 0, 0.9);
        assert_eq!((record.suggested, record.ask_at), (Some(50 * day), day), "one window, one moment");
        record.suggest(None, ASK_MAX, 0, 0.9);
        assert_eq!(record.suggested, None);
    }

    #[test]
    fn a_record_of_a_clock_that_was_wrong_holds_nobody_for_ever() {
        let record = Record { wait_until: u64::MAX, ..Record::default() };
        assert_eq!(PACE.due(None, &record, 0), 7 * 24 * HOUR);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_asked_nor_longer_than_its_bounds(
            failures in 1_u32.., now in 0..u64::MAX / 4, chance in 0.0..=1.0_f64, come_back: Option<u64>,
        ) {
            let until = PACE.wait_until(failures, now, chance, come_back);
            let longest = (12 * HOUR * 5 / 4).max(7 * 24 * HOUR);
            prop_assert!(until >= now + 120_000 && until <= now + longest);
            if let Some(asked) = come_back {
                prop_assert!(until >= asked.min(now + 7 * 24 * HOUR));
            }
        }

        #[test]
        fn a_renewal_is_in_the_second_half_and_never_after_the_end(
            from in 0..u64::MAX / 4, lifetime in 0..u64::MAX / 4, before: Option<Duration>,
        ) {
            let at = Validity { from, until: from + lifetime }.renewal(before);
            prop_assert!(at >= from + lifetime / 2 && at <= from + lifetime);
        }
    }
}
