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

/// Actions and verifications of one rollout at once; the machine wants one after the other.
const ERRANDS_MAX: usize = 16;

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
    /// Questions, for which nobody waits once the rollout is over.
    questions: JoinSet<()>,
}

// === impl Errands ===

impl Errands {
    pub(super) fn new(returns: mpsc::Sender<Back>) -> Self {
        Self { returns, tasks: JoinSet::new(), under_way: 0, questions: JoinSet::new() }
    }

    /// Whether none is under way that must come to its end.
    pub(super) fn none(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn returned(&mut self, back: &Back) {
        if matches!(back, Back::Input(_)) {
            self.under_way = self.under_way.saturating_sub(1);
        }
        while self.tasks.try_join_next().is_some() {}
        while self.questions.try_join_next().is_some() {}
    }

    /// Asks a gate; whether it is asked.
    pub(super) fn ask(&mut self, fallen: Back, question: impl Future<Output = Back> + Send + 'static) -> bool {
        let room = self.questions.len() < GATES_MAX;
        if room {
            self.questions.spawn(bring(self.returns.clone(), fallen, question));
        }
        room
    }

    /// No answer matters any more; commands that run end.
    pub(super) fn stop_asking(&mut self) {
        self.questions.abort_all();
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

    fn spawn(&mut self, fallen: Back, errand: impl Future<Output = Back> + Send + 'static) {
        if self.under_way >= ERRANDS_MAX {
            return tracing::warn!("too many errands of one rollout; one is left out");
        }
        self.under_way += 1;
        self.tasks.spawn(bring(self.returns.clone(), fallen, errand));
    }
}

/// Brings back what came of an errand; `fallen` when it panicked, since somebody waits for it.
async fn bring(returns: mpsc::Sender<Back>, fallen: Back, errand: impl Future<Output = Back> + Send + 'static) {
    // A set of its own, so that the errand ends when this does.
    let mut one = JoinSet::new();
    one.spawn(errand);
    let back = match one.join_next().await {
        Some(Ok(back)) => back,
        Some(Err(_)) | None => fallen,
    };
    // The runner being gone is no news: its rollout ended.
    let _ = returns.send(back).await;
}
