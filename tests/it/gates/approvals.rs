//! People who have to approve, each of whom counts once.

use serde_json::{Value, json};

use super::{A_WHILE, PATIENCE, ROLLOUTS, gate, messages, plan, reaches, start, started, state};
use crate::harness::{Setup, Upstream, Weir, eventually, never};

fn approve(weir: &Weir, id: &str, by: &str) -> (u16, String) {
    let answer = weir.admin("POST", &format!("{ROLLOUTS}/{id}/approve"), &[], &json!({ "by": by }).to_string());
    (answer.status, answer.text())
}

#[test]
fn two_of_three_have_to_approve_each_counts_once_and_nobody_approves_their_own() {
    let (_stable, _canary, weir) = started();
    let who = json!({ "kind": "approval", "approvers": ["ann", "bob", "cy"], "count": 2 });
    let id = start(&weir, &plan(who));
    eventually("it waits", PATIENCE, || gate(&weir, &id, "approval").1 == "waits for 2 approval(s) of ann, bob, cy");
    let view = weir.admin_get(&format!("{ROLLOUTS}/{id}")).json();
    assert_eq!(view["waitingFor"], "approval: waits for 2 approval(s) of ann, bob, cy");
    let told = messages(&weir, "approval");
    assert_eq!(told, ["approval: waits for 2 approval(s) of ann, bob, cy"]);
    let refused = |by: &str, why: &str| {
        let (status, text) = approve(&weir, &id, by);
        assert!(status == 409 && text.contains(why), "{by}: {status} {text}");
    };
    refused("ann", "ann started it; somebody else has to approve");
    refused("mallory", "mallory is not among those who may approve");
    let (code, out, err) = weir.verb(&["rollout", "approve", &id, "--by", "bob", "--reason", "looks good"]);
    assert_eq!(code, Some(0), "{out}{err}");
    refused("bob", "bob approved already");
    never("one is enough", A_WHILE, || state(&weir, &id) != "pending");
    let waits = "waits for 2 approval(s) of ann, bob, cy; so far bob";
    assert_eq!(gate(&weir, &id, "approval"), ("inconclusive".into(), waits.into()));
    // What people said outlives the process.
    let weir = weir.restart().expect("it starts again");
    assert_eq!(approve(&weir, &id, "cy").0, 200);
    let done = reaches(&weir, &id, "completed");
    assert_eq!(done["gates"][0]["detail"], "approved by bob, cy");
    let audit = weir.admin_get("/api/v1/audit").text();
    assert!(audit.contains("rollout.approve") && audit.contains("looks good"), "{audit}");
}

#[test]
fn an_approval_of_each_phase_is_asked_for_anew() {
    let (_stable, _canary, weir) = started();
    let id = start(&weir, &plan(json!({ "kind": "approval", "when": "phase" })));
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    never("it goes on", A_WHILE, || weir.split() != [80, 20]);
    assert_eq!(approve(&weir, &id, "bob").0, 200);
    eventually("the next share is live", PATIENCE, || weir.split() == [0, 100]);
    never("it goes on", A_WHILE, || state(&weir, &id) != "rolling_out");
    assert_eq!(approve(&weir, &id, "bob").0, 200);
    reaches(&weir, &id, "completed");
    assert_eq!(messages(&weir, "approval").len(), 4, "asked for twice, given twice");
}

#[test]
fn a_person_with_a_token_approves_by_its_name_whatever_they_say() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let token = |name: &str| format!("{name}-0123456789abcdef0123456789abcdef");
    let mut text = "[rollouts]\ntick = \"20ms\"\n".to_owned();
    let mut setup = Setup::pair(&stable, &canary, [100, 0]);
    for name in ["ann", "bob"] {
        text += &format!("[[tokens]]\nname = \"{name}\"\nrole = \"operator\"\nfile = \"{name}\"\n");
        setup = setup.file(name, &token(name));
    }
    let weir = setup.text(&text).start();
    let ask = |name: &str, who: &str, path: &str, body: Value| {
        let bearer = format!("Bearer {}", token(name));
        let answer = weir.admin("POST", path, &[("authorization", &bearer), ("x-weir-who", who)], &body.to_string());
        (answer.status, answer.text())
    };
    let smoke = json!({ "kind": "command", "command": ["true"] });
    let (status, text) = ask("ann", "", ROLLOUTS, plan(smoke));
    assert!(status == 403 && text.contains("takes the role admin"), "an operator's token runs no programs: {text}");
    let (status, text) = ask("ann", "carl", ROLLOUTS, plan(json!({ "kind": "approval", "count": 2 })));
    assert_eq!(status, 201, "{text}");
    let id = serde_json::from_str::<Value>(&text).expect("JSON")["rolloutId"].as_str().expect("an id").to_owned();
    let path = format!("{ROLLOUTS}/{id}/approve");
    let (status, text) = ask("ann", "dora", &path, json!({ "by": "dora" }));
    assert!(status == 409 && text.contains("ann started it"), "{status} {text}");
    let (status, text) = ask("bob", "eve", &path, json!({ "by": "eve" }));
    assert_eq!(status, 200, "{text}");
    let (status, text) = ask("bob", "fay", &path, json!({ "by": "fay" }));
    assert!(status == 409 && text.contains("bob approved already"), "{status} {text}");
    let view = serde_json::from_str::<Value>(&ask("ann", "", &path, json!({})).1).expect("JSON");
    assert!(view["detail"].as_str().is_some_and(|why| why.contains("ann started it")), "{view}");
}
