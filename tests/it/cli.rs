//! The verbs that an operator types: what they do, what they print, and their exit codes.

use std::time::Duration;

use crate::harness::upstream::own_address;
use crate::harness::{Setup, Upstream, Weir, eventually};

/// Stable and canary, with the admin API on an address that the file names, as an operator has it.
fn started(weights: [u32; 2]) -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let admin = format!("address = \"{}:9901\"", own_address());
    let weir = Setup::pair(&stable, &canary, weights).admin(&admin).start();
    (stable, canary, weir)
}

#[track_caller]
fn done(weir: &Weir, arguments: &[&str]) -> String {
    let (code, out, err) = weir.verb(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

#[test]
fn set_moves_the_traffic_and_the_file_before_it_returns() {
    let (_stable, _canary, weir) = started([100, 0]);
    done(&weir, &["set", "engine", "stable=0", "canary=100"]);
    assert_eq!(weir.client().get("/").upstream(), "canary");
    assert!(weir.weights_text().contains("canary = 100"), "{}", weir.weights_text());
}

#[test]
fn rollback_and_undo_are_one_command_each() {
    let (_stable, _canary, weir) = started([0, 100]);
    done(&weir, &["rollback", "engine", "--reason", "errors on /pay"]);
    assert_eq!(weir.client().get("/").upstream(), "stable");
    assert!(weir.status().to_string().contains("errors on /pay"));
    done(&weir, &["undo", "engine"]);
    assert_eq!(weir.client().get("/").upstream(), "canary");
    assert!(weir.weights_text().contains("canary = 100"), "{}", weir.weights_text());
}

#[test]
fn status_is_a_table_and_on_demand_json() {
    let (_stable, canary, weir) = started([90, 10]);
    let table = done(&weir, &["status"]);
    for part in ["engine", "stable", "canary", "90", "10", &canary.address().to_string()] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&done(&weir, &["status", "--output", "json"])).expect("JSON");
    assert!(json["services"].is_array(), "{json}");
}

#[test]
fn status_shows_why_the_last_reload_failed() {
    let (_stable, _canary, weir) = started([90, 10]);
    weir.save_weights("[engine]\nstable = 50\ncanray = 50\n");
    eventually("it is told", Duration::from_secs(3), || weir.verb(&["status"]).1.contains("canray"));
    let shown = weir.verb(&["status"]).1;
    assert!(shown.contains("weights.toml:3:1"), "{shown}");
}

#[test]
fn a_change_that_is_refused_exits_one_and_a_wrong_usage_two() {
    let (_stable, _canary, weir) = started([90, 10]);
    for arguments in
        [&["set", "engine", "stable=0", "canary=0"][..], &["set", "engine", "canray=1"], &["undo", "nobody"]]
    {
        let (code, out, err) = weir.verb(arguments);
        assert!(matches!(code, Some(1 | 2)) && !err.is_empty(), "{arguments:?}: {code:?} {out}{err}");
    }
    for arguments in [&["set"][..], &["set", "engine", "stable"], &["no-such-verb"], &["status", "--no-such-flag"]] {
        assert_eq!(weir.verb(arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(weir.split(), [90, 10]);
}

#[test]
fn check_says_every_problem_with_its_place_and_exits_two() {
    let (_stable, _canary, weir) = started([90, 10]);
    done(&weir, &["check"]);
    let good = std::fs::read_to_string(weir.config_path()).expect("the file is there");
    weir.save_config(&format!("no_such = 1\n{}", good.replace("workers = 2", "workers = \"two\"")));
    weir.save_weights("[engine]\nstable = -1\n");
    let (code, out, err) = weir.verb(&["check"]);
    let all = format!("{out}{err}");
    assert_eq!(code, Some(2), "{all}");
    for part in ["weir.toml:1:1", "no_such", "two", "weights.toml:2:"] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
}

#[test]
fn what_keeps_weir_from_starting_is_a_problem_of_check_with_its_remedy_and_a_plan_is_not() {
    let (_stable, _canary, weir) = started([90, 10]);
    let good = std::fs::read_to_string(weir.config_path()).expect("the file is there");
    let directory = weir.config_directory().join("no");
    let cases = [
        ("key_file = \"no.key\"", String::new(), "key_file", "openssl rand"),
        ("", "[[tokens]]\nname = \"ci\"\nrole = \"viewer\"\nfile = \"no.token\"".into(), "\"ci\"", "openssl rand"),
        ("", format!("[listeners.local]\naddress = \"unix:{}/s\"", directory.display()), "listeners.local", "mkdir"),
    ];
    for (before, after, what, remedy) in cases {
        let text = format!("{before}\n{good}\n{after}\n");
        let other = weir.config_directory().join("other.toml");
        std::fs::write(&other, text).expect("a file");
        let (code, out, err) = weir.verb(&["check", "--config", &other.to_string_lossy()]);
        assert_eq!(code, Some(2), "{out}{err}");
        assert!(err.contains(what) && err.contains(remedy), "{err}");
    }
    let plans = weir.config_directory().join("rollouts");
    std::fs::create_dir_all(&plans).expect("a directory");
    std::fs::write(plans.join("elsewhere.toml"), "service = \"elsewhere\"\n").expect("a plan");
    std::fs::write(plans.join("wrong.toml"), "service = \"engine\"\nno_such = 1\n").expect("a plan");
    let (code, out, err) = weir.verb(&["check"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let all = format!("{out}{err}");
    assert!(all.contains("not here: elsewhere") && all.contains("wrong.toml:2:1"), "{all}");
    let (code, _, err) = weir.verb(&["rollout", "check"]);
    assert!(code != Some(0) && err.contains("elsewhere"), "{code:?} {err}");
}

#[test]
fn diff_says_what_a_changed_file_would_do_and_changes_nothing() {
    let (_stable, _canary, weir) = started([90, 10]);
    let next = weir.config_directory().join("next.toml");
    std::fs::write(&next, "[engine]\nstable = 50\ncanary = 50\n").expect("a new file");
    let (code, out, err) = weir.verb(&["diff", "--weights", &next.to_string_lossy()]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("canary") && out.contains("50"), "{out}");
    assert_eq!(weir.split(), [90, 10]);
}

#[test]
fn healthcheck_follows_the_process() {
    let (_stable, _canary, mut weir) = started([90, 10]);
    done(&weir, &["healthcheck"]);
    weir.signal(libc::SIGKILL);
    weir.ended_within(Duration::from_secs(2));
    assert_eq!(weir.verb(&["healthcheck"]).0, Some(1));
    assert_eq!(weir.verb(&["status"]).0, Some(1));
}

#[test]
fn what_needs_no_process_works_without_one() {
    let (_stable, _canary, weir) = started([90, 10]);
    let schema: serde_json::Value = serde_json::from_str(&done(&weir, &["schema"])).expect("a JSON schema");
    assert!(schema["properties"]["services"].is_object(), "{schema:.200}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(done(&weir, &["completions", shell]).contains("weir"), "{shell}");
    }
    assert!(done(&weir, &["version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn reload_is_a_verb() {
    let (_stable, _canary, weir) = started([100, 0]);
    weir.save_split([0, 100]);
    done(&weir, &["reload"]);
    assert_eq!(weir.client().get("/").upstream(), "canary");
}

#[test]
fn verify_split_fits_what_the_weights_say_and_not_what_a_failover_makes_of_them() {
    let (_stable, canary, weir) = started([80, 20]);
    let url = format!("http://{}/", weir.address());
    let out = done(&weir, &["verify-split", "engine", "-n", "500", "--url", &url]);
    assert!(out.contains("the split fits its weights") && out.contains("500 requests"), "{out}");
    let json = done(&weir, &["verify-split", "engine", "-n", "100", "--url", &url, "--method", "head", "-o", "json"]);
    let outcome: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&outcome["requests"], &outcome["fits"]), (&100.into(), &true.into()), "{outcome}");
    // Nothing reaches canary any more: its share goes elsewhere, and that is seen.
    drop(canary);
    let (code, out, err) = weir.verb(&["verify-split", "engine", "-n", "300", "--url", &url]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("does not fit"), "{out}{err}");
    let (code, _, err) = weir.verb(&["verify-split", "engin", "--url", &url]);
    assert_eq!((code, err.as_str()), (Some(2), "error: there is no service \"engin\"; did you mean \"engine\"?\n"));
}
