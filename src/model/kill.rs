//! What the kill switch says: everything of a service, or of every service, to stable, by whatever way it comes.

use super::maintenance::Closures;
use super::name::Name;

/// The word in the weights file; no pool and no service may be called so.
pub const KILL_WORD: &str = "kill";

/// Longest reason that is taken, in bytes; a longer one is cut. It stands in the file, in the log and in `status`.
pub const KILL_REASON_BYTES_MAX: usize = 500;

/// What is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every service.
    System,
    /// One service.
    Service(Name),
}

/// What the weights file says besides weights: what is killed and why (a reason may be empty), and what is under
/// maintenance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kills {
    /// Every service.
    pub system: Option<String>,
    /// Single services.
    pub services: Vec<(Name, String)>,
    /// What is under maintenance.
    pub closed: Closures,
}

/// Why a service is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Whether every service is.
    pub system: bool,
    /// The reason that was given; may be empty.
    pub reason: String,
}

/// What a killed service answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnKill {
    /// Everything goes to stable (default).
    #[default]
    Stable,
    /// Everything is answered 503 with `Retry-After`.
    Maintenance,
}

// === impl Kills ===

impl Kills {
    /// What this says of a service; the system's reason first.
    pub fn of(&self, service: &str) -> Option<Killed> {
        let own = || self.services.iter().find(|(name, _)| name.as_str() == service);
        let system = self.system.as_ref().map(|reason| Killed { system: true, reason: reason.clone() });
        system.or_else(|| own().map(|(_, reason)| Killed { system: false, reason: reason.clone() }))
    }

    /// What this says of exactly that scope.
    pub fn at(&self, scope: &Scope) -> Option<&str> {
        match scope {
            Scope::System => self.system.as_deref(),
            Scope::Service(name) => self.services.iter().find(|(it, _)| it == name).map(|(_, reason)| &**reason),
        }
    }

    /// Kills, or takes a kill back.
    pub fn put(&mut self, scope: &Scope, reason: Option<String>) {
        match scope {
            Scope::System => self.system = reason,
            Scope::Service(name) => {
                self.services.retain(|(it, _)| it != name);
                self.services.extend(reason.map(|reason| (name.clone(), reason)));
            }
        }
    }
}

// === impl Scope ===

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scope::System => f.write_str("every service"),
            Scope::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// A reason as it is kept: one line, and not longer than [`KILL_REASON_BYTES_MAX`].
pub fn kill_reason(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = line.len().min(KILL_REASON_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}
