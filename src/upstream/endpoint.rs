//! One address of a pool and its live state: health, ejection, in-flight.
//!
//! Workers ask [`Endpoint::admission`] and report outcomes; the control thread records probes. What the states mean and
//! how they change is pure and in `gate`. Which endpoint gets a request is the balancer's choice, not ours,
//! and connections belong to the workers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::{Ejection, Gate, Ledger, Proof, SERVING, ejection_ms, mixed};
use super::slots::Slots;
use crate::model::{Address, Breaker, Name, Origin};
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::EndpointMeter;

/// Longest kept text of a last error, in bytes: a line of a terminal and a half.
pub const ERROR_BYTES_MAX: usize = 200;

/// Which endpoint it is; live state is found by this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointId {
    /// The service.
    pub service: Name,
    /// The pool.
    pub pool: Name,
    /// The origin that it was found at.
    pub origin: Origin,
    /// Its address.
    pub addr: Address,
}

/// An endpoint. Read by every worker per request, written only when its state changes.
#[derive(Debug)]
pub struct Endpoint {
    /// Which one it is.
    pub id: EndpointId,
    /// `host:port` of the origin, for `Host` when the client's is not preserved.
    pub authority: String,
    /// Dense index, reused after the endpoint is gone; workers keep their connections by it.
    pub slot: u32,
    /// Never reused; tells two endpoints of one slot apart.
    pub serial: u64,
    /// Counters.
    pub meter: EndpointMeter,
    /// A packed [`Gate`]; 0 when it serves.
    pub(super) gate: AtomicU64,
    /// Failures in a row while it serves.
    failures: AtomicU32,
    /// Ejections in a row.
    pub(super) level: AtomicU32,
    /// Ejections in all.
    ejections: AtomicU64,
    /// Since when the gate says what it says.
    pub(super) since_ms: AtomicU64,
    /// Whether it is no longer named.
    draining: AtomicBool,
    /// Whether it had its warm-up since it was made or was last down.
    warm: AtomicBool,
    /// What the probes have shown.
    ledger: Mutex<Ledger>,
    /// Text of the last failure.
    last_error: Mutex<String>,
    /// Where the slot goes back to.
    slots: Arc<Slots>,
}

/// Whether an endpoint takes a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It serves.
    Serving,
    /// Its ejection is over and nobody has tried it yet: one request may, after [`Endpoint::take_trial`].
    Trial,
    /// It is down, ejected or not probed yet.
    Refused,
}

/// What a worker reports of one attempt that reached its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer below 500, or a 5xx that is not 502, 503 or 504.
    Answered,
    /// A connect error, reset, timeout, broken answer, or 502, 503, 504.
    Failed,
}

/// An endpoint's state as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What happens to traffic.
    pub kind: StateKind,
    /// Since when, monotonic milliseconds; 0: since it was made.
    pub since_ms: u64,
    /// The last failure, at most [`ERROR_BYTES_MAX`] bytes; it stays after a recovery.
    pub last_error: Option<String>,
}

/// What happens to traffic of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// It takes requests.
    Serving,
    /// It is no longer named; requests in flight end, no new ones begin.
    Draining,
    /// Its answers failed; it takes none until then, and then one.
    Ejected {
        /// Monotonic milliseconds.
        until_ms: u64,
    },
    /// Its probes failed.
    Down,
    /// It waits for its first pass.
    Unproved,
}

// === impl StateKind ===

impl StateKind {
    /// The word used in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            StateKind::Serving => "serving",
            StateKind::Draining => "draining",
            StateKind::Ejected { .. } => "ejected",
            StateKind::Down => "down",
            StateKind::Unproved => "unproved",
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    pub(crate) fn new(id: EndpointId, slots: Arc<Slots>, serial: u64, workers: usize, ledger: Ledger) -> Self {
        let gate = Gate { proof: ledger.proof, ejection: Ejection::None };
        Self {
            authority: match id.origin.labelled() {
                Some(_) => id.addr.to_string(),
                None => id.origin.authority(),
            },
            id,
            slot: slots.take(),
            serial,
            meter: Sharded::new(workers),
            gate: AtomicU64::new(gate.pack()),
            failures: AtomicU32::new(0),
            level: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            warm: AtomicBool::new(false),
            ledger: Mutex::new(ledger),
            last_error: Mutex::new(String::new()),
            slots,
        }
    }

