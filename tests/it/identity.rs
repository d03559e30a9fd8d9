//! Who a request is for and from: paths that could be read two ways, routing headers, forwarded chains, nominations.

use crate::harness::{Behaviour, Setup, Upstream, Weir};

struct House {
    stable: Upstream,
    canary: Upstream,
    weir: Weir,
}

/// `/api` goes to the canary with the prefix stripped, `/admin` to the canary as it is, all else to stable.
fn house() -> House {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let route = |lines: &str| format!("[[routes]]\nservice = \"engine\"\n{lines}\n");
    let text = [
        route("pool = \"canary\"\nmatch.path_prefix = \"/api\"\nstrip_prefix = true"),
        route("pool = \"canary\"\nmatch.path_prefix = \"/admin\""),
        route("pool = \"canary\"\nmatch.headers = { x-beta = \"1\" }"),
        route(""),
    ];
    let weir = Setup::pair(&stable, &canary, [1, 0]).service("direct_paths = true").text(&text.concat()).start();
    House { stable, canary, weir }
}

#[test]
fn what_is_matched_is_what_is_forwarded_byte_for_byte() {
    let house = house();
    let mut client = house.weir.client();
    for target in [
        "/a//admin",
        "/a/./admin",
        "/a;x/admin",
        "/admin%20",
        "/%61dmin",
        "/ADMIN",
        "/a/%c0%ae%c0%ae/x",
        "/%252e%252e/x",
        "/a%3fx",
        "/a%23x",
        "/.well-known/x",
        "/a..b/...",
        "/apix",
        "//api/x",
    ] {
        let answer = client.get(target);
        if answer.status == 400 {
            client = house.weir.client();
            continue;
        }
        let under_admin = target == "/admin" || target.starts_with("/admin/");
        let expected = if under_admin { &house.canary } else { &house.stable };
        assert_eq!(answer.upstream(), expected.name(), "{target}");
        assert_eq!(expected.last().target, target);
    }
}

#[test]
fn a_path_that_leaves_its_prefix_or_hides_a_slash_is_refused() {
    let house = house();
    for target in [
        "/api/../admin",
        "/api/..%2fadmin",
        "/api/%2e%2e/admin",
        "/api/x/../../admin",
        "/api/..;/admin",
        "/api/.%2e/x",
        "/api/%5c../x",
        "/api/a%2fb",
        "/api/%00",
        "/canary/../x",
        "/canary/%2e%2e/stable/x",
        "/stable/..%5cx",
        "/../x",
        "/..%2f..%2fetc/passwd",
    ] {
        let answer = house.weir.client().get(target);
        assert_eq!((answer.status, answer.upstream()), (400, ""), "{target}");
    }
    assert_eq!(house.stable.count() + house.canary.count(), 0);
}

#[test]
fn a_prefix_ends_at_a_segment_even_when_dots_follow() {
    let house = house();
    for target in ["/api../x", "/api.", "/api%2e/x", "/canary../x", "/apis"] {
        let answer = house.weir.client().get(target);
        assert!(answer.status == 400 || answer.upstream() == "stable", "{target}: {}", answer.upstream());
        assert_eq!(house.canary.count(), 0, "{target}");
    }
}

#[test]
fn a_client_cannot_name_away_what_the_next_hop_relies_on() {
    let house = house();
    for named in
        ["X-Forwarded-For", "Host", "Cookie", "X-Request-Id", "X-Weir-Pool", "Content-Length", "x-forwarded-proto"]
    {
        let mut client = house.weir.client();
        let fields = [("connection", format!("close, {named}")), ("cookie", "a=1".to_owned())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = client.ask("POST", "/", &fields, b"hello");
        if answer.status == 400 {
            continue;
        }
        let seen = house.stable.last();
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"), "{named}");
        assert_eq!((seen.field("cookie"), seen.body.as_slice()), (Some("a=1"), &b"hello"[..]), "{named}");
        assert!(seen.field("x-request-id").is_some(), "{named}");
    }
}

#[test]
fn a_routing_header_that_stands_twice_with_other_values_is_one_value_or_a_400() {
    let house = house();
    let ask = |fields: &[(&str, &str)]| {
        let answer = house.weir.client().get_with("/", fields);
        (answer.status, answer.upstream().to_owned())
    };
    let twice = ask(&[("x-beta", "0"), ("x-beta", "1")]);
    let other = ask(&[("x-beta", "1"), ("x-beta", "0")]);
    assert!(twice == other || twice.1 == "stable" && other.1 == "canary", "{twice:?} {other:?}");
    assert_eq!(ask(&[("X-BETA", "1")]).1, "canary");
    assert_eq!(ask(&[("x-beta", &"1".repeat(8_000))]).1, "stable");
}

#[test]
fn a_long_or_broken_forwarded_chain_of_an_untrusted_client_leaves_no_trace() {
    let house = house();
    let long = vec!["6.6.6.6"; 500].join(", ");
    for chain in [long.as_str(), "::ffff:127.0.0.1", "6.6.6.6:80", "garbage", "\"6.6.6.6\"", ",,,", "unknown"] {
        let answer = house.weir.client().get_with("/", &[("x-forwarded-for", chain), ("x-forwarded-for", "7.7.7.7")]);
        assert_eq!(answer.status, 200, "{chain:.40}");
        assert_eq!(house.stable.last().head.all("x-forwarded-for"), ["127.0.0.1"], "{chain:.40}");
    }
}

#[test]
fn the_client_behind_a_trusted_proxy_is_the_rightmost_untrusted_address() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let route = "[[routes]]\nservice = \"engine\"\npool = \"canary\"\nmatch.client_networks = [\"203.0.113.0/24\"]\n\
                 [[routes]]\nservice = \"engine\"\n";
    let setup = Setup::pair(&stable, &canary, [1, 0]).top("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let weir = setup.text(route).start();
    for (chain, pool) in [
        ("203.0.113.9", "canary"),
        ("6.6.6.6, 203.0.113.9", "canary"),
        ("203.0.113.9, 6.6.6.6", "stable"),
        ("6.6.6.6, 203.0.113.9, 10.1.1.1", "canary"),
        ("203.0.113.9, garbage", "stable"),
        ("garbage, 203.0.113.9", "canary"),
    ] {
        let answer = weir.client().get_with("/", &[("x-forwarded-for", chain)]);
        assert_eq!(answer.upstream(), pool, "{chain}");
    }
}

#[test]
fn over_http2_the_authority_decides_and_a_differing_host_is_refused() {
    let house = house();
    let mut h2 = house.weir.h2();
    let answer = h2.ask("GET", "/", &[(":authority", "good"), ("host", "evil")], b"");
    if let Ok(answer) = answer
        && answer.status == 200
    {
        assert_eq!(house.stable.last().head.all("host"), ["good"]);
    }
    assert!(house.stable.seen().iter().all(|seen| seen.head.all("host") != ["evil"]));
}

#[test]
fn nothing_that_a_client_sends_splits_an_answer() {
    let house = house();
    let mut client = house.weir.client();
    house.canary.behave(Behaviour::Reply(crate::harness::Reply::status(302).field("location", "/x%0d%0aX-Evil:%201")));
    let answer = client.get_with("/canary/x?a=%0d%0aX-Evil:%201", &[("x-request-id", "a%0d%0aX-Evil: 1")]);
    assert_eq!((answer.status, answer.field("x-evil")), (302, None));
    assert_eq!(answer.field("location"), Some("/canary/x%0d%0aX-Evil:%201"));
}
