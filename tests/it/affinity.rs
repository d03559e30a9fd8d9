//! Affinity: a signed bucket and the weights alone decide; nothing drifts, nothing forged counts.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::harness::{Answer, Client, H2Client, Setup, Upstream, Weir, eventually};

const COOKIE: &str = "by = \"cookie\"\nname = \"weir\"";

fn pair() -> (Upstream, Upstream) {
    (Upstream::named("stable"), Upstream::named("canary"))
}

fn sticky(stable: &Upstream, canary: &Upstream, weights: [u32; 2]) -> Setup {
    Setup::pair(stable, canary, weights).table("affinity", COOKIE)
}

/// First visits: the cookie that each got and the pool it was sent to.
fn visitors(weir: &Weir, count: usize) -> Vec<(String, String)> {
    let mut client = weir.client();
    (0..count)
        .map(|_| {
            let answer = client.get("/");
            (answer.cookie("weir").expect("a first visit gets a cookie"), answer.upstream().to_owned())
        })
        .collect()
}

/// Who of the visitors is on the canary now; nobody gets a second cookie.
fn on_canary(weir: &Weir, visitors: &[(String, String)]) -> HashSet<String> {
    let mut client = weir.client();
    let mut canaries = HashSet::new();
    for (cookie, _) in visitors {
        let answer = client.get_with("/", &[("cookie", cookie)]);
        assert_eq!(answer.cookie("weir"), None, "a known client gets no new cookie");
        if answer.upstream() == "canary" {
            canaries.insert(cookie.clone());
        }
    }
    canaries
}

#[test]
fn a_first_visit_gets_one_cookie_with_safe_attributes_and_a_second_visit_none() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let mut client = weir.client();
    let first = client.get("/");
    let lines = first.head.all("set-cookie");
    assert_eq!(lines.len(), 1);
    let attributes: HashSet<&str> = lines[0].split("; ").skip(1).collect();
    assert_eq!(attributes, HashSet::from(["HttpOnly", "SameSite=Lax", "Path=/"]), "{}", lines[0]);
    let cookie = first.cookie("weir").expect("a cookie");
    for _ in 0..20 {
        let again = client.get_with("/", &[("cookie", &cookie)]);
        assert_eq!((again.upstream(), again.field("set-cookie")), (first.upstream(), None));
    }
    for secret in ["stable", "canary", "127.", "bucket"] {
        assert!(!lines[0].contains(secret), "{} tells {secret}", lines[0]);
    }
}

#[test]
fn with_the_policy_of_secure_cookies_the_cookie_is_secure_whoever_asks() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = sticky(&stable, &canary, [50, 50]).top("trusted_proxies = [\"10.9.9.9\"]");
    let weir = weir.text("[policy]\nsecure_cookies = true").start();
    let plain = weir.client().get("/");
    assert!(plain.field("set-cookie").expect("a cookie").contains("; Secure"), "the balancer said nothing of https");
    // A file that breaks it is not taken over.
    let text = std::fs::read_to_string(weir.config_path()).expect("it is there");
    weir.save_config(&text.replace("trusted_proxies = [\"10.9.9.9\"]", ""));
    eventually("the refusal is told", Duration::from_secs(3), || {
        let problems = weir.status()["last_reload"]["problems"].to_string();
        problems.contains("[policy] demands secure_cookies")
    });
    assert!(weir.client().get("/").field("set-cookie").expect("a cookie").contains("; Secure"));
}

#[test]
fn behind_a_trusted_tls_proxy_the_cookie_is_secure_and_max_age_is_sent_when_asked_for() {
    let (stable, canary) = pair();
    let setup = Setup::pair(&stable, &canary, [50, 50]).top("trusted_proxies = [\"127.0.0.0/8\"]");
    let weir = setup.table("affinity", &format!("{COOKIE}\nmax_age = \"1h\"")).start();
    let answer = weir.client().get_with("/", &[("x-forwarded-proto", "https")]);
    let line = answer.field("set-cookie").expect("a cookie").to_owned();
    assert!(line.contains("; Secure") && line.contains("Max-Age=3600"), "{line}");
    let plain = weir.client().get_with("/", &[("x-forwarded-proto", "http")]);
    assert!(!plain.field("set-cookie").expect("a cookie").contains("Secure"));
}

#[test]
fn a_raised_share_moves_nobody_off_the_canary_and_a_lowered_one_moves_exactly_the_same_back() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [90, 10]).start();
    let visitors = visitors(&weir, 400);
    let at_10 = on_canary(&weir, &visitors);
    let first: HashSet<_> = visitors.iter().filter(|(_, to)| to == "canary").map(|(c, _)| c.clone()).collect();
    assert_eq!(at_10, first, "the second request goes where the first went");
    assert!((15..=75).contains(&at_10.len()), "{} of 400 at 10 %", at_10.len());
    weir.put_split([50, 50]);
    let at_50 = on_canary(&weir, &visitors);
    assert!(at_10.is_subset(&at_50) && (150..=250).contains(&at_50.len()), "{} of 400 at 50 %", at_50.len());
    weir.put_split([0, 100]);
    assert_eq!(on_canary(&weir, &visitors).len(), 400);
    weir.put_split([50, 50]);
    assert_eq!(on_canary(&weir, &visitors), at_50);
    weir.put_split([90, 10]);
    assert_eq!(on_canary(&weir, &visitors), at_10);
    weir.put_split([100, 0]);
    assert_eq!(on_canary(&weir, &visitors).len(), 0, "0 moves everyone at once");
    weir.put_split([90, 10]);
    assert_eq!(on_canary(&weir, &visitors), at_10, "and nothing has drifted");
}

