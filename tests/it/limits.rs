//! Rate limits: how many requests of one key come through, over all workers, connections and protocols.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// A service with one pool, and these limits.
fn limited(stable: &Upstream, limits: &str) -> Setup {
    Setup::single(stable).text(limits)
}

fn counted(weir: &Weir, limit: &str) -> [u64; 3] {
    let metrics = weir.metrics();
    let of = |outcome| metrics.sum("weir_rate_limited_total", &[("limit", limit), ("outcome", outcome)]) as u64;
    [of("allowed"), of("refused"), of("shadow")]
}

/// The statuses of `n` requests of one client with these fields.
fn statuses(client: &mut Client, n: usize, fields: &[(&str, &str)]) -> Vec<u16> {
    (0..n).map(|_| client.get_with("/", fields).status).collect()
}

#[test]
fn a_rate_holds_exactly_over_four_workers_many_connections_and_both_protocols() {
    let stable = Upstream::named("stable");
    let weir =
        limited(&stable, "[[rate_limits]]\nname = \"all\"\nkey = \"all\"\nrate = 400\nburst = 50").workers(4).start();
    let (passed, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let until = began + Duration::from_millis(1500);
    let count = |status: u16| match status {
        200 => passed.fetch_add(1, Ordering::Relaxed),
        429 => refused.fetch_add(1, Ordering::Relaxed),
        other => panic!("status {other}"),
    };
    std::thread::scope(|scope| {
        for _ in 0..9 {
            scope.spawn(|| {
                let mut client = weir.client();
                while Instant::now() < until {
                    count(client.get("/").status);
                }
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = weir.h2();
                while Instant::now() < until {
                    for answer in client.many(8, "/") {
                        count(answer.expect("an answer").status);
                    }
                }
            });
        }
    });
    let most = 50.0 + 400.0 * began.elapsed().as_secs_f64();
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    assert!(passed as f64 <= most, "{passed} of at most {most:.1}");
    // Nobody asks before the first connection stands, nor after the last answer.
    assert!(passed as f64 >= 0.9 * (50.0 + 400.0 * 1.4), "{passed} of {most:.1}");
    assert!(refused > passed / 4, "there was no need to refuse: {refused}");
    assert_eq!(stable.count() as u64, passed);
    eventually("it is counted", SOON, || counted(&weir, "all") == [passed, refused, 0]);
    assert!(weir.metrics().sum("weir_refused_total", &[("kind", "client")]) as u64 >= refused);
}

#[test]
fn what_is_refused_is_told_how_long_to_wait() {
    let stable = Upstream::named("stable");
    let weir = limited(&stable, "[[rate_limits]]\nname = \"slow\"\nrate = 1\nper = \"90s\"\nburst = 2").start();
    let mut client = weir.client();
    assert_eq!(statuses(&mut client, 2, &[]), [200, 200]);
    let answer = client.ask("POST", "/", &[], b"body");
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("90")));
    assert_eq!(answer.field("ratelimit-policy"), Some("\"slow\";q=2;w=180"));
    assert_eq!(answer.field("ratelimit"), Some("\"slow\";r=0;t=90"));
    assert_eq!(answer.text(), "weir: too many requests: limit slow is used up\n");
    // The connection goes on, HEAD has no body, and another connection or protocol is the same client.
    assert_eq!(client.ask("HEAD", "/", &[], b"").status, 429);
    assert_eq!(weir.client().get("/").status, 429);
    let answer = weir.h2().get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("90")));
    assert_eq!(answer.field("ratelimit"), Some("\"slow\";r=0;t=90"));
    assert_eq!(stable.count(), 2);
    // What only describes a request spends nothing.
    let (code, out, _) = weir.verb(&["explain", "http://example/"]);
    assert!(code == Some(0) && out.contains("stable"), "{out}");
}