    /// Whether it takes a request at `now_ms` (monotonic). One relaxed load when it serves.
    #[inline]
    pub fn admission(&self, now_ms: u64) -> Admission {
        match self.gate.load(Ordering::Relaxed) {
            SERVING => Admission::Serving,
            word => Gate::unpack(word).admission(now_ms),
        }
    }

    /// How much of a whole share it is ready for, of a thousand, when its share grows for `slow_start_ms` after it came
    /// back: a tenth at first. What has served since the process began was never away.
    #[inline]
    pub fn warmth_per_mille(&self, now_ms: u64, slow_start_ms: u64) -> u64 {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let served_ms = now_ms.saturating_sub(since_ms);
        if since_ms == 0 || served_ms >= slow_start_ms {
            return 1_000;
        }
        100 + 900 * served_ms / slow_start_ms
    }

    /// Claims the one trial request of an ejected endpoint; false when another worker was first.
    /// A trial that never reports is released after ten seconds, or at once by [`Endpoint::give_back_trial`].
    pub fn take_trial(&self, now_ms: u64) -> bool {
        let seen = self.gate.load(Ordering::Acquire);
        match Gate::unpack(seen).with_trial(now_ms) {
            Some(next) => self.replace(seen, next),
            None => false,
        }
    }

    /// Whether its trial has waited so long for a repeatable request that any may be it.
    pub fn is_overdue(&self, now_ms: u64) -> bool {
        Gate::unpack(self.gate.load(Ordering::Relaxed)).is_overdue(now_ms)
    }

    /// The trial ended without an outcome (its client left): the next request may take it.
    pub fn give_back_trial(&self, now_ms: u64) {
        let seen = self.gate.load(Ordering::Acquire);
        let gate = Gate::unpack(seen);
        if matches!(gate.ejection, Ejection::Trial(_)) {
            self.replace(seen, Gate { ejection: Ejection::Until(now_ms), ..gate });
        }
    }

    /// Takes note of an attempt. `last_live` is asked only before an ejection: the last live endpoint of a service is
    /// never ejected. A success of a serving endpoint writes nothing when there was no failure before it.
    #[inline]
    pub fn report(&self, outcome: Outcome, now_ms: u64, policy: &Breaker, last_live: impl FnOnce() -> bool) {
        match outcome {
            Outcome::Answered => {
                if self.gate.load(Ordering::Relaxed) != SERVING || self.failures.load(Ordering::Relaxed) != 0 {
                    self.answered(now_ms);
                }
            }
            Outcome::Failed => self.failed(now_ms, policy, last_live),
        }
    }

    /// Keeps the text of a failure for `status`. Never waits: when somebody else is writing, this one is dropped.
    pub fn note_error(&self, text: &str) {
        if let Ok(mut kept) = self.last_error.try_lock() {
            let end = text.floor_char_boundary(ERROR_BYTES_MAX);
            kept.clear();
            kept.push_str(&text[..end]);
        }
    }

    /// Whether it is no longer named: its idle connections should be dropped, and no request begun.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The state, for `status`, logs and metrics.
    pub fn state(&self) -> State {
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        State {
            kind: self.state_kind(),
            since_ms: self.since_ms.load(Ordering::Relaxed),
            last_error: (!last_error.is_empty()).then_some(last_error),
        }
    }

    /// The state without its text.
    pub fn state_kind(&self) -> StateKind {
        let gate = Gate::unpack(self.gate.load(Ordering::Relaxed));
        match (self.is_draining(), gate.proof, gate.ejection) {
            (true, ..) => StateKind::Draining,
            (_, Proof::Failed, _) => StateKind::Down,
            (_, Proof::Awaited, _) => StateKind::Unproved,
            (_, Proof::Passed, Ejection::None) => StateKind::Serving,
            (_, Proof::Passed, Ejection::Until(until_ms) | Ejection::Trial(until_ms)) => {
                StateKind::Ejected { until_ms }
            }
        }
    }

