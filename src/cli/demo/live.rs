//! The line of the demo: the split of the last second and of all time as the upstreams counted it, which no proxy can
//! embellish. Rewritten in place on a terminal; elsewhere one line per second. What changes stays above it.

use super::super::failure::Failure;
use super::super::screen::{self, Paint, printable};
use super::POOLS;
use crate::switchboard::status::Status;

/// Width of the bar, in characters.
const BAR: usize = 20;

/// What was seen at the end of a second.
#[derive(Debug)]
pub(super) struct Second {
    /// The status of weir; none when it did not answer.
    pub(super) status: Option<Status>,
    /// Requests that each upstream got so far.
    pub(super) served: [u64; 2],
    /// Requests of the load that failed so far; none without a load.
    pub(super) failed: Option<u64>,
}

/// Shows seconds.
#[derive(Debug)]
pub(super) struct Live {
    terminal: bool,
    paint: Paint,
    loaded: bool,
    served: Option<[u64; 2]>,
    /// The newest generation that was told.
    generation: u64,
    problems: Vec<String>,
}

// === impl Live ===

impl Live {
    pub(super) fn new(loaded: bool) -> Self {
        let (terminal, paint) = (screen::is_terminal(), Paint::stdout());
        Self { terminal, paint, loaded, served: None, generation: 0, problems: Vec::new() }
    }

    /// Shows what changed, then the line.
    pub(super) fn show(&mut self, second: &Second) -> Result<(), Failure> {
        let mut text = String::new();
        for event in self.events(second) {
            text += &format!("{}{event}\n", self.clear());
        }
        let before = self.served.replace(second.served);
        if let Some(before) = before {
            let line = line(second, before, self.loaded);
            text += &match (self.terminal, screen::size()) {
                (true, Some((columns, _))) => {
                    format!("{}{}", self.clear(), line.chars().take(columns).collect::<String>())
                }
                (true, None) => format!("{}{line}", self.clear()),
                (false, _) => format!("{line}\n"),
            };
        }
        screen::print(&text)
    }

    /// Leaves the last line where it is.
    pub(super) fn end(&self) -> Result<(), Failure> {
        if self.terminal { screen::print("\n") } else { Ok(()) }
    }

    fn clear(&self) -> &'static str {
        if self.terminal { "\r\x1b[K" } else { "" }
    }

    /// A new generation, a reload that failed, one that is well again.
    fn events(&mut self, second: &Second) -> Vec<String> {
        let Some(status) = &second.status else { return Vec::new() };
        let mut events = Vec::new();
        // Several may have come within the second.
        let new = status.history.iter().filter(|entry| self.generation > 0 && entry.generation > self.generation);
        for entry in new.collect::<Vec<_>>().into_iter().rev() {
            let changes: Vec<String> = entry.changes.iter().map(|change| change.after.to_string()).collect();
            let what = if changes.is_empty() { "configuration".into() } else { changes.join("; ") };
            let reason = Some(printable(&entry.cause.reason)).filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
            events.push(self.paint.green(&format!("generation {} is live: {what}{reason}", entry.generation)));
        }
        // Not the generation that is live: it is on record a moment later.
        self.generation = status.history.first().map_or(self.generation, |entry| entry.generation);
        if status.last_reload.problems != self.problems {
            self.problems.clone_from(&status.last_reload.problems);
            if self.problems.is_empty() {
                events.push(self.paint.green("the files hold again"));
            }
            for problem in &self.problems {
                let shown: Vec<String> = problem.lines().map(printable).collect();
                events.push(self.paint.red(&format!("not taken over: {}", shown.join("\n"))));
            }
        }
        events
    }
}

fn line(second: &Second, before: [u64; 2], loaded: bool) -> String {
    let last = std::array::from_fn(|pool| second.served[pool].saturating_sub(before[pool]));
    let head = match &second.status {
        None => "weir does not answer".to_owned(),
        Some(status) => {
            let weights = status.services.first().map(|service| service.weights.to_string()).unwrap_or_default();
            format!("generation {} {weights}", status.generation)
        }
    };
    let [stable, canary] = last;
    let split = if stable + canary == 0 {
        let ever = loaded || second.served != [0, 0];
        if ever { "no request in the last second".to_owned() } else { "no request yet".to_owned() }
    } else {
        let share = stable as f64 / (stable + canary) as f64;
        let filled = (share * BAR as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
        format!("{} {stable:>3} {bar} {canary:<3} {} ({:.0}%)", POOLS[0], POOLS[1], (1.0 - share) * 100.0)
    };
    let [all_stable, all_canary] = second.served;
    let failed = second.failed.map(|failed| format!("  failed {failed}")).unwrap_or_default();
    let invalid = second.status.as_ref().is_some_and(|status| !status.last_reload.ok);
    let invalid = if invalid { "  ! the last save is wrong" } else { "" };
    format!("{head}  {split}  total {all_stable}+{all_canary}{failed}{invalid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_the_upstreams_counted() {
        let second = Second { status: None, served: [1180, 140], failed: Some(0) };
        assert_eq!(
            line(&second, [1000, 120], true),
            "weir does not answer  stable 180 ██████████████████░░ 20  canary (10%)  total 1180+140  failed 0"
        );
        let idle = Second { status: None, served: [0, 0], failed: None };
        assert_eq!(line(&idle, [0, 0], false), "weir does not answer  no request yet  total 0+0");
    }
}
