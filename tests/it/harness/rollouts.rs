//! Rollouts as a script would run them: start, command, look, events, report.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::weir::Weir;

/// Where rollouts are.
pub const ROLLOUTS: &str = "/api/v1/rollouts";

impl Weir {
    /// Starts a rollout by a plan as JSON, or `{"plan":"NAME"}`; its id.
    #[track_caller]
    pub fn start_rollout(&self, plan: &Value) -> String {
        let answer = self.admin("POST", ROLLOUTS, &[], &plan.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["rolloutId"].as_str().expect("an id").to_owned()
    }

    /// A rollout as it is now.
    #[track_caller]
    pub fn rollout(&self, id: &str) -> Value {
        let answer = self.admin_get(&format!("{ROLLOUTS}/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Gives a rollout a command with a reason; the status and the body of the answer.
    #[track_caller]
    pub fn command_rollout(&self, id: &str, verb: &str, reason: &str) -> (u16, Value) {
        let body = serde_json::json!({ "reason": reason }).to_string();
        let answer = self.admin("POST", &format!("{ROLLOUTS}/{id}/{verb}"), &[], &body);
        (answer.status, answer.json())
    }

    /// Looks until `fact` holds of the rollout; what it looked like then, or last, and whether it held in time.
    pub fn watch_rollout(&self, id: &str, within: Duration, fact: impl Fn(&Value) -> bool) -> (bool, Value) {
        let began = Instant::now();
        loop {
            let seen = self.rollout(id);
            if fact(&seen) {
                return (true, seen);
            }
            if began.elapsed() >= within {
                return (false, seen);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the rollout looks like once it is in `state`; fails the test when it does not get there.
    #[track_caller]
    pub fn rollout_reaches(&self, id: &str, state: &str, within: Duration) -> Value {
        let (reached, seen) = self.watch_rollout(id, within, |view| view["state"] == state);
        assert!(reached, "not {state} within {within:?}: {seen:#}");
        seen
    }

    /// Number and name of every event that is kept after one, oldest first.
    pub fn events_after(&self, id: u64) -> Vec<(u64, String)> {
        let text = self.admin("GET", "/api/v1/events?once=true", &[("last-event-id", &id.to_string())], "").text();
        let value = |block: &str, key: &str| {
            block.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
        };
        let events = text.split("\n\n").filter_map(|block| Some((value(block, "id:")?, value(block, "event:")?)));
        events.map(|(id, name)| (id.parse().expect("a number"), name)).collect()
    }
}
