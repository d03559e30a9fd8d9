//! Certificates that are ordered from an authority (ACME), renewed, and kept through everything that it does.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{SOON, failures};
use crate::harness::{AcmeServer, Authority, Client, Load, Setup, Tls, Upstream, Weir, eventually, never};

/// Plain HTTP on `public`, TLS on `secure` for these names, certificates from that authority.
fn setup(stable: &Upstream, server: &AcmeServer, names: &[&str], lines: &str) -> Setup {
    let (directory, root) = (server.directory(), server.root());
    Setup::single(stable)
        .listener("secure", &format!("tls = {{ acme = {names:?} }}"))
        .file("roots.pem", root)
        .text(&format!("[acme]\nagree_to_terms = true\ndirectory = \"{directory}\"\nroots = \"roots.pem\"\n{lines}"))
}

/// Starts it and has the authority look there.
fn start(setup: &Setup, server: &AcmeServer) -> Weir {
    let weir = setup.clone().start();
    server.looks_at(weir.address(), weir.listener("secure"));
    weir
}

fn state(weir: &Weir, server: &AcmeServer) -> PathBuf {
    let home = server.directory().trim_start_matches("https://").replace([':', '/'], "-");
    weir.config_directory().join("acme").join(home)
}

fn standing(weir: &Weir, name: &str) -> serde_json::Value {
    let all = weir.status()["acme"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|own| own["name"] == name).unwrap_or_default()
}

#[track_caller]
fn held(weir: &Weir, name: &str) {
    eventually("there is a certificate", 2 * SOON, || standing(weir, name)["state"] == "held");
    let secure = weir.listener("secure");
    eventually("it is served", SOON, || Tls::of(name).connect(secure).is_ok());
}

fn certificate(at: SocketAddr, name: &str) -> Vec<u8> {
    let mut client = Tls::of(name).connect(at).expect("weir shakes hands");
    client.wire().tls().peer_certificates().expect("weir shows one")[0].to_vec()
}

#[test]
fn a_first_certificate_is_ordered_by_either_challenge_and_until_then_handshakes_are_refused() {
    for kind in ["http-01", "tls-alpn-01"] {
        let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
        server.behave(|manners| (manners.hesitates, manners.bad_nonces) = (true, 2));
        let lines = format!("challenge = \"{kind}\"\ncontact = \"ops@shop.example\"");
        let weir = start(&setup(&stable, &server, &["shop.example"], &lines), &server);
        let secure = weir.listener("secure");
        eventually("it is being ordered", SOON, || standing(&weir, "shop.example")["state"] == "ordering");
        assert!(Tls::of("shop.example").connect(secure).is_err(), "there is nothing to show");
        eventually("it is counted", SOON, || failures(&weir, "no_certificate") == 1.0);
        server.behave(|manners| manners.hesitates = false);
        held(&weir, "shop.example");
        assert_eq!(server.looks(), ["shop.example: Ok(())"], "{kind}");
        let mut client = Tls::of("shop.example").connect(secure).expect("weir shakes hands");
        assert_eq!(client.get("/").status, 200);
        let chain = client.wire().tls().peer_certificates().map(<[_]>::len);
        assert_eq!(chain, Some(2), "the whole chain is shown");
        let metrics = weir.metrics();
        assert_eq!(metrics.sum("weir_acme_orders_total", &[("name", "shop.example"), ("result", "issued")]), 1.0);
        assert_eq!(metrics.sum("weir_acme_failures_in_a_row", &[]), 0.0);
        let expiry = metrics.sum("weir_tls_certificate_expiry_timestamp_seconds", &[("name", "shop.example")]);
        let next = metrics.sum("weir_acme_next_order_timestamp_seconds", &[("name", "shop.example")]);
        assert_eq!((expiry - next) / 86_400.0, 30.0, "a third of its time is left");
        // Only its owner may read anything of it.
        let state = state(&weir, &server);
        let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&state).expect("it is there") {
            let path = entry.expect("an entry").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            files.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
        files.sort();
        assert_eq!(files, ["@account.json", "shop.example.json", "shop.example.pem"]);
        let secret = std::fs::read_to_string(state.join("shop.example.pem")).expect("it can be read");
        let secret = secret.lines().rev().nth(1).expect("a key").to_owned();
        assert!(!weir.log().text().contains(&secret) && !weir.status().to_string().contains(&secret));
        // Another start orders nothing.
        let asked = server.asked("new-order");
        let weir = weir.restart().expect("it starts again");
        held(&weir, "shop.example");
        assert_eq!((server.asked("new-order"), server.asked("new-account")), (asked, 2 + 1), "two had a bad nonce");
    }
}

