//! One rollout under way: a task on the control runtime that takes orders, the outcomes of errands and ticks, hands
//! them to the machine and does what comes out, in order.
//!
//! It decides nothing, and nothing waits for it but its own rollout: readers look at the view that it published last,
//! and whoever rolls back moves the traffic first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::super::judge::Judge;
use super::super::machine::{Command, Effect, Illegal, Input, Rollout};
use super::super::record::{Latencies, Quantiles, Record, Said};
use super::super::rules::Rules;
use super::super::verdict::{Judgement, Verdict};
use super::super::view::{BoundedQuantiles, Figures, View};
use super::asks::Asks;
use super::beside::{Beside, UNITS_MAX, Written};
use super::count::{Counted, Counter};
use super::errands::{Back, Errands};
use super::hands::Hands;
use super::levers;
use super::locked;
use super::office::{Office, Order, Seat, now_ms};
use crate::model::AffinityBy;
use crate::telemetry::clock;
use crate::telemetry::histogram::Summary;
use crate::upstream::culprits::{self, CulpritKind};

/// Inputs that follow from one; the machine comes to rest long before.
const FOLLOW_MAX: usize = 64;

/// Outcomes of errands that wait.
const BACK_MAX: usize = 256;

/// Part of the errors from which on one endpoint is named for them.
const MOST: f64 = 0.5;

/// A rollout under way.
pub(super) struct Drive {
    pub(super) office: Arc<Office>,
    pub(super) seat: Arc<Seat>,
    pub(super) rollout: Rollout,
    pub(super) judge: Judge,
    rules: Rules,
    pub(super) figures: Figures,
    pub(super) errands: Errands,
    pub(super) asks: Asks,
    pub(super) hands: Hands,
    pub(super) released: bool,
    counter: Counter,
    latency: [Summary; 2],
    pub(super) judgement: Option<Judgement>,
    tick: Option<super::super::tick::Tick>,
    killed: Option<String>,
    window_closed: Option<String>,
    orders: mpsc::Receiver<Order>,
    back: mpsc::Receiver<Back>,
    last: Instant,
    began: Instant,
    retired: bool,
}

// === impl Drive ===

impl Drive {
    /// A runner for `rollout`, which goes on from what was kept beside it.
    pub(super) fn new(office: Arc<Office>, seat: Arc<Seat>, rollout: Rollout, orders: mpsc::Receiver<Order>) -> Self {
        let snapshot = office.switchboard.snapshot().load_full();
        let beside = Beside::read(&locked(&seat.beside)).unwrap_or_else(|| Beside {
            judge: Judge::new(&rollout.plan),
            rules: Rules::new(&rollout.plan),
            figures: Figures::default(),
            judgement: None,
            failed_units: Vec::new(),
            asked: Default::default(),
        });
        let Beside { judge, rules, figures, judgement, failed_units, asked } = beside;
        let service = levers::service(&snapshot, &rollout.plan.service);
        if let Some(service) = service.filter(|service| !matches!(service.spec.affinity.by, AffinityBy::None)) {
            service.units.arm_with(&failed_units);
        }
        let counter = Counter::new(&rollout.plan, &snapshot, clock::now().mono_ms);
        let (returns, back) = mpsc::channel(BACK_MAX);
        let hands = Hands::new(levers::live_weights(&office.switchboard, &rollout.plan.service));
        Self {
            errands: Errands::new(returns),
            asks: Asks::new(asked),
            office,
            seat,
            rollout,
            judge,
            rules,
            figures,
            hands,
            released: false,
            counter,
            latency: Default::default(),
            judgement,
            tick: None,
            killed: None,
            window_closed: None,
            orders,
            back,
            last: Instant::now(),
            began: Instant::now(),
            retired: false,
        }
    }