    /// How often it was ejected since it was made.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Attempts in flight, over all workers.
    pub fn in_flight(&self) -> u64 {
        self.meter.sum(|shard| shard.in_flight.value())
    }

    /// Whether it had its warm-up since it was made or was last down.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    /// It had its warm-up, or needs another. Control thread only.
    pub(crate) fn set_warm(&self, warm: bool) {
        self.warm.store(warm, Ordering::Relaxed);
    }

    /// Records a probe; the state before and after when it changed. Control thread only.
    pub(crate) fn probed(&self, passed: bool, now_ms: u64, rise: u32, fall: u32) -> Option<(StateKind, StateKind)> {
        let before = self.state_kind();
        self.revise(now_ms, |ledger| if passed { ledger.passed(rise) } else { ledger.failed(fall) });
        let after = self.state_kind();
        (std::mem::discriminant(&before) != std::mem::discriminant(&after)).then_some((before, after))
    }

    /// Nobody probes it any more. What the probes said last would hold for ever, so one real request may try it.
    pub(crate) fn unprobed(&self, now_ms: u64) {
        self.revise(now_ms, |_| Ledger::SERVES);
    }

    /// Uses it until its first probe says otherwise, when it had none yet.
    pub(crate) fn trust(&self, now_ms: u64) {
        self.revise(now_ms, |ledger| if ledger == Ledger::AWAITED { Ledger::TRUSTED } else { ledger });
    }

