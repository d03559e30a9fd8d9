//! `weir rollout wait`: for scripts. It ends when the rollout does and says by its exit code how.

use std::time::{Duration, Instant};

use clap::Args;

use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::figures::{elapsed, span};
use super::super::screen::printable;
use super::super::upstream::duration;
use super::super::{Globals, screen};
use super::view::View;
use super::{Which, banner, find, path};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// How long weir may be away (a restart) before waiting is given up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 promoted, 1 rolled back, 2 inconclusive (the time is over, or weir cannot be asked).

Example:
  weir rollout wait engine --timeout 2h || page-somebody")]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Whatever keeps it from an answer is inconclusive: exit 1 means that traffic went back.
pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    wait(arguments, globals).map_err(|failure| match failure {
        Failure::Failed(error) => Failure::Wrong(error),
        other => other,
    })
}

fn wait(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let found = find(&client, &arguments.which.name)?;
    let id = found["rolloutId"].as_str().unwrap_or_default().to_owned();
    let (began, mut seen) = (Instant::now(), Instant::now());
    let mut last = found;
    loop {
        let view = View::read(&last).unwrap_or_default();
        let late = arguments.timeout.is_some_and(|timeout| began.elapsed() >= timeout);
        if !view.is_live() || late || seen.elapsed() > PATIENCE {
            let standing = view.standing();
            if globals.json() {
                screen::print_json(&last)?;
            } else {
                screen::print(&banner::shown(&view, standing))?;
                if view.is_live() {
                    screen::print(&over(&id, late, began.elapsed()))?;
                }
            }
            return if standing.code() == 0 { Ok(()) } else { Err(Failure::Said(standing.code())) };
        }
        std::thread::sleep(PAUSE);
        // A weir that starts anew goes on with the rollout: it is waited for.
        if let Ok(answer) = client.ask(Question::get(path(&id, ""))) {
            (last, seen) = (answer, Instant::now());
        }
    }
}

/// What ended is the waiting, and not the rollout.
fn over(id: &str, late: bool, waited: Duration) -> String {
    let (id, waited) = (printable(id), elapsed(waited.as_millis() as u64));
    match late {
        true => format!("[WARN] the wait is over after {waited}; rollout {id} goes on\n"),
        false => format!(
            "[WARN] weir has not answered for {}; how rollout {id} stands is not known\n",
            span(PATIENCE.as_secs())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_says_that_the_rollout_does_not() {
        assert_eq!(
            over("r-1", true, Duration::from_secs(90)),
            "[WARN] the wait is over after 1 min 30 s; rollout r-1 goes on\n"
        );
        assert!(over("r-1", false, PATIENCE).contains("how rollout r-1 stands is not known"));
    }
}
