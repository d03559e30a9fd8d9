//! From the counters of the workers to a [`Tick`]: what happened since the last one, by arm. It judges nothing.
//!
//! Latency of a pool, and what its caches did, is left out while one of its instances warms up; errors never are, or a
//! crash loop would not be seen. An instance that was there when the rollout began is old enough, but it still has its
//! first requests before it: who says that they were served fast by cold caches?

use std::collections::HashMap;
use std::time::Duration;

use super::super::judge::Level;
use super::super::tick::{Arm, LEVELS_MAX, Tick};
use super::levers;
use super::shares;
use super::switches::down;
use crate::model::rollout::RolloutPlan;
use crate::model::{AffinityBy, Name, Weights};
use crate::switchboard::snapshot::{Pool, Service, Snapshot};
use crate::telemetry::histogram::Summary;
use crate::telemetry::lane::Lane;
use crate::telemetry::reading::{LaneCounts, PoolCounts, Reading};
use crate::upstream::culprits::{self, Culprit, Parts};
use crate::upstream::endpoint::{Admission, Endpoint, EndpointId};

/// Requests of a tick from which its 99th percentile is believed.
const P99_MIN: u64 = 100;

/// Requests of the control on which a threshold may be frozen: a 95th percentile needs some beyond it.
const PAST_MIN: u64 = 100;

/// Requests after which older ones are not needed for thresholds any more.
const PAST_ENOUGH: u64 = 2_000;

/// Instances whose warmth is remembered; those that are gone are forgotten first.
const INSTANCES_MAX: usize = 4_096;

/// What was counted, and what only some readers need.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Counted {
    /// The tick.
    pub(in crate::rollout) tick: Tick,
    /// Latencies of candidate and control.
    pub(in crate::rollout) latency: [Summary; 2],
    /// Where the candidate's errors of this tick came from.
    pub(in crate::rollout) culprits: Vec<Culprit>,
}

/// Remembers what the counters were.
#[derive(Debug)]
pub(in crate::rollout) struct Counter {
    warm_up: Duration,
    warm_up_requests: u64,
    settle: Duration,
    last_ms: u64,
    readings: HashMap<Name, Reading>,
    /// The candidate's errors by endpoint and route, when they were looked at last.
    parts: Parts,
    instances: HashMap<EndpointId, Instance>,
    weights: Option<Weights>,
    settled_ms: u64,
    stable_p99: Duration,
    /// The control's latencies since thresholds were frozen last; at first, since the process began.
    past: Summary,
}

/// What is remembered of an endpoint until it is warm.
#[derive(Debug, Clone, Copy)]
struct Instance {
    since_ms: u64,
    warm: bool,
}

// === impl Counter ===

impl Counter {
    /// Begins to count now.
    pub(in crate::rollout) fn new(plan: &RolloutPlan, snapshot: &Snapshot, now_ms: u64) -> Self {
        let mut counter = Self {
            warm_up: plan.evidence.warm_up,
            warm_up_requests: plan.evidence.warm_up_requests,
            settle: plan.evidence.settle,
            last_ms: now_ms,
            readings: HashMap::new(),
            parts: Parts::default(),
            instances: HashMap::new(),
            weights: None,
            settled_ms: 0,
            stable_p99: Duration::ZERO,
            past: Summary::default(),
        };
        if let Some(service) = levers::service(snapshot, &plan.service) {
            for pool in &service.pools {
                if pool.name == plan.candidate {
                    counter.parts = Parts::of(&pool.state.meter, &pool.endpoints);
                }
                counter.readings.insert(pool.name.clone(), Reading::of(&pool.state.meter));
                for endpoint in &pool.endpoints {
                    counter.instances.insert(endpoint.id.clone(), Instance { since_ms: 0, warm: false });
                }
            }
            counter.weights = Some(service.weights.clone());
            let control = plan.baseline.as_ref().unwrap_or(&service.spec.stable);
            if let Some(reading) = counter.readings.get(control) {
                counter.past = reading.total().placed().latency;
            }
        }
        counter
    }

    /// Counts what happened since the last time.
    pub(in crate::rollout) fn take(
        &mut self,
        plan: &RolloutPlan,
        snapshot: &Snapshot,
        levels: &[Level],
        now_ms: u64,
    ) -> Counted {
        let began_ms = std::mem::replace(&mut self.last_ms, now_ms);
        let elapsed_ms = now_ms.saturating_sub(began_ms);
        let Some(service) = levers::service(snapshot, &plan.service) else {
            return Counted { tick: Tick { elapsed_ms, ..Tick::default() }, ..Counted::default() };
        };
        self.forget(service);
        let control = plan.baseline.as_ref().unwrap_or(&service.spec.stable);
        let mut counts: HashMap<&Name, PoolCounts> = HashMap::new();
        for pool in &service.pools {
            let known = pool.name == plan.candidate || pool.name == *control || pool.name == service.spec.stable;
            if known {
                counts.insert(&pool.name, self.read(pool));
            }
        }
        let none = PoolCounts::default();
        let of = |name: &Name| counts.get(name).unwrap_or(&none);
        let stable = of(&service.spec.stable).placed();
        if stable.latency.count() >= P99_MIN {
            self.stable_p99 = stable.latency.quantile_us(0.99).map(Duration::from_micros).unwrap_or_default();
        }
        let settling = self.settling(service, began_ms, now_ms);
        let (own, other) = (of(&plan.candidate).placed(), of(control).placed());
        let warm = [self.warm(service, &plan.candidate, now_ms), self.warm(service, control, now_ms)];
        let arm = |counts: &LaneCounts, side: usize| arm(counts, levels, side, warm[side]);
        let halves = [Lane::A, Lane::B].map(|lane| arm(of(&service.spec.stable).lane(lane), 1));
        let pool = |name: &Name| service.pools.iter().find(|pool| pool.name == *name);
        let tick = Tick {
            elapsed_ms,
            share: shares::part_of(&service.weights, &plan.candidate, control),
            by_unit: !matches!(service.spec.affinity.by, AffinityBy::None),
            settling,
            serving: pool(&plan.candidate).is_some_and(|pool| serves(pool, now_ms)),
            control_down: pool(control).filter(|pool| !serves(pool, now_ms)).map(down),
            candidate: arm(&own, 0),
            control: arm(&other, 1),
            halves,
            named: arm(of(&plan.candidate).lane(Lane::Named), 0),
            in_flight: [&plan.candidate, control].map(|name| pool(name).map_or(0, in_flight)),
        };
        self.past.merge(&other.latency);
        // Errors are rare, and so is this look at every endpoint.
        let failed = tick.candidate.errors + tick.named.errors > 0;
        let culprits = pool(&plan.candidate).filter(|_| failed).map(|pool| self.culprits(pool)).unwrap_or_default();
        Counted { tick, latency: [own.latency, other.latency], culprits }
    }

