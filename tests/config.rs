//! Promises of the door (`weir::config`): the contract file loads, bad files give every problem with its place, and
//! no text panics. Golden files are refreshed with `WEIR_UPDATE_GOLDEN=1`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weir::config::{Config, Problems, WeightsFile};
use weir::model::notify::{Least, Way};
use weir::model::{
    AffinityBy, Direct, HostMatch, KeyPart, Limit, PathMatch, Pools, ProbeKind, Recovery, Scope, ValueMatch,
};

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, "weir.toml", &no_env)
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config")
}

fn contract() -> Config {
    Config::load(golden_dir().join("contract.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Compares with the golden file beside the input, or writes it.
fn assert_golden(name: &str, actual: &str) {
    let path = golden_dir().join(name);
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden directory can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs; WEIR_UPDATE_GOLDEN=1 refreshes it\n--- is\n{actual}\n--- was\n{expected}"
    );
}

#[test]
fn the_contract_file_loads_as_it_stands() {
    let config = contract();
    assert_eq!(config.weights_path, golden_dir().join("weights.toml"));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9901");
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[1].pin.as_ref().map(|pin| pin.pool.to_string()), Some("stable".into()));
    let engine = &config.plan.services[0];
    assert_eq!(engine.direct, Direct::Open);
    assert_eq!(engine.pools[1].origins[0].to_string(), "http://engine-canary:8080");
    assert_eq!(engine.affinity.by, AffinityBy::Cookie { name: "weir".into(), max_age: None });
    let health = engine.health.as_ref().expect("probes are on");
    assert_eq!(health.kind, ProbeKind::Http { path: "/healthz".into(), host: None, expect: 200..=399 });
    assert_eq!(engine.breaker, weir::model::Breaker::default());
    assert_eq!(engine.timeouts, weir::model::Timeouts::default());
    let [beta, all] = &config.plan.routes[..] else { panic!("two routes") };
    assert_eq!(beta.pool.as_ref().map(|pool| pool.as_str()), Some("canary"));
    assert_eq!(beta.matches.headers[0].name, "x-beta-user");
    assert!(
        matches!(&beta.matches.headers[0].value, ValueMatch::Exact { value, case_sensitive: true } if value == "true")
    );
    assert!(matches!(&all.matches.path, Some(PathMatch::Prefix(prefix)) if prefix == "/"));
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn everything_but_pools_and_endpoints_has_a_default() {
    let config = parse("[services.engine.pools.only]\nendpoints = [\"http://engine\"]").expect("it is enough");
    assert_eq!(config.weights_path, Path::new("weights.toml"));
    assert_eq!(config.listeners[0].name.as_str(), "public");
    assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9901");
    let engine = &config.plan.services[0];
    assert_eq!(engine.stable.as_str(), "only");
    assert_eq!(engine.pools[0].origins[0].port, 80);
    assert_eq!(engine.health, Some(weir::model::Health::default()));
    assert_eq!(config.plan.routes.len(), 1);
    assert!(config.plan.routes[0].matches.path.is_none());
}

const ONE: &str = "[services.engine.pools.stable]\nendpoints = [\"http://a\"]\n";

#[test]
fn health_can_be_switched_off() {
    let config = parse(&format!("{ONE}[services.engine.health]\nkind = \"off\"")).expect("legal");
    assert_eq!(config.plan.services[0].health, None);
}

#[test]
fn matches_are_read_in_every_form() {
    let text = format!(
        r#"{ONE}
[[routes]]
priority = -5
rewrite_prefix = "/v2/"
[routes.match]
host = ["Shop.example", "*.shop.example"]
path_prefix = "/api/"
method = "get"
query = {{ beta = {{ present = true }} }}
cookies = {{ Group = {{ exact = "A", case_sensitive = false }} }}
headers = {{ X-Version = {{ regex = "v[0-9]+" }} }}
client_networks = ["10.1.2.3/8", "::1"]
"#
    );
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let route = &config.plan.routes[0];
    let matches = &route.matches;
    assert_eq!(route.priority, -5);
    assert_eq!(route.name, "route-1");
    assert_eq!(matches.hosts, [HostMatch::Exact("shop.example".into()), HostMatch::Suffix(".shop.example".into())]);
    assert!(matches!(&matches.path, Some(PathMatch::Prefix(prefix)) if prefix == "/api"));
    assert_eq!(route.rewrite, weir::model::Rewrite::Replace { prefix: "/api".into(), with: "/v2".into() });
    assert_eq!(matches.methods, ["GET"]);
    assert!(matches!(matches.query[0].value, ValueMatch::Present));
    assert_eq!(matches.cookies[0].name, "Group");
    assert!(matches!(&matches.cookies[0].value, ValueMatch::Exact { case_sensitive: false, .. }));
    assert_eq!(matches.headers[0].name, "x-version");
    let ValueMatch::Regex(regex) = &matches.headers[0].value else { panic!("a regex") };
    assert!(regex.is_match("v12") && !regex.is_match("v12 "));
    assert_eq!(matches.networks[0].to_string(), "10.0.0.0/8");
}

#[test]
fn an_expression_cannot_step_out_of_its_anchors() {
    let text = |regex: &str| format!("{ONE}[[routes]]\nmatch.path_regex = '{regex}'");
    assert!(parse(&text("a)|(b")).is_err());
    let config = parse(&text("/a|/b")).expect("legal");
    let Some(PathMatch::Regex(regex)) = &config.plan.routes[0].matches.path else { panic!("a regex") };
    assert!(regex.is_match("/a") && regex.is_match("/b") && !regex.is_match("/ab") && !regex.is_match("x/b"));
}

#[test]
fn environment_variables_fill_strings_after_parsing() {
    let env = |name: &str| match name {
        "HOST" => Some("engine\"]\nworkers = 9".to_owned()),
        "EMPTY" => Some(String::new()),
        "WEIR_WORKERS" => Some("3".into()),
        _ => None,
    };
    let text = "workers = 7\n[services.engine.pools.stable]\nendpoints = [\"http://${EMPTY:-a}:80${NONE:-80}\"]";
    let config = Config::parse(text, "weir.toml", &env).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.plan.services[0].pools[0].origins[0].port, 8080);
    assert_eq!(config.workers, Some(3));
    let injected = "[services.engine.pools.stable]\nendpoints = [\"http://${HOST}\"]";
    let problems = Config::parse(injected, "weir.toml", &env).expect_err("a value cannot become syntax");
    assert_eq!(problems.len(), 1);
    assert_eq!(problems.iter().next().map(|problem| (problem.line, problem.column)), Some((2, 14)));
}

#[test]
fn an_admin_address_that_is_not_loopback_needs_a_token() {
    let text = format!("[admin]\naddress = \"0.0.0.0:9901\"\n{ONE}");
    let problems = parse(&text).expect_err("no token");
    assert_eq!(problems.iter().next().map(|problem| problem.path.as_str()), Some("admin.address"));
    let env = |name: &str| (name == "WEIR_ADMIN_TOKEN_FILE").then(|| "/run/token".to_owned());
    let config = Config::parse(&text, "weir.toml", &env).expect("a token is named");
    assert_eq!(config.admin.token_file, Some("/run/token".into()));
}

#[test]
fn an_empty_or_comment_only_text_is_unfinished_and_not_just_wrong() {
    for text in ["", "\n \n", "# nothing yet\n\n  # really", "\u{feff}"] {
        assert!(parse(text).expect_err("nothing there").unfinished(), "{text:?}");
        let weights = WeightsFile::parse(text, "weights.toml", &contract().plan);
        assert!(weights.expect_err("nothing there").unfinished(), "{text:?}");
    }
    assert!(!parse("x").expect_err("broken").unfinished());
}

#[test]
fn problems_have_the_place_and_what_would_be_right() {
    for name in ["everything-wrong", "syntax", "references", "notifications", "policy", "connect"] {
        let text = std::fs::read_to_string(golden_dir().join(format!("{name}.toml"))).expect("the input is there");
        let problems = Config::parse(&text, format!("{name}.toml"), &no_env).expect_err("it is wrong");
        assert_golden(&format!("{name}.txt"), &format!("{problems}\n"));
    }
}

#[test]
fn authorities_for_connect_are_read_in_every_form() {
    let text = "[[routes]]\nmatch.connect = [\"DB.internal:5432\", \"*.internal:0443\", \"[::1]:1\"]\n\
                match.client_networks = [\"10.0.0.0/8\"]\n\
                [services.db.pools.stable]\nendpoints = [\"http://db:5432\", \"h2c://db:1\", \"unix:/run/db.sock\"]\n";
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let shown: Vec<String> = config.plan.routes[0].matches.connect.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["db.internal:5432", "*.internal:443", "[::1]:1"]);
    let one =
        parse(&text.replace("[\"DB.internal:5432\", \"*.internal:0443\", \"[::1]:1\"]", "\"a:1\"")).expect("legal");
    assert_eq!(one.plan.routes[0].matches.connect[0].port, 1);
    assert!(
        parse("[services.db.pools.stable]\nendpoints = [\"http://db:5432\"]\n").expect("legal").plan.routes[0]
            .matches
            .connect
            .is_empty(),
        "nothing is allowed that is not written"
    );
}

