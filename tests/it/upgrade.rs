//! The upgrade of the binary: another process takes over while hundreds of clients ask, and none of them notices; one
//! that cannot serve changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Client, H2Client, Issued, Load, Setup, Then, Tls, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// A load over HTTP/2: connections that are used until a GOAWAY, then new ones. What a GOAWAY says was not processed is
/// sent again; anything else that goes wrong is a failure.
struct H2Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl H2Load {
    fn start(address: std::net::SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut good, mut failures) = (0, Vec::new());
                let mut client = H2Client::to(address);
                while !stop.load(Ordering::Relaxed) {
                    if client.over_within(Duration::from_millis(1)).is_some() {
                        client = H2Client::to(address);
                    }
                    for answer in client.many(5, "/load") {
                        match answer {
                            Ok(answer) if answer.status == 200 && answer.cut.is_none() => good += 1,
                            Ok(answer) => failures.push(format!("{} {:?}", answer.status, answer.cut)),
                            Err(error) if error.is_go_away() => {}
                            Err(error) => failures.push(error.to_string()),
                        }
                    }
                }
                (good, failures)
            })
        });
        Self { clients: clients.collect(), stop }
    }

    #[track_caller]
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            let (good, failures) = client.join().expect("a client panicked");
            assert!(failures.is_empty() && good > 0, "{} of {good} failed: {:#?}", failures.len(), failures.first());
        }
    }
}

/// Fails the test unless every request was answered well; connections may have been told to close.
#[track_caller]
fn flawless(load: Load) -> usize {
    let report = load.stop();
    let first = report.failures.iter().take(5).collect::<Vec<_>>();
    assert!(report.failures.is_empty(), "{} failed of {}: {first:#?}", report.failures.len(), report.good);
    assert!(report.good > 0, "the load ran");
    report.good
}

/// The directory's own copy of the program, so that another one can be put in its place.
fn failing_program(weir: &Weir, script: &str) -> String {
    let path = weir.config_directory().join("weir-next");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its own");
    path.to_str().expect("a path that is text").to_owned()
}

#[test]
fn several_upgrades_in_a_row_under_load_fail_no_request_and_reset_no_connection() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let mut weir = Setup::single(&stable)
        .listener("secure", "tls = { certificates = [{ cert = \"site.crt\", key = \"site.key\" }] }")
        .file("site.crt", &site.cert)
        .file("site.key", &site.key)
        .start();
    let first = weir.pid();
    let kept = Load::start(weir.address(), 100, Duration::from_millis(20));
    let fresh = Load::fresh(weir.address(), 100, Duration::from_millis(10));
    let secure = Load::over(weir.listener("secure"), &Tls::of("test"), 20, Duration::from_millis(10));
    let streams = H2Load::start(weir.address(), 10);
    let mut before = first;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        let pid = weir.upgrade(&[]);
        assert_ne!(pid, before);
        before = pid;
    }
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    std::thread::sleep(Duration::from_millis(200));
    assert!(flawless(kept) > 100);
    assert!(flawless(fresh) > 100);
    flawless(secure);
    streams.stop();
}

#[test]
fn what_is_in_flight_finishes_in_the_old_process_and_what_comes_is_served_by_the_new_one() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).text("[limits]\ndrain = \"2s\"").start();
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(1_000)));
    stable.behave_on("/ws", Behaviour::Raw(SWITCH.as_bytes().to_vec(), Then::Echo));
    let (mut late, mut tunnel) = (weir.client(), weir.client().lenient());
    late.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    tunnel.send(ASK.as_bytes()).expect("it is sent");
    assert_eq!(tunnel.answer().expect("an answer").status, 101);
    eventually("it is in flight", SOON, || stable.count() == 2);
    let old = weir.pid();
    let began = Instant::now();
    let new = weir.upgrade(&[]);
    assert_ne!(old, new);
    assert_eq!(weir.client().get("/").status, 200);
    assert_eq!(late.answer().expect("it is answered").status, 200);
    tunnel.send(b"still there").expect("it is sent");
    let mut back = Vec::new();
    tunnel.wire().exactly(11, &mut back).expect("it comes back");
    assert!(Weir::lives(old), "the tunnel is its own until the drain is over");
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(weir.client().get("/").status, 200);
}

