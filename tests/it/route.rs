//! Route: what a request must be to reach a service or a pool, what becomes of its path, and who may choose.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::{Behaviour, Client, Reply, Setup, Upstream};

/// A server for each of these pools; `stable` has all the weight.
struct House {
    stable: Upstream,
    canary: Upstream,
}

impl House {
    fn new() -> Self {
        Self { stable: Upstream::named("stable"), canary: Upstream::named("canary") }
    }

    fn setup(&self) -> Setup {
        Setup::pair(&self.stable, &self.canary, [1, 0])
    }

    /// One route to the canary with this match, and one for everything else to the weights.
    fn canary_if(&self, matching: &str) -> Setup {
        self.setup().text(&format!(
            "[[routes]]\nservice = \"engine\"\npool = \"canary\"\n{matching}\n\n[[routes]]\nservice = \"engine\"\n"
        ))
    }
}

/// Each request (method, target, host, fields) and whether it reaches the canary.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], bool);

#[track_caller]
fn check(matching: &str, cases: &[Case<'_>]) {
    let house = House::new();
    let weir = house.canary_if(matching).start();
    let mut client = weir.client();
    for (method, target, host, fields, reaches) in cases {
        client = client.host(host);
        let answer = client.ask(method, target, fields, b"");
        let expected = if *reaches { "canary" } else { "stable" };
        assert_eq!(answer.upstream(), expected, "{matching}: {method} {target} {host} {fields:?}");
    }
}

#[test]
fn a_header_matches_by_value_and_its_name_in_any_case() {
    check(
        "match.headers = { x-beta-user = \"true\" }",
        &[
            ("GET", "/", "a", &[("X-Beta-User", "true")], true),
            ("GET", "/", "a", &[("x-beta-user", "TRUE")], false),
            ("GET", "/", "a", &[("x-beta-user", "true ")], true),
            ("GET", "/", "a", &[("x_beta_user", "true")], false),
            ("GET", "/", "a", &[], false),
        ],
    );
}

#[test]
fn a_value_may_be_compared_without_case_by_expression_or_by_presence() {
    check(
        "match.headers = { x-user = { exact = \"Ann\", case_sensitive = false } }",
        &[("GET", "/", "a", &[("x-user", "aNN")], true), ("GET", "/", "a", &[("x-user", "anna")], false)],
    );
    check(
        "match.headers = { x-user = { regex = \"u[0-9]+\" } }",
        &[("GET", "/", "a", &[("x-user", "u77")], true), ("GET", "/", "a", &[("x-user", "xu77x")], false)],
    );
    check(
        "match.headers = { x-user = { present = true } }",
        &[("GET", "/", "a", &[("x-user", "who")], true), ("GET", "/", "a", &[], false)],
    );
}

#[test]
fn a_prefix_matches_whole_segments_only() {
    check(
        "match.path_prefix = \"/canary\"",
        &[
            ("GET", "/canary", "a", &[], true),
            ("GET", "/canary/", "a", &[], true),
            ("GET", "/canary/x?y", "a", &[], true),
            ("GET", "/canary?x=1", "a", &[], true),
            ("GET", "/canaryfoo", "a", &[], false),
            ("GET", "/Canary", "a", &[], false),
            ("GET", "/x/canary", "a", &[], false),
        ],
    );
}

#[test]
fn an_exact_path_an_expression_a_method_and_a_query_match() {
    check(
        "match.path = \"/one\"",
        &[("GET", "/one?q", "a", &[], true), ("GET", "/one/", "a", &[], false), ("GET", "/on", "a", &[], false)],
    );
    check(
        "match.path_regex = \"/v[0-9]+/.*\"",
        &[("GET", "/v12/x", "a", &[], true), ("GET", "/v/x", "a", &[], false), ("GET", "/x/v1/", "a", &[], false)],
    );
    check("match.method = [\"PUT\", \"PATCH\"]", &[("PUT", "/", "a", &[], true), ("GET", "/", "a", &[], false)]);
    check(
        "match.query = { beta = \"1\" }",
        &[
            ("GET", "/?a=2&beta=1", "a", &[], true),
            ("GET", "/?beta=10", "a", &[], false),
            ("GET", "/?xbeta=1", "a", &[], false),
            ("GET", "/beta=1", "a", &[], false),
        ],
    );
}

#[test]
fn a_cookie_matches_wherever_it_stands() {
    check(
        "match.cookies = { beta = \"yes\" }",
        &[
            ("GET", "/", "a", &[("cookie", "a=1; beta=yes; c=2")], true),
            ("GET", "/", "a", &[("cookie", "a=1"), ("cookie", "beta=yes")], true),
            ("GET", "/", "a", &[("cookie", "xbeta=yes")], false),
            ("GET", "/", "a", &[("cookie", "beta=no")], false),
        ],
    );
}

#[test]
fn a_host_matches_exactly_or_by_its_ending_without_port_and_case() {
    check(
        "match.host = \"shop.example\"",
        &[
            ("GET", "/", "shop.example", &[], true),
            ("GET", "/", "SHOP.Example:8080", &[], true),
            ("GET", "/", "x.shop.example", &[], false),
        ],
    );
    check(
        "match.host = \"*.shop.example\"",
        &[
            ("GET", "/", "eu.shop.example", &[], true),
            ("GET", "/", "a.b.shop.example", &[], true),
            ("GET", "/", "shop.example", &[], false),
            ("GET", "/", "evilshop.example", &[], false),
        ],
    );
}

#[test]
fn a_network_of_the_client_matches() {
    let house = House::new();
    let weir = house.canary_if("match.client_networks = [\"127.0.9.0/24\"]").start();
    let from = |host| {
        let local = SocketAddr::new(Ipv4Addr::new(127, 0, host, 1).into(), 0);
        Client::from(local, weir.address()).get_with("/", &[("x-forwarded-for", "127.0.9.9")]).upstream().to_owned()
    };
    assert_eq!((from(9).as_str(), from(8).as_str()), ("canary", "stable"));
}

#[test]
fn all_parts_of_a_match_must_hold() {
    check(
        "match.path_prefix = \"/a\"\nmatch.method = \"POST\"\nmatch.headers = { x = \"1\", y = \"2\" }",
        &[
            ("POST", "/a", "a", &[("x", "1"), ("y", "2")], true),
            ("POST", "/a", "a", &[("x", "1")], false),
            ("GET", "/a", "a", &[("x", "1"), ("y", "2")], false),
            ("POST", "/b", "a", &[("x", "1"), ("y", "2")], false),
        ],
    );
}

#[test]
fn precedence_is_that_of_the_gateway_api_whatever_the_order_of_the_file() {
    let names = ["any", "prefix", "longer", "exact", "method", "header", "twoheaders", "host"];
    let pools = names.map(Upstream::named);
    let mut setup = pools.iter().fold(Setup::new().service("stable = \"any\""), |s, pool| s.pool(pool.name(), &[pool]));
    let rule = |pool: &str, lines: &str| format!("[[routes]]\npool = \"{pool}\"\n{lines}\n");
    setup = setup.weights("any = 1\n").text(
        &[
            rule("any", ""),
            rule("prefix", "match.path_prefix = \"/a\""),
            rule("header", "match.path_prefix = \"/a\"\nmatch.headers = { x = \"1\" }"),
            rule("twoheaders", "match.path_prefix = \"/a\"\nmatch.headers = { x = \"1\", y = \"1\" }"),
            rule("method", "match.path_prefix = \"/a\"\nmatch.method = \"PUT\""),
            rule("longer", "match.path_prefix = \"/a/b\""),
            rule("exact", "match.path = \"/a/b\""),
            rule("host", "match.host = \"h\"\nmatch.path_prefix = \"/\""),
        ]
        .join("\n"),
    );
    let weir = setup.start();
    let mut client = weir.client();
    let both: &[(&str, &str)] = &[("x", "1"), ("y", "1")];
    for (method, target, host, fields, pool) in [
        ("GET", "/", "t", &[][..], "any"),
        ("GET", "/a/x", "t", &[], "prefix"),
        ("GET", "/a/x", "t", &both[..1], "header"),
        ("GET", "/a/x", "t", both, "twoheaders"),
        ("PUT", "/a/x", "t", both, "method"),
        ("PUT", "/a/b/c", "t", both, "longer"),
        ("PUT", "/a/b", "t", both, "exact"),
        ("PUT", "/a/b", "h", both, "host"),
    ] {
        client = client.host(host);
        assert_eq!(client.ask(method, target, fields, b"").upstream(), pool, "{method} {target} {host}");
    }
}

#[test]
fn a_prefix_is_stripped_or_rewritten_and_the_rest_stays_byte_for_byte() {
    let house = House::new();
    let route = |lines: &str| format!("[[routes]]\nservice = \"engine\"\n{lines}\n");
    let text = [
        route("match.path_prefix = \"/strip\"\nstrip_prefix = true"),
        route("match.path_prefix = \"/old\"\nrewrite_prefix = \"/new/deep\""),
        route(""),
    ];
    let weir = house.setup().text(&text.concat()).start();
    let mut client = weir.client();
    for (asked, seen) in [
        ("/strip/a%20b//c?x=%2F", "/a%20b//c?x=%2F"),
        ("/strip", "/"),
        ("/strip?x", "/?x"),
        ("/strip/", "/"),
        ("/old/x?y", "/new/deep/x?y"),
        ("/old", "/new/deep"),
        ("/other/strip/x", "/other/strip/x"),
    ] {
        assert_eq!(client.get(asked).status, 200, "{asked}");
        assert_eq!(house.stable.last().target, seen, "{asked}");
    }
}

#[test]
fn without_a_route_the_answer_is_404_and_no_upstream_hears_of_it() {
    let house = House::new();
    let weir = house.setup().text("[[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/only\"\n").start();
    let mut client = weir.client();
    let answer = client.ask("POST", "/other", &[], b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.upstream()), (404, ""));
    assert_eq!(house.stable.count() + house.canary.count(), 0);
    assert_eq!(weir.client().get("/only/x").status, 200);
}

