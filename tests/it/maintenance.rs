//! Maintenance: a word in the weights file makes everything, a service or a pool answer 503, and nothing is sent on.

use std::time::Duration;

use crate::harness::{Client, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

fn stage(weights: &str) -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::new().pool("stable", &[&stable]).pool("canary", &[&canary]).weights(weights);
    let setup = setup.service("direct_paths = true").table("override", "networks = [\"127.0.0.0/8\"]");
    let weir = setup.listener("only", "service = \"engine\"\npool = \"canary\"").start();
    (stable, canary, weir)
}

#[track_caller]
fn answers(weir: &Weir, path: &str, status: u16) {
    eventually(&format!("{path} answers {status}"), SOON, || weir.client().get(path).status == status);
}

#[test]
fn everything_or_a_service_answers_503_by_every_way_and_the_end_of_it_restores() {
    let (stable, canary, weir) = stage("stable = 50\ncanary = 50\n");
    for text in [
        "maintenance = \"moving house\"\n[engine]\nstable = 50\ncanary = 50\n",
        "[engine]\nstable = 50\ncanary = 50\nmaintenance = \"moving house\"\n",
        "[engine]\nmaintenance = \"moving house\"\n",
        // A kill sends everything to stable, which is under maintenance too.
        "kill = \"bad build\"\n[engine]\nmaintenance = \"moving house\"\nstable = 1\n",
    ] {
        weir.save_weights(text);
        answers(&weir, "/", 503);
        let before = (stable.count(), canary.count());
        let mut client = weir.client();
        let answer = client.get("/");
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("30")));
        assert_eq!(answer.text(), "weir: service engine is under maintenance: moving house\n");
        assert_eq!(client.get("/canary/x").status, 503);
        assert_eq!(client.get_with("/", &[("x-weir-pool", "canary")]).status, 503);
        assert_eq!(Client::to(weir.listener("only")).get("/").status, 503);
        let answer = weir.h2().get("/");
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("30")));
        assert_eq!((stable.count(), canary.count()), before);
        let metrics = weir.metrics();
        assert_eq!(metrics.sum("weir_maintenance", &[("service", "engine")]) as u32, 2);
        let (code, out, _) = weir.verb(&["status"]);
        assert!(code == Some(0) && out.contains("under maintenance") && out.contains("moving house"), "{out}");
        let (_, out, _) = weir.verb(&["explain", "http://example/"]);
        assert!(out.contains("503") && out.contains("moving house"), "{out}");
        weir.save_weights("[engine]\nstable = 50\ncanary = 50\n");
        answers(&weir, "/", 200);
        assert_eq!(weir.metrics().sum("weir_maintenance", &[("service", "engine")]) as u32, 0);
    }
}

#[test]
fn a_pool_alone_answers_503_gets_nothing_by_failover_or_retry_and_says_what_an_operator_wrote() {
    let (stable, mut canary, weir) = stage("stable = 0\ncanary = 100\n");
    let closed = |pool: &str| {
        let table = "retry_after = \"90s\"\nbody = \"<h1>Back at nine</h1>\"\nreason = \"new disk\"";
        format!("[engine]\nstable = 0\ncanary = 100\n[engine.maintenance]\npools = [\"{pool}\"]\n{table}\n")
    };
    weir.save_weights(&closed("canary"));
    answers(&weir, "/", 503);
    let answer = weir.client().get("/");
    assert_eq!(answer.field("retry-after"), Some("90"));
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.text(), "<h1>Back at nine</h1>");
    assert_eq!(weir.client().get("/stable/x").upstream(), "stable");
    let status = weir.status();
    let of = &status["services"][0]["maintenance"];
    assert_eq!((of["scope"].as_str(), of["pools"][0].as_str()), (Some("pools"), Some("canary")));
    assert_eq!((of["reason"].as_str(), of["retry_after_s"].as_u64()), (Some("new disk"), Some(90)));
    // With stable closed the canary serves, and what fails there has nowhere to go.
    weir.save_weights(&closed("stable"));
    answers(&weir, "/", 200);
    let before = stable.count();
    canary.kill();
    for _ in 0..20 {
        assert!([502, 503].contains(&weir.client().get("/").status));
    }
    assert_eq!(stable.count(), before, "a closed pool got a request");
}

