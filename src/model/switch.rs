//! What a kill switch is configured to be: what it stops, what pulls it by itself, how long a person may stop that, and
//! how it tries to come back. No state: that is the machine's of `rollout`.

use std::time::Duration;

use super::kill::Scope;
use super::name::Name;

/// One kill switch, an entry of `[[kill_switches]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct KillSwitch {
    /// Its name.
    pub name: Name,
    /// What it is for, in words; may be empty.
    pub description: String,
    /// What it kills.
    pub scope: Scope,
    /// What pulls it; each alone is enough, and with none only people do.
    pub triggers: Vec<Trigger>,
    /// How long a trigger must hold before it kills, which is how long a person may cancel. Default 30 s. A person who
    /// pulls it never waits.
    pub grace: Duration,
    /// How it tries to come back by itself; none: a person lets it go.
    pub recovery: Option<Recovery>,
    /// How much its events matter. Default critical.
    pub priority: Priority,
    /// Whether its triggers count. Default true.
    pub enabled: bool,
}

/// What pulls a kill switch by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The service that is looked at; none: every service within the scope, together.
    pub service: Option<Name>,
    /// The pools of it that are looked at.
    pub pools: Pools,
    /// What must not be.
    pub limit: Limit,
    /// The newest stretch of time that is looked at. Default 1 m.
    pub window: Duration,
    /// Attempts within the window below which nothing is said. Default 20.
    pub min_samples: u64,
}

/// Pools that a trigger looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pools {
    /// All but stable (default): what a kill takes out.
    #[default]
    Candidates,
    /// All of the service: with `on_kill = "maintenance"`, what a kill protects.
    All,
}

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A larger part of the attempts fails, `0.0..=1.0`.
    ErrorRate(f64),
    /// This quantile takes longer.
    Latency {
        /// `0.0..=1.0`.
        quantile: f64,
        /// The limit.
        max: Duration,
    },
    /// No endpoint serves, for the whole window.
    NoEndpoint,
}

/// How a kill switch tries to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Time between the kill and an attempt. Default 5 m.
    pub delay: Duration,
    /// Attempts until it gives up. Default 3.
    pub attempts: u32,
    /// How long the triggers must be clear, with traffic, until an attempt counts as a success. Default 1 m.
    pub probation: Duration,
    /// Quiet time after a success until its attempts are forgotten; also how long a cancelled trigger is not heard
    /// unless it was clear in between. Default 10 m.
    pub cooldown: Duration,
}

/// How much the events of a switch matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody must look (default).
    #[default]
    Critical,
    /// Somebody must look, too.
    High,
    /// Somebody should look.
    Medium,
    /// News.
    Low,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(300),
            attempts: 3,
            probation: Duration::from_secs(60),
            cooldown: Duration::from_secs(600),
        }
    }
}

// === impl KillSwitch ===

impl KillSwitch {
    /// A switch that only people pull.
    pub fn new(name: Name, scope: Scope) -> Self {
        Self {
            name,
            description: String::new(),
            scope,
            triggers: Vec::new(),
            grace: Duration::from_secs(30),
            recovery: None,
            priority: Priority::default(),
            enabled: true,
        }
    }

    /// Quiet time; see [`Recovery::cooldown`].
    pub fn cooldown(&self) -> Duration {
        self.recovery.unwrap_or_default().cooldown
    }
}

// === impl Priority ===

impl Priority {
    /// The word in files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Medium => "medium",
            Priority::Low => "low",
        }
    }
}