    /// Begins with `first` and goes on until the rollout lets go of its service.
    pub(super) async fn run(mut self, first: Input) -> mpsc::Receiver<Order> {
        self.follow(first).await;
        let mut ticks = interval(self.office.tick);
        // A tick that comes late is one long tick, not several short ones: its length is measured.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        while !self.over() {
            tokio::select! {
                // Orders go first: a person who rolls back waits for no tick.
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order).await,
                    None => break,
                },
                Some(back) = self.back.recv() => self.returned(back).await,
                _ = ticks.tick() => self.look().await,
            }
        }
        self.persist().await;
        self.publish();
        let snapshot = self.office.switchboard.snapshot().load_full();
        if let Some(service) = levers::service(&snapshot, &self.rollout.plan.service) {
            service.units.disarm();
        }
        self.office.leave(&self.seat);
        self.orders
    }

    fn over(&self) -> bool {
        // One that was taken up again for a command that never came lets go by itself.
        let idle = !self.rollout.holds_service() && self.began.elapsed() > PATIENCE;
        self.retired || (self.released || idle) && self.errands.none()
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Command { command, who, reason, answer } => {
                if command == Command::Rollback {
                    self.hands.forgive(levers::live_weights(&self.office.switchboard, &self.rollout.plan.service));
                }
                // A kill or its end may be younger than the last tick.
                let snapshot = self.office.switchboard.snapshot().load_full();
                self.kills(&snapshot).await;
                let result = self.feed(Input::Command { command, who, reason }).await;
                // Whoever asked may be gone; what was asked for is done all the same.
                let _ = answer.send(result.map(|()| self.seat.view.load_full()));
            }
            Order::Retire { answer } => {
                self.retired = true;
                let _ = answer.send(());
            }
        }
    }

    async fn returned(&mut self, back: Back) {
        self.errands.returned(&back);
        match back {
            Back::Input(input) => self.follow(*input).await,
            Back::Asked { gate, said } => self.answered(&gate, said),
        }
    }

    /// One tick: count, judge, decide, do.
    async fn look(&mut self) {
        let elapsed = self.last.elapsed();
        self.last = Instant::now();
        self.office.watch_journal();
        let snapshot = self.office.switchboard.snapshot().load_full();
        self.kills(&snapshot).await;
        self.edits(&snapshot).await;
        let counted = self.counter.take(&self.rollout.plan, &snapshot, self.judge.levels(), clock::now().mono_ms);
        let began = Instant::now();
        if !self.rules.is_empty() {
            self.judge.told(self.rules.observe(&counted.tick, [&counted.latency[0], &counted.latency[1]]));
        }
        let mut judgement = self.judge.observe(&counted.tick);
        self.office.counts.judged(began.elapsed());
        if self.judge.wants_levels() {
            self.judge.freeze(|quantile| self.counter.quantile_us(quantile), Summary::border);
        }
        self.latency.iter_mut().zip(&counted.latency).for_each(|(sum, tick)| sum.merge(tick));
        self.sum_up(&counted);
        self.blame(&mut judgement, &snapshot);
        self.window_closed = self.window();
        if self.rollout.state.is_live() || self.released {
            self.record(&counted, &judgement);
        }
        self.tick = Some(counted.tick);
        self.judgement = Some(judgement.clone());
        let window_closed = self.window_closed.clone();
        let elapsed_ms = elapsed.as_millis() as u64;
        let judged = (self.rollout.phase, self.rollout.inner.begun);
        self.follow(Input::Tick { elapsed_ms, judgement: Box::new(judgement), window_closed }).await;
        // Where a phase has begun meanwhile, the judgement is of the one before it.
        if judged == (self.rollout.phase, self.rollout.inner.begun) {
            self.ask();
        }
        self.keep();
    }

    fn sum_up(&mut self, counted: &Counted) {
        self.figures.ticks += 1;
        self.figures.arms[0].add(&counted.tick.candidate);
        self.figures.arms[1].add(&counted.tick.control);
        culprits::add(&mut self.figures.culprits, counted.culprits.clone());
        for (shown, sum) in self.figures.latency.iter_mut().zip(&self.latency) {
            if sum.count() > 0 {
                *shown = BoundedQuantiles::of(sum);
            }
        }
    }

    /// Names the endpoint in the words of a failure when most of the errors are its own and it has neighbours.
    fn blame(&self, judgement: &mut Judgement, snapshot: &crate::switchboard::snapshot::Snapshot) {
        let plan = &self.rollout.plan;
        let service = levers::service(snapshot, &plan.service);
        let pool = service.and_then(|service| service.pools.iter().find(|pool| pool.name == plan.candidate));
        let worst = self.figures.culprits.first().filter(|it| it.kind == CulpritKind::Endpoint && it.part >= MOST);
        if let Some(worst) = worst.filter(|_| pool.is_some_and(|pool| pool.endpoints.len() > 1))
            && judgement.verdict == Verdict::Fail
        {
            let part = (100.0 * worst.part).round();
            judgement.reason.push_str(&format!("; {part} % of its errors are those of endpoint {}", worst.name));
        }
    }

    fn record(&self, counted: &Counted, judgement: &Judgement) {
        let quantiles = |summary: &Summary| {
            let at = |q| summary.quantile_us(q).map(|us| us as f64 / 1000.0);
            Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
        };
        let record = Record {
            n: self.figures.ticks,
            at_ms: now_ms(),
            phase: self.rollout.phase,
            tick: counted.tick.clone(),
            latency: Latencies { candidate: quantiles(&counted.latency[0]), control: quantiles(&counted.latency[1]) },
            judgement: Said::of(judgement),
        };
        self.office.keeper.tick(&self.rollout.id, &record);
        locked(&self.seat.records).push(record);
    }

    /// Tells the machine when the service was killed, or is no longer.
    async fn kills(&mut self, snapshot: &crate::switchboard::snapshot::Snapshot) {
        let killed = levers::killed(snapshot, &self.rollout.plan.service);
        if killed == self.killed {
            return;
        }
        let before = std::mem::replace(&mut self.killed, killed.clone());
        match killed {
            Some(reason) if before.is_none() => self.follow(Input::Killed { reason }).await,
            Some(_) => {}
            None => self.follow(Input::Unkilled).await,
        }
    }

    /// Tells the machine when somebody else changed the weights.
    async fn edits(&mut self, snapshot: &crate::switchboard::snapshot::Snapshot) {
        let Some(service) = levers::service(snapshot, &self.rollout.plan.service) else { return };
        if self.killed.is_some() || self.seat.drilling.load(Ordering::SeqCst) || !self.hands.others(&service.weights) {
            return;
        }
        let who = levers::who_changed(&self.office.switchboard, &self.rollout.plan.service);
        let share = super::shares::share_of(&service.weights, &self.rollout.plan.candidate);
        self.follow(Input::HandEdit { share, who }).await;
    }

    /// Hands an input to the machine that cannot be illegal.
    pub(super) async fn follow(&mut self, input: Input) {
        if let Err(illegal) = self.feed(input).await {
            tracing::debug!(rollout = self.rollout.id, %illegal, "the machine refused an input");
        }
    }

    /// Hands an input to the machine and does what comes out, and what comes out of that.
    async fn feed(&mut self, input: Input) -> Result<(), Illegal> {
        let effects = self.rollout.step(now_ms(), input)?;
        let mut inputs = VecDeque::new();
        self.perform(effects, &mut inputs).await;
        for _ in 0..FOLLOW_MAX {
            let Some(input) = inputs.pop_front() else { break };
            match self.rollout.step(now_ms(), input) {
                Ok(effects) => self.perform(effects, &mut inputs).await,
                Err(illegal) => tracing::debug!(rollout = self.rollout.id, %illegal, "an outcome came too late"),
            }
        }
        self.publish();
        Ok(())
    }

    /// Does these, in order; but moving to stable goes before everything that may wait for a disk.
    async fn perform(&mut self, effects: Vec<Effect>, inputs: &mut VecDeque<Input>) {
        let is_way_back = |effect: &Effect| matches!(effect, Effect::SetShare { share, .. } if share.buckets() == 0);
        let (first, rest): (Vec<_>, Vec<_>) = effects.into_iter().partition(is_way_back);
        for effect in first.into_iter().chain(rest) {
            if !self.retired {
                self.apply(effect, inputs).await;
            }
        }
    }

    /// Publishes what everybody sees.
    pub(super) fn publish(&self) {
        let snapshot = self.office.switchboard.snapshot().load_full();
        let service = levers::service(&snapshot, &self.rollout.plan.service);
        let stable = service.map(|service| service.spec.stable.clone());
        let view = View {
            rollout: self.rollout.clone(),
            judgement: self.judgement.clone(),
            tick: self.tick.clone(),
            figures: self.figures.clone(),
            control: self
                .rollout
                .plan
                .baseline
                .clone()
                .or(stable)
                .unwrap_or_else(|| self.rollout.plan.candidate.clone()),
            live_share: levers::live_share(&self.office.switchboard, &self.rollout.plan),
            per_s: locked(&self.seat.records).per_s(),
            killed: self.killed.clone(),
            window_closed: self.window_closed.clone(),
            trouble: self.office.trouble(),
        };
        self.seat.view.store(Arc::new(view));
    }

    /// The judge begins a phase: thresholds are frozen on what the control showed before.
    pub(super) fn begin_phase(&mut self, phase: usize) {
        self.judge.begin_phase(phase, |quantile| self.counter.quantile_us(quantile), Summary::border);
        self.counter.frozen();
        self.rules.begin_phase();
        self.ask_anew();
    }

    fn beside(&self) -> Vec<u8> {
        let (judge, rules, figures, judgement) = (&self.judge, &self.rules, &self.figures, &self.judgement);
        let snapshot = self.office.switchboard.snapshot().load_full();
        let service = levers::service(&snapshot, &self.rollout.plan.service);
        let mut failed_units = service.map(|service| service.units.failed_units()).unwrap_or_default();
        failed_units.truncate(UNITS_MAX);
        Written { judge, rules, figures, judgement, failed_units, asked: self.asks.memory() }.bytes()
    }

    /// Keeps the evidence without waiting for it.
    fn keep(&self) {
        let beside = self.beside();
        locked(&self.seat.beside).clone_from(&beside);
        self.office.keeper.keep(&self.rollout, beside);
    }

    pub(super) async fn persist(&self) {
        self.office.keeper.persist(&self.rollout, self.beside()).await;
    }
}

/// Time that a change of weights may take before the runner goes on without its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