#[test]
fn the_command_writes_the_word_and_takes_it_out_and_a_restart_keeps_it() {
    let (_stable, _canary, weir) = stage("# ours\nstable = 90 # most\ncanary = 10\n");
    let before = weir.weights_text();
    let config = weir.config_path().display().to_string();
    for (whose, text) in [("engine", "service engine"), ("--all", "every service")] {
        let (code, out, err) = weir.verb(&["maintenance", whose, "--reason", "new \"disk\"", "--config", &config]);
        assert!(code == Some(0) && out.contains(text), "{out}{err}");
        answers(&weir, "/", 503);
        assert!(weir.weights_text().contains("stable = 90 # most"));
        let (code, _, err) = weir.verb(&["maintenance", whose, "--end", "--config", &config]);
        assert_eq!(code, Some(0), "{err}");
        answers(&weir, "/", 200);
        assert_eq!(weir.weights_text(), before);
    }
    assert_eq!(weir.verb(&["maintenance", "engin", "--config", &config]).0, Some(2));
    assert_eq!(weir.verb(&["maintenance", "engine", "--config", &config]).0, Some(0));
    answers(&weir, "/", 503);
    let weir = weir.restart().expect("it starts again");
    assert_eq!(weir.client().get("/").text(), "weir: service engine is under maintenance\n");
    // Weights that are set meanwhile stand beside the word.
    assert_eq!(weir.put_split([50, 50]).status, 200);
    assert_eq!(weir.client().get("/").status, 503);
    assert!(weir.weights_text().contains("maintenance"), "{}", weir.weights_text());
}

#[test]
fn the_command_asks_the_running_weir_and_who_and_why_stand_in_the_history_and_the_audit_log() {
    let (_stable, _canary, weir) = stage("stable = 90\ncanary = 10\n");
    let (code, out, err) = weir.verb(&["maintenance", "engine", "--end"]);
    assert_eq!((code, out.as_str()), (Some(0), "service engine was not under maintenance\n"), "{err}");
    let (code, out, err) = weir.verb(&["maintenance", "engine", "--reason", "new disk"]);
    assert!(code == Some(0) && out.contains("weir maintenance engine --end"), "{out}{err}");
    // It is so when it answers.
    assert_eq!(weir.client().get("/").status, 503);
    let status = weir.status();
    let newest = &status["history"][0];
    assert_eq!(newest["what"], "maintenance of service engine", "{newest}");
    assert_eq!(newest["cause"]["reason"], "new disk");
    assert!(newest["cause"]["who"].as_str().is_some_and(|who| !who.is_empty()), "{newest}");
    let (_, out, err) = weir.verb(&["maintenance", "--all", "--end"]);
    assert_eq!(out, "service engine is still under maintenance of its own: `weir maintenance engine --end`\n", "{err}");
    assert_eq!(weir.verb(&["maintenance", "engine", "--end"]).0, Some(0));
    assert_eq!(weir.client().get("/").status, 200);
    let entries = weir.admin_get("/api/v1/audit").json();
    let entries = entries["entries"].as_array().expect("a list").clone();
    let ours: Vec<&str> = entries
        .iter()
        .filter_map(|it| it["action"].as_str())
        .filter(|action| action.starts_with("maintenance"))
        .collect();
    assert_eq!(ours.len(), 2, "{entries:?}");
    let (_, out, _) = weir.verb(&["status"]);
    assert!(out.contains("end of maintenance of service engine"), "{out}");
    // Without asking, the file alone.
    let config = weir.config_path().display().to_string();
    let offline = weir.verb(&["maintenance", "engine", "--reason", "by hand", "--offline", "--config", &config]);
    assert!(offline.0 == Some(0) && offline.1.contains("no running weir was asked"), "{offline:?}");
    answers(&weir, "/", 503);
}