#[test]
fn a_policy_is_kept_or_the_file_is_refused() {
    let with = |policy: &str, rest: &str| {
        let text = format!("[policy]\n{policy}\n{rest}[services.a.pools.b]\nendpoints = [\"https://a\"]\n");
        parse(&text).map_err(|problems| problems.to_string())
    };
    assert!(with("endpoints_tls = true\nno_leniency = true", "").is_ok());
    let told = with("listeners_tls = true", "").expect_err("the default listener speaks plain HTTP");
    assert!(told.contains("listeners.public speaks plain HTTP; [policy] demands listeners_tls"), "{told}");
    let public = "[admin]\naddress = \"10.0.0.1:9901\"\ntoken_file = \"t\"\n";
    assert!(with("admin = \"any\"", public).is_ok());
    assert!(with("admin = \"tls\"", "").is_ok(), "loopback needs none");
    for (demand, place) in [("tls", "admin.address"), ("loopback", "admin.address")] {
        let told = with(&format!("admin = \"{demand}\""), public).expect_err("others come in");
        assert!(told.contains("weir.toml:4:1") && told.contains(place), "{told}");
    }
    let cookie = "[services.a.affinity]\nby = \"cookie\"\n";
    assert!(with("secure_cookies = true", cookie).is_err(), "no browser would keep it");
    let config = with("secure_cookies = true\n[limits]\nglitches_max = 0", cookie);
    assert!(config.is_err());
    let text = format!("trusted_proxies = [\"10.0.0.0/8\"]\n[policy]\nsecure_cookies = true\n{cookie}");
    let config = parse(&format!("{text}[services.a.pools.b]\nendpoints = [\"http://a\"]\n")).expect("TLS ends before");
    assert!(config.plan.services[0].affinity.secure);
}

