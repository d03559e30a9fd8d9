//! Mirroring: the copy is the request, marked; and whatever becomes of it, the client, the pools, the breakers and the
//! rollouts never hear of it.

use std::thread::scope;
use std::time::{Duration, Instant};

use crate::harness::{
    Authority, Behaviour, Client, Door, H2Upstream, Load, Reply, Setup, Then, TlsFront, Upstream, Weir, eventually,
};

const SOON: Duration = Duration::from_secs(5);

/// Everything goes to stable; `lines` are those of the mirror to the canary.
fn mirrored(stable: &Upstream, canary: &Upstream, lines: &str) -> Setup {
    Setup::pair(stable, canary, [1, 0]).text(&format!("[[services.engine.mirrors]]\nto = \"canary\"\n{lines}"))
}

fn counted(weir: &Weir, family: &str, label: (&str, &str)) -> u64 {
    let labels: Vec<(&str, &str)> =
        [("pool", "canary"), label].into_iter().filter(|(name, _)| !name.is_empty()).collect();
    weir.metrics().sum(&format!("weir_mirror_{family}"), &labels) as u64
}

fn sent(weir: &Weir) -> u64 {
    counted(weir, "sent_total", ("", ""))
}

fn dropped(weir: &Weir, reason: &str) -> u64 {
    counted(weir, "dropped_total", ("reason", reason))
}

fn idle(weir: &Weir) -> bool {
    counted(weir, "in_flight", ("", "")) == 0
}

#[test]
fn a_copy_is_the_request_with_a_mark_that_no_client_can_forge() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = mirrored(&stable, &canary, "percent = 100").start();
    let fields = [("cookie", "a=1"), ("authorization", "Bearer x"), ("x-weir-mirror", "forged"), ("x-id", "7")];
    let answer = weir.client().get_with("/path?q=1", &fields);
    assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    eventually("the copy came", SOON, || canary.count() == 1);
    let (seen, copy) = (stable.last(), canary.last());
    assert_eq!((copy.method.as_str(), copy.target.as_str()), ("GET", "/path?q=1"));
    assert_eq!(seen.field("x-weir-mirror"), None, "a client's own mark goes nowhere");
    assert_eq!(copy.head.all("x-weir-mirror"), ["stable"]);
    for name in ["host", "cookie", "authorization", "x-id", "x-forwarded-for", "x-request-id", "via"] {
        assert!(copy.field(name).is_some() && copy.field(name) == seen.field(name), "{name}");
    }
    eventually("it is counted", SOON, || counted(&weir, "answers_total", ("class", "2xx")) == 1);
    assert_eq!((sent(&weir), weir.metrics().sum("weir_mirror_duration_seconds_count", &[]) as u64), (1, 1));
}

#[test]
fn a_copy_counts_for_no_pool_no_breaker_and_no_rollout() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    canary.behave(Behaviour::Reply(Reply::status(503)));
    let breaker = "failures = 1\nmin_requests = 1\nerror_ratio = 0.01";
    let weir = mirrored(&stable, &canary, "percent = 100").table("breaker", breaker).start();
    let mut client = weir.client();
    (0..50).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
    eventually("all are counted", SOON, || counted(&weir, "answers_total", ("class", "5xx")) == 50);
    let metrics = weir.metrics();
    let families = ["requests", "attempts", "decisions", "pool_faults", "upstream_errors", "endpoint_ejections"];
    for family in families {
        let name = format!("weir_{family}_total");
        assert_eq!(metrics.sum(&name, &[("pool", "canary")]), 0.0, "{:#?}", metrics.lines_with(family));
    }
    for family in ["weir_lane_attempts_total", "weir_lane_errors_total", "weir_request_duration_seconds_count"] {
        assert_eq!(metrics.sum(family, &[("pool", "canary")]), 0.0, "{family}");
    }
    assert_eq!(metrics.sum("weir_pool_admitted_ratio", &[("pool", "canary")]), 1.0);
    assert_eq!(metrics.sum("weir_endpoint_up", &[("pool", "canary")]), 1.0);
}

