//! Promises of the order in which a request finds its pool, without sockets: a kill above all, cohorts above weights.

#[path = "fuzz/stage.rs"]
mod stage;

use proptest::prelude::*;
use weir::model::rollout::CohortMatch;
use weir::model::{Head, Killed, Limits, OnKill, Why};
use weir::proxy::decide::dice::{Rng, Splitters};
use weir::proxy::decide::{Decision, Dice, Question, decide};
use weir::proxy::h1::request::parse;
use weir::proxy::refusal::Refusal;
use weir::routing::cookie::TicketCache;
use weir::switchboard::snapshot::{Cohort, Snapshot};

const CONFIG: &str = r#"
[services.engine]
direct_paths = true
[services.engine.override]
networks = ["127.0.0.0/8"]
[services.engine.affinity]
by = "header"
name = "x-user"
[services.engine.pools.stable]
endpoints = ["http://127.0.0.1:1"]
[services.engine.pools.canary]
endpoints = ["http://127.0.0.1:2"]
[[routes]]
service = "engine"
pool = "canary"
match.path_prefix = "/beta"
[[routes]]
service = "engine"
[listeners.public]
address = "127.0.0.1:0"
[listeners.pinned]
address = "127.0.0.1:0"
service = "engine"
pool = "canary"
"#;

fn decided(snapshot: &Snapshot, listener: usize, text: &str) -> Result<Decision, Refusal> {
    let mut head = Head::default();
    head.bytes.extend_from_slice(text.as_bytes());
    parse(&mut head, &mut 0, &Limits::default()).expect("a request").expect("whole");
    let client = [127, 0, 0, 1].into();
    let question =
        Question { snapshot, listener, head: &head, client, now: stage::NOW, worker: 0, repeatable: true, at: None };
    let (mut splitters, mut tickets, mut rng) = (Splitters::default(), TicketCache::new(), Rng::new(7));
    decide(&question, &mut Dice { splitters: &mut splitters, tickets: &mut tickets, rng: &mut rng })
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

fn cohort(snapshot: &mut Snapshot, matches: &[(&str, Option<&str>)]) {
    let it = |&(header, value): &(&str, Option<&str>)| CohortMatch {
        header: header.into(),
        value: value.map(str::to_owned),
    };
    snapshot.services[0].cohort = Some(Cohort { pool: 1, matches: matches.iter().map(it).collect() });
}

#[test]
fn the_cohort_goes_to_the_candidate_at_zero_percent_and_nobody_else_does() {
    let mut snapshot = stage::snapshot(CONFIG, "[engine]\nstable = 100\ncanary = 0\n");
    cohort(&mut snapshot, &[("x-beta", Some("yes")), ("x-team", None)]);
    let why = |fields: &str| decided(&snapshot, 0, &request("/", fields)).map(|it| (it.pool, it.why)).expect("decided");
    assert_eq!(why("x-beta: yes\r\nx-team: any\r\n"), (1, Why::Cohort));
    assert_eq!(why("x-user: 1\r\nx-beta: yes\r\nx-team: any\r\n"), (1, Why::Cohort), "above the bucket");
    assert_eq!(why("x-weir-pool: stable\r\nx-beta: yes\r\nx-team: any\r\n"), (0, Why::Override), "below the override");
    for other in ["", "x-beta: yes\r\n", "x-team: any\r\n", "x-beta: no\r\nx-team: any\r\n"] {
        assert_eq!(why(other), (0, Why::Weight), "{other}");
    }
}

proptest! {
    #[test]
    fn a_killed_service_decides_for_stable_or_maintenance_whatever_is_asked(
        path in prop_oneof!["/", "/canary/x", "/beta/x", "/stable", "/[a-z/]{0,12}"],
        fields in proptest::collection::vec(prop_oneof![
            "x-weir-pool: (canary|stable)", "x-beta: yes", "x-user: [0-9]{1,4}", "cookie: weir=[a-z]{1,8}",
        ], 0..4),
        listener in 0_usize..2,
        canary in 0_u32..=100,
    ) {
        let mut snapshot = stage::snapshot(CONFIG, &format!("[engine]\nstable = 1\ncanary = {canary}\n"));
        cohort(&mut snapshot, &[("x-beta", None)]);
        let fields: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
        let text = request(&path, &fields);
        let before = decided(&snapshot, listener, &text);
        snapshot.services[0].killed = Some(Killed { system: true, reason: "stop".into() });
        match (before, decided(&snapshot, listener, &text)) {
            (Ok(before), Ok(after)) => {
                prop_assert_eq!((after.pool, after.why), (0, Why::Kill));
                prop_assert_eq!((after.route, after.direct), (before.route, before.direct), "the path is the same");
            }
            (before, after) => prop_assert_eq!(before, after),
        }
        snapshot.services[0].spec.on_kill = OnKill::Maintenance;
        if let Ok(decision) = decided(&snapshot, listener, &text) {
            prop_assert!(false, "{decision:?}");
        }
    }
}
