//! The kill switch: a killed service sends nothing to its canary by whatever way, and unkilling brings all of it back.

use std::time::Duration;

use crate::harness::{Client, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

const TOKEN: [(&str, &str); 1] = [("x-weir-pool", "canary")];

fn stage(service: &str) -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 100])
        .service("direct_paths = true")
        .service(service)
        .table("override", "networks = [\"127.0.0.0/8\"]")
        .table("affinity", "by = \"cookie\"\nname = \"weir\"\non_zero = \"drain\"")
        .text(
            "[[routes]]\nservice = \"engine\"\npool = \"canary\"\nmatch.path_prefix = \"/beta\"\n\
             [[routes]]\nservice = \"engine\"",
        );
    let weir = setup.listener("only", "service = \"engine\"\npool = \"canary\"").start();
    (stable, canary, weir)
}

/// Every way to the canary: by weight, cookie, path, route, override and listener.
fn ways(weir: &Weir, cookie: &str) -> Vec<(u16, String)> {
    let mut client = weir.client();
    let mut pinned = Client::to(weir.listener("only"));
    let answers = [
        client.get("/"),
        client.get_with("/", &[("cookie", cookie)]),
        client.get("/canary/x"),
        client.get("/beta/x"),
        client.get_with("/", &TOKEN),
        pinned.get("/"),
    ];
    answers.iter().map(|it| (it.status, it.field("x-upstream").unwrap_or_default().to_owned())).collect()
}

fn all_at(pool: &str) -> Vec<(u16, String)> {
    vec![(200, pool.to_owned()); 6]
}

#[test]
fn a_killed_service_gets_nothing_at_its_canary_by_any_way_and_unkilling_restores() {
    let (stable, canary, weir) = stage("");
    let cookie = weir.client().get("/").cookie("weir").expect("a cookie");
    assert_eq!(ways(&weir, &cookie), all_at("canary"));
    let killed = |text: &str| {
        weir.save_weights(text);
        eventually("the kill is live", SOON, || weir.client().get("/").upstream() == "stable");
    };
    for text in [
        "[engine]\nstable = 0\ncanary = 100\nkill = \"bad build\"\n",
        "kill = \"all of it\"\n[engine]\nstable = 0\ncanary = 100\n",
        "[engine]\nstable = 0\ncanary = 100\nkill = true\n",
    ] {
        killed(text);
        let before = canary.count();
        assert_eq!(ways(&weir, &cookie), all_at("stable"));
        assert_eq!(canary.count(), before);
        assert_eq!(stable.last().field("x-weir-pool"), None);
        let metrics = weir.metrics();
        assert_eq!(metrics.sum("weir_killed", &[("service", "engine")]) as u32, 1);
        assert!(metrics.sum("weir_decisions_total", &[("why", "kill")]) >= 6.0);
        weir.save_weights("[engine]\nstable = 0\ncanary = 100\n");
        eventually("it is taken back", SOON, || weir.client().get("/").upstream() == "canary");
        assert_eq!(ways(&weir, &cookie), all_at("canary"));
        assert_eq!(weir.metrics().sum("weir_killed", &[("service", "engine")]) as u32, 0);
    }
}

#[test]
fn the_path_that_named_the_canary_loses_its_prefix_also_at_stable() {
    let (stable, _canary, weir) = stage("");
    weir.save_weights("[engine]\nkill = \"no weights are needed to kill\"\n");
    eventually("the kill is live", SOON, || weir.client().get("/").upstream() == "stable");
    assert_eq!(weir.client().get("/canary/shop?x=1").upstream(), "stable");
    assert_eq!(stable.count_on("/shop?x=1"), 1);
}

#[test]
fn a_kill_survives_a_restart_and_stands_in_the_file_and_in_status() {
    let (_stable, canary, weir) = stage("");
    weir.save_weights("[engine]\nstable = 0\ncanary = 100\nkill = \"bad build\"\n");
    eventually("the kill is live", SOON, || weir.client().get("/").upstream() == "stable");
    let weir = weir.restart().expect("it starts again");
    let before = canary.count();
    assert_eq!(weir.client().get("/canary/x").upstream(), "stable");
    assert_eq!(canary.count(), before);
    let status = weir.admin_get("/api/v1/status").json();
    let killed = &status["services"][0]["killed"];
    assert_eq!((killed["scope"].as_str(), killed["reason"].as_str()), (Some("service"), Some("bad build")));
    let (code, out, _) = weir.verb(&["status"]);
    assert!(code == Some(0) && out.contains("killed") && out.contains("bad build"), "{out}");
    let (_, out, _) = weir.verb(&["explain", "http://example/canary/x"]);
    assert!(out.contains("killed"), "{out}");
    // Weights do not move while it is killed.
    let answer = weir.put_split([50, 50]);
    assert!(answer.status == 409 && answer.text().contains("bad build"), "{}", answer.text());
}

#[test]
fn maintenance_is_503_with_retry_after_by_every_way() {
    let (stable, canary, weir) = stage("on_kill = \"maintenance\"");
    weir.save_weights("kill = \"moving house\"\n[engine]\nstable = 50\ncanary = 50\n");
    eventually("the kill is live", SOON, || weir.client().get("/").status == 503);
    let before = (stable.count(), canary.count());
    assert_eq!(ways(&weir, "weir=x"), vec![(503, String::new()); 6]);
    assert_eq!(weir.client().get("/").field("retry-after"), Some("30"));
    assert_eq!(weir.h2().get("/").status, 503);
    assert_eq!((stable.count(), canary.count()), before);
}