#[test]
fn a_restarted_proxy_knows_its_clients_again() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let visitors = visitors(&weir, 60);
    let before = on_canary(&weir, &visitors);
    let weir = weir.restart().expect("it starts again");
    assert_eq!(on_canary(&weir, &visitors), before);
}

#[test]
fn a_second_replica_with_the_same_key_agrees_on_every_client() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let visitors = visitors(&weir, 60);
    let keys: Vec<_> = std::fs::read_dir(weir.config_directory())
        .expect("the directory can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "key"))
        .collect();
    assert_eq!(keys.len(), 1, "one key file was made beside the weights file: {keys:?}");
    let name = keys[0].file_name().expect("a name").to_string_lossy().into_owned();
    let key = std::fs::read_to_string(&keys[0]).expect("the key can be read as text");
    let twin = sticky(&stable, &canary, [50, 50]).file(&name, &key).start();
    assert_eq!(on_canary(&twin, &visitors), on_canary(&weir, &visitors));
    let stranger = sticky(&stable, &canary, [50, 50]).start();
    let answer = stranger.client().get_with("/", &[("cookie", &visitors[0].0)]);
    assert!(answer.cookie("weir").is_some(), "a cookie of another key is ignored and replaced");
}

#[test]
fn while_a_key_is_rotated_cookies_of_the_old_one_still_count() {
    let (stable, canary) = pair();
    let key = |weir: &Weir| std::fs::read_to_string(weir.config_directory().join(".weir-affinity.key"));
    let (old, new) = (sticky(&stable, &canary, [50, 50]).start(), sticky(&stable, &canary, [50, 50]).start());
    let visitors = visitors(&old, 40);
    let before = on_canary(&old, &visitors);
    let both = format!("{}\n{}", key(&new).expect("a key").trim(), key(&old).expect("a key").trim());
    let rotated = sticky(&stable, &canary, [50, 50]).top("key_file = \"cookie.key\"").file("cookie.key", &both).start();
    let mut client = rotated.client();
    for (cookie, _) in &visitors {
        let answer = client.get_with("/", &[("cookie", cookie)]);
        assert_eq!(answer.upstream() == "canary", before.contains(cookie), "the bucket of the old cookie decides");
    }
}

#[test]
fn a_forged_or_foreign_cookie_is_ignored_and_replaced_once() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let mut client = weir.client();
    let good = client.get("/").cookie("weir").expect("a cookie");
    let value = good.strip_prefix("weir=").expect("it has the name");
    let mut forged: Vec<String> = (0..value.len())
        .map(|at| {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("it stays ASCII")
        })
        .filter(|text| text != value)
        .collect();
    let shorter = &value[..value.len() - 1];
    forged.extend([shorter, "", "0", "canary", "http://127.0.0.1:9901", "999999"].map(str::to_owned));
    forged.extend([format!("{value}="), format!("{value}A"), format!("\"{value}"), "x".repeat(4096)]);
    for text in forged {
        let answer = client.get_with("/", &[("cookie", &format!("weir={text}"))]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.head.all("set-cookie").len(), 1, "{text} was believed");
    }
    let answer = client.get_with("/", &[("cookie", &good.replacen("weir", "WEIR", 1))]);
    assert!(answer.cookie("weir").is_some(), "cookie names count case");
    assert_eq!(client.get_with("/", &[("cookie", &good)]).field("set-cookie"), None, "the good one still counts");
}

#[test]
fn among_many_cookies_in_any_place_the_right_one_is_found() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let mut client = weir.client();
    let good = client.get("/").cookie("weir").expect("a cookie");
    for line in [
        format!("a=1; {good}"),
        format!("{good}; z=2"),
        format!("a=1; xweir=no; {good}; weirx=no; z=2"),
        format!("weirdo=1;{good}"),
    ] {
        assert_eq!(client.get_with("/", &[("cookie", &line)]).field("set-cookie"), None, "{line}");
    }
    let answer = client.get_with("/", &[("cookie", "a=1"), ("cookie", &good)]);
    assert_eq!(answer.field("set-cookie"), None, "two cookie lines");
    let mut h2: H2Client = weir.h2();
    let crumbs = h2.ask("GET", "/", &[("cookie", "a=1"), ("cookie", &good)], b"").expect("an answer");
    assert_eq!(crumbs.field("set-cookie"), None, "crumbs of HTTP/2");
    let seen = if crumbs.upstream() == "stable" { stable.last() } else { canary.last() };
    assert_eq!(seen.head.all("cookie").len(), 1, "the upstream sees one cookie line: {:?}", seen.head.fields);
}