#[test]
fn a_new_process_that_cannot_serve_changes_nothing_and_the_reason_is_told() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let good = std::fs::read_to_string(weir.config_path()).expect("it can be read");
    let load = Load::start(weir.address(), 4, Duration::from_millis(2));
    let refused = |arguments: &[&str], why: &str| {
        let (code, out, err) = weir.verb(&[&["upgrade"], arguments].concat());
        assert!(code == Some(1) && err.contains(why), "{code:?} {out}{err}");
        assert_eq!(weir.admin_get("/api/v1/upgrade").json()["upgrade"], "failed");
        assert_eq!(weir.follow(), weir.pid());
    };
    weir.save_config(&good.replace("[admin]", "[admin]\nnonsense = 1"));
    refused(&[], "nonsense");
    weir.save_config(&good.replace("[services.engine]", "key_file = 1\n[services.engine]"));
    refused(&[], "key_file");
    weir.save_config(&good);
    let program = failing_program(&weir, "#!/bin/sh\nexit 7\n");
    refused(&["--binary", &program], "ended with exit code 7");
    let program = failing_program(&weir, "#!/bin/sh\nkill -9 $$\n");
    refused(&["--binary", &program], "was ended by signal 9");
    let program = failing_program(&weir, "no program at all");
    refused(&["--binary", &program], "cannot start");
    // It gives up after its turn came: the journal and the admin API are taken up again.
    std::fs::write(weir.config_directory().join("weights.toml"), "[engine]\nstable = \"no\"\n").expect("written");
    refused(&[], "weights.toml");
    weir.save_weights("[engine]\nstable = 1\n");
    assert_eq!(weir.admin_get("/api/v1/rollouts/health").status, 200);
    load.stop().assert_flawless();
    assert_ne!(weir.upgrade(&[]), 0);
}

#[test]
fn sigusr2_is_an_upgrade_without_an_answer() {
    let stable = Upstream::named("stable");
    let mut weir = Setup::single(&stable).start();
    let old = weir.pid();
    weir.signal(libc::SIGUSR2);
    eventually("another process answers", SOON, || weir.follow() != old);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
    assert_eq!(weir.client().get("/").status, 200);
    // The new one stops as any.
    let new = weir.pid();
    weir.signal(libc::SIGTERM);
    eventually("it ends", SOON, || !Weir::lives(new));
    assert!(Client::try_to(weir.address()).is_err(), "nobody listens any more");
}

#[test]
fn an_upgrade_takes_over_what_only_a_restart_could_change() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).workers(3).top("pid_file = \"weir.pid\"").start();
    let pid_file = weir.config_directory().join("weir.pid");
    let written = || std::fs::read_to_string(&pid_file).expect("it is written");
    assert_eq!(written(), format!("{}\n", weir.pid()));
    let text = std::fs::read_to_string(weir.config_path()).expect("it can be read");
    let load = Load::fresh(weir.address(), 20, Duration::from_millis(5));
    for workers in [1, 5, 2] {
        let text = text.replace("workers = 3", &format!("workers = {workers}"));
        weir.save_config(&text.replace("[admin]", "[listeners.more]\naddress = \"127.0.0.1:0\"\n[admin]"));
        weir.upgrade(&[]);
        eventually("the pid file says so", SOON, || written() == format!("{}\n", weir.pid()));
        assert_eq!(weir.status()["workers"], workers);
        (0..20).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    }
    flawless(load);
    let pid = weir.pid();
    weir.signal(libc::SIGTERM);
    eventually("it ends", SOON, || !Weir::lives(pid));
    assert!(!pid_file.exists(), "it is taken away");
}

#[test]
fn what_was_ejected_stays_ejected_in_the_new_process_and_nothing_else_is() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let breaker = "failures = 2\nbase_ejection = \"50s\"\nmax_ejection = \"60s\"\nmin_requests = 1000000";
    let weir = Setup::pair(&stable, &canary, [1, 1]).probed().table("breaker", breaker).start();
    canary.behave(Behaviour::status(503));
    let state = |pool: usize| weir.status()["services"][0]["pools"][pool]["endpoints"][0]["state"].clone();
    let mut client = weir.client();
    eventually("it is ejected", SOON, || {
        client.get("/");
        state(1) == "ejected"
    });
    drop(client);
    canary.forget();
    for _ in 0..2 {
        weir.upgrade(&[]);
        assert_eq!((state(0), state(1)), ("serving".into(), "ejected".into()), "its probes pass, its answers did not");
        (0..20).for_each(|_| assert_eq!(weir.client().get("/").upstream(), "stable"));
    }
    assert_eq!(canary.count(), 0, "no request of a client tried it meanwhile");
}

