//! What happens around the proxy: names, clients, signals, files, descriptors (F13 to F29).

use std::time::{Duration, Instant};

use super::{PAUSE, SOON, twins, wait};
use crate::harness::dns::{Dns, Zone};
use crate::harness::{Behaviour, Client, Health, Load, Setup, Upstream, Weir, eventually};

#[test]
fn f13_names_keep_their_last_good_addresses_and_follow_good_answers() {
    let one = Upstream::named("one");
    let port = one.address().port();
    let two = Upstream::at("two", std::net::SocketAddr::new(std::net::Ipv4Addr::new(127, 1, 2, 3).into(), port));
    let dns = Dns::serving(&[one.address()]);
    let url = format!("http://pool.test:{port}");
    let setup = Setup::new().pool_at("stable", &[&url]).weights("stable = 1\n").text(&dns.table());
    let weir = setup.table("health", "kind = \"off\"").start();
    let mut client = weir.client();
    eventually("the name serves", SOON, || client.get("/").upstream() == "one");
    let load = Load::start(weir.address(), 6, PAUSE);
    dns.flip(&[two.address()]);
    eventually("the new address serves alone", SOON, || {
        one.forget();
        (0..20).for_each(|_| drop(client.get("/")));
        one.count() == 0
    });
    eventually("its idle connections are dropped", Duration::from_secs(1), || one.open() == 0);
    for zone in [Zone::NoSuchName, Zone::ServerFailure, Zone::Empty, Zone::Silent] {
        dns.say(zone.clone());
        wait(1_300);
        assert_eq!(client.get("/").upstream(), "two", "{zone:?} keeps the last good set");
    }
    dns.flip(&[one.address(), two.address()]);
    eventually("both serve", SOON, || client.get("/").upstream() == "one");
    let queries = dns.queries();
    (0..200).for_each(|_| drop(client.get("/")));
    assert!(dns.queries() - queries < 20, "no lookup in the way of a request");
    load.stop().assert_flawless();
}

#[test]
fn f13_each_of_fifty_addresses_is_an_endpoint() {
    let stable = Upstream::at("stable", "0.0.0.0:0".parse().expect("an address"));
    let port = stable.address().port();
    let address = |n| std::net::SocketAddr::new(std::net::Ipv4Addr::new(127, 0, 50, n).into(), port);
    let all: Vec<_> = (1..=50).map(address).collect();
    let dns = Dns::serving(&all);
    let url = format!("http://many.test:{port}");
    let setup = Setup::new().pool_at("stable", &[&url]).weights("stable = 1\n").text(&dns.table());
    let weir = setup.table("health", "kind = \"off\"").start();
    let mut client = weir.client();
    eventually("the name serves", SOON, || client.get("/").status == 200);
    (0..1_000).for_each(|_| drop(client.get("/")));
    let metrics = weir.metrics();
    let served = all.iter().filter(|a| metrics.sum("weir_requests_total", &[("endpoint", &a.to_string())]) > 0.0);
    assert!(served.count() >= 48);
}

#[test]
fn f14_with_everything_down_answers_are_quick_and_recovery_is_gentle() {
    let (mut one, mut two, setup) = twins();
    let weir = setup.start();
    assert_eq!(weir.client().get("/").status, 200);
    one.kill();
    two.kill();
    let mut client = weir.client();
    eventually("it says so", SOON, || client.get("/").status == 503);
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let began = Instant::now();
            let answer = client.get("/");
            assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[25] < Duration::from_millis(10), "median {:?}", times[25]);
    let before = one.accepted();
    one.restart();
    let began = Instant::now();
    eventually("one is back", SOON, || client.get("/").status == 200);
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert!(one.accepted() - before < 20, "no herd: {}", one.accepted() - before);
}