#[test]
fn problems_as_json_name_every_part() {
    let problems = parse("wokers = 4\n[services.a.pools.b]\nendpoints = [\"http://a\"]").expect_err("a typing error");
    let json = serde_json::to_value(&problems).expect("plain data");
    let expected = serde_json::json!([{
        "file": "weir.toml", "line": 1, "column": 1, "path": "wokers",
        "message": "unknown key \"wokers\" in the file", "help": "did you mean \"workers\"?",
    }]);
    assert_eq!(json, expected);
}

#[test]
fn a_rate_limit_says_what_it_counts_and_a_wrong_one_what_would_be_right() {
    let limit = |lines: &str| parse(&format!("{ONE}[[routes]]\nname = \"all\"\n[[rate_limits]]\n{lines}"));
    let good = limit("name = \"a\"\nrate = 5\nper = \"1m\"").expect("legal");
    let good = &good.plan.rate_limits[0];
    assert_eq!((good.rate, good.burst, good.per, good.keys_max), (5, 5, Duration::from_secs(60), 65_536));
    assert_eq!(good.key, [KeyPart::Client]);
    let keys = limit("name = \"a\"\nrate = 5\nkey = [\"path\", \"header:X-Key\"]").expect("legal");
    assert_eq!(keys.plan.rate_limits[0].key, [KeyPart::Path, KeyPart::Header("x-key".into())]);
    assert!(limit("name = \"a\"\nrate = 5\nkey = \"all\"").expect("legal").plan.rate_limits[0].key.is_empty());
    for (lines, says) in [
        ("rate = 5", "has no name"),
        ("name = \"a\"", "has no rate"),
        ("name = \"a b\"\nrate = 5", "is not a name"),
        ("name = \"a\"\nrate = 0", "from 1"),
        ("name = \"a\"\nrate = 5\nkey = \"clint\"", "is not a key"),
        ("name = \"a\"\nrate = 5\nkey = []", "is empty"),
        ("name = \"a\"\nrate = 5\nkey = [\"all\", \"client\"]", "is not a key"),
        ("name = \"a\"\nrate = 5\nservice = \"engin\"", "did you mean \"engine\""),
        ("name = \"a\"\nrate = 5\nroute = \"al\"", "did you mean \"all\""),
        ("name = \"a\"\nrate = 1\nper = \"24h\"\nburst = 1000", "longer than a year"),
        ("name = \"a\"\nrate = 5\n[[rate_limits]]\nname = \"a\"\nrate = 6", "two rate limits"),
    ] {
        let problems = limit(lines).expect_err(lines).to_string();
        assert!(problems.contains(says), "{lines}: {problems}");
    }
}