#[test]
fn an_upstream_cookie_of_the_same_name_does_not_replace_the_affinity() {
    use crate::harness::{Behaviour, Reply};
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let own = Reply::status(200).field("set-cookie", "sid=1; Path=/").field("set-cookie", "weir=mine");
    for upstream in [&stable, &canary] {
        upstream.behave(Behaviour::Reply(own.clone()));
    }
    let answer: Answer = weir.client().get("/");
    let lines = answer.head.all("set-cookie");
    assert!(lines.contains(&"sid=1; Path=/"), "other cookies pass: {lines:?}");
    assert!(!lines.contains(&"weir=mine"), "the name is taken: {lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("weir=")).count(), 1, "{lines:?}");
}

#[test]
fn on_zero_drain_keeps_bound_clients_until_the_time_is_over() {
    let (stable, canary) = pair();
    let lines = format!("{COOKIE}\non_zero = \"drain\"\ndrain_timeout = \"1500ms\"");
    let weir = Setup::pair(&stable, &canary, [50, 50]).table("affinity", &lines).start();
    let visitors = visitors(&weir, 60);
    let bound = on_canary(&weir, &visitors);
    assert!(!bound.is_empty());
    // The cookie's age counts in whole seconds, so those who came in the very second are not yet bound.
    std::thread::sleep(Duration::from_millis(1_100));
    weir.put_split([100, 0]);
    assert_eq!(on_canary(&weir, &visitors), bound, "bound clients stay");
    let mut fresh = weir.client();
    assert!((0..50).all(|_| fresh.get("/").upstream() == "stable"), "new clients do not come");
    eventually("the drain ends", Duration::from_secs(4), || on_canary(&weir, &visitors).is_empty());
}

#[test]
fn by_header_the_value_decides_and_a_missing_header_goes_by_the_splitter() {
    let (stable, canary) = pair();
    let lines = "by = \"header\"\nname = \"x-user\"";
    let weir = Setup::pair(&stable, &canary, [90, 10]).table("affinity", lines).workers(1).start();
    let mut client = weir.client();
    let mut canaries = || -> HashSet<usize> {
        let goes = |user: usize, client: &mut Client| {
            let answer = client.get_with("/", &[("x-user", &format!("user-{user}"))]);
            assert_eq!(answer.field("set-cookie"), None);
            answer.upstream() == "canary"
        };
        (0..600).filter(|user| goes(*user, &mut client)).collect()
    };
    let at_10 = canaries();
    assert_eq!(canaries(), at_10);
    assert!((30..=95).contains(&at_10.len()), "{} of 600 at 10 %", at_10.len());
    weir.put_split([50, 50]);
    let at_50 = canaries();
    assert!(at_10.is_subset(&at_50) && (240..=360).contains(&at_50.len()), "{} of 600 at 50 %", at_50.len());
    let mut client = weir.client();
    let without = (0..200).filter(|_| client.get("/").upstream() == "canary").count();
    assert!((85..=115).contains(&without), "{without} of 200 without the header");
}

#[test]
fn by_client_ip_an_address_stays_on_its_pool() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [50, 50]).table("affinity", "by = \"client_ip\"").start();
    let mut pools = HashSet::new();
    for host in 1..=30 {
        let from = SocketAddr::new(Ipv4Addr::new(127, 0, 7, host).into(), 0);
        let visit = || Client::from(from, weir.address()).get("/").upstream().to_owned();
        let pool = visit();
        assert!((0..4).all(|_| visit() == pool), "{from}");
        pools.insert(pool);
    }
    assert_eq!(pools.len(), 2, "both pools are in use");
}

#[test]
fn a_cookie_of_the_same_name_from_elsewhere_does_not_hide_ours() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let mut client = weir.client();
    for (cookie, upstream) in visitors(&weir, 10) {
        let both = format!("weir=foreign; {cookie}");
        let answer = client.get_with("/", &[("cookie", &both)]);
        assert_eq!((answer.upstream(), answer.cookie("weir")), (upstream.as_str(), None));
    }
}

#[test]
fn explain_tells_a_new_client_from_one_whose_cookie_it_was_shown() {
    let (stable, canary) = pair();
    let weir = sticky(&stable, &canary, [50, 50]).start();
    let explain = |cookies: serde_json::Value| {
        let body = serde_json::json!({ "path": "/", "host": "a", "cookies": cookies });
        weir.admin("POST", "/api/v1/explain", &[], &body.to_string()).text()
    };
    let none = "no valid affinity cookie was shown";
    assert!(explain(serde_json::json!({})).contains(none));
    assert!(explain(serde_json::json!({ "weir": "forged" })).contains(none));
    let first = weir.client().get("/");
    let cookie = first.cookie("weir").expect("a cookie");
    let value = cookie.strip_prefix("weir=").unwrap_or(&cookie);
    let known = explain(serde_json::json!({ "weir": value }));
    assert!(known.contains("the affinity cookie's bucket") && known.contains(first.upstream()), "{known}");
}
