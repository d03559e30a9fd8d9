//! Limits by address: how many connections one may have, and that whoever has them ended again and again is turned away
//! for a while, so that others are served as if it were not there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::frames::{PREFACE, RST_STREAM, Raw, SETTINGS, frame, get};
use crate::harness::temp::TempDir;
use crate::harness::{Behaviour, Client, Issued, Load, Setup, Tls, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

/// A loopback address that is not the one that everybody else comes from.
const OTHER: &str = "127.0.7.7:0";

fn from(local: &str, weir: &Weir) -> Client {
    Client::from(local.parse().expect("an address"), weir.address()).patience(Duration::from_millis(500))
}

fn turned(weir: &Weir, reason: &str) -> f64 {
    weir.metrics().sum("weir_connections_turned_away_total", &[("reason", reason)])
}

/// Whether a connection from there is served.
fn is_served(local: &str, weir: &Weir) -> bool {
    from(local, weir).try_ask("GET", "/", &[], b"").is_ok_and(|answer| answer.status == 200)
}

/// Comes from `local`, opens and resets streams as fast as it can until it is ended; false when it was turned away
/// before it was served at all.
fn reset_rapidly(local: SocketAddr, address: SocketAddr, burst: &[u8]) -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&local.into()).expect("a loopback address can be bound");
    if socket.connect(&address.into()).is_err() {
        return false;
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a time above 0");
    let written = stream.write_all(burst).is_ok();
    let (mut space, mut came) = ([0; 4096], 0);
    while let Ok(n @ 1..) = stream.read(&mut space) {
        came += n;
    }
    written || came > 0
}

/// Preface, SETTINGS, and 400 streams that are opened and reset.
fn burst() -> Vec<u8> {
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    for n in 0..400 {
        bytes.extend(get(2 * n + 1, "/hang"));
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    bytes
}

#[test]
fn an_address_has_as_many_connections_as_it_may_over_all_workers_and_others_have_theirs() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).workers(4).text("[limits]\nconnections_per_address = 5").start();
    let mut held: Vec<Client> = (0..5).map(|_| from(OTHER, &weir)).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    for _ in 0..10 {
        assert!(from(OTHER, &weir).closed_within(SOON), "the sixth is closed");
    }
    assert_eq!(turned(&weir, "crowded"), 10.0);
    assert!(is_served("127.0.0.1:0", &weir) && held.iter_mut().all(|client| client.get("/").status == 200));
    held.pop();
    eventually("there is room for one more", SOON, || is_served(OTHER, &weir));
}