#[test]
fn a_mirror_says_what_it_copies_and_a_wrong_one_what_would_be_right() {
    let two = "[services.engine.pools.stable]\nendpoints = [\"http://a:1\"]\n\
        [services.engine.pools.canary]\nendpoints = [\"http://b:1\"]\n";
    let mirror = |lines: &str| parse(&format!("{two}[[services.engine.mirrors]]\n{lines}"));
    let good = mirror("to = \"canary\"\npercent = 0.25").expect("legal");
    let good = &good.plan.services[0].mirrors[0];
    assert_eq!((good.to.as_str(), good.parts, good.percent()), ("canary", 25, 0.25));
    assert_eq!((good.from.len(), good.from[0].as_str()), (1, "stable"));
    assert_eq!((good.methods.join(" "), good.body_bytes_max, good.in_flight_max), ("GET HEAD".into(), 1 << 20, 64));
    for (lines, says) in [
        ("percent = 1", "has no to"),
        ("to = \"canary\"", "has no percent"),
        ("to = \"canari\"\npercent = 1", "did you mean \"canary\""),
        ("to = \"canary\"\npercent = 101", "from 0 to 100"),
        ("to = \"canary\"\npercent = 0.001", "finer than a hundredth"),
        ("to = \"canary\"\npercent = 1\nfrom = [\"canary\"]", "copies of its own requests"),
        ("to = \"canary\"\npercent = 1\nfrom = \"stabel\"", "did you mean \"stable\""),
        ("to = \"canary\"\npercent = 1\nmethods = [\"get\"]", "is not a method"),
        ("to = \"canary\"\npercent = 1\nmax_body = \"1GiB\"", "a size from 0"),
        ("to = \"canary\"\npercent = 1\nmax_in_flight = 0", "from 1"),
        ("to = \"canary\"\npercent = 1\n[[services.engine.mirrors]]\nto = \"canary\"\npercent = 2", "two mirrors"),
    ] {
        let problems = mirror(lines).expect_err(lines).to_string();
        assert!(problems.contains(says), "{lines}: {problems}");
    }
    let third = "[services.engine.pools.old]\nendpoints = [\"http://c:1\"]\n";
    let sixty = |to: &str| format!("[[services.engine.mirrors]]\nfrom = \"stable\"\nto = \"{to}\"\npercent = 60\n");
    let problems =
        parse(&format!("{two}{third}{}{}", sixty("canary"), sixty("old"))).expect_err("too much").to_string();
    assert!(problems.contains("take more than 100 %"), "{problems}");
    let alone = parse(&format!("{ONE}[[services.engine.mirrors]]\nto = \"stable\"\npercent = 1")).expect_err("alone");
    assert!(alone.to_string().contains("only pool"), "{alone}");
}