#[test]
fn a_direct_path_reaches_its_pool_at_weight_zero_with_the_prefix_stripped() {
    let house = House::new();
    let weir = house.setup().service("direct_paths = true").start();
    let mut client = weir.client();
    for (asked, pool, seen) in [
        ("/canary/a?b=%20", "canary", "/a?b=%20"),
        ("/canary", "canary", "/"),
        ("/canary/", "canary", "/"),
        ("/stable/x", "stable", "/x"),
        ("/canaryfoo", "stable", "/canaryfoo"),
        ("/x/canary/", "stable", "/x/canary/"),
    ] {
        assert_eq!(client.get(asked).upstream(), pool, "{asked}");
        let upstream = if pool == "canary" { &house.canary } else { &house.stable };
        assert_eq!(upstream.last().target, seen, "{asked}");
    }
    client.get("/canary/a");
    assert_eq!(house.canary.last().field("x-forwarded-prefix"), Some("/canary"));
}

#[test]
fn without_direct_paths_the_same_path_is_an_ordinary_one() {
    let house = House::new();
    let weir = house.setup().start();
    assert_eq!(weir.client().get("/canary/a").upstream(), "stable");
    assert_eq!(house.stable.last().target, "/canary/a");
}

#[test]
fn a_direct_path_can_be_closed_off_by_client_network() {
    let house = House::new();
    let setup = house.setup().table("direct_paths", "networks = [\"127.0.9.0/24\"]");
    let weir = setup.start();
    let from = |host| Client::from(SocketAddr::new(Ipv4Addr::new(127, 0, host, 1).into(), 0), weir.address());
    assert_eq!(from(9).get("/canary/a").upstream(), "canary");
    let refused = from(8).get("/canary/a");
    assert_eq!((refused.status, refused.upstream()), (403, ""));
    assert_eq!(from(8).get("/a").status, 200);
}

