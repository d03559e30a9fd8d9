//! From what is live, a plan and weights to what is live next. Pure: no clock, no file, no socket, no randomness.
//!
//! It decides slots, drains and what changed; it does not look up live state (see [`super::publish`]) and does not read
//! or write files (see [`super::writer`]).

use std::sync::Arc;

use super::change::{Cohort, Refused};
use super::history::{Record, WeightsChange};
use crate::model::{Closed, Killed, Kills, Name, Now, OnZero, Plan, ServiceSpec, Weights};

/// What is live, without live state of endpoints.
#[derive(Debug, Clone)]
pub struct State {
    /// The generation that operators see.
    pub generation: u64,
    /// Services, routes and limits.
    pub plan: Arc<Plan>,
    /// One for each service of the plan, in its order.
    pub services: Vec<ServiceState>,
}

/// What is live of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Dense index by name, the same for as long as the service is named.
    pub slot: usize,
    /// Its weights.
    pub weights: Weights,
    /// A drain in progress.
    pub drain: Option<Drain>,
    /// Why everything goes to stable by whatever way it comes; its weights say so too.
    pub killed: Option<Killed>,
    /// What of it answers 503.
    pub closed: Option<Closed>,
    /// Requests that go to one pool whatever its weight.
    pub cohort: Option<Cohort>,
}

/// Pools that went to 0 while clients are bound to them and may stay for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The weights before.
    pub before: Weights,
    /// The pools that drain.
    pub pools: Vec<Name>,
    /// Clients bound before this second may stay.
    pub since_unix_s: u64,
    /// Until this moment, on the monotonic clock of [`Now`].
    pub until_ms: u64,
}

/// What should be live next.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Services, routes and limits.
    pub plan: Arc<Plan>,
    /// Weights by service; a service that is missing here sends everything to stable.
    pub weights: Vec<(Name, Weights)>,
    /// What is killed, and what is under maintenance.
    pub kills: Kills,
    /// Whether the plan is another one than before.
    pub plan_changed: bool,
    /// A service whose bound clients move at once, whatever `on_zero` says: the one that is rolled back.
    pub evict: Option<Name>,
}

/// What is live next, and what became of the weights.
#[derive(Debug, Clone)]
pub struct Next {
    /// The state. Its generation is that of the old one when nothing changed.
    pub state: State,
    /// Services whose weights are others than before.
    pub changes: Vec<WeightsChange>,
    /// Whether there is anything to publish as a new generation.
    pub changed: bool,
}

/// Works out what is live next. `first` is the number of the first generation of this process.
pub fn reconcile(old: Option<&State>, wanted: Wanted, first: u64, now: Now) -> Result<Next, Refused> {
    let mut services = Vec::with_capacity(wanted.plan.services.len());
    let mut changes = Vec::new();
    let mut taken: Vec<usize> = Vec::new();
    let known = |name: &Name| {
        let old = old?;
        let at = old.plan.services.iter().position(|spec| spec.name == *name)?;
        old.services.get(at)
    };
    taken.extend(wanted.plan.services.iter().filter_map(|spec| known(&spec.name)).map(|service| service.slot));
    let mut rekilled = false;
    for spec in &wanted.plan.services {
        let killed = wanted.kills.of(&spec.name);
        let weights = match &killed {
            Some(_) => all_to_stable(spec),
            None => weights_of(spec, &wanted.weights)?,
        };
        let before = known(&spec.name);
        let slot = before.map_or_else(|| free_slot(&mut taken), |service| service.slot);
        if before.is_none_or(|service| service.weights != weights) {
            changes.push(WeightsChange {
                service: spec.name.to_string(),
                before: before.map(|service| Record(service.weights.clone())),
                after: Record(weights.clone()),
            });
        }
        let closed = wanted.kills.closed.of(&spec.name);
        rekilled |= before.map(|service| (&service.killed, &service.closed)) != Some((&killed, &closed));
        // Who was sent to stable by a kill was never bound to it, so nobody drains when it ends.
        let by_kill = killed.is_some() || before.is_some_and(|service| service.killed.is_some());
        let evict = wanted.evict.as_ref() == Some(&spec.name) || by_kill;
        let drain = before.filter(|_| !evict).and_then(|service| drain(service, spec, &weights, now));
        let cohort = before.and_then(|service| service.cohort.clone());
        let cohort = cohort.filter(|cohort| spec.pool_index(&cohort.pool).is_some());
        services.push(ServiceState { slot, weights, drain, killed, closed, cohort });
    }
    let changed = old.is_none() || wanted.plan_changed || rekilled || !changes.is_empty();
    let generation = old.map_or(first, |state| state.generation + u64::from(changed));
    Ok(Next { state: State { generation, plan: wanted.plan, services }, changes, changed })
}

