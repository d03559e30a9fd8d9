//! What the weights file says of maintenance: everything, a service or some of its pools answer 503 for a while.

use super::kill::Scope;
use super::name::Name;

/// The word in the weights file; no pool and no service may be called so.
pub const MAINTENANCE_WORD: &str = "maintenance";

/// Longest body that is taken, in bytes.
pub const MAINTENANCE_BODY_BYTES_MAX: usize = 64 * 1024;

/// Seconds after which clients may come again when nothing is said: a person has to end it.
pub const RETRY_AFTER_S_DEFAULT: u64 = 30;

/// What is answered meanwhile, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Why; may be empty.
    pub reason: String,
    /// Only these pools of the service; empty: all of it.
    pub pools: Vec<Name>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: u64,
    /// The whole body of the answer; none: one line that says the reason.
    pub body: Option<String>,
}

/// What is under maintenance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closures {
    /// Every service.
    pub system: Option<Maintenance>,
    /// Single services, or pools of them.
    pub services: Vec<(Name, Maintenance)>,
}

/// What a closed service or pool tells its clients.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is closed and why, in one line.
    pub text: String,
    /// `Retry-After`, in seconds.
    pub retry_after_s: u64,
    /// The body instead of that line.
    pub body: Option<String>,
}

/// What is under maintenance of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Whether every service is.
    pub system: bool,
    /// What is answered.
    pub maintenance: Maintenance,
}

// === impl Closures ===

impl Closures {
    /// What this says of a service; the system's word first.
    pub fn of(&self, service: &str) -> Option<Closed> {
        let own = || self.services.iter().find(|(name, _)| name.as_str() == service);
        let system = self.system.clone().map(|maintenance| Closed { system: true, maintenance });
        system.or_else(|| own().map(|(_, it)| Closed { system: false, maintenance: it.clone() }))
    }

    /// What this says of exactly that scope.
    pub fn at(&self, scope: &Scope) -> Option<&Maintenance> {
        match scope {
            Scope::System => self.system.as_ref(),
            Scope::Service(name) => self.services.iter().find(|(it, _)| it == name).map(|(_, it)| it),
        }
    }

    /// Begins or ends the maintenance of a scope.
    pub fn put(&mut self, scope: &Scope, maintenance: Option<Maintenance>) {
        match scope {
            Scope::System => self.system = maintenance,
            Scope::Service(name) => {
                self.services.retain(|(it, _)| it != name);
                self.services.extend(maintenance.map(|maintenance| (name.clone(), maintenance)));
            }
        }
    }
}

// === impl Closed ===

impl Closed {
    /// Whether that pool is closed.
    pub fn covers(&self, pool: &Name) -> bool {
        self.maintenance.pools.is_empty() || self.maintenance.pools.contains(pool)
    }

    /// What clients of a pool of `service` are told.
    pub fn notice(&self, service: &Name, pool: &Name) -> Notice {
        let Maintenance { reason, pools, retry_after_s, body } = &self.maintenance;
        let what =
            if pools.is_empty() { format!("service {service}") } else { format!("pool {pool} of service {service}") };
        let dash = if reason.is_empty() { "" } else { ": " };
        let text = format!("{what} is under maintenance{dash}{reason}");
        Notice { text, retry_after_s: *retry_after_s, body: body.clone() }
    }
}

// === impl Notice ===

impl Notice {
    /// The type of the body: a page, JSON or text, by its first character.
    pub fn content_type(&self) -> &'static str {
        match self.body.as_deref().and_then(|body| body.trim_start().chars().next()) {
            Some('<') => "text/html; charset=utf-8",
            Some('{' | '[') => "application/json",
            _ => "text/plain; charset=utf-8",
        }
    }
}