#[test]
fn a_challenge_is_answered_before_any_route_and_a_redirect_and_only_while_it_is_pending() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.hesitates = true);
    let setup = setup(&stable, &server, &["shop.example"], "").listener("plain", "redirect = \"https\"");
    let weir = setup.start();
    server.looks_at(weir.listener("plain"), weir.listener("secure"));
    eventually("it is asked to look", SOON, || server.asked("challenge") == 1);
    // Other tokens and methods are requests like any other.
    let path = "/.well-known/acme-challenge/other";
    assert_eq!(Client::to(weir.listener("plain")).get(path).status, 308);
    assert_eq!(weir.client().get(path).upstream(), "stable");
    let mut secure = Tls::challenging("shop.example");
    assert!(secure.connect(weir.listener("secure")).is_err(), "http-01 is what is pending");
    server.behave(|manners| manners.hesitates = false);
    held(&weir, "shop.example");
    assert_eq!(server.looks(), ["shop.example: Ok(())"]);
    let token = (1..9).map(|n| format!("/.well-known/acme-challenge/token-{n}"));
    for path in token {
        assert_eq!(weir.client().get(&path).upstream(), "stable", "it is over");
    }
    assert!(secure.connect(weir.listener("secure")).is_err(), "nothing is pending");
    secure = secure.alpn(&["http/1.1", "acme-tls/1"]);
    assert_eq!(secure.connect(weir.listener("secure")).expect("as any client").get("/").status, 200);
}

#[test]
fn a_handshake_of_tls_alpn_01_needs_its_protocol_alone_and_a_name_that_is_pending_and_no_client_certificate() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.hesitates = true);
    let clients = Authority::new();
    let weir = setup(&stable, &server, &["shop.example"], "challenge = \"tls-alpn-01\"")
        .file("clients.pem", &clients.pem())
        .listener("strict", "tls = { acme = [\"shop.example\"], client_ca = \"clients.pem\" }")
        .start();
    let strict = weir.listener("strict");
    server.looks_at(weir.address(), strict);
    eventually("it is asked to look", SOON, || server.asked("challenge") == 1);
    let only = |name: &str| Tls::challenging(name).connect(strict);
    assert!(only("other.example").is_err(), "nothing is pending for it");
    assert!(Tls::of("shop.example").alpn(&["h2", "acme-tls/1"]).connect(strict).is_err(), "there is nothing to show");
    let mut client = only("SHOP.example").expect("it is pending");
    assert_eq!(client.wire().tls().alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert!(client.closed_within(SOON), "nothing is served on it");
    server.behave(|manners| manners.hesitates = false);
    held(&weir, "shop.example");
    assert_eq!(server.looks(), ["shop.example: Ok(())"]);
    assert!(only("shop.example").is_err(), "it is over");
}

#[test]
fn a_name_that_is_refused_holds_no_other_up_and_is_asked_for_again_only_after_a_wait() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.refused = ["a.example".to_owned()].into());
    let weir = start(&setup(&stable, &server, &["a.example", "b.example"], ""), &server);
    held(&weir, "b.example");
    assert_eq!(certificate(weir.listener("secure"), "a.example"), certificate(weir.listener("secure"), "b.example"));
    let failed = standing(&weir, "a.example");
    assert_eq!((&failed["state"], &failed["failures"]), (&"missing".into(), &1.into()));
    assert_eq!(failed["error"], "the authority refuses: unauthorized: this name is refused");
    let (code, text, _) = weir.verb(&["status"]);
    assert!(code == Some(0) && text.contains("a.example: the authority refuses: unauthorized"), "{text}");
    assert!(text.contains("serving, but a certificate could not be ordered"), "{text}");
    let told = |line: &String| line.contains("ERROR") && line.contains("a.example") && line.contains("this name is");
    assert!(weir.log().lines().iter().any(told), "{}", weir.log().text());
    let (code, out, err) = weir.verb(&["check"]);
    assert!(code == Some(0) && format!("{out}{err}").contains("no certificate yet for a.example"), "{out}{err}");
    let asked = server.asked("new-order");
    assert_eq!(asked, 2);
    // Neither time nor a start makes it be asked for sooner than two minutes later.
    never("it is asked for", Duration::from_millis(300), || server.asked("new-order") > asked);
    let weir = weir.restart().expect("it starts again");
    eventually("it remembers", SOON, || standing(&weir, "a.example")["failures"] == 1);
    never("it is asked for", Duration::from_millis(300), || server.asked("new-order") > asked);
}