    fn culprits(&mut self, pool: &Pool) -> Vec<Culprit> {
        let now = Parts::of(&pool.state.meter, &pool.endpoints);
        let earlier = std::mem::replace(&mut self.parts, now);
        culprits::culprits(&self.parts, &earlier, culprits::KEPT_MAX)
    }

    /// The control's latency at a quantile, of what thresholds may be frozen on; none while there is too little.
    pub(in crate::rollout) fn quantile_us(&self, quantile: f64) -> Option<u64> {
        (self.past.count() >= PAST_MIN).then(|| self.past.threshold_at(quantile))
    }

    /// Thresholds were frozen: the next ones go by what comes from now on, if there is enough by then.
    pub(in crate::rollout) fn frozen(&mut self) {
        if self.past.count() >= PAST_ENOUGH {
            self.past = Summary::default();
        }
    }

    fn read(&mut self, pool: &Pool) -> PoolCounts {
        let reading = Reading::of(&pool.state.meter);
        let earlier = self.readings.insert(pool.name.clone(), reading.clone());
        // A pool that is new counts from now on.
        earlier.map(|earlier| reading.since(&earlier)).unwrap_or_default()
    }

    /// Whether this tick, or a part of it, was soon after a change of the weights.
    fn settling(&mut self, service: &Service, began_ms: u64, now_ms: u64) -> bool {
        if self.weights.as_ref() != Some(&service.weights) {
            self.weights = Some(service.weights.clone());
            let settle = self.settle.max(self.stable_p99).as_millis() as u64;
            self.settled_ms = now_ms + settle;
            return true;
        }
        began_ms < self.settled_ms
    }

    /// Whether every instance of the pool is warm.
    fn warm(&mut self, service: &Service, name: &Name, now_ms: u64) -> bool {
        let Some(pool) = service.pools.iter().find(|pool| pool.name == *name) else { return true };
        let (warm_up, requests) = (self.warm_up.as_millis() as u64, self.warm_up_requests);
        let mut all = true;
        for endpoint in &pool.endpoints {
            let new = Instance { since_ms: now_ms, warm: false };
            let instance = self.instances.entry(endpoint.id.clone()).or_insert(new);
            instance.warm = instance.warm
                || (instance.since_ms == 0 || now_ms >= instance.since_ms + warm_up) && answers(endpoint) >= requests;
            all &= instance.warm;
        }
        all
    }

    fn forget(&mut self, service: &Service) {
        if self.instances.len() > INSTANCES_MAX {
            let named = |id: &EndpointId| {
                service.pools.iter().any(|pool| pool.endpoints.iter().any(|endpoint| endpoint.id == *id))
            };
            self.instances.retain(|id, _| named(id));
        }
    }
}

fn arm(counts: &LaneCounts, levels: &[Level], side: usize, warm: bool) -> Arm {
    let mut arm = Arm {
        attempts: counts.attempts,
        errors: counts.errors,
        first_errors: counts.first_errors,
        units: counts.units,
        client_errors: counts.client_errors,
        disconnects: counts.disconnects,
        cache_hits: 0,
        cache_misses: 0,
        timed: 0,
        slow: [0; LEVELS_MAX],
    };
    if warm {
        [arm.cache_hits, arm.cache_misses] = counts.cache;
        arm.timed = counts.latency.count();
        for (slow, level) in arm.slow.iter_mut().zip(levels) {
            *slow = level.above_us.map_or(0, |above| counts.latency.above(above[side]));
        }
    }
    arm
}

fn serves(pool: &Pool, now_ms: u64) -> bool {
    pool.endpoints.iter().any(|endpoint| endpoint.admission(now_ms) == Admission::Serving)
}

/// Requests of a pool between their head and the end of their response.
pub(in crate::rollout) fn in_flight(pool: &Pool) -> u64 {
    pool.state.meter.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.in_flight.value()))
}

/// Answers that an endpoint gave since it was made.
fn answers(endpoint: &Endpoint) -> u64 {
    endpoint.meter.iter().flat_map(|shard| &shard.codes).map(|code| code.value()).sum()
}
