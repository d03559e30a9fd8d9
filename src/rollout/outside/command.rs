//! A command that must exit with 0. Any other code, a signal and a missed deadline are failures, as of every smoke
//! test; one that says itself that it could not ask (75, `EX_TEMPFAIL` of `sysexits.h`), or that cannot be started, is
//! none.

use super::{Context, again, excerpt, failed, passed, unavailable};
use crate::model::rollout::CommandCheck;
use crate::outside::command::{Ended, How, Run, run};
use crate::rollout::verdict::Outcome;

/// The code by which a command says that it could not ask.
const TEMPFAIL: i32 = 75;

/// A check with its further tries.
pub(super) async fn check(check: &CommandCheck, context: &Context) -> Outcome {
    let mut round = 0;
    loop {
        let outcome = once(check, context, round).await;
        if !again(&outcome, round, check.retries, check.interval).await {
            return outcome;
        }
        round += 1;
    }
}

/// One try.
async fn once(check: &CommandCheck, context: &Context, round: u32) -> Outcome {
    let context = Context { turn: context.turn.wrapping_add(round as usize), ..context.clone() };
    let mut env = context.variables();
    env.extend(check.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let directory = context.directory.clone();
    let asked = Run { program: check.command.clone(), env, directory, timeout: check.timeout };
    match run(&asked).await {
        Ok(ended) => {
            let outcome = judge(check, &ended);
            if !matches!(outcome, Outcome::Passed { .. }) {
                let output = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                tracing::info!(
                    rollout = context.rollout,
                    what = context.what,
                    stdout = output(&ended.out),
                    stderr = output(&ended.err),
                    "the output of a command that did not pass"
                );
            }
            outcome
        }
        Err(error) => unavailable(error.to_string()),
    }
}

fn judge(check: &CommandCheck, ended: &Ended) -> Outcome {
    let seconds = ended.took.as_secs_f64();
    // What went wrong is said on one of the two; the one for it first.
    let said = [&ended.err, &ended.out].map(|bytes| excerpt(bytes)).into_iter().find(|said| !said.is_empty());
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    match ended.how {
        How::Exited(0) => passed(format!("exit 0 in {seconds:.1} s"), Some(0.0)),
        How::Exited(TEMPFAIL) => unavailable(format!("exit {TEMPFAIL}, it could not ask{said}")),
        How::Exited(code) => failed(format!("exit {code}{said}"), Some(f64::from(code))),
        How::Signalled(signal) => failed(format!("ended by signal {signal}{said}"), None),
        How::TimedOut => failed(format!("not over within {} s{said}", check.timeout.as_secs_f64()), None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn shell(script: &str) -> CommandCheck {
        CommandCheck {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("EXTRA".to_owned(), "more".to_owned())]),
            timeout: Duration::from_secs(5),
            retries: 0,
            interval: Duration::ZERO,
            when: crate::model::rollout::When::Start,
        }
    }

    async fn said(check: CommandCheck) -> String {
        let context = Context { service: "engine".into(), percent: 5.0, ..Context::default() };
        match super::check(&check, &context).await {
            Outcome::Passed { detail, .. } => format!("passed: {detail}"),
            Outcome::Failed { detail, .. } => format!("failed: {detail}"),
            Outcome::Unavailable { detail } => format!("unavailable: {detail}"),
            Outcome::Waiting { detail } => format!("waiting: {detail}"),
        }
    }

    #[tokio::test]
    async fn only_exit_0_passes_and_only_what_could_not_ask_is_unavailable() {
        assert!(said(shell("exit 0")).await.starts_with("passed: exit 0 in "));
        assert_eq!(said(shell("echo one; echo two; exit 3")).await, "failed: exit 3: two");
        assert_eq!(said(shell("echo out; echo err >&2; exit 1")).await, "failed: exit 1: err");
        assert_eq!(said(shell("kill -KILL $$")).await, "failed: ended by signal 9");
        assert_eq!(said(shell("echo no; exit 75")).await, "unavailable: exit 75, it could not ask: no");
        let slow = CommandCheck { timeout: Duration::from_millis(100), ..shell("echo wait; sleep 60") };
        assert_eq!(said(slow).await, "failed: not over within 0.1 s: wait");
        let missing = CommandCheck { command: vec!["/nowhere/smoke".into()], ..shell("") };
        assert!(said(missing).await.starts_with("unavailable: cannot run \"/nowhere/smoke\": "));
    }

    #[tokio::test]
    async fn it_knows_its_rollout_and_its_own_variables() {
        let script = "test \"$WEIR_SERVICE $WEIR_PERCENT $EXTRA\" = 'engine 5 more'";
        assert!(said(shell(script)).await.starts_with("passed: "));
    }

    #[tokio::test]
    async fn further_tries_are_made_until_one_passes() {
        let mark = std::env::temp_dir().join(format!("weir-tries-{}", std::process::id()));
        let script = format!("test -e {0} && rm {0} || {{ touch {0}; exit 1; }}", mark.display());
        assert!(said(CommandCheck { retries: 2, ..shell(&script) }).await.starts_with("passed: "));
        assert_eq!(said(CommandCheck { retries: 2, ..shell("exit 4") }).await, "failed: exit 4");
    }
}