#[test]
fn certificates_are_renewed_while_clients_ask_and_no_request_fails() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.lifetime = (6, 0));
    let weir = start(&setup(&stable, &server, &["shop.example"], "renew_before = \"3s\""), &server);
    held(&weir, "shop.example");
    let secure = weir.listener("secure");
    let first = certificate(secure, "shop.example");
    let load = Load::over(secure, &Tls::of("shop.example"), 4, Duration::from_millis(2));
    let mut seen = vec![first];
    eventually("it was renewed twice", 4 * SOON, || {
        let now = certificate(secure, "shop.example");
        if !seen.contains(&now) {
            seen.push(now);
        }
        seen.len() > 2
    });
    load.stop().assert_flawless();
    assert_eq!(weir.metrics().sum("weir_acme_orders_total", &[("result", "failed")]), 0.0);
}

#[test]
fn an_authority_that_wants_a_certificate_back_gets_another_order_for_it_soon() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    // By its own dates it is due a second before its end; what was issued now rests for half of its time.
    server.behave(|manners| (manners.lifetime, manners.suggests) = ((10, 0), Some((-20, -10))));
    let weir = start(&setup(&stable, &server, &["shop.example"], "renew_before = \"1s\""), &server);
    held(&weir, "shop.example");
    let began = Instant::now();
    eventually("it is ordered anew", 2 * SOON, || !server.replaced().is_empty());
    assert!(began.elapsed() < Duration::from_secs(8), "not only at the end");
    assert!(server.asked("renewal-info") >= 1);
    let [replaced] = &server.replaced()[..] else { panic!("the order says what it replaces") };
    let (key, serial) = replaced.split_once('.').expect("RFC 9773, section 4.1");
    assert!(key.len() > 20 && serial.len() > 20 && !replaced.contains('='), "{replaced}");
}

#[test]
fn an_authority_that_is_down_is_asked_ever_more_seldom_and_what_is_held_is_served() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.down = true);
    let lines = "retry_min = \"200ms\"\nretry_max = \"1s\"";
    let weir = start(&setup(&stable, &server, &["shop.example"], lines), &server);
    eventually("it failed twice", SOON, || standing(&weir, "shop.example")["failures"] == 2);
    let error = standing(&weir, "shop.example")["error"].to_string();
    assert!(error.contains("no use of the authority: ") && error.contains(&server.directory()[8..17]), "{error}");
    server.behave(|manners| (manners.down, manners.lifetime) = (false, (86_400, 86_400 - 8)));
    held(&weir, "shop.example");
    // By its own dates it is due at once; it rests for half of what is left. Then the authority is gone again.
    assert!(server.asked("new-order") == 1);
    server.behave(|manners| manners.down = true);
    eventually("it failed", SOON, || standing(&weir, "shop.example")["failures"].as_u64() > Some(0));
    assert_eq!(standing(&weir, "shop.example")["state"], "held");
    let mut client = Tls::of("shop.example").connect(weir.listener("secure")).expect("what is held is served");
    assert_eq!(client.get("/").status, 200);
    assert!(weir.log().text().contains("the certificate that is there is served"));
}

#[test]
fn a_rate_limit_is_kept_to_for_as_long_as_the_authority_says_also_by_the_next_process() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.rate_limited = Some(3600));
    let setup = setup(&stable, &server, &["shop.example"], "retry_min = \"100ms\"\nretry_max = \"200ms\"");
    let weir = start(&setup, &server);
    let failed = |weir: &Weir| standing(weir, "shop.example")["failures"] == 1;
    eventually("it is told", SOON, || failed(&weir));
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let kept = |weir: &Weir| {
        let standing = standing(weir, "shop.example");
        assert!(standing["next_unix_s"].as_u64() > Some(now() + 3500), "{standing}");
        assert!(standing["error"].to_string().contains("rateLimited: too many certificates"), "{standing}");
        never("it is asked", Duration::from_millis(600), || server.asked("new-order") > 1);
    };
    kept(&weir);
    let weir = weir.restart().expect("it starts again");
    eventually("it remembers", SOON, || failed(&weir));
    kept(&weir);
}