#[test]
fn durations_keep_their_unit() {
    let text =
        format!("{ONE}[services.engine.timeouts]\nconnect = \"250ms\"\nresponse_header = \"1m30s\"\nidle = \"1h\"");
    let timeouts = parse(&text).expect("legal").plan.services[0].timeouts;
    assert_eq!(timeouts.connect, Duration::from_millis(250));
    assert_eq!(timeouts.response_header, Duration::from_secs(90));
    assert_eq!(timeouts.idle, Duration::from_secs(3600));
}

#[test]
fn the_reference_loads_and_says_only_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.toml");
    let text = std::fs::read_to_string(&path).expect("it is in the repository");
    let reference = Config::parse(&text, "weir.toml", &no_env).unwrap_or_else(|problems| panic!("{problems}"));
    let minimal = parse(
        "[services.engine.pools.stable]\nendpoints = [\"http://engine-stable:8080\"]\n\
         [services.engine.pools.canary]\nendpoints = [\"https://engine-canary:8443\"]",
    )
    .expect("it is enough");
    let mut engine = reference.plan.services[0].clone();
    // A mirror is there or not; the one that shows its keys copies nothing.
    let mirrors = std::mem::take(&mut engine.mirrors);
    assert!(mirrors.iter().all(|mirror| mirror.parts == 0));
    assert_eq!(format!("{engine:?}"), format!("{:?}", minimal.plan.services[0]));
    assert_eq!(reference.plan.limits, minimal.plan.limits);
    assert_eq!(reference.plan.access_log, minimal.plan.access_log);
    assert_eq!((reference.dns, reference.log), (minimal.dns, minimal.log));
    assert_eq!((reference.admin, reference.weights_path), (minimal.admin, minimal.weights_path));
    assert_eq!(reference.listeners[0], minimal.listeners[0]);
}

#[test]
fn every_example_loads_with_its_weights() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = |directory: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(directory).expect("it is in the repository");
        entries.map(|entry| entry.expect("it can be read").path()).collect()
    };
    let mut loaded = 0;
    for path in files(&directory).into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }) {
        let shown = path.display().to_string();
        // Units of systemd stand there too.
        if !shown.ends_with(".toml") || shown.ends_with("weights.toml") || shown.contains("/rollouts/") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("it is in the repository");
        let env = |name: &str| (!name.starts_with("WEIR_")).then(|| "https://hooks.example/x".to_owned());
        let config = Config::parse(&text, &path, &env).unwrap_or_else(|problems| panic!("{shown}: {problems}"));
        if config.weights_path.exists() {
            weir::config::read_weights(&config.weights_path, &config.plan)
                .unwrap_or_else(|problems| panic!("{shown}: {problems}"));
        }
        loaded += 1;
    }
    assert!(loaded >= 10, "{loaded} examples");
}

/// Follows a document through a schema as far as keys are concerned; says the path of the first that it does not know.
fn unknown_to_schema(document: &serde_json::Value, schema: &serde_json::Value, path: &str) -> Option<String> {
    use serde_json::Value;
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let found: Vec<_> = alternatives.iter().map(|schema| unknown_to_schema(document, schema, path)).collect();
        return if found.contains(&None) { None } else { found.into_iter().next().flatten() };
    }
    match (document, schema["type"].as_str()) {
        (Value::Object(entries), Some("object")) => entries.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Object(_)) => unknown_to_schema(value, &schema["additionalProperties"], &path),
                (Value::Null, _) => Some(path),
                (property, _) => unknown_to_schema(value, property, &path),
            }
        }),
        (Value::Array(items), Some("array")) => {
            items.iter().find_map(|item| unknown_to_schema(item, &schema["items"], &format!("{path}[]")))
        }
        (Value::Number(_), Some("integer" | "number")) | (Value::Bool(_), Some("boolean")) => None,
        (Value::String(_), Some("string")) => None,
        (Value::String(_), None) if schema["enum"].as_array().is_some_and(|words| words.contains(document)) => None,
        _ => Some(format!("{path}: {document} against {schema}")),
    }
}