#[test]
fn a_hundredth_of_a_percent_counts_and_a_reload_changes_it_or_takes_it_away() {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let weir = mirrored(&stable, &canary, "percent = 25.01\nmax_in_flight = 1000").start();
    let text = std::fs::read_to_string(weir.config_path()).expect("the file that runs");
    let share = || {
        let before = sent(&weir);
        let mut client = weir.client();
        (0..2_000).for_each(|_| assert_eq!(client.get("/").status, 200));
        eventually("all are done", SOON, || idle(&weir));
        (sent(&weir) - before) as f64 / 2_000.0
    };
    let at_first = share();
    // Five standard deviations of a binomial share of 2 000.
    assert!((at_first - 0.2501).abs() < 0.049, "{at_first}");
    weir.save_config(&text.replace("percent = 25.01", "percent = 100"));
    eventually("it is live", SOON, || weir.generation() == 2);
    assert_eq!(share(), 1.0);
    weir.save_config(&text.replace("percent = 25.01", "percent = 0"));
    eventually("it is live", SOON, || weir.generation() == 3);
    assert_eq!(share(), 0.0);
    let asked = canary.asked();
    let (without, _) = text.split_once("[[services.engine.mirrors]]").expect("it is there");
    weir.save_config(without);
    eventually("it is live", SOON, || weir.generation() == 4);
    (0..100).for_each(|_| drop(weir.client().get("/")));
    assert_eq!(canary.asked(), asked);
}

#[test]
fn what_is_not_safe_is_copied_only_where_it_is_told_and_its_body_with_it() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = mirrored(&stable, &canary, "percent = 100").start();
    let mut client = weir.client();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(client.ask(method, "/", &[], b"x").status, 200);
    }
    assert_eq!(client.ask("HEAD", "/", &[], b"").status, 200);
    eventually("only HEAD is copied", SOON, || canary.count() == 1);
    assert_eq!(canary.last().method, "HEAD");
    eventually("it is answered", SOON, || idle(&weir));

    canary.forget();
    let text = std::fs::read_to_string(weir.config_path()).expect("the file that runs");
    weir.save_config(&text.replace("percent = 100", "percent = 100\nmethods = [\"POST\"]\nmax_body = \"100KiB\""));
    eventually("it is live", SOON, || weir.generation() == 2);
    let body: Vec<u8> = (0..90_000_u32).map(|n| n as u8).collect();
    assert_eq!(client.ask("POST", "/length", &[], &body).status, 200);
    assert_eq!(client.get("/get").status, 200);
    let chunked = b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    client.send(chunked).expect("it is sent");
    eventually("the head is there", SOON, || stable.count_on("/chunked") == 1);
    client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 200);
    assert_eq!(weir.h2().ask("POST", "/h2", &[], &body).expect("an answer").status, 200);
    eventually("all but the GET are copied", SOON, || canary.count() == 3 && idle(&weir));
    for copy in canary.seen() {
        let original = stable.seen().into_iter().rfind(|seen| seen.target == copy.target).expect("it came");
        assert!(copy.whole && copy.body == original.body && copy.trailers == original.trailers, "{}", copy.target);
        assert_eq!(copy.field("expect"), None, "a copy waits for nothing");
    }
}

#[test]
fn a_body_that_is_too_large_is_dropped_from_the_copy_and_never_from_the_request() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = mirrored(&stable, &canary, "percent = 100\nmethods = [\"POST\"]\nmax_body = 65536").start();
    let body = vec![b'x'; 400_000];
    let mut client = weir.client();
    assert_eq!(client.ask("POST", "/length", &[], &body).status, 200);
    assert_eq!(stable.last().body.len(), body.len());
    client.send(b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").expect("it is sent");
    for _ in 0..4 {
        client.send(b"186a0\r\n").expect("it is sent");
        client.send(&body[..100_000]).expect("it is sent");
        client.send(b"\r\n").expect("it is sent");
    }
    client.send(b"0\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 200);
    assert_eq!(stable.last().body.len(), body.len());
    assert_eq!(weir.h2().ask("POST", "/h2", &[], &body).expect("an answer").status, 200);
    assert_eq!((dropped(&weir, "body"), canary.count()), (3, 0));
    assert!(idle(&weir));
    assert_eq!(client.ask("POST", "/small", &[], b"x").status, 200);
    eventually("a small one is copied", SOON, || canary.count() == 1);
}

#[test]
fn a_request_that_breaks_off_is_not_copied() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = mirrored(&stable, &canary, "percent = 100\nmethods = [\"POST\"]").start();
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").expect("it is sent");
    eventually("it is gathered", SOON, || !idle(&weir));
    client.reset();
    eventually("it is let go", SOON, || idle(&weir));
    assert_eq!((dropped(&weir, "client"), sent(&weir), canary.count()), (1, 0, 0));
}