#[test]
fn an_order_that_the_end_of_the_process_broke_off_is_gone_on_with_by_the_next() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.hesitates = true);
    let weir = start(&setup(&stable, &server, &["shop.example"], ""), &server);
    eventually("it is asked to look", SOON, || server.asked("challenge") == 1);
    let weir = weir.restart().expect("it starts again");
    server.looks_at(weir.address(), weir.listener("secure"));
    eventually("it is asked to look again", SOON, || server.asked("challenge") == 2);
    server.behave(|manners| manners.hesitates = false);
    held(&weir, "shop.example");
    assert_eq!(server.asked("new-order"), 1, "no other order was opened");
}

#[test]
fn an_order_that_the_authority_is_not_done_with_in_time_is_gone_on_with_when_it_says_so() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    // Longer than it is polled for, so that nobody waits for it.
    server.behave(|manners| manners.slow = Some(Some(120)));
    let lines = "retry_min = \"100ms\"\nretry_max = \"200ms\"";
    let weir = start(&setup(&stable, &server, &["shop.example"], lines), &server);
    let shop = |weir: &Weir| standing(weir, "shop.example");
    eventually("it is told", 2 * SOON, || shop(&weir)["error"] == "the authority is not done with the order yet");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(shop(&weir)["next_unix_s"].as_u64() > Some(now + 100), "{}", shop(&weir));
    never("it is asked", Duration::from_millis(500), || server.asked("new-order") + server.asked("finalize") > 2);
    // The time is over, also for another process.
    let path = state(&weir, &server).join("shop.example.json");
    let text = std::fs::read_to_string(&path).expect("it is kept");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    record["wait_until"] = 0.into();
    std::fs::write(&path, record.to_string()).expect("it can be written");
    server.behave(|manners| manners.slow = None);
    let weir = weir.restart().expect("it starts again");
    held(&weir, "shop.example");
    assert_eq!((server.asked("new-order"), server.asked("finalize")), (1, 1), "it was issued for the key of then");
}

#[test]
fn an_order_outlives_the_absence_of_its_authority_and_no_other_is_opened() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.slow = Some(None));
    let lines = "retry_min = \"300ms\"\nretry_max = \"1s\"";
    let weir = start(&setup(&stable, &server, &["shop.example"], lines), &server);
    eventually("it is being processed", SOON, || server.asked("finalize") == 1);
    server.behave(|manners| manners.down = true);
    eventually("it failed twice", 2 * SOON, || standing(&weir, "shop.example")["failures"].as_u64() > Some(1));
    server.behave(|manners| (manners.down, manners.slow) = (false, None));
    held(&weir, "shop.example");
    assert_eq!((server.asked("new-order"), server.asked("finalize")), (1, 1));
}

#[test]
fn a_name_that_is_called_like_a_file_of_the_state_harms_nothing() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    let weir = start(&setup(&stable, &server, &["account", "shop.example"], ""), &server);
    held(&weir, "account");
    held(&weir, "shop.example");
    let weir = weir.restart().expect("it starts again");
    held(&weir, "account");
    assert_eq!((server.asked("new-order"), server.asked("new-account")), (2, 1));
}