#[test]
fn whoever_speaks_for_others_is_not_counted_and_whom_a_balancer_names_is() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable)
        .top("trusted_proxies = [\"127.0.7.0/24\"]")
        .listener("behind", "proxy_protocol = { from = [\"127.0.0.1/32\"] }")
        .text("[limits]\nconnections_per_address = 2")
        .start();
    let mut proxies: Vec<Client> = (0..6).map(|_| from(OTHER, &weir)).collect();
    assert!(proxies.iter_mut().all(|client| client.get("/").status == 200));
    let announced = |source: &str| {
        let mut client = Client::to(weir.listener("behind"));
        client.send(format!("PROXY TCP4 {source} 198.51.100.2 56324 443\r\n").as_bytes()).expect("weir reads");
        client
    };
    let mut one: Vec<Client> = (0..2).map(|_| announced("203.0.113.7")).collect();
    assert!(one.iter_mut().all(|client| client.get("/").status == 200));
    assert!(announced("203.0.113.7").closed_within(SOON), "its third");
    assert_eq!(announced("203.0.113.8").get("/").status, 200);
    // The balancer's own connections, by which it asks whether weir is there.
    let mut own: Vec<Client> = (0..5).map(|_| Client::to(weir.listener("behind"))).collect();
    for client in &mut own {
        client.send(b"PROXY UNKNOWN\r\n").expect("weir reads");
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn an_address_whose_connections_are_ended_again_and_again_is_turned_away_for_a_while() {
    let stable = Upstream::named("stable");
    stable.behave_on("/hang", Behaviour::StallBeforeHead);
    let weir = Setup::single(&stable).workers(2).text("[limits]\noffences_per_address = 40").start();
    let mut served_before = from(OTHER, &weir);
    assert_eq!(served_before.get("/").status, 200);
    let local = OTHER.parse().expect("an address");
    let rests = || weir.metrics().sum("weir_address_rests_total", &[]);
    for _ in 0..5 {
        assert_eq!(rests(), 0.0);
        assert!(reset_rapidly(local, weir.address(), &burst()));
    }
    eventually("it is sent to rest", SOON, || rests() == 1.0);
    assert!(from(OTHER, &weir).closed_within(SOON));
    assert!(turned(&weir, "resting") >= 1.0);
    let resting = weir.status()["resting"].clone();
    assert_eq!((&resting["addresses"], &resting["longest"][0]["address"]), (&1.into(), &"127.0.7.7".into()));
    let (_, text, _) = weir.verb(&["status"]);
    assert!(text.contains("1 address is turned away for what they did: 127.0.7.7 (1 s)"), "{text}");
    assert_eq!(served_before.get("/").status, 200, "what it has open stays");
    assert!(is_served("127.0.0.1:0", &weir), "others are served");
    eventually("it may come back", SOON, || is_served(OTHER, &weir));
    // The next rest comes sooner, and is longer.
    assert!(reset_rapidly(local, weir.address(), &burst()));
    eventually("it rests again", SOON, || rests() == 2.0);
    let began = Instant::now();
    eventually("it may come back again", SOON, || is_served(OTHER, &weir));
    assert!(began.elapsed() > Duration::from_millis(1_400), "{:?}", began.elapsed());
}

#[test]
fn garbage_and_silence_cost_less_than_floods_and_a_reload_without_the_key_ends_it() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable).text("[limits]\nheader_timeout = \"200ms\"\noffences_per_address = 20");
    let weir = setup.start();
    let rests = || weir.metrics().sum("weir_address_rests_total", &[]);
    for turn in 0..9 {
        let mut client = from(OTHER, &weir);
        client.send(b"GET / HTTP/1.1\r\nHost : test\r\n\r\n").expect("weir reads");
        assert_eq!(client.answer().expect("an answer").status, 400, "{turn}");
    }
    // 18 points so far.
    assert!(from(OTHER, &weir).closed_within(SOON), "it said nothing");
    assert!(is_served(OTHER, &weir) && rests() == 0.0);
    eventually("that is more than 20", SOON, || from(OTHER, &weir).closed_within(SOON) && rests() == 1.0);
    assert!(!is_served(OTHER, &weir));
    weir.save_config(&setup.config_text().replace("offences_per_address = 20", "offences_per_address = 0"));
    eventually("nobody is turned away", Duration::from_millis(700), || is_served(OTHER, &weir));
}

/// One that also listens for TLS, as `test`, with these limits.
fn with_tls(stable: &Upstream, limits: &str) -> Weir {
    let site = Issued::for_names(&["test"]);
    Setup::single(stable)
        .listener("secure", "tls = { certificates = [{ cert = \"site.crt\", key = \"site.key\" }] }")
        .file("site.crt", &site.cert)
        .file("site.key", &site.key)
        .text(limits)
        .start()
}

#[test]
fn plain_http_to_a_port_of_tls_and_what_is_no_request_of_http_cost_as_much_as_garbage() {
    let stable = Upstream::named("stable");
    let weir = with_tls(&stable, "[limits]\noffences_per_address = 7\ntarget_bytes_max = \"1KiB\"");
    let rests = || weir.metrics().sum("weir_address_rests_total", &[]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(2_000)).into_bytes();
    let plain = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let (secure, open) = (weir.listener("secure"), weir.address());
    let said = [(secure, &plain[..], 400), (open, &long, 414), (open, b"GET / HTTP/3.0\r\nHost: test\r\n\r\n", 505)];
    for (turn, (address, bytes, status)) in said.into_iter().chain([(secure, &plain[..], 400)]).enumerate() {
        assert_eq!(rests(), 0.0, "{turn}");
        let mut client = Client::from(OTHER.parse().expect("an address"), address).patience(SOON);
        client.send(bytes).expect("weir reads");
        assert_eq!(client.answer().expect("an answer").status, status, "{turn}");
    }
    eventually("8 points are more than 7", SOON, || rests() == 1.0);
}

