//! A process without file descriptors: what is in flight loses nothing, endpoints are not blamed, connections that
//! nobody uses give way, and everything is as before once there are some again.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::frames::{END_STREAM, GOAWAY, PREFACE, Raw, SETTINGS, frame, get};
use crate::harness::{Behaviour, Client, H2Upstream, Issued, Load, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn blames_nobody(weir: &Weir) {
    for kind in ["upstream_connect", "upstream_answer", "upstream_timeout"] {
        assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[("kind", kind)]), 0.0, "{kind}");
    }
}

#[test]
fn idle_clients_give_way_to_new_ones_and_who_is_served_is_not_touched() {
    let stable = Upstream::named("stable");
    stable.behave_on("/slow", Behaviour::SlowBody { pieces: 140, piece: 10, pause: Duration::from_millis(50) });
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").descriptors(128).start();
    let mut slow: Vec<Client> = (0..3).map(|_| weir.client()).collect();
    for client in &mut slow {
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    eventually("they are in flight", SOON, || stable.count() == 3);
    // As many idle ones as get in at all.
    let mut idle = Vec::new();
    for _ in 0..200 {
        let Ok(mut client) = Client::try_to(weir.address()) else { break };
        client = client.patience(Duration::from_millis(300));
        if client.try_ask("GET", "/", &[], b"").is_err() {
            break;
        }
        idle.push(client);
    }
    assert!((5..100).contains(&idle.len()), "{} got in", idle.len());
    // Those that came late would wait for the keep-alive time of the others, 75 s.
    let load = Load::fresh(weir.address(), 4, Duration::from_millis(10));
    std::thread::sleep(Duration::from_millis(6_500));
    let report = load.stop();
    assert!(report.failures.is_empty() && report.good > 50, "{} good, {:?}", report.good, report.failures.first());
    for client in &mut slow {
        assert_eq!(client.answer().expect("it is answered").body.len(), 1_400);
    }
    let gone =
        idle.iter_mut().map(|client| client.closed_within(Duration::from_millis(1))).filter(|gone| *gone).count();
    assert!(gone > 0 && gone <= idle.len(), "{gone} of {}", idle.len());
}

#[test]
fn heads_and_handshakes_that_stop_halfway_give_way_to_new_clients() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let setup = Setup::single(&stable).workers(1).table("health", "kind = \"off\"").descriptors(128);
    let tls = "[listeners.secure.tls]\ncertificates = [{ cert = \"site.crt\", key = \"site.key\" }]";
    let setup = setup.listener("secure", "").text(tls).file("site.crt", &site.cert).file("site.key", &site.key);
    let weir = setup.start();
    // A record of kind handshake that announces more than follows; and nothing at all where one was to come.
    let (plain, secure) = (weir.address(), weir.listener("secure"));
    let crowds: [(_, &[u8]); 3] =
        [(plain, b"GET / HTTP/1.1\r\nHost: test\r\n"), (secure, &[22, 3, 1, 1, 0, 1, 0]), (secure, b"")];
    for (address, half) in crowds {
        let crowd: Vec<_> = (0..80)
            .filter_map(|_| {
                let mut stream = TcpStream::connect(address).ok()?;
                stream.write_all(half).ok().map(|()| stream)
            })
            .collect();
        assert_eq!(crowd.len(), 80, "more than get in");
        // header_timeout would end them after 10 s.
        let began = Instant::now();
        let mut client = Client::to(plain).patience(SOON * 4);
        assert_eq!(client.get("/").status, 200, "beside {half:?}");
        assert!(began.elapsed() < Duration::from_secs(7), "{:?} beside {half:?}", began.elapsed());
        drop(crowd);
        eventually("they are gone", SOON, || weir.metrics().sum("weir_connections_open", &[]) < 2.0);
    }
}

#[test]
fn a_connection_that_could_not_be_made_for_want_of_descriptors_blames_no_endpoint() {
    let stable = Upstream::named("stable");
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(500)));
    // One client of HTTP/2 can want more connections than there are descriptors.
    let weir = Setup::single(&stable).workers(1).table("health", "kind = \"off\"").descriptors(64).start();
    let mut client = weir.h2();
    let answers = client.many(90, "/late");
    let status = |wanted: u16| answers.iter().filter(|it| it.as_ref().is_ok_and(|it| it.status == wanted)).count();
    let (good, full) = (status(200), status(503));
    assert!(good + full == 90 && good > 10 && full > 10, "{good} good, {full} full of {}", answers.len());
    let one = answers.iter().flatten().find(|answer| answer.status == 503).expect("there is one");
    assert!(one.field("retry-after").is_some() && String::from_utf8_lossy(&one.body).contains("weir is full"));
    blames_nobody(&weir);
    assert_eq!(weir.status()["services"][0]["pools"][0]["endpoints"][0]["state"], "serving");
    eventually("it recovers", SOON, || client.many(5, "/").iter().flatten().filter(|it| it.status == 200).count() == 5);
}