#[test]
fn f16_flapping_health_moves_no_weights_and_floods_no_log() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [50, 50]).probed().start();
    let load = Load::start(weir.address(), 4, PAUSE);
    let lines = weir.log().lines().len();
    for turn in 0..16 {
        canary.health(if turn % 2 == 0 { Health::Fail } else { Health::Pass });
        wait(150);
    }
    load.stop().assert_flawless();
    assert_eq!(weir.split(), [50, 50]);
    let more = weir.log().lines().len() - lines;
    assert!(more <= 20, "{more} lines: {}", weir.log().text());
}

#[test]
fn f17_a_client_that_aborts_frees_its_upstream_and_blames_nobody() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    stable.behave_on("/down", Behaviour::StallMidBody { sent: 10, of: 1_000 });
    assert_eq!(weir.client().get("/").status, 200);
    let before = weir.descriptors();
    let beside = Load::start(weir.address(), 4, PAUSE);
    for number in 0..20 {
        let path = if number % 2 == 0 { "/down" } else { "/up" };
        let length = if number % 2 == 0 { "" } else { "Content-Length: 1000\r\n" };
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let mut client = weir.client();
        let head = format!("{method} {path}?{number} HTTP/1.1\r\nHost: test\r\n{length}\r\n");
        client.send(head.as_bytes()).expect("it is sent");
        let target = format!("{path}?{number}");
        eventually("it is under way", SOON, || stable.count_on(&target) == 1);
        let seen = stable.seen();
        let connection = seen.iter().find(|seen| seen.target == target).expect("it is there").connection;
        wait(10);
        let began = Instant::now();
        client.reset();
        eventually("the upstream is let go", SOON, || stable.left(connection).is_some());
        let left = stable.left(connection).expect("it has left");
        assert!(left.saturating_duration_since(began) < Duration::from_millis(500), "{:?}", left - began);
    }
    beside.stop().assert_flawless();
    for kind in ["upstream_connect", "upstream_answer", "upstream_timeout"] {
        assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[("kind", kind)]), 0.0, "{kind}");
    }
    // Idle connections to the upstream are kept for four seconds.
    eventually("nothing leaks", SOON * 3, || weir.descriptors() <= before + 4);
}

#[test]
fn f18_sigterm_under_load_fails_no_request_that_was_taken() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    stable.behave(Behaviour::Late(Duration::from_millis(20)));
    let load = Load::start(weir.address(), 16, Duration::from_millis(1));
    wait(400);
    weir.signal(libc::SIGTERM);
    let status = weir.ended_within(SOON).expect("it ends");
    let report = load.stop();
    assert_eq!(status.code(), Some(0));
    let lost: Vec<_> = report.failures.iter().filter(|line| *line != "connect refused").collect();
    assert!(lost.iter().all(|line| line.contains("reset") || line.contains("broken") || line.contains("aborted")));
    let counted = stable.count();
    assert!(report.good >= counted.saturating_sub(1), "{} answered of {counted} taken: {lost:#?}", report.good);
}

#[test]
fn f19_what_is_stuck_is_cut_at_the_drain_deadline() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).text("[limits]\ndrain = \"1s\"").start();
    stable.behave(Behaviour::StallBeforeHead);
    let mut clients: Vec<Client> = (0..8).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    eventually("all are stuck", SOON, || stable.count() == 8);
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    assert!(weir.ended_within(SOON).is_some());
    let took = began.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_millis(2_000), "{took:?}");
}

#[test]
fn f21_a_thousand_reloads_under_load_fail_nothing_and_leak_nothing() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [50, 50]);
    let weir = setup.start();
    let load = Load::start(weir.address(), 6, PAUSE);
    let reload = |turn: u32| {
        weir.replace_weights(&format!("# {turn}\n[engine]\nstable = {}\ncanary = {}\n", turn % 7 + 1, turn % 5));
        if turn.is_multiple_of(10) {
            weir.save_config(&format!("# {turn}\n{}", setup.config_text()));
        }
        let answer = weir.admin("POST", "/api/v1/reload", &[], "{}");
        assert_eq!(answer.status, 200, "{turn}: {}", answer.text());
    };
    (0..200).for_each(reload);
    let (memory, descriptors) = (weir.resident_bytes(), weir.descriptors());
    (200..1_000).for_each(reload);
    load.stop().assert_flawless();
    let grown = weir.resident_bytes().saturating_sub(memory);
    assert!(grown < memory / 20 + (2 << 20), "{grown} bytes more over {memory}");
    assert!(weir.descriptors() <= descriptors + 4, "{} descriptors after {descriptors}", weir.descriptors());
}

