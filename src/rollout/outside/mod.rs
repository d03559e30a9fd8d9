//! Asks what a plan asks outside, and does what it wants done there. What an answer means for the rollout is decided
//! elsewhere; here only this: whoever answered wrongly has failed, and whoever could not be asked has not.
//!
//! In reading order: `http` and `command` are one check each, `suite` is several, `prometheus` is a number; `act` are
//! webhooks and commands that do something.

pub(super) mod act;
mod command;
mod http;
pub(super) mod prometheus;
mod suite;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::verdict::Outcome;
use crate::model::rollout::{Ask, HttpCheck};
use crate::model::{Address, Protocol};

/// Characters of an answer or an output that are shown: a line of a terminal and a half.
const EXCERPT_MAX: usize = 200;

/// Time for a look at a file; a network file system that hangs longer cannot be asked.
const LOOK: Duration = Duration::from_secs(5);

/// What is known where something is asked or done.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    /// The rollout's id.
    pub(super) rollout: String,
    pub(super) plan: String,
    pub(super) service: String,
    pub(super) candidate: String,
    pub(super) version: String,
    /// The phase's name.
    pub(super) phase: String,
    /// The candidate's share.
    pub(super) percent: f64,
    pub(super) state: String,
    /// Why it is in this state; may be empty.
    pub(super) because: String,
    /// What runs this: `gate NAME`, `action NAME`, `sweep NAME`.
    pub(super) what: String,
    pub(super) dry_run: bool,
    /// Endpoints of the pool that a path goes to, the ones that serve first.
    pub(super) endpoints: Vec<Place>,
    /// Which of them is asked first; rises with every ask, so that each has its turn.
    pub(super) turn: usize,
    /// The directory of the main file: commands run there, relative files are in it.
    pub(super) directory: Option<PathBuf>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) addr: Address,
    /// `host:port`, as it is named in the configuration.
    pub(super) authority: String,
    /// What it speaks.
    pub(super) protocol: Protocol,
}

/// What somebody outside said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// What it means.
    Outcome(Outcome),
    /// A number; whoever remembers the numbers before it says what it means.
    Number(f64),
}

/// Asks once, with its further tries; it ends within [`Ask::takes`] and a little more.
pub(super) async fn ask(ask: &Ask, context: &Context) -> Said {
    Said::Outcome(match ask {
        Ask::Http(check) => http::check(check, context).await,
        Ask::Command(check) => command::check(check, context).await,
        Ask::Suite { requests, min_pass_rate, .. } => suite::check(requests, *min_pass_rate, context).await,
        Ask::Prometheus(check) => match prometheus::query(check).await {
            Ok(number) => return Said::Number(number),
            Err(outcome) => outcome,
        },
        Ask::Signoff { file, .. } => signoff(file, context).await,
        Ask::ErrorRate { .. }
        | Ask::Latency { .. }
        | Ask::Guard { .. }
        | Ask::ZeroTolerance { .. }
        | Ask::CacheHit { .. }
        | Ask::Plain(_)
        | Ask::Serving { .. }
        | Ask::Approval { .. } => unavailable(format!("a gate of kind {} is not asked outside", ask.kind())),
    })
}

/// A request once, with its further tries.
pub(super) async fn request(check: &HttpCheck, context: &Context) -> Outcome {
    http::check(check, context).await
}

async fn signoff(file: &str, context: &Context) -> Outcome {
    let path = context.directory.as_deref().unwrap_or(Path::new("")).join(file);
    let looked = timeout(LOOK, tokio::fs::metadata(path)).await;
    match looked {
        Ok(Ok(_)) => passed(format!("{file} is there"), None),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Outcome::Waiting { detail: format!("waits for the file {file}") }
        }
        Ok(Err(error)) => unavailable(format!("cannot look for {file}: {error}")),
        Err(_) => unavailable(format!("looking for {file} took more than {} s", LOOK.as_secs())),
    }
}

/// Whether there is another try after this one, of which `round` is the number; it waits for it.
async fn again(outcome: &Outcome, round: u32, retries: u32, interval: Duration) -> bool {
    let more = !matches!(outcome, Outcome::Passed { .. }) && round < retries;
    if more {
        sleep(interval).await;
    }
    more
}

fn passed(detail: String, value: Option<f64>) -> Outcome {
    Outcome::Passed { detail, value }
}

fn failed(detail: String, value: Option<f64>) -> Outcome {
    Outcome::Failed { detail, value }
}

fn unavailable(detail: String) -> Outcome {
    Outcome::Unavailable { detail }
}

/// The beginning of the last line that says something, without what a terminal would obey.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(EXCERPT_MAX + 1).collect();
    match line.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

// === impl Context ===

impl Context {
    /// The variables that every command gets.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let address = self.place(0).map(|place| place.addr.to_string()).unwrap_or_default();
        let percent = self.percent.to_string();
        let dry_run = if self.dry_run { "1" } else { "0" };
        let variables = [
            ("WEIR_ROLLOUT_ID", &*self.rollout),
            ("WEIR_PLAN", &self.plan),
            ("WEIR_SERVICE", &self.service),
            ("WEIR_CANDIDATE", &self.candidate),
            ("WEIR_CANDIDATE_ADDRESS", &address),
            ("WEIR_VERSION", &self.version),
            ("WEIR_PHASE", &self.phase),
            ("WEIR_PERCENT", &percent),
            ("WEIR_STATE", &self.state),
            ("WEIR_REASON", &self.because),
            ("WEIR_WHAT", &self.what),
            ("WEIR_DRY_RUN", dry_run),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.replace('\0', ""))).to_vec()
    }

    /// The body of a webhook that has none of its own.
    pub(super) fn json(&self) -> Value {
        json!({
            "rolloutId": self.rollout,
            "plan": self.plan,
            "service": self.service,
            "candidate": self.candidate,
            "version": self.version,
            "phase": self.phase,
            "percent": self.percent,
            "state": self.state,
            "reason": self.because,
            "what": self.what,
        })
    }

    /// The endpoint whose turn it is.
    fn place(&self, round: u32) -> Option<&Place> {
        self.endpoints.get((self.turn.wrapping_add(round as usize)) % self.endpoints.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_the_last_line_that_says_something_and_no_terminal_obeys_it() {
        assert_eq!(excerpt(b"first\nlast \x1b[31mred\n\n  \n"), "last [31mred");
        assert_eq!(excerpt(b""), "");
        assert_eq!(excerpt("ü".repeat(500).as_bytes()).chars().count(), EXCERPT_MAX + 1);
    }

    #[tokio::test]
    async fn a_sign_off_waits_for_its_file() {
        let directory = std::env::temp_dir().join(format!("weir-signoff-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let context = Context { directory: Some(directory.clone()), ..Context::default() };
        assert_eq!(
            signoff("yes.txt", &context).await,
            Outcome::Waiting { detail: "waits for the file yes.txt".into() }
        );
        std::fs::write(directory.join("yes.txt"), "").unwrap();
        assert!(matches!(signoff("yes.txt", &context).await, Outcome::Passed { .. }));
        assert!(matches!(signoff("yes.txt/no", &context).await, Outcome::Unavailable { .. }));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