#[test]
fn a_challenge_is_answered_throughout_an_upgrade_that_fails_after_its_turn_came() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.hesitates = true);
    let weir = start(&setup(&stable, &server, &["shop.example"], ""), &server);
    eventually("it is asked to look", SOON, || server.asked("challenge") == 1);
    let address = weir.address();
    let is_answered = |path: &str| Client::to(address).get(path).text().starts_with("token-");
    let mut paths = (1..9).map(|n| format!("/.well-known/acme-challenge/token-{n}"));
    let path = paths.find(|path| is_answered(path)).expect("it is pending");
    let over = AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = Vec::new();
            while !over.load(Ordering::Relaxed) {
                looks.push(is_answered(&path));
                std::thread::sleep(Duration::from_millis(2));
            }
            looks
        });
        std::fs::write(weir.config_directory().join("weights.toml"), "[engine]\nstable = \"no\"\n").expect("written");
        let (code, out, err) = weir.verb(&["upgrade"]);
        assert!(code == Some(1) && err.contains("weights.toml"), "{code:?} {out}{err}");
        eventually("the order is gone on with", SOON, || server.asked("challenge") == 2);
        over.store(true, Ordering::Relaxed);
        looks.join().expect("a client panicked")
    });
    assert!(looked.len() > 10 && looked.iter().all(|answered| *answered), "{} looks", looked.len());
    server.behave(|manners| manners.hesitates = false);
    held(&weir, "shop.example");
    assert_eq!(server.asked("new-order"), 1);
}

#[test]
fn a_process_that_takes_over_goes_on_with_what_is_ordered_and_what_is_held() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    let weir = start(&setup(&stable, &server, &["a.example", "b.example"], ""), &server);
    held(&weir, "a.example");
    held(&weir, "b.example");
    let before = certificate(weir.listener("secure"), "a.example");
    let load = Load::over(weir.listener("secure"), &Tls::of("b.example"), 4, Duration::from_millis(2));
    weir.upgrade(&[]);
    assert!(certificate(weir.listener("secure"), "a.example") == before);
    eventually("it shows what is held", SOON, || standing(&weir, "b.example")["state"] == "held");
    // What is taken away is ordered anew, by the process that leads now; what was served is served.
    std::fs::remove_file(state(&weir, &server).join("a.example.pem")).expect("it is there");
    weir.upgrade(&[]);
    eventually("another one is served", 2 * SOON, || {
        Tls::of("a.example").connect(weir.listener("secure")).is_ok() && server.asked("new-order") == 3
    });
    held(&weir, "a.example");
    let report = load.stop();
    assert!(report.failures.is_empty() && report.good > 0, "{:?}", report.failures.first());
    assert_eq!((server.asked("new-order"), server.asked("new-account")), (3, 1));
}

#[test]
fn nothing_is_ordered_where_it_could_not_be_kept() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    // A file where the directory would have to be: nobody may write there, root included.
    let weir = setup(&stable, &server, &["shop.example"], "state_dir = \"roots.pem/acme\"").start();
    eventually("it is told", SOON, || {
        standing(&weir, "shop.example")["error"].to_string().contains("roots.pem/acme") && failed(&weir)
    });
    fn failed(weir: &Weir) -> bool {
        weir.log().lines().iter().any(|line| line.contains("ERROR") && line.contains("cannot be written"))
    }
    assert_eq!(weir.client().get("/").status, 200, "everything else is served");
    let (code, out, err) = weir.verb(&["check"]);
    assert!(code == Some(0) && format!("{out}{err}").contains("acme.state_dir: "), "{out}{err}");
    assert_eq!((server.asked("new-order"), server.asked("directory")), (0, 0));
}

#[test]
fn what_an_authority_issues_must_be_for_the_name_or_what_is_held_stays() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.lifetime = (8, 0));
    let weir = start(&setup(&stable, &server, &["shop.example"], "renew_before = \"5s\""), &server);
    held(&weir, "shop.example");
    let before = certificate(weir.listener("secure"), "shop.example");
    server.behave(|manners| manners.wrong_name = true);
    eventually("it is told", 2 * SOON, || {
        let error = standing(&weir, "shop.example")["error"].to_string();
        error.contains("cannot be used: it is for other.example and not for shop.example")
    });
    assert!(certificate(weir.listener("secure"), "shop.example") == before);
    let names = std::fs::read_dir(state(&weir, &server)).expect("it is there");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    assert!(names.iter().all(|name| !name.starts_with('.') && !name.ends_with(".key")), "{names:?}");
}

#[test]
fn an_account_that_the_authority_forgot_is_made_anew() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.lifetime = (8, 0));
    let lines = "renew_before = \"5s\"\nretry_min = \"100ms\"";
    let weir = start(&setup(&stable, &server, &["shop.example"], lines), &server);
    held(&weir, "shop.example");
    server.forget_accounts();
    eventually("another one is made", 2 * SOON, || server.asked("new-account") == 2);
    eventually("and used", SOON, || weir.metrics().sum("weir_acme_orders_total", &[("result", "issued")]) >= 2.0);
}