#[test]
fn location_and_cookie_paths_are_mapped_back_under_a_direct_path() {
    let house = House::new();
    let weir = house.setup().service("direct_paths = true").start();
    let reply = Reply::status(302)
        .field("location", "/login?next=%2F")
        .field("set-cookie", "sid=1; Path=/app; HttpOnly")
        .field("set-cookie", "lang=en");
    house.canary.behave(Behaviour::Reply(reply));
    let mut client = weir.client();
    let answer = client.get("/canary/x");
    assert_eq!(answer.field("location"), Some("/canary/login?next=%2F"));
    assert_eq!(answer.head.all("set-cookie"), ["sid=1; Path=/canary/app; HttpOnly", "lang=en"]);
    for (sent, mapped) in [
        ("http://test/login", "http://test/canary/login"),
        ("https://elsewhere.example/login", "https://elsewhere.example/login"),
        ("relative", "relative"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
    ] {
        house.canary.behave(Behaviour::Reply(Reply::status(302).field("location", sent)));
        assert_eq!(client.get("/canary/x").field("location"), Some(mapped));
    }
    house.stable.behave(Behaviour::Reply(Reply::status(302).field("location", "/login")));
    assert_eq!(client.get("/x").field("location"), Some("/login"), "an ordinary path is left alone");
}

#[test]
fn a_pinned_listener_reaches_its_pool_at_any_weight() {
    let house = House::new();
    let weir = house.setup().listener("canary-direct", "pool = \"canary\"").start();
    let mut pinned = Client::to(weir.listener("canary-direct"));
    for _ in 0..10 {
        assert_eq!(pinned.get("/a/b").upstream(), "canary");
    }
    assert_eq!(house.canary.last().target, "/a/b");
    assert_eq!(weir.client().get("/").upstream(), "stable");
}

#[test]
fn a_listener_can_be_closed_off_by_client_network() {
    let house = House::new();
    let weir = house.setup().listener("inner", "pool = \"canary\"\nnetworks = [\"127.0.9.0/24\"]").start();
    let inner = weir.listener("inner");
    let from = |host| SocketAddr::new(Ipv4Addr::new(127, 0, host, 1).into(), 0);
    assert_eq!(Client::from(from(9), inner).get("/").upstream(), "canary");
    let refused = Client::from(from(8), inner).try_ask("GET", "/", &[], b"");
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 403));
    assert_eq!(house.canary.count(), 1);
}