#[test]
fn a_mirror_that_hangs_costs_no_client_anything_and_no_more_than_its_cap() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    for hang in [Hang::Answer, Hang::Connection, Hang::Body] {
        hang.begin(&canary);
        let weir = mirrored(&stable, &canary, "percent = 100\nmax_in_flight = 5\ntimeout = \"60s\"").start();
        let mut client = weir.client();
        let began = Instant::now();
        (0..300).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let over_h2 = weir.h2().many(50, "/");
        assert!(over_h2.iter().flatten().all(|answer| answer.status == 200) && over_h2.len() == 50);
        // Two workers; a connection is served by one.
        let in_flight = counted(&weir, "in_flight", ("", ""));
        assert!((5..=10).contains(&in_flight), "{hang:?}: {in_flight}");
        eventually("all are counted", SOON, || sent(&weir) + dropped(&weir, "full") == 350);
        assert_eq!(sent(&weir), in_flight);
        canary.drop_connections();
        hang.end(&canary);
    }
}

#[derive(Debug, Clone, Copy)]
enum Hang {
    Answer,
    Connection,
    Body,
}

impl Hang {
    fn begin(self, canary: &Upstream) {
        match self {
            Hang::Answer => canary.behave(Behaviour::StallBeforeHead),
            Hang::Connection => canary.door(Door::Silent),
            Hang::Body => canary.behave(Behaviour::StallMidBody { sent: 10, of: 100 }),
        }
    }

    fn end(self, canary: &Upstream) {
        canary.door(Door::Open);
        canary.behave(Behaviour::Answer);
    }
}

#[test]
fn a_mirror_that_is_dead_or_lies_is_counted_and_heals() {
    let (stable, mut canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let off = "kind = \"off\"";
    let weir = mirrored(&stable, &canary, "percent = 100\ntimeout = \"300ms\"").table("health", off).start();
    let mut client = weir.client();
    let mut ask = |n: usize| (0..n).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
    let lost = |kind| counted(&weir, "lost_total", ("kind", kind));
    canary.kill();
    ask(20);
    eventually("nobody is there", SOON, || lost("connect") == 20);
    canary.restart();
    for behaviour in [
        Behaviour::ResetAfterHead,
        Behaviour::ResetInsideHead,
        Behaviour::raw_and_close("garbage\r\n\r\n"),
        Behaviour::ResetMidBody { sent: 500, of: 1_000 },
        Behaviour::Raw(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n".to_vec(), Then::Hold),
    ] {
        let before = lost("answer");
        canary.behave(behaviour.clone());
        ask(5);
        eventually("it is no answer", SOON, || lost("answer") == before + 5);
    }
    canary.behave(Behaviour::StallBeforeHead);
    ask(5);
    eventually("it takes too long", SOON, || lost("timeout") == 5 && idle(&weir));
    canary.behave(Behaviour::Answer);
    ask(5);
    eventually("it is well again", SOON, || counted(&weir, "answers_total", ("class", "2xx")) == 5);
    assert_eq!(weir.metrics().sum("weir_retries_total", &[]), 0.0);
}

#[test]
fn an_answer_without_end_is_read_to_a_bound() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    canary.behave(Behaviour::Reply(Reply::status(200).body(vec![b'x'; 40 << 20])));
    let weir = mirrored(&stable, &canary, "percent = 100").start();
    let before = weir.resident_bytes();
    (0..4).for_each(|_| assert_eq!(weir.client().get("/").upstream(), "stable"));
    eventually("it is thrown away", SOON, || counted(&weir, "answers_total", ("class", "2xx")) == 4);
    assert!(weir.resident_bytes() < before + (16 << 20), "{} bytes more", weir.resident_bytes() - before);
}

#[test]
fn copies_have_connections_of_their_own_and_use_them_again() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let lines = "percent = 100\nfrom = [\"stable\"]";
    let weir = mirrored(&stable, &canary, lines).service("direct_paths = true").workers(1).start();
    let mut client = weir.client();
    for _ in 0..10 {
        assert_eq!(client.get("/x").upstream(), "stable");
        eventually("it is answered", SOON, || idle(&weir));
        assert_eq!(client.get("/canary/x").upstream(), "canary");
    }
    let on = |marked: bool| {
        let seen = canary.seen();
        let of: std::collections::BTreeSet<u64> =
            seen.iter().filter(|it| it.field("x-weir-mirror").is_some() == marked).map(|it| it.connection).collect();
        of
    };
    assert_eq!((on(true).len(), on(false).len()), (1, 1));
    assert_ne!(on(true), on(false));
    assert_eq!(canary.count(), 20, "requests of the canary itself are not copied");
}

