//! What takes its time, beside the runner: actions, gates outside, the verification after a rollback. Each is a task
//! with a deadline; what came of it comes back as an input. Sweeps outlive their rollout and are not among them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::machine::{Input, Rollout};
use super::super::outside::Said;
use super::actions;
use super::office::Office;
use super::verify;
use crate::model::rollout::{GATES_MAX, Moment, PlannedAction};

/// Errands of one rollout at once: one of each gate, and as much room for everything else.
const ERRANDS_MAX: usize = 2 * GATES_MAX;

/// What is said of an errand that panicked.
pub(super) const FALLEN: &str = "it failed inside weir; the log tells more";

/// What an errand came back with.
#[derive(Debug)]
pub(super) enum Back {
    /// The next input of the machine.
    Input(Box<Input>),
    /// What a gate outside said.
    Asked { gate: String, said: Said },
}

/// The errands of one rollout; dropped, they end.
#[derive(Debug)]
pub(super) struct Errands {
    returns: mpsc::Sender<Back>,
    tasks: JoinSet<()>,
    under_way: usize,
}

// === impl Errands ===

impl Errands {
    pub(super) fn new(returns: mpsc::Sender<Back>) -> Self {
        Self { returns, tasks: JoinSet::new(), under_way: 0 }
    }

    /// Whether none is under way.
    pub(super) fn none(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn returned(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        while self.tasks.try_join_next().is_some() {}
    }

    /// Runs the actions of a moment, in order.
    pub(super) fn act(&mut self, office: &Arc<Office>, rollout: &Rollout, moment: Moment) {
        let actions: Vec<PlannedAction> = rollout.plan.actions.iter().filter(|it| it.at == moment).cloned().collect();
        let (office, rollout) = (Arc::clone(office), rollout.clone());
        let fallen = Input::Acted { moment, ok: false, detail: FALLEN.into() };
        self.spawn(Back::Input(Box::new(fallen)), async move {
            let (ok, detail) = actions::run(&office, &rollout, &actions).await;
            Back::Input(Box::new(Input::Acted { moment, ok, detail }))
        });
    }

    /// Looks whether the rollback did what it should.
    pub(super) fn verify(&mut self, office: &Arc<Office>, rollout: &Rollout) {
        let (office, plan) = (Arc::clone(office), rollout.plan.clone());
        let fallen = Input::Verified { ok: false, detail: FALLEN.into() };
        self.spawn(Back::Input(Box::new(fallen)), async move {
            let (ok, detail) = verify::verify(&office, &plan).await;
            Back::Input(Box::new(Input::Verified { ok, detail }))
        });
    }

    /// Whether it is under way. `fallen` comes back when it panics: somebody waits for it.
    pub(super) fn spawn(&mut self, fallen: Back, errand: impl Future<Output = Back> + Send + 'static) -> bool {
        if self.under_way >= ERRANDS_MAX {
            tracing::warn!("too many errands of one rollout; one is left out");
            return false;
        }
        self.under_way += 1;
        let returns = self.returns.clone();
        self.tasks.spawn(async move {
            // A set of its own, so that it ends when this does.
            let mut one = JoinSet::new();
            one.spawn(errand);
            let back = match one.join_next().await {
                Some(Ok(back)) => back,
                Some(Err(_)) | None => fallen,
            };
            // The runner being gone is no news: its rollout ended.
            let _ = returns.send(back).await;
        });
        true
    }
}