/// The weights of one service; every pool named must exist, and one that exists must get something.
fn weights_of(spec: &ServiceSpec, all: &[(Name, Weights)]) -> Result<Weights, Refused> {
    let Some((_, weights)) = all.iter().find(|(name, _)| *name == spec.name) else {
        return Ok(all_to_stable(spec));
    };
    check_pools(spec, weights).map(|()| weights.clone())
}

/// Refuses weights that name a pool which the service does not have.
pub fn check_pools(spec: &ServiceSpec, weights: &Weights) -> Result<(), Refused> {
    match weights.iter().find(|(pool, _)| spec.pool_index(pool).is_none()) {
        None => Ok(()),
        Some((pool, _)) => {
            let known: Vec<&str> = spec.pools.iter().map(|pool| pool.name.as_str()).collect();
            Err(Refused::UnknownPool { service: spec.name.clone(), pool: pool.clone(), known: known.join(", ") })
        }
    }
}

/// Everything to the stable pool, 0 to every other pool of the service.
pub fn all_to_stable(spec: &ServiceSpec) -> Weights {
    Weights::all_to(&spec.stable, spec.pools.iter().map(|pool| pool.name.clone()))
}

fn free_slot(taken: &mut Vec<usize>) -> usize {
    let slot = (0..=taken.len()).find(|slot| !taken.contains(slot)).expect("one of n + 1 numbers is not among n");
    taken.push(slot);
    slot
}