#[test]
fn what_rate_limits_have_counted_counts_in_the_new_process() {
    let stable = Upstream::named("stable");
    let limits = "[[rate_limits]]\nname = \"each\"\nkey = \"header:x-key\"\nrate = 4\nper = \"1h\"\n\
                  [[rate_limits]]\nname = \"all\"\nkey = \"all\"\nrate = 40\nper = \"1h\"";
    let weir = Setup::single(&stable).text(limits).start();
    let passed = |key: &str, n: usize| {
        let mut client = weir.client();
        let asked = (0..n).map(|_| client.get_with("/", &[("x-key", key)]).status);
        asked.inspect(|status| assert!([200, 429].contains(status), "{status}")).filter(|&status| status == 200).count()
    };
    // What the old process lets through at its end is counted nowhere else.
    let upgrade = || {
        let old = weir.pid();
        weir.upgrade(&[]);
        eventually("the old one has ended", SOON, || !Weir::lives(old));
    };
    assert_eq!((passed("a", 3), passed("b", 1)), (3, 1));
    upgrade();
    assert_eq!((passed("a", 9), passed("b", 1), passed("c", 1)), (1, 1, 1));
    upgrade();
    assert_eq!((passed("a", 1), passed("b", 9), passed("c", 9)), (0, 2, 3), "hashed as in the first");
    assert_eq!((0..99).map(|n| passed(&n.to_string(), 1)).sum::<usize>(), 28, "12 of 40 have come through before");
    // Clients that ask all the while get nothing more of either process.
    let over = AtomicBool::new(false);
    let more: usize = std::thread::scope(|scope| {
        let ask = |client: usize| {
            let turns = (0..).take_while(|_| !over.load(Ordering::Relaxed));
            turns.map(|n: usize| passed(&format!("{client}-{n}"), 1)).sum::<usize>()
        };
        let clients: Vec<_> = (0..8).map(|client| scope.spawn(move || ask(client))).collect();
        (0..2).for_each(|_| upgrade());
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("it does not panic")).sum()
    });
    assert_eq!(more, 0);
}

#[test]
fn a_rollout_in_progress_goes_on_in_the_new_process_and_only_there() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"50ms\"").start();
    let load = Load::start(weir.address(), 8, Duration::from_millis(2));
    let phases = [10, 30, 60, 100].map(|percent| serde_json::json!({ "percent": percent, "min_duration": "1s" }));
    let plan = serde_json::json!({
        "service": "engine", "candidate": "canary", "phases": phases,
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    });
    let id = weir.start_rollout(&plan);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(600));
        weir.upgrade(&[]);
        let view = weir.rollout(&id);
        assert_ne!(view["state"], "rolled_back", "{view}");
    }
    weir.rollout_reaches(&id, "completed", Duration::from_secs(30));
    flawless(load);
    let (code, out, err) = weir.verb(&["audit", "verify"]);
    assert_eq!(code, Some(0), "two writers would break its chain: {out}{err}");
    assert!(weir.weights_text().contains("canary = 100"), "{}", weir.weights_text());
}

#[test]
fn only_an_admin_starts_programs_and_only_such_as_others_cannot_write() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let program = failing_program(&weir, "#!/bin/sh\nexit 7\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o777)).expect("its own");
    let (code, _, err) = weir.verb(&["upgrade", "--binary", &program]);
    assert!(code == Some(2) && err.contains("others than root"), "{err}");
    let (code, _, err) = weir.verb(&["upgrade", "--binary", "weir-next"]);
    assert!(code == Some(2) && err.contains("absolute"), "{err}");
    assert_eq!(weir.admin_get("/api/v1/upgrade").json()["upgrade"], "none");
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      x-upstream: stable\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