#[test]
fn f22_a_broken_file_at_start_fails_fast_with_code_two_and_says_where() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let good = Setup::pair(&stable, &canary, [1, 1]);
    for (what, setup, place) in [
        ("syntax", good.clone().text("[limits\n"), "weir.toml:"),
        ("unknown field", good.clone().text("[limits]\nno_such = 1"), "no_such"),
        ("bad value", good.clone().text("[limits]\ndrain = \"soon\""), "soon"),
        ("all zero", good.clone().split([0, 0]), "weights.toml:"),
        ("unknown pool", good.clone().weights("stabel = 1\n"), "stabel"),
    ] {
        let began = Instant::now();
        let failure = setup.try_start().expect_err(what);
        assert_eq!(failure.code, Some(2), "{what}: {}", failure.log);
        assert!(failure.log.contains(place), "{what}: {}", failure.log);
        assert!(began.elapsed() < Duration::from_secs(2), "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn f23_no_prefix_of_a_file_ever_serves_and_no_save_is_lost() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir: Weir = Setup::pair(&stable, &canary, [1, 0]).start();
    let load = Load::start(weir.address(), 3, PAUSE);
    let whole = "[engine]\nstable = 17\ncanary = 83\n";
    for length in 0..whole.len() - 1 {
        weir.replace_weights(&whole[..length]);
        wait(12);
        let split = weir.split();
        // A prefix that is a whole file of its own may serve: the format cannot know what was meant to follow.
        let shown = &whole[..length];
        let legal = split == [1, 0] || shown.contains("stable = ");
        assert!(legal, "{shown:?} made {split:?}");
    }
    for (turn, weights) in [[3, 4], [5, 6], [7, 8], [9, 10]].into_iter().enumerate() {
        let text = format!("[engine]\nstable = {}\ncanary = {}\n", weights[0], weights[1]);
        let directory = weir.config_directory();
        match turn {
            0 => weir.save_weights(&text),
            1 => weir.replace_weights(&text),
            2 => {
                // vim with backup: the old file is renamed away, a new one is written in its place.
                std::fs::rename(weir.weights_path(), directory.join("weights.toml~")).expect("a rename");
                weir.save_weights(&text);
                std::fs::remove_file(directory.join("weights.toml~")).expect("it is there");
            }
            _ => {
                std::fs::remove_file(weir.weights_path()).expect("it is there");
                wait(100);
                std::fs::write(directory.join("new"), &text).expect("a new file");
                std::os::unix::fs::symlink("new", weir.weights_path()).expect("a link");
            }
        }
        eventually(&format!("save {turn} applies"), SOON, || weir.split() == weights);
    }
    load.stop().assert_flawless();
}

#[test]
fn f29_without_descriptors_it_waits_calmly_and_recovers() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").descriptors(64).start();
    let mut served = weir.client();
    assert_eq!(served.get("/").status, 200);
    let crowd: Vec<_> = (0..200).filter_map(|_| Client::try_to(weir.address()).ok()).collect();
    wait(300);
    let (began, used) = (Instant::now(), weir.processor_time());
    wait(1_000);
    let busy = (weir.processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(busy < 0.1, "{:.0} % of a core while it waits", busy * 100.0);
    assert_eq!(served.get("/").status, 200, "who is in is served");
    for _ in 0..3 {
        assert_eq!(weir.admin_get("/healthz").status, 200, "the operator gets in");
    }
    drop(crowd);
    eventually("new clients get in", SOON, || {
        Client::try_to(weir.address())
            .is_ok_and(|client| client.patience(Duration::from_millis(300)).try_ask("GET", "/", &[], b"").is_ok())
    });
}
