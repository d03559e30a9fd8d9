//! How it stands with automatic certificates, for who looks: written by who orders (room `acme`), shown by status and
//! metrics. It decides nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// The state of every name.
#[derive(Debug, Default)]
pub struct Issuance(ArcSwap<Vec<Standing>>);

/// The state of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The name.
    pub name: String,
    /// What goes on.
    pub state: State,
    /// Orders in a row that failed.
    pub failures: u32,
    /// Why the last order failed, in words; none when it did not.
    pub error: Option<String>,
    /// When the next order is due, in Unix milliseconds.
    pub next_unix_ms: u64,
}

/// What goes on with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no certificate that can be served, and none is being ordered.
    Missing,
    /// One is being ordered.
    Ordering,
    /// There is one that is valid.
    Held,
}

// === impl Issuance ===

impl Issuance {
    /// Everything, in the order of the names.
    pub fn view(&self) -> Arc<Vec<Standing>> {
        self.0.load_full()
    }

    /// From now on this is shown.
    pub fn show(&self, standings: Vec<Standing>) {
        self.0.store(Arc::new(standings));
    }
}

// === impl State ===

impl State {
    /// As status says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ordering => "ordering",
            Self::Held => "held",
        }
    }
}