    /// Whether the next probe should come quickly.
    pub(crate) fn in_transition(&self) -> bool {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).in_transition()
    }

    /// Ends an ejection early: nothing else of its service serves. True when there was one to end.
    pub(crate) fn reprieve(&self, now_ms: u64) -> bool {
        let seen = self.gate.load(Ordering::Acquire);
        let gate = Gate::unpack(seen);
        let ejected = gate.ejection != Ejection::None;
        if ejected && self.replace(seen, Gate { ejection: Ejection::None, ..gate }) {
            self.since_ms.store(now_ms, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// It is no longer named, or named again.
    pub(crate) fn set_draining(&self, draining: bool, now_ms: u64) {
        self.draining.store(draining, Ordering::Relaxed);
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    /// It left and came back: what was known of it may be true of another container.
    pub(crate) fn revived(&self, ledger: Ledger, now_ms: u64) {
        self.set_draining(false, now_ms);
        self.revise(now_ms, |_| ledger);
    }

    /// Changes the ledger, and the gate with it. An endpoint that comes up while it is ejected may be tried at once.
    fn revise(&self, now_ms: u64, change: impl FnOnce(Ledger) -> Ledger) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let old = *ledger;
        *ledger = change(old);
        if ledger.proof == old.proof {
            return;
        }
        let mut seen = self.gate.load(Ordering::Acquire);
        loop {
            let mut next = Gate { proof: ledger.proof, ..Gate::unpack(seen) };
            if next.proof == Proof::Passed && next.ejection != Ejection::None {
                next.ejection = Ejection::Until(now_ms);
            }
            match self.gate.compare_exchange_weak(seen, next.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(current) => seen = current,
            }
        }
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    #[cold]
    fn answered(&self, now_ms: u64) {
        self.failures.store(0, Ordering::Relaxed);
        let seen = self.gate.load(Ordering::Acquire);
        let gate = Gate::unpack(seen);
        // An answer to a request from before the ejection says nothing new; only a trial brings it back.
        if matches!(gate.ejection, Ejection::Trial(_)) && self.replace(seen, Gate { ejection: Ejection::None, ..gate })
        {
            self.level.store(0, Ordering::Relaxed);
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    #[cold]
    fn failed(&self, now_ms: u64, policy: &Breaker, last_live: impl FnOnce() -> bool) {
        let seen = self.gate.load(Ordering::Acquire);
        match Gate::unpack(seen) {
            Gate { proof: Proof::Passed, ejection: Ejection::None } => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if policy.failures > 0 && failures >= policy.failures && !last_live() {
                    self.eject(seen, now_ms, policy);
                }
            }
            Gate { ejection: Ejection::Trial(_), .. } => self.eject(seen, now_ms, policy),
            // Requests that began before the gate closed; they were counted for what they are by the meters.
            Gate { .. } => {}
        }
    }

    fn eject(&self, seen: u64, now_ms: u64, policy: &Breaker) {
        let level = self.level.load(Ordering::Relaxed).saturating_add(1);
        let draw = mixed(self.serial ^ now_ms.rotate_left(32) ^ u64::from(level));
        let until = now_ms + ejection_ms(level, draw, policy);
        if self.replace(seen, Gate { ejection: Ejection::Until(until), ..Gate::unpack(seen) }) {
            self.level.store(level, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.fetch_add(1, Ordering::Relaxed);
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    pub(super) fn replace(&self, seen: u64, next: Gate) -> bool {
        self.gate.compare_exchange(seen, next.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.slots.give_back(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Protocol;

    fn endpoint(ledger: Ledger) -> Endpoint {
        let name = |text| Name::new(text).expect("a name");
        let origin = Origin { protocol: Protocol::Http1, host: "127.0.0.1".into(), port: 80 };
        let addr = origin.literal().expect("an address");
        let id = EndpointId { service: name("engine"), pool: name("canary"), origin, addr };
        Endpoint::new(id, Arc::new(Slots::default()), 7, 2, ledger)
    }

    fn policy() -> Breaker {
        Breaker { failures: 3, ..Breaker::default() }
    }

    fn eject(endpoint: &Endpoint, now_ms: u64) -> u64 {
        for _ in 0..3 {
            endpoint.report(Outcome::Failed, now_ms, &policy(), || false);
        }
        match endpoint.state_kind() {
            StateKind::Ejected { until_ms } => until_ms,
            other => panic!("not ejected: {other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_between_them_does_not() {
        let endpoint = endpoint(Ledger::SERVES);
        for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Answered, Outcome::Failed, Outcome::Failed] {
            endpoint.report(outcome, 10, &policy(), || false);
        }
        assert_eq!(endpoint.admission(10), Admission::Serving);
        endpoint.report(Outcome::Failed, 10, &policy(), || false);
        assert_eq!(endpoint.admission(10), Admission::Refused);
        assert_eq!(endpoint.ejections(), 1);
    }

    #[test]
    fn an_endpoint_that_came_back_warms_up_in_a_line_and_one_that_was_never_away_is_warm() {
        let endpoint = endpoint(Ledger::SERVES);
        assert_eq!(endpoint.warmth_per_mille(5, 10_000), 1_000);
        let until = eject(&endpoint, 1_000);
        assert!(endpoint.take_trial(until));
        endpoint.report(Outcome::Answered, until, &policy(), || false);
        let warmth = |after_ms| endpoint.warmth_per_mille(until + after_ms, 10_000);
        assert_eq!([warmth(0), warmth(5_000), warmth(9_999), warmth(10_000)], [100, 550, 999, 1_000]);
        assert_eq!(endpoint.warmth_per_mille(until, 0), 1_000);
    }

    #[test]
    fn the_last_live_endpoint_is_never_ejected() {
        let endpoint = endpoint(Ledger::SERVES);
        for now_ms in 1..1_000 {
            endpoint.report(Outcome::Failed, now_ms, &policy(), || true);
        }
        assert_eq!(endpoint.admission(1_000), Admission::Serving);
        // As soon as another one lives, the failures so far count.
        endpoint.report(Outcome::Failed, 1_001, &policy(), || false);
        assert_eq!(endpoint.admission(1_001), Admission::Refused);
    }

    #[test]
    fn after_an_ejection_one_request_tries_and_its_answer_brings_the_endpoint_back() {
        let endpoint = endpoint(Ledger::SERVES);
        let until = eject(&endpoint, 1_000);
        assert!((2_000..2_500).contains(&until), "{until}");
        assert!(!endpoint.take_trial(until - 1));
        assert_eq!(endpoint.admission(until), Admission::Trial);
        assert!(endpoint.take_trial(until));
        assert!(!endpoint.take_trial(until));
        assert_eq!(endpoint.admission(until), Admission::Refused);
        endpoint.report(Outcome::Answered, until + 5, &policy(), || false);
        assert_eq!(endpoint.admission(until + 5), Admission::Serving);
        // The next ejection begins at the base again.
        assert!(eject(&endpoint, 100_000) < 101_500);
    }

    #[test]
    fn a_failed_trial_doubles_the_ejection_up_to_the_longest() {
        let endpoint = endpoint(Ledger::SERVES);
        let mut until = eject(&endpoint, 1_000);
        let mut lasted = Vec::new();
        for _ in 0..8 {
            assert!(endpoint.take_trial(until));
            let now = until + 1;
            endpoint.report(Outcome::Failed, now, &policy(), || false);
            let StateKind::Ejected { until_ms } = endpoint.state_kind() else { panic!("not ejected") };
            until = until_ms;
            lasted.push(until - now);
        }
        for (lasted, nominal) in lasted.iter().zip([2_000, 4_000, 8_000, 16_000, 32_000, 40_000, 40_000, 40_000]) {
            assert!((nominal..nominal + nominal / 2).contains(lasted), "{lasted} for {nominal}");
        }
    }

    #[test]
    fn a_trial_that_never_reports_is_released() {
        let endpoint = endpoint(Ledger::SERVES);
        let until = eject(&endpoint, 1);
        assert!(endpoint.take_trial(until));
        assert!(!endpoint.take_trial(until + super::super::gate::TRIAL_MS - 1));
        assert!(endpoint.take_trial(until + super::super::gate::TRIAL_MS));
        endpoint.give_back_trial(until + 11_000);
        assert!(endpoint.take_trial(until + 11_000));
    }

    #[test]
    fn a_trial_that_nobody_makes_is_overdue_after_a_second_and_again_after_one_that_never_reports() {
        let endpoint = endpoint(Ledger::SERVES);
        let until = eject(&endpoint, 1);
        let overdue = super::super::gate::OVERDUE_MS;
        assert!(!endpoint.is_overdue(until + overdue - 1) && endpoint.is_overdue(until + overdue));
        assert!(endpoint.take_trial(until + overdue));
        let released = until + overdue + super::super::gate::TRIAL_MS;
        assert!(!endpoint.is_overdue(released + overdue - 1) && endpoint.is_overdue(released + overdue));
        endpoint.report(Outcome::Answered, released, &policy(), || false);
        assert!(!endpoint.is_overdue(released + 10 * overdue));
    }

    #[test]
    fn of_many_workers_one_gets_the_trial() {
        let endpoint = endpoint(Ledger::SERVES);
        for round in 0..200 {
            let until = eject(&endpoint, 1 + round * 100_000);
            let taken = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| endpoint.take_trial(until))).collect();
                workers.into_iter().map(|worker| worker.join().expect("a worker")).filter(|it| *it).count()
            });
            assert_eq!(taken, 1);
            endpoint.report(Outcome::Answered, until, &policy(), || false);
        }
    }

    #[test]
    fn a_late_answer_from_before_the_ejection_does_not_end_it() {
        let endpoint = endpoint(Ledger::SERVES);
        let until = eject(&endpoint, 1);
        endpoint.report(Outcome::Answered, 2, &policy(), || false);
        assert_eq!(endpoint.admission(until - 1), Admission::Refused);
    }

    #[test]
    fn probes_and_ejection_close_the_gate_apart_and_a_return_is_tried_at_once() {
        let endpoint = endpoint(Ledger::SERVES);
        let until = eject(&endpoint, 1_000);
        for now in 1_001..1_004 {
            endpoint.probed(false, now, 2, 3);
        }
        assert_eq!(endpoint.state_kind(), StateKind::Down);
        assert_eq!(endpoint.admission(until), Admission::Refused);
        assert!(!endpoint.take_trial(until));
        endpoint.probed(true, 1_010, 2, 3);
        assert!(endpoint.probed(true, 1_011, 2, 3).is_some());
        assert_eq!(endpoint.admission(1_011), Admission::Trial);
    }

    #[test]
    fn an_unproved_endpoint_takes_nothing_before_its_first_pass() {
        let endpoint = endpoint(Ledger::AWAITED);
        assert_eq!(endpoint.admission(5), Admission::Refused);
        assert_eq!(endpoint.state_kind(), StateKind::Unproved);
        assert_eq!(endpoint.probed(false, 6, 2, 3), None);
        assert_eq!(endpoint.probed(true, 7, 2, 3), Some((StateKind::Unproved, StateKind::Serving)));
        assert_eq!(endpoint.admission(7), Admission::Serving);
    }

    #[test]
    fn a_last_error_is_cut_at_a_character() {
        let endpoint = endpoint(Ledger::SERVES);
        endpoint.note_error(&"ü".repeat(500));
        assert_eq!(endpoint.state().last_error.map(|text| text.len()), Some(ERROR_BYTES_MAX));
    }

    /// Random reports, probes and clocks against what a reader of the documentation would expect.
    #[test]
    fn no_history_breaks_the_promises_of_the_gate() {
        for seed in 0..300u64 {
            simulate(seed);
        }
    }

    fn simulate(seed: u64) {
        let mut state = seed;
        let mut dice = |sides: u64| {
            state = state.wrapping_add(1);
            mixed(mixed(seed) ^ state) % sides
        };
        let policy = Breaker { failures: 3, max_ejection: Duration::from_secs(8), ..Breaker::default() };
        let endpoint = endpoint([Ledger::SERVES, Ledger::TRUSTED, Ledger::AWAITED][dice(3) as usize]);
        let (mut now, mut run, mut trial_out_until) = (1u64, 0u32, 0u64);
        for step in 0..2_000 {
            let context = format!("seed {seed}, step {step}, now {now}");
            let before = endpoint.admission(now);
            match dice(8) {
                0 => now += dice(3_000),
                1 | 2 => {
                    let last_live = dice(4) == 0;
                    endpoint.report(Outcome::Failed, now, &policy, || last_live);
                    run += u32::from(before == Admission::Serving);
                    if before == Admission::Serving && last_live {
                        assert_eq!(endpoint.admission(now), Admission::Serving, "{context}: the last live one");
                    }
                    if before == Admission::Serving && endpoint.admission(now) != Admission::Serving {
                        assert!(run >= 3, "{context}: ejected after {run} failures");
                    }
                    trial_out_until = 0;
                }
                3 => {
                    endpoint.report(Outcome::Answered, now, &policy, || unreachable!("asked for a success"));
                    run = 0;
                    trial_out_until = 0;
                    if before == Admission::Serving {
                        assert_eq!(endpoint.admission(now), Admission::Serving, "{context}");
                    }
                }
                4 | 5 => {
                    let taken = endpoint.take_trial(now);
                    assert_eq!(taken, before == Admission::Trial, "{context}");
                    if taken {
                        assert!(now >= trial_out_until, "{context}: a second trial");
                        trial_out_until = now + super::super::gate::TRIAL_MS;
                        assert_eq!(endpoint.admission(now), Admission::Refused, "{context}");
                    }
                }
                6 => {
                    let passed = dice(3) > 0;
                    if let Some((_, after)) = endpoint.probed(passed, now, 2, 3) {
                        let up = matches!(after, StateKind::Serving | StateKind::Ejected { .. });
                        assert_eq!(passed, up, "{context}: a probe that moved the wrong way");
                        trial_out_until = 0;
                    }
                }
                _ => {
                    endpoint.give_back_trial(now);
                    trial_out_until = 0;
                }
            }
            if let StateKind::Ejected { until_ms } = endpoint.state_kind() {
                assert!(until_ms <= now + 10_000, "{context}: until {until_ms}");
            }
        }
    }
}