#[test]
fn an_account_is_bound_to_another_one_where_the_authority_asks_for_it() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.external = Some(("kid-1".into(), b"secret".into())));
    let external = "external_account = { key_id = \"kid-1\", key_file = \"external.key\" }\nretry_min = \"100ms\"";
    let weir = setup(&stable, &server, &["shop.example"], external).file("external.key", "d3Jvbmc\n").start();
    server.looks_at(weir.address(), weir.listener("secure"));
    eventually("it is refused", SOON, || {
        standing(&weir, "shop.example")["error"] == "the authority refuses: externalAccountRequired: bind it"
    });
    std::fs::write(weir.config_directory().join("external.key"), "c2VjcmV0\n").expect("it can be written");
    held(&weir, "shop.example");
    assert!(!weir.log().text().contains("c2VjcmV0"));
    let key = weir.config_directory().join("external.key");
    let noted = |mode: u32| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("its own");
        let (_, out, err) = weir.verb(&["check"]);
        format!("{out}{err}").contains("[acme.external_account] key_file: every user of this machine may read")
    };
    assert!(noted(0o644) && !noted(0o600));
}

#[test]
fn a_configuration_that_asks_for_what_cannot_be_is_refused_with_its_place() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    let tls = |names: &str| format!("tls = {{ acme = {names} }}");
    let all = "agree_to_terms = true";
    for (listener, acme, said) in [
        (tls("[\"*.shop.example\"]"), all, "\"*.shop.example\" is a wildcard"),
        (tls("[\"10.0.0.1\"]"), all, "is an address; certificates are ordered for names"),
        (tls("[\"shop_example.\", \"-x\"]"), all, "\"-x\" is not the name of a host"),
        (tls("[\"shop.example\"]"), "", "does not say that you agree to the terms"),
        (tls("[\"shop.example\"]"), "agree_to_terms = false", "does not say that you agree to the terms"),
        (tls("[\"a.b\"]"), "agree_to_terms = true\ndirectory = \"http://ca.example\"", "is not the directory"),
        (tls("[\"a.b\"]"), "agree_to_terms = true\ncontact = \"ops\"", "\"ops\" is no mail address"),
        (tls("[\"a.b\"]"), "agree_to_terms = true\nchallenge = \"dns-01\"", "http-01"),
        (tls("[\"a.b\"]"), "agree_to_terms = true\nretry_min = \"13h\"", "retry_min is longer than retry_max"),
        (tls("[\"a.b\"]"), "agree_to_terms = true\nexternal_account = { key_id = \"1\" }", "needs both key_id and"),
    ] {
        let text = format!("[acme]\n{acme}");
        let failure = Setup::single(&stable).listener("secure", &listener).text(&text).try_start().expect_err(said);
        assert_eq!(failure.code, Some(2), "{said}: {failure:?}");
        assert!(failure.log.contains(said), "{said}: {}", failure.log);
    }
    let without = Setup::single(&stable).listener("secure", &tls("[\"a.b\"]")).try_start().expect_err("no [acme]");
    assert!(without.log.contains("without [acme]"), "{}", without.log);
    let alone = Setup::single(&stable).text("[listeners.public.tls]\nacme = \"a.b\"\n[acme]\nagree_to_terms = true");
    let alone = alone.try_start().expect_err("no plain listener");
    assert!(alone.log.contains("no listener speaks that"), "{}", alone.log);
    assert_eq!(server.asked("directory"), 0);
}

#[test]
fn an_order_costs_no_request_its_time() {
    let (stable, server) = (Upstream::named("stable"), AcmeServer::start());
    server.behave(|manners| manners.hesitates = true);
    let weir = start(&setup(&stable, &server, &["shop.example"], "challenge = \"tls-alpn-01\""), &server);
    eventually("it is asked to look", SOON, || server.asked("challenge") == 1);
    let began = Instant::now();
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(300));
    server.behave(|manners| manners.hesitates = false);
    held(&weir, "shop.example");
    load.stop().assert_flawless();
    assert!(began.elapsed() < 3 * SOON);
    assert!(!shown_at(&weir).is_empty());
}

fn shown_at(weir: &Weir) -> Vec<u8> {
    certificate(weir.listener("secure"), "shop.example")
}