#[test]
fn the_schema_knows_every_file_that_loads() {
    let schema = weir::config::schema();
    for path in ["config/reference.toml", "tests/golden/config/contract.toml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("it is there");
        let document: toml::Value = toml::from_str(&text).expect("valid TOML");
        let document = serde_json::to_value(document).expect("plain data");
        assert_eq!(unknown_to_schema(&document, &schema, ""), None, "{path}");
        assert!(unknown_to_schema(&serde_json::json!({ "admin": { "adress": "x" } }), &schema, "").is_some());
    }
    assert!(!schema.to_string().contains("\"default\":null"), "a default that is not JSON");
    let weights = weir::config::weights_schema();
    assert_eq!(
        unknown_to_schema(&serde_json::json!({ "engine": { "stable": 90, "canary": "10%" } }), &weights, ""),
        None
    );
}

#[test]
fn services_that_share_a_host_and_a_cookie_are_noted() {
    let text = |hosts: [&str; 2], names: [&str; 2]| {
        let service = |name: &str, cookie: &str| {
            format!(
                "[services.{name}.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                 [services.{name}.affinity]\nby = \"cookie\"\nname = \"{cookie}\"\n"
            )
        };
        let route = |name: &str, path: &str, host: &str| {
            format!("[[routes]]\nservice = \"{name}\"\nmatch.path_prefix = \"{path}\"\n{host}\n")
        };
        service("a", names[0]) + &service("b", names[1]) + &route("a", "/a", hosts[0]) + &route("b", "/b", hosts[1])
    };
    let notes = |hosts, names| parse(&text(hosts, names)).unwrap_or_else(|problems| panic!("{problems}")).notes;
    let shared = notes(["", ""], ["weir", "weir"]);
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert!(shared[0].message.contains("\"a\" and \"b\" set one cookie"), "{shared:?}");
    let (a, b, any) = ("match.host = \"A.example\"", "match.host = \"b.example\"", "match.host = \"*.example\"");
    assert_eq!(notes([a, any], ["weir", "weir"]).len(), 1);
    assert!(notes([a, b], ["weir", "weir"]).is_empty(), "different hosts have different cookies");
    assert!(notes(["", ""], ["weir-a", "weir-b"]).is_empty());
}