#[test]
fn each_key_has_its_own_bucket_and_a_missing_header_counts_by_client() {
    let stable = Upstream::named("stable");
    let one = "rate = 1\nper = \"1h\"\nburst = 1\n";
    let limits = format!(
        "[[rate_limits]]\nname = \"key\"\nkey = \"header:X-Api-Key\"\nroute = \"api\"\n{one}\
         [[rate_limits]]\nname = \"visitor\"\nkey = [\"cookie:session\", \"path\"]\nroute = \"web\"\n{one}\
         [[rate_limits]]\nname = \"address\"\nroute = \"login\"\n{one}\
         [[routes]]\nname = \"api\"\nmatch.path_prefix = \"/api\"\n\
         [[routes]]\nname = \"login\"\nmatch.path_prefix = \"/login\"\n\
         [[routes]]\nname = \"web\""
    );
    let weir = limited(&stable, &limits).top("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start();
    let mut client = weir.client();
    let mut get = |path: &str, fields: &[(&str, &str)]| client.get_with(path, fields).status;
    let (a, b) = (("x-api-key", "a"), ("x-api-key", "b"));
    assert_eq!([get("/api/1", &[a]), get("/api/2", &[a]), get("/api/1", &[b])], [200, 429, 200]);
    let (one, two) = (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.9, 192.0.2.2, 10.0.0.1"));
    assert_eq!([get("/api", &[one]), get("/api", &[one]), get("/api", &[two])], [200, 429, 200]);
    let (s, t) = (("cookie", "x=1; session=s"), ("cookie", "session=t"));
    assert_eq!([get("/a?1", &[s]), get("/a?2", &[s]), get("/b", &[s]), get("/a", &[t])], [200, 429, 200, 200]);
    assert_eq!([get("/login", &[one]), get("/login", &[two]), get("/login", &[two, s])], [200, 200, 429]);
    // Who writes what stands before the last untrusted address changes nothing.
    let forged = ("x-forwarded-for", "203.0.113.5, 192.0.2.2, 10.0.0.1");
    assert_eq!(get("/login", &[forged]), 429);
}

#[test]
fn a_shadow_counts_and_refuses_nothing() {
    let stable = Upstream::named("stable");
    let limits = "[[rate_limits]]\nname = \"trial\"\nrate = 2\nper = \"1h\"\nshadow = true";
    let weir = limited(&stable, limits).start();
    assert_eq!(statuses(&mut weir.client(), 5, &[]), [200; 5]);
    eventually("it is counted", SOON, || counted(&weir, "trial") == [2, 0, 3]);
}

#[test]
fn buckets_survive_a_reload_and_another_rate_is_in_force_at_once() {
    let stable = Upstream::named("stable");
    let text = |rest: &str| format!("[[rate_limits]]\nname = \"keep\"\nrate = 3\nper = \"1h\"\n{rest}");
    let setup = limited(&stable, &text("")).weights("stable = 1\n");
    let weir = setup.start();
    let mut client = weir.client();
    assert_eq!(statuses(&mut client, 4, &[]), [200, 200, 200, 429]);
    let reload = |setup: &Setup| {
        let generation = weir.generation();
        let own = std::fs::read_to_string(weir.config_path()).expect("the file that runs");
        let limits = own.find("[[rate_limits]]").expect("it has limits");
        let tail = setup.config_text();
        let tail = &tail[tail.find("[[rate_limits]]").expect("it has limits")..];
        weir.save_config(&format!("{}{tail}", &own[..limits]));
        eventually("it is live", SOON, || weir.generation() > generation);
    };
    reload(&limited(&stable, &format!("# other\n{}", text("shadow = false"))).text("[limits]\nkeep_alive = \"50s\""));
    let generation = weir.generation();
    weir.save_weights("[engine]\nstable = 7\n");
    eventually("the weights are live", SOON, || weir.generation() > generation);
    assert_eq!(statuses(&mut client, 2, &[]), [429, 429]);
    // Two more of burst are two more requests.
    reload(&limited(&stable, &text("burst = 5")));
    assert_eq!(statuses(&mut client, 3, &[]), [200, 200, 429]);
    // An hour's debt is none of a rate that fills a bucket in a tenth of a second, but for the second by which clocks
    // may be apart.
    reload(&limited(&stable, "[[rate_limits]]\nname = \"keep\"\nrate = 100\nburst = 10"));
    eventually("the new rate is in force", SOON, || client.get("/").status == 200);
}

#[test]
fn many_keys_cost_bounded_memory_and_shut_nobody_out() {
    let stable = Upstream::named("stable");
    let limits = "[[rate_limits]]\nname = \"key\"\nkey = \"header:x-key\"\nrate = 3\nper = \"1h\"\nkeys_max = 1000";
    let weir = limited(&stable, limits).start();
    let mut busy = weir.client();
    let own = [("x-key", "busy")];
    assert_eq!(statuses(&mut busy, 4, &own), [200, 200, 200, 429]);
    let flood = |from: usize| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let weir = &weir;
                scope.spawn(move || {
                    let mut client = weir.client();
                    for i in 0..2_500 {
                        let key = format!("{from}-{thread}-{i}");
                        assert_eq!(client.get_with("/", &[("x-key", &key)]).status, 200, "a new key is shut out");
                    }
                });
            }
        });
    };
    // What the connections themselves cost is there after two rounds.
    flood(0);
    flood(1);
    let before = weir.resident_bytes();
    flood(2);
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "10 000 more keys cost {grown} bytes");
    assert_eq!(statuses(&mut busy, 1, &own), [429], "a flood of keys pushed a busy one out");
    let metrics = weir.metrics();
    assert!(metrics.sum("weir_rate_limit_keys", &[("limit", "key")]) <= 1000.0);
    assert!(metrics.sum("weir_rate_limit_forgotten_total", &[("limit", "key")]) > 25_000.0);
}

#[test]
fn what_names_its_pool_is_limited_too_and_what_is_refused_is_in_no_pool() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [50, 50]).service("direct_paths = true").text(
        "[[rate_limits]]\nname = \"one\"\nservice = \"engine\"\nkey = [\"header:x-key\"]\nrate = 1\nper = \"1h\"",
    );
    let weir = setup.workers(1).listener("only", "service = \"engine\"\npool = \"canary\"").start();
    let mut pinned = Client::to(weir.listener("only"));
    assert_eq!(statuses(&mut pinned, 2, &[("x-key", "pin")]), [200, 429]);
    let mut client = weir.client();
    let direct = |client: &mut Client| client.get_with("/canary/x", &[("x-key", "path")]).status;
    assert_eq!([direct(&mut client), direct(&mut client)], [200, 429]);
    assert_eq!((stable.count(), canary.count()), (0, 2));
    // Without a pool of its own a request is refused before one is drawn for it.
    assert_eq!(statuses(&mut client, 2, &[("x-key", "weight")]), [200, 429]);
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_decisions_total", &[("service", "engine")]) as u64, 3);
}