#[test]
fn the_override_header_counts_only_with_its_token_or_from_its_network() {
    let house = House::new();
    let lines = "token = \"open-sesame-16-bytes\"\nnetworks = [\"127.0.9.0/24\"]";
    let weir = house.setup().table("override", lines).start();
    let from = |host| Client::from(SocketAddr::new(Ipv4Addr::new(127, 0, host, 1).into(), 0), weir.address());
    let wish = ("x-weir-pool", "canary");
    assert_eq!(from(8).get_with("/", &[wish]).upstream(), "stable");
    assert_eq!(from(8).get_with("/", &[wish, ("x-weir-override-token", "open")]).upstream(), "stable");
    assert_eq!(from(8).get_with("/", &[wish, ("x-weir-override-token", "open-sesame-16-bytes")]).upstream(), "canary");
    assert_eq!(house.canary.last().field("x-weir-override-token"), None, "the token goes no further");
    assert_eq!(from(9).get_with("/", &[wish]).upstream(), "canary");
    assert_eq!(from(9).get_with("/", &[("x_weir_pool", "canary")]).upstream(), "stable");
    let unknown = from(9).get_with("/", &[("x-weir-pool", "nobody")]);
    assert!(unknown.status == 400 || unknown.upstream() == "stable", "{}", unknown.status);
}

#[test]
fn explain_says_which_rule_bucket_pool_and_endpoint_and_agrees_with_what_happens() {
    let house = House::new();
    let weir = house.canary_if("name = \"beta\"\nmatch.headers = { x-beta-user = \"true\" }").start();
    let ask = |body: serde_json::Value| {
        let answer = weir.admin("POST", "/api/v1/explain", &[], &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    let beta = ask(serde_json::json!({"method": "GET", "path": "/x", "host": "a",
        "headers": {"x-beta-user": "true"}}));
    assert!(beta.contains("beta") && beta.contains("canary"), "{beta}");
    assert!(beta.contains(&house.canary.address().to_string()), "{beta}");
    let plain = ask(serde_json::json!({"method": "GET", "path": "/x", "host": "a"}));
    assert!(plain.contains("stable") && plain.contains("weight"), "{plain}");
    assert_eq!(house.stable.count() + house.canary.count(), 0, "nothing is sent");
}