#[test]
fn who_shakes_hands_for_http_2_and_leaves_has_asked_for_nothing_and_no_more() {
    let stable = Upstream::named("stable");
    let weir = with_tls(&stable, "[limits]\noffences_per_address = 7");
    let rests = || weir.metrics().sum("weir_address_rests_total", &[]);
    let open = || weir.metrics().sum("weir_connections_open", &[]);
    let before = open();
    for turn in 0..7 {
        drop(Raw::stranger_over(weir.listener("secure"), &Tls::of("test")));
        eventually("it is known to have left", SOON, || open() == before);
        assert_eq!(rests(), 0.0, "{turn}");
    }
    drop(Raw::stranger_over(weir.listener("secure"), &Tls::of("test")));
    eventually("8 points are more than 7", SOON, || rests() == 1.0);
}

#[test]
fn what_comes_by_a_unix_socket_is_not_the_fault_of_this_machines_address() {
    let stable = Upstream::named("stable");
    let place = TempDir::new();
    let path = place.path().join("weir.sock");
    let weir = Setup::single(&stable)
        .listener("local", &format!("address = \"unix:{}\"", path.display()))
        .text("[limits]\noffences_per_address = 7")
        .start();
    let mut other = weir.client();
    assert_eq!(other.get("/").status, 200, "its address is known from here on");
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&path).expect("weir accepts");
        stream.write_all(b"GET / HTTP/1.1\r\nHost : test\r\n\r\n").expect("weir reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(weir.metrics().sum("weir_address_rests_total", &[]), 0.0);
    assert!(is_served("127.0.0.1:0", &weir));
}

/// p99 of a client that asks over a connection of its own, and of one that connects for each request.
fn p99(weir: &Weir, time: Duration) -> [Duration; 2] {
    let kept = Load::start(weir.address(), 2, Duration::from_millis(1));
    let fresh = Load::fresh(weir.address(), 2, Duration::from_millis(2));
    std::thread::sleep(time);
    [kept.stop(), fresh.stop()].map(|report| {
        assert!(report.failures.is_empty() && report.good > 50, "{} good, {:?}", report.good, report.failures.first());
        report.p99()
    })
}

#[test]
fn who_is_beside_a_rapid_reset_that_comes_back_again_and_again_is_served_as_in_quiet() {
    let stable = Upstream::named("stable");
    stable.behave_on("/hang", Behaviour::StallBeforeHead);
    let limits = "[limits]\noffences_per_address = 100\nconnections_per_address = 100";
    let weir = Setup::single(&stable).workers(1).table("health", "kind = \"off\"").text(limits).start();
    p99(&weir, Duration::from_secs(1));
    let bytes = burst();
    // What else the machine does is in both; the quietest of three rounds has least of it.
    let held = (0..3).any(|_| {
        let quiet = p99(&weir, Duration::from_secs(1));
        let under = attacked(&weir, &bytes, || p99(&weir, Duration::from_secs(3)));
        println!("quiet {quiet:?}, under attack {under:?}");
        quiet.into_iter().zip(under).all(|(quiet, under)| under <= 2 * quiet + Duration::from_millis(1))
    });
    let ended = weir.metrics().sum("weir_http2_ended_total", &[("side", "client"), ("kind", "reset")]);
    println!("{ended} ended, {} turned away", turned(&weir, "resting"));
    assert!((5.0..100.0).contains(&ended) && turned(&weir, "resting") > 100.0, "{ended}");
    assert!(held, "p99 of others is more than twice what it is in quiet");
}

/// What `measure` says while two clients at one address reset streams rapidly, and come back whenever they are ended.
fn attacked<T>(weir: &Weir, burst: &[u8], measure: impl FnOnce() -> T) -> T {
    /// Also when what is measured fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    reset_rapidly(OTHER.parse().expect("one"), weir.address(), burst);
                }
            });
        }
        measure()
    })
}
