//! What a kill switch is, what can happen to it and what it wants; `step` is how one follows from the other.

use serde::{Deserialize, Serialize};

use super::watch::Seen;

/// What it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It watches.
    #[default]
    Armed,
    /// A trigger holds; it kills unless somebody cancels or the trigger lets go.
    Grace,
    /// Its scope is killed.
    Killed,
    /// Its scope has traffic again, on probation.
    Recovering,
    /// Its scope is killed and every attempt is spent: a person decides.
    Exhausted,
}

/// A kill switch under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Switch {
    /// What it does.
    pub state: State,
    /// Since when, in ms since the Unix epoch; 0: since it was made.
    pub since_ms: u64,
    /// Who brought it into this state: a person, or `kill switch NAME`.
    pub who: String,
    /// Why.
    pub why: String,
    /// Whether the kill that stands is somebody else's: then it is not let go by itself.
    pub foreign: bool,
    /// The reason that it wrote when it killed.
    pub wrote: Option<String>,
    /// Time left of the grace, the delay or the probation, in ms.
    pub left_ms: u64,
    /// Attempts to come back since it was last let go or quiet.
    pub attempts: u32,
    /// Time until attempts are forgotten, in ms, while armed.
    pub quiet_ms: u64,
    /// Time for which a cancelled trigger is not heard, in ms, while armed.
    pub mute_ms: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Time passed.
    Tick {
        /// How much, in ms.
        elapsed_ms: u64,
        /// The reason of the kill that stands at exactly its scope; none: there is none.
        live: Option<String>,
        /// Who killed, when that is somebody else.
        who: String,
        /// What the triggers say.
        seen: Seen,
        /// Whether there is an endpoint to come back to.
        serves: bool,
    },
    /// A person pulls it.
    Pull {
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// A person lets it go.
    LetGo {
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// A person stops the countdown.
    Cancel {
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// Its last effect could not be done.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Kill its scope.
    Kill {
        /// The reason, as it is to be written.
        reason: String,
        /// Whether a person does: their words replace those that stand.
        person: bool,
    },
    /// Let its scope go.
    LetGo {
        /// Only a kill with these words; none: whatever stands.
        only: Option<String>,
    },
    /// Forget what the triggers saw.
    Forget,
    /// Tell everybody.
    Tell {
        /// What.
        news: News,
        /// One sentence.
        message: String,
    },
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It killed.
    Killed,
    /// It let go.
    LetGo,
    /// It counts down.
    Grace,
    /// The countdown ended without a kill.
    Cancelled,
    /// It came back.
    Recovered,
    /// An attempt failed.
    AttemptFailed,
    /// It gave up.
    Exhausted,
    /// Somebody else killed its scope or let it go.
    Elsewhere,
}

/// A person's word that means nothing in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Illegal(pub String);

// === impl State ===

impl State {
    /// Every state.
    pub const ALL: [State; 5] = [State::Armed, State::Grace, State::Killed, State::Recovering, State::Exhausted];

    /// The word in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Armed => "armed",
            State::Grace => "grace",
            State::Killed => "killed",
            State::Recovering => "recovering",
            State::Exhausted => "exhausted",
        }
    }

    /// Whether it holds its scope killed.
    pub fn kills(self) -> bool {
        matches!(self, State::Killed | State::Exhausted)
    }
}