#[test]
fn an_endpoint_with_http2_is_not_blamed_either() {
    let endpoint = H2Upstream::named("stable");
    let setup = Setup::new().pool_at("stable", &[&endpoint.url()]).table("health", "kind = \"off\"");
    let weir = setup.workers(1).descriptors(40).start();
    let mut crowd: Vec<Client> = (0..60).filter_map(|_| Client::try_to(weir.address()).ok()).collect();
    let asked = crowd.iter_mut().take(4).map(|client| client.ask("GET", "/", &[], b"").status);
    assert!(asked.into_iter().all(|status| status == 200 || status == 503));
    blames_nobody(&weir);
    drop(crowd);
    eventually("it recovers", SOON, || weir.client().get("/").status == 200);
}

#[test]
fn the_want_is_told_now_and_then_and_not_for_every_client() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").descriptors(64).start();
    let crowd: Vec<_> = (0..300).filter_map(|_| Client::try_to(weir.address()).ok()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let lines = weir.log().lines();
    let told = lines.iter().filter(|line| line.contains("cannot accept")).count();
    assert!(told <= 8, "{told} lines in half a second");
    drop(crowd);
}

#[test]
fn idle_clients_of_http2_give_way_too_and_one_with_a_stream_does_not() {
    let stable = Upstream::named("stable");
    stable.behave_on("/slow", Behaviour::SlowBody { pieces: 160, piece: 10, pause: Duration::from_millis(50) });
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").descriptors(128).start();
    let mut busy = Raw::to(weir.address());
    busy.send(&get(1, "/slow")).expect("weir reads");
    eventually("it is in flight", SOON, || stable.count() == 1);
    // As many as get in at all; half of them have asked before.
    let mut idle = Vec::new();
    while let Ok(mut client) = Client::try_to(weir.address()) {
        client = client.patience(Duration::from_millis(300));
        let request = if idle.len() % 2 == 0 { get(1, "/") } else { Vec::new() };
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &request].concat()).expect("the system takes it");
        if !client.wire().fill().is_ok_and(|count| count > 0) {
            break;
        }
        idle.push(client);
    }
    assert!((5..100).contains(&idle.len()), "{} got in", idle.len());
    let load = Load::fresh(weir.address(), 4, Duration::from_millis(10));
    std::thread::sleep(Duration::from_millis(6_500));
    let report = load.stop();
    assert!(report.failures.is_empty() && report.good > 50, "{} good, {:?}", report.good, report.failures.first());
    let gone = idle.iter_mut().filter_map(|client| {
        let (bytes, closed) = client.rest(Duration::from_millis(1));
        // GOAWAY, and nobody is accused.
        closed.then(|| bytes.windows(9).any(|it| it[3] == GOAWAY && it[..3] == [0, 0, 8] && it[5..] == [0; 4]))
    });
    let gone: Vec<bool> = gone.collect();
    assert!(!gone.is_empty() && gone.iter().all(|told| *told), "{gone:?} of {}", idle.len());
    let whole = |reaction: &crate::harness::frames::Reaction| reaction.data == 1_600;
    assert!(whole(busy.listen(SOON, whole)), "{:?}", busy.reaction);
}

#[test]
fn a_request_that_was_on_its_way_when_its_connection_gave_way_is_answered_whole() {
    let stable = Upstream::named("stable");
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(1_500)));
    let setup = Setup::single(&stable).workers(1).table("health", "kind = \"off\"");
    let weir = setup.text("[limits]\nconnections_max = 8").start();
    let mut client = Raw::to(weir.address());
    // Those that have asked before are kept longer.
    let mut others: Vec<Client> = (0..7).map(|_| weir.client()).collect();
    assert!(others.iter_mut().all(|other| other.get("/").status == 200));
    while client.next().expect("nothing resets it").expect("it is told before it is closed").kind != GOAWAY {}
    client.send(&get(1, "/late")).expect("weir reads");
    // It is slow to answer, and its client does not say that it has read the GOAWAY.
    let mut ended = false;
    while let Some(frame) = client.next().expect("nothing resets it") {
        ended |= frame.stream == 1 && frame.flags & END_STREAM != 0 && frame.kind <= 1;
    }
    assert!(ended, "the connection was closed before the answer was whole");
}