const SERVICES: &str = "[services.engine.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
     [services.engine.pools.canary]\nendpoints = [\"http://127.0.0.1:2\"]\n";

#[test]
fn a_kill_switch_has_its_defaults_and_a_person_lets_it_go_unless_a_recovery_is_written() {
    let read = |text: &str| {
        let config = parse(&format!("{SERVICES}{text}")).unwrap_or_else(|problems| panic!("{problems}"));
        config.kill_switches[0].clone()
    };
    let switch = read("[[kill_switches]]\nname = \"errors\"\n[[kill_switches.triggers]]\nkind = \"error_rate\"\n");
    assert_eq!(switch.scope, Scope::Service(switch_name("engine")));
    assert_eq!((switch.grace, switch.recovery, switch.enabled), (Duration::from_secs(30), None, true));
    let [trigger] = &switch.triggers[..] else { panic!("one trigger") };
    assert_eq!((trigger.limit, trigger.pools), (Limit::ErrorRate(0.2), Pools::Candidates));
    assert_eq!((trigger.window, trigger.min_samples), (Duration::from_secs(60), 20));
    let switch = read("[[kill_switches]]\nname = \"all\"\nscope = \"system\"\n[kill_switches.recovery]\n");
    assert_eq!((switch.scope, switch.recovery), (Scope::System, Some(Recovery::default())));
}

#[test]
fn every_mistake_of_a_kill_switch_is_told_where_it_stands() {
    let told = |text: &str| {
        let problems = parse(&format!("{SERVICES}[[kill_switches]]\n{text}")).expect_err("it does not hold");
        problems.to_string()
    };
    let trigger = "[[kill_switches.triggers]]\n";
    for (text, word) in [
        ("service = \"engine\"".to_owned(), "has no name"),
        ("name = \"a\"\nservice = \"engin\"".to_owned(), "did you mean \"engine\"?"),
        ("name = \"a\"\nscope = \"system\"\nservice = \"engine\"".to_owned(), "not both"),
        ("name = \"a\"\nscope = \"galaxy\"".to_owned(), "galaxy"),
        ("name = \"a\"\n[[kill_switches]]\nname = \"a\"".to_owned(), "named twice"),
        ("name = \"a\"\ngrace = \"soon\"".to_owned(), "grace"),
        (format!("name = \"a\"\n{trigger}"), "has no kind"),
        (format!("name = \"a\"\n{trigger}kind = \"latency\""), "has no limit"),
        (format!("name = \"a\"\n{trigger}kind = \"no_endpoint\"\nmax_percent = 3"), "has no meaning here"),
        (format!("name = \"a\"\n{trigger}kind = \"error_rate\"\nmax_percent = 101"), "max_percent"),
        (format!("name = \"a\"\n{trigger}kind = \"error_rate\"\nservice = \"x\""), "there is no service \"x\""),
        ("name = \"a\"\n[kill_switches.recovery]\nattempts = 0".to_owned(), "attempts"),
    ] {
        let problems = told(&text);
        assert!(problems.contains(word), "{text}: {problems}");
    }
}

#[test]
fn a_kill_switch_of_another_system_is_read_with_its_numbers() {
    let body = serde_json::json!({
        "name": "service-emergency-stop", "description": "Emergency stop for critical service",
        "scope": "component", "targetComponent": "engine",
        "triggerConditions": [{ "type": "ERROR_RATE_THRESHOLD", "threshold": 20, "component": "engine" }],
        "autoRecovery": { "enabled": true, "delayMs": 300_000, "maxAttempts": 3, "recoveryActions": [] },
        "notifications": { "enabled": true, "channels": ["email"], "recipients": ["admin@company.com"] },
        "gracePeriodMs": 30_000, "priority": "critical", "enabled": true,
    });
    let (text, left) = weir::config::switch_text(&body).expect("it is read");
    assert_eq!(left.len(), 1, "{left:?}");
    let config = parse(&format!("{SERVICES}{text}")).unwrap_or_else(|problems| panic!("{text}{problems}"));
    let switch = &config.kill_switches[0];
    assert_eq!(
        (switch.name.as_str(), &switch.scope),
        ("service-emergency-stop", &Scope::Service(switch_name("engine")))
    );
    assert_eq!((switch.grace, switch.recovery), (Duration::from_secs(30), Some(Recovery::default())));
    assert_eq!(switch.triggers[0].limit, Limit::ErrorRate(0.2));
    assert!(weir::config::switch_text(&serde_json::json!({ "scope": "galaxy" })).is_err());
    let (text, left) = weir::config::switch_text(&serde_json::json!([{ "name": "a", "scope": "system",
        "triggerConditions": [{ "type": "memory" }, { "type": "latency", "threshold": 1500 }] }]))
    .expect("a list");
    assert!(text.contains("max_latency = \"1500ms\"") && left[0].contains("memory"), "{text}{left:?}");
}

fn switch_name(text: &str) -> weir::model::Name {
    weir::model::Name::new(text).expect("a name")
}

#[test]
fn secrets_of_channels_come_from_files_and_are_never_shown() {
    let directory = std::env::temp_dir().join(format!("weir-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let config = |secret: &str, tls: &str| {
        std::fs::write(directory.join("secret"), format!("{secret}\n")).expect("a file");
        let text = format!(
            "{ONE}[[notifications.channels]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"https://pager/hidden\"\n\
             secret_file = \"secret\"\nevents = [\"alarm\"]\n\
             [[notifications.channels]]\nname = \"mail\"\nkind = \"email\"\nhost = \"mail.example\"\ntls = \"{tls}\"\n\
             from = \"weir@example.com\"\nto = \"ops@example.com\"\nuser = \"weir\"\npassword_file = \"secret\""
        );
        Config::parse(&text, directory.join("weir.toml"), &no_env)
    };
    let (one, two) = (config("hidden-1", "starttls").expect("legal"), config("hidden-2", "starttls").expect("legal"));
    let [ops, mail] = &one.notifications.channels[..] else { panic!("two channels") };
    assert_eq!((ops.wants.least, mail.wants.least), (Least::Info, Least::Warning), "who names events wants those");
    let Way::Webhook { url, secret: Some(secret) } = &ops.way else { panic!("{ops:?}") };
    assert_eq!((secret.reveal(), url.reveal()), ("hidden-1", "https://pager/hidden"));
    let Way::Email(mailbox) = &mail.way else { panic!("{mail:?}") };
    assert_eq!((mailbox.port, mailbox.login.as_ref().map(|login| login.password.reveal())), (587, Some("hidden-1")));
    let weights = WeightsFile::parse("[engine]\nstable = 1", "weights.toml", &one.plan).expect("legal");
    let changes = weir::config::diff(&one, &weights, &two, &weights);
    assert_eq!(changes, ["channel ops: a secret is another one", "channel mail: a secret is another one"]);
    assert!(!format!("{one:?}{two:?}").contains("hidden"), "{one:#?}");
    let refused = config("hidden-3", "none").expect_err("a password in the open").to_string();
    assert!(refused.contains("would send its password without TLS") && !refused.contains("hidden"), "{refused}");
    std::fs::remove_dir_all(directory).expect("it can go");
}

#[test]
fn retries_hedges_and_warm_ups_are_read_and_a_wrong_one_says_what_would_be_right() {
    use weir::model::Hedge;
    let service = |lines: &str| parse(&format!("{ONE}{lines}"));
    let retry = |lines: &str| service(&format!("[services.engine.retry]\n{lines}"));
    let good = retry("attempts = 3\nper_try_timeout = \"2s\"\nbackoff = \"25ms\"\nhedge = \"p95\"").expect("legal");
    let good = good.plan.services[0].retry;
    assert_eq!((good.attempts, good.per_try_timeout), (3, Some(Duration::from_secs(2))));
    assert_eq!((good.backoff, good.hedge), (Duration::from_millis(25), Some(Hedge::Quantile(0.95))));
    let fixed = retry("hedge = \"50ms\"").expect("legal").plan.services[0].retry.hedge;
    assert_eq!(fixed, Some(Hedge::After(Duration::from_millis(50))));
    for (lines, says) in [
        ("attempts = 6", "from 0 to 5"),
        ("hedge = \"p100\"", "is not a time to wait"),
        ("hedge = \"0ms\"", "is not a time to wait"),
        ("hedge = \"soon\"", "is not a time to wait"),
    ] {
        let problems = retry(lines).expect_err(lines).to_string();
        assert!(problems.contains(says), "{lines}: {problems}");
    }
    let warm = service("[services.engine.warm_up]\npath = \"/a\"\nrequests = 5").expect("legal");
    let warm = warm.plan.services[0].health.as_ref().and_then(|health| health.warm_up.clone()).expect("it is there");
    assert_eq!((&*warm.path, warm.requests, warm.deadline), ("/a", 5, Duration::from_secs(10)));
    for (lines, says) in [
        ("[services.engine.warm_up]\npath = \"a\"", "is not a path"),
        ("[services.engine.warm_up]\nrequests = 0", "from 1"),
        ("[services.engine.warm_up]\n[services.engine.health]\nkind = \"off\"", "has no meaning here"),
    ] {
        let problems = service(lines).expect_err(lines).to_string();
        assert!(problems.contains(says), "{lines}: {problems}");
    }
}