/// A new drain when pools go to 0 now; else the running one, so far as its pools are still at 0. One drain at a time:
/// a second one ends the first, because a bucket has one place per split.
fn drain(before: &ServiceState, spec: &ServiceSpec, weights: &Weights, now: Now) -> Option<Drain> {
    let OnZero::Drain(time) = spec.affinity.on_zero else { return None };
    let emptied: Vec<Name> = spec
        .pools
        .iter()
        .map(|pool| &pool.name)
        .filter(|pool| weights.of(pool) == 0 && before.weights.of(pool) > 0)
        .cloned()
        .collect();
    if !emptied.is_empty() {
        let until_ms = now.mono_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        return Some(Drain { before: before.weights.clone(), pools: emptied, since_unix_s: now.unix_s, until_ms });
    }
    let mut running = before.drain.clone().filter(|drain| drain.until_ms > now.mono_ms)?;
    running.pools.retain(|pool| weights.of(pool) == 0 && spec.pool_index(pool).is_some());
    (!running.pools.is_empty()).then_some(running)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::model::Weight;

    /// A plan of these services, each with stable and canary.
    fn plan(services: &[u8], drain: Option<Duration>) -> Arc<Plan> {
        let tables = services.iter().map(|name| {
            format!(
                "[services.s{name}.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                 [services.s{name}.pools.canary]\nendpoints = [\"http://127.0.0.1:2\"]\n\
                 [services.s{name}.affinity]\nby = \"cookie\"\n"
            )
        });
        let text = tables.collect::<String>() + "[[routes]]\nservice = \"s0\"\n";
        let config = Config::parse(&text, "weir.toml", &|_| None).expect("a configuration");
        let mut plan = Arc::unwrap_or_clone(config.plan);
        for service in &mut plan.services {
            service.affinity.on_zero = drain.map_or(OnZero::Evict, OnZero::Drain);
        }
        Arc::new(plan)
    }

    fn weights(stable: u32, canary: u32) -> Weights {
        let entry = |pool, weight| (Name::new(pool).expect("a name"), Weight::Relative(weight));
        Weights::new(vec![entry("stable", stable), entry("canary", canary)]).expect("weights")
    }

    fn wanted(plan: &Arc<Plan>, pairs: &[(u32, u32)]) -> Wanted {
        let names = plan.services.iter().map(|service| service.name.clone());
        let weights = names.zip(pairs.iter().map(|&(stable, canary)| weights(stable, canary))).collect();
        Wanted { plan: plan.clone(), weights, kills: Kills::default(), plan_changed: false, evict: None }
    }

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_s: mono_ms / 1000 }
    }

    prop_compose! {
        /// Service 0 and some others.
        fn names()(others in proptest::collection::btree_set(1_u8..6, 0..5)) -> Vec<u8> {
            std::iter::once(0).chain(others).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_service_keeps_its_slot_and_slots_stay_dense(steps in proptest::collection::vec(names(), 1..8)) {
            let mut state: Option<State> = None;
            let mut most = 0;
            for names in steps {
                let plan = plan(&names, None);
                let next = Wanted { plan_changed: true, ..wanted(&plan, &[]) };
                let next = reconcile(state.as_ref(), next, 1, at(1)).expect("it holds").state;
                most = most.max(names.len());
                for (i, spec) in next.plan.services.iter().enumerate() {
                    let slot = next.services[i].slot;
                    prop_assert!(next.services[..i].iter().all(|other| other.slot != slot), "one slot, two services");
                    prop_assert!(slot < 2 * most, "slots grow without need");
                    let before = state.as_ref().and_then(|old| {
                        let at = old.plan.services.iter().position(|other| other.name == spec.name)?;
                        Some(old.services[at].slot)
                    });
                    prop_assert!(before.is_none_or(|before| before == slot), "a service lost its slot");
                }
                state = Some(next);
            }
        }

        #[test]
        fn the_generation_rises_by_one_exactly_when_something_changed(
            pairs in proptest::collection::vec((1_u32..4, 0_u32..4), 1..12),
        ) {
            let plan = plan(&[0], None);
            let mut state: Option<State> = None;
            for pair in pairs {
                let next = reconcile(state.as_ref(), wanted(&plan, &[pair]), 7, at(1)).expect("it holds");
                let same = state.as_ref().is_some_and(|old| old.services[0].weights == weights(pair.0, pair.1));
                let before = state.as_ref().map_or(6, |old| old.generation);
                prop_assert_eq!((next.changed, next.state.generation), (!same, before + u64::from(!same)));
                prop_assert_eq!(next.changes.len(), usize::from(!same));
                let again = reconcile(Some(&next.state), wanted(&plan, &[pair]), 7, at(1)).expect("it holds");
                prop_assert!(!again.changed && again.state.generation == next.state.generation);
                state = Some(next.state);
            }
        }

        #[test]
        fn only_pools_at_zero_drain_and_never_beyond_their_time(
            steps in proptest::collection::vec(((1_u32..3, 0_u32..3), 1_u64..4_000), 1..16),
        ) {
            let plan = plan(&[0], Some(Duration::from_secs(5)));
            let (mut state, mut now_ms): (Option<State>, u64) = (None, 1);
            for (pair, wait_ms) in steps {
                now_ms += wait_ms;
                let next = reconcile(state.as_ref(), wanted(&plan, &[pair]), 1, at(now_ms)).expect("it holds").state;
                if let Some(drain) = &next.services[0].drain {
                    prop_assert_eq!(pair.1, 0, "a pool with weight drains");
                    prop_assert!(drain.until_ms > now_ms && drain.until_ms <= now_ms + 5_000);
                    prop_assert!(drain.before.of("canary") > 0, "nobody could be bound to it");
                }
                state = Some(next);
            }
        }
    }
}