#[test]
fn both_protocols_are_copied_to_both_and_trailers_with_them() {
    let (stable, old) = (Upstream::named("stable"), Upstream::named("old"));
    let new = H2Upstream::named("new");
    let setup = Setup::new().pool("stable", &[&stable]).pool("old", &[&old]).pool_at("canary", &[&new.url()]);
    let mirror = |to: &str| {
        format!("[[services.engine.mirrors]]\nfrom = \"stable\"\nto = \"{to}\"\npercent = 50\nmethods = [\"POST\"]\n")
    };
    let both = mirror("old") + &mirror("canary");
    let weir = setup.text(&both).weights("stable = 1\nold = 0\ncanary = 0\n").start();
    let mut client = weir.client();
    let mut over_h2 = weir.h2();
    let body = vec![b'x'; 200_000];
    for _ in 0..20 {
        assert_eq!(client.ask("POST", "/", &[], &body).upstream(), "stable");
        assert_eq!(over_h2.ask("POST", "/", &[], &body).expect("an answer").upstream(), "stable");
    }
    // Their parts lie side by side: every request is copied exactly once.
    eventually("each is copied once", SOON, || old.count() + new.count() == 40 && old.count() > 0 && new.count() > 0);
    eventually("all are answered", SOON, || idle(&weir));
    assert!(old.seen().iter().all(|seen| seen.body == body));
    assert!(new.seen().iter().all(|seen| seen.body == body && seen.field("x-weir-mirror") == Some("stable")));
    let answered = weir.metrics().sum("weir_mirror_answers_total", &[("class", "2xx")]);
    assert_eq!(answered as u64, 40);
}

#[test]
fn a_killed_service_copies_nothing_and_a_copy_is_not_copied_again() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = mirrored(&stable, &canary, "percent = 100").top("trusted_proxies = [\"127.0.0.1\"]");
    let weir = setup.start();
    let mut client: Client = weir.client();
    // From a proxy that is believed it is another weir's copy, and its mark goes on.
    client.get_with("/", &[("x-weir-mirror", "blue")]);
    assert_eq!(stable.last().head.all("x-weir-mirror"), ["blue"]);
    client.get("/");
    eventually("only the other one is copied", SOON, || canary.count() == 1 && idle(&weir));
    let (code, _, err) = weir.verb(&["kill", "engine", "--reason", "a test"]);
    assert_eq!(code, Some(0), "{err}");
    (0..20).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
    assert_eq!((canary.count(), sent(&weir)), (1, 0), "the family is gone with the mirror");
}

#[test]
fn under_load_a_mirror_that_hangs_dies_and_comes_back_fails_nobody() {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let weir = mirrored(&stable, &canary, "percent = 100\ntimeout = \"200ms\"").start();
    let load = Load::start(weir.address(), 8, Duration::from_millis(1));
    scope(|scope| {
        scope.spawn(|| {
            for behaviour in [Behaviour::StallBeforeHead, Behaviour::ResetAfterHead, Behaviour::Answer] {
                canary.behave(behaviour);
                let before = sent(&weir);
                eventually("it gets more", SOON, || sent(&weir) > before + 50);
            }
            canary.door(Door::Reset);
            canary.drop_connections();
            let before = sent(&weir);
            eventually("it gets more", SOON, || sent(&weir) > before + 50);
        });
    });
    let report = load.stop();
    report.assert_flawless();
    assert!(report.p99() < Duration::from_millis(100), "{:?}", report.p99());
}

#[test]
fn copies_go_to_endpoints_over_tls_in_the_version_that_they_choose_over_connections_of_their_own() {
    let (authority, stable) = (Authority::new(), Upstream::named("stable"));
    let issued = authority.issue_for(&["app.test"]);
    let (h1, h2) = (Upstream::named("h1"), H2Upstream::named("h2"));
    let (over_h1, over_h2) = (TlsFront::http1(&h1, &issued), TlsFront::http2(&h2, &issued));
    for front in [&over_h1, &over_h2] {
        let weir = Setup::new()
            .workers(1)
            .pool("stable", &[&stable])
            .pool_at("canary", &[&front.url()])
            .pool_lines("tls = { roots = \"ca.pem\", name = \"app.test\" }")
            .split([1, 0])
            .table("health", "kind = \"off\"")
            .text("[[services.engine.mirrors]]\nto = \"canary\"\npercent = 100\nmethods = [\"GET\", \"POST\"]\n")
            .file("ca.pem", &authority.pem())
            .start();
        let mut client = weir.client();
        for n in 1..=20 {
            let answer = client.ask(if n % 2 == 0 { "POST" } else { "GET" }, "/", &[], &vec![b'x'; n % 2 * 3_000]);
            assert_eq!((answer.status, answer.upstream()), (200, "stable"));
            eventually("it is answered", SOON, || counted(&weir, "answers_total", ("class", "2xx")) == n as u64);
        }
        assert_eq!(front.accepted(), 1, "one connection carries all copies in a row");
    }
}
