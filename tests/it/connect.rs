//! CONNECT: refused unless a route lists the authority; then a tunnel to an endpoint that is decided on as for any
//! request, and never to what the client names.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use h2::Reason;

use crate::harness::frames::{DATA, END_HEADERS, HEADERS, Raw, WINDOW_UPDATE, frame, literal};
use crate::harness::h2_socket::H2Socket;
use crate::harness::talker::{BREAK, FAREWELL, LEAVE};
use crate::harness::temp::TempDir;
use crate::harness::{Authority, Client, End, NamedFront, Setup, Talker, Tls, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(4);

const ASK: &str = "CONNECT db.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\n";

const ROUTE: &str = "[[routes]]\nname = \"tunnels\"\nmatch.connect = [\"db.internal:5432\", \"*.internal:443\"]";

/// A service whose tunnels lead to these pools; without probes, which would be connections too.
fn setup() -> Setup {
    Setup::new().workers(1).table("health", "kind = \"off\"").text(ROUTE)
}

fn single(stable: &Talker) -> Setup {
    setup().pool_at("stable", &[&stable.url()])
}

fn pair(stable: &Talker, canary: &Talker, weights: [u32; 2]) -> Setup {
    single(stable).pool_at("canary", &[&canary.url()]).split(weights)
}

/// Asks for a tunnel on an open connection; who is at its end.
#[track_caller]
fn granted(client: &mut Client, ask: &str) -> String {
    client.send(ask.as_bytes()).expect("it is sent");
    let head = client.head();
    assert_eq!(head.start, "HTTP/1.1 200 Connection established");
    assert!(head.fields.is_empty(), "neither length nor coding: {head:?}");
    let mut name = Vec::new();
    while name.last() != Some(&b'\n') {
        client.wire().exactly(1, &mut name).expect("the endpoint speaks first");
    }
    String::from_utf8(name).expect("a name").trim_end().to_owned()
}

/// A client with its tunnel, and who is at the other end.
#[track_caller]
fn tunnel(weir: &Weir) -> (Client, String) {
    let mut client = weir.client();
    let name = granted(&mut client, ASK);
    (client, name)
}

#[track_caller]
fn echoes(client: &mut Client, bytes: &[u8]) {
    client.send(bytes).expect("it is sent");
    let mut back = Vec::new();
    client.wire().exactly(bytes.len() as u64, &mut back).expect("it comes back");
    assert!(back == bytes, "what comes back is what was sent");
}

fn end_sending(client: &mut Client) {
    client.wire().stream().shutdown(std::net::Shutdown::Write).expect("it is open");
}

/// What comes until the end: an end in order, or an error.
fn remains(client: &mut Client) -> (Vec<u8>, std::io::Result<()>) {
    loop {
        match client.wire().fill() {
            Ok(0) => return (client.wire().take_ahead(), Ok(())),
            Ok(_) => {}
            Err(error) => return (client.wire().take_ahead(), Err(error)),
        }
    }
}

#[test]
fn bytes_pass_both_ways_and_each_side_ends_by_itself() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    let (mut client, name) = tunnel(&weir);
    assert_eq!(name, "stable");
    echoes(&mut client, b"hello");
    echoes(&mut client, b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n");
    echoes(&mut client, &(0..=255).cycle().take(300_000).collect::<Vec<u8>>());
    end_sending(&mut client);
    let (last, ended) = remains(&mut client);
    assert_eq!((last.as_slice(), ended.is_ok()), (FAREWELL, true), "the endpoint speaks on after the client's end");
    eventually("the endpoint is let go", SOON, || stable.open() == 0);
    let talks = stable.talks();
    assert_eq!((talks.len(), talks[0].ended), (1, Some(true)));
    assert!(talks[0].heard.starts_with(b"helloGET /smuggled"), "no head, nothing of weir's own, goes into a tunnel");

    let (mut client, _) = tunnel(&weir);
    client.send(LEAVE).expect("it is sent");
    let (last, ended) = remains(&mut client);
    assert_eq!((last.as_slice(), ended.is_ok()), (FAREWELL, true), "the endpoint's end is the client's");
}

#[test]
fn what_is_sent_ahead_of_the_answer_goes_through_the_tunnel() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    for early in ["early", "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let mut client = weir.client();
        assert_eq!(granted(&mut client, &format!("{ASK}{early}")), "stable");
        let mut back = Vec::new();
        client.wire().exactly(early.len() as u64, &mut back).expect("it comes back");
        assert_eq!(back, early.as_bytes());
        echoes(&mut client, b" and more");
    }
}

#[test]
fn tunnels_are_split_by_the_weights_and_the_authority_selects_the_route_alone() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let weir = pair(&stable, &canary, [90, 10]).start();
    let mut open = Vec::new();
    for turn in 0..100 {
        let mut client = weir.client();
        // Names that stand for nothing, in any case of letters, fully qualified or not.
        let authority =
            ["db.internal:5432", "DB.Internal:5432", "a.b.internal:443", "db.internal.:05432"][turn % 4].to_owned();
        let name = granted(&mut client, &format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        open.push((client, name));
    }
    let of = |name: &str| open.iter().filter(|(_, at)| at == name).count();
    let (on_stable, on_canary) = (of("stable"), of("canary"));
    assert!((6..=15).contains(&on_canary) && on_stable + on_canary == 100, "{on_canary} of 100");
    assert_eq!((stable.open(), canary.open()), (on_stable, on_canary), "each has a connection of its own");
    for (client, _) in &mut open {
        echoes(client, b"still here");
    }
}

#[test]
fn affinity_override_and_routes_decide_as_for_any_request() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let weir = pair(&stable, &canary, [1, 1])
        .table("affinity", "by = \"header\"\nname = \"x-user\"")
        .table("override", "networks = [\"127.0.0.0/8\"]")
        .text("[[routes]]\npool = \"canary\"\nmatch.connect = [\"canary.internal:443\"]")
        .start();
    let ask = |authority: &str, field: &str| {
        let text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{field}\r\n\r\n");
        granted(&mut weir.client(), &text)
    };
    for user in ["anna", "bert", "carl", "dora"] {
        let first = ask("db.internal:5432", &format!("x-user: {user}"));
        (0..5).for_each(|_| assert_eq!(ask("db.internal:5432", &format!("x-user: {user}")), first));
    }
    for pool in ["canary", "stable"] {
        assert_eq!(ask("db.internal:5432", &format!("x-weir-pool: {pool}")), pool);
    }
    assert_eq!(ask("canary.internal:443", "x: y"), "canary", "an exact authority goes before a wildcard");
}

/// Text of a CONNECT, the status of its answer and a word of it.
type Row = (String, u16, &'static str);

fn refused_anyway() -> Vec<Row> {
    let row = |target: &str, host: &str, status, why| (format!("CONNECT {target} HTTP/1.1\r\n{host}\r\n"), status, why);
    let plain = |target: &str, status, why| row(target, &format!("Host: {target}\r\n"), status, why);
    let body = |line: &str| row("db.internal:5432", &format!("Host: db.internal:5432\r\n{line}\r\n"), 400, "no body");
    let shape = "not a host and a port";
    vec![
        plain("db.internal", 400, shape),
        plain("db.internal:", 400, shape),
        plain("db.internal:0", 400, shape),
        plain("db.internal:65536", 400, shape),
        plain("db.internal:+5432", 400, shape),
        plain("db.internal:5432:5432", 400, shape),
        plain("anna@db.internal:5432", 400, shape),
        plain("anna:secret@db.internal:5432", 400, shape),
        plain("db.internal:5432/", 400, shape),
        plain("db.internal:5432?a", 400, shape),
        plain("db.internal,evil:5432", 400, shape),
        plain("http://db.internal:5432/", 400, shape),
        plain("[::1]", 400, shape),
        plain("::1:5432", 400, shape),
        plain(":5432", 400, shape),
        plain("/", 400, shape),
        plain("*", 400, shape),
        row("", "Host: db.internal:5432\r\n", 400, shape),
        ("CONNECT HTTP/1.1\r\nHost: db.internal:5432\r\n\r\n".to_owned(), 400, "target or the version is missing"),
        row("db.internal:5432 x", "Host: db.internal:5432\r\n", 400, shape),
        row("db.internal:5432", "", 400, "Host is missing"),
        row("db.internal:5432", "Host: other.internal:443\r\n", 400, "different authorities"),
        row("db.internal:5432", "Host: db.internal:5433\r\n", 400, "different authorities"),
        row("db.internal:5432", "Host: db.internal:5432\r\nHost: db.internal:5432\r\n", 400, "more than one Host"),
        body("Content-Length: 5"),
        body("Transfer-Encoding: chunked"),
        body("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        body("Content-Length: 5\r\nExpect: 100-continue"),
    ]
}

/// Sends one and a request behind it, in one piece: one answer, the end of the connection, and nothing at an endpoint.
#[track_caller]
fn is_refused(address: std::net::SocketAddr, stable: &Upstream, (text, status, why): &Row) {
    let mut client = Client::to(address);
    let _ = client.send(format!("{text}GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    let answer = client.answer().unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((answer.status, answer.end), (*status, End::Whole), "{text}: {}", answer.text());
    assert!(answer.text().contains(why), "{text}: {}", answer.text());
    assert!(answer.field("proxy-status").is_some() && answer.field("connection") == Some("close"), "{text}");
    let (rest, closed) = client.rest(SOON);
    assert!(rest.is_empty() && closed, "{text}: {}", String::from_utf8_lossy(&rest));
    assert_eq!((stable.accepted(), stable.count()), (0, 0), "{text}: an endpoint heard of it");
}

#[test]
fn what_no_route_lists_is_refused_and_what_follows_it_is_never_read() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable)
        .table("health", "kind = \"off\"")
        .listener("moved", "redirect = \"https\"")
        .listener("pinned", "service = \"engine\"\npool = \"stable\"")
        .text(ROUTE)
        .text("[[routes]]\nmatch.connect = [\"inner.test:1\"]\nmatch.client_networks = [\"10.0.0.0/8\"]")
        .text("[[routes]]\nmatch.connect = [\"known.test:1\"]\nmatch.headers = { x-known = \"yes\" }")
        .text("[[routes]]\nmatch.path_prefix = \"/\"")
        .start();
    let plain = |target: &str| (format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"), 403, "no route allows");
    let unlisted = [
        "db.internal:5433",
        "other.test:5432",
        "internal:443",
        ".internal:443",
        "a.internal:5432",
        "a.internal.evil.test:443",
        "127.0.0.1:5432",
        "[::1]:443",
        "inner.test:1",
        "known.test:1",
    ];
    for row in unlisted.into_iter().map(plain).chain(refused_anyway()) {
        is_refused(weir.address(), &stable, &row);
    }
    is_refused(weir.listener("pinned"), &stable, &plain("other.test:5432"));
    is_refused(weir.listener("moved"), &stable, &(ASK.to_owned(), 405, "not allowed"));
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_pool_faults_total", &[]), 0.0, "nobody is to blame but the clients");
}

#[test]
fn without_a_route_for_it_every_connect_is_a_405() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").start();
    for row in [ASK.to_owned(), ASK.replace("1.1\r\nHost: db.internal:5432", "1.0")] {
        is_refused(weir.address(), &stable, &(row, 405, "not allowed"));
    }
    for row in refused_anyway() {
        is_refused(weir.address(), &stable, &row);
    }
}

#[test]
fn forms_that_clients_send_are_taken() {
    let stable = Talker::named("stable");
    let weir = single(&stable).listener("pinned", "service = \"engine\"\npool = \"stable\"").start();
    let ask = |head: &str| granted(&mut weir.client(), &format!("CONNECT db.internal:5432 HTTP/1.{head}\r\n\r\n"));
    for head in [
        "1\r\nHost: db.internal",
        "1\r\nHost: DB.internal:5432\r\nProxy-Connection: keep-alive\r\nUser-Agent: curl/8.5.0",
        "1\r\nHost: db.internal:5432\r\nContent-Length: 0\r\nConnection: keep-alive",
        "0",
        "0\r\nHost: db.internal:5432\r\nProxy-Authorization: Basic YTpi",
    ] {
        assert_eq!(ask(head), "stable", "{head}");
    }
    assert_eq!(granted(&mut Client::to(weir.listener("pinned")), ASK), "stable");
}

#[test]
fn only_a_connect_finds_its_route_and_it_finds_no_other() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).text(ROUTE).start();
    for (method, host) in [("GET", "db.internal:5432"), ("POST", "a.internal:443"), ("OPTIONS", "db.internal:5432")] {
        let mut client = weir.client().host(host);
        assert_eq!(client.ask(method, "/", &[], b"").status, 404, "{method} {host}");
        assert_eq!(client.get("/").status, 404, "and its connection goes on");
    }
    assert_eq!(stable.count(), 0);
}

#[test]
fn neither_side_of_a_tunnel_is_used_again() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable)
        .workers(1)
        .table("health", "kind = \"off\"")
        .text(ROUTE)
        .text("[[routes]]\nmatch.path_prefix = \"/\"")
        .start();
    assert_eq!(weir.client().get("/warm").status, 200);
    let mut client = weir.client();
    client.send(ASK.as_bytes()).expect("it is sent");
    assert_eq!(client.head().start, "HTTP/1.1 200 Connection established");
    let inside = client.get("/inside");
    assert_eq!((inside.status, inside.upstream()), (200, "stable"), "the endpoint itself answers in the tunnel");
    assert!(stable.last().head.field("via").is_none(), "it came as it was sent");
    end_sending(&mut client);
    assert!(client.closed_within(SOON));
    assert_eq!(weir.client().get("/next").status, 200);
    let connections: Vec<u64> = stable.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 3);
    assert!(connections[0] == connections[2] && connections[1] != connections[0], "{connections:?}");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_left_for_another() {
    let (stable, down) = (Talker::named("stable"), Upstream::down("down"));
    let weir = setup().pool_at("stable", &[&down.url(), &stable.url()]).start();
    for _ in 0..10 {
        assert_eq!(tunnel(&weir).1, "stable");
    }
    assert!(weir.metrics().sum("weir_pool_faults_total", &[("kind", "upstream_connect")]) > 0.0);
    let weir = setup().pool_at("stable", &[&down.url()]).start();
    let mut client = weir.client();
    client.send(format!("{ASK}early").as_bytes()).expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, 502);
    let said = answer.field("proxy-status").expect("it is said");
    assert!(said.contains("error=connection_refused"), "{said}");
    assert_eq!(client.rest(SOON), (Vec::new(), true));
}

#[test]
fn a_pool_that_goes_to_zero_loses_its_tunnels_and_they_do_not_look_whole() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let weir = pair(&stable, &canary, [1, 1]).service("on_zero_streams = \"close\"").start();
    let mut clients: Vec<_> = (0..10).map(|_| tunnel(&weir)).collect();
    clients.iter_mut().for_each(|(client, _)| echoes(client, b"hello"));
    let gauge = |pool: &str| weir.metrics().sum("weir_long_streams", &[("pool", pool), ("kind", "connect")]);
    let of = |name: &str| clients.iter().filter(|(_, at)| at == name).count();
    let (on_stable, on_canary) = (of("stable"), of("canary"));
    assert!(on_stable > 0 && on_canary > 0);
    let counted = || (gauge("stable"), gauge("canary")) == (on_stable as f64, on_canary as f64);
    eventually("they are counted", SOON, counted);
    let status = weir.status().to_string();
    assert!(status.contains(r#""kind":"connect""#), "{status}");
    weir.put_split([1, 0]);
    for (client, name) in &mut clients {
        match name.as_str() {
            "canary" => assert!(remains(client).1.is_err(), "broken off, not ended"),
            _ => echoes(client, b"still here"),
        }
    }
    eventually("the canary has none left", SOON, || canary.open() == 0);
    assert!(canary.talks().iter().all(|talk| talk.ended == Some(false)), "broken off on both sides");
    assert_eq!(stable.open(), on_stable);
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_long_streams_closed_total", &[("pool", "canary")]), on_canary as f64);
    assert_eq!(metrics.sum("weir_pool_faults_total", &[]), 0.0, "nobody is to blame");
}

#[test]
fn what_breaks_off_at_one_end_breaks_off_at_the_other() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    let (mut client, _) = tunnel(&weir);
    client.send(BREAK).expect("it is sent");
    assert!(remains(&mut client).1.is_err(), "a reset is no end");
    let (mut client, _) = tunnel(&weir);
    echoes(&mut client, b"hello");
    client.reset();
    eventually("the endpoint is told", SOON, || stable.talks()[1].ended == Some(false));
}

#[test]
fn tunnels_count_in_caps_and_rate_limits_and_what_is_over_them_is_closed() {
    let stable = Talker::named("stable");
    let weir = single(&stable).service("max_in_flight = 2").table("queue", "max = 0").start();
    let mut open: Vec<_> = (0..2).map(|_| tunnel(&weir)).collect();
    let refused = |status: u16| {
        let mut client = weir.client();
        client.send(format!("{ASK}early").as_bytes()).expect("it is sent");
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.field("retry-after").is_some());
        assert_eq!(client.rest(SOON), (Vec::new(), true));
    };
    refused(503);
    end_sending(&mut open[0].0);
    assert_eq!(remains(&mut open[0].0).0, FAREWELL);
    eventually("its place is free", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) < 2.0);
    tunnel(&weir);

    let weir =
        single(&stable).text("[[rate_limits]]\nname = \"one\"\nrate = 1\nper = \"1h\"\nkey = \"client\"").start();
    tunnel(&weir);
    let mut client = weir.client();
    client.send(format!("{ASK}early").as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 429);
    assert_eq!(client.rest(SOON), (Vec::new(), true));
}

#[test]
fn maintenance_and_kill_hold_for_tunnels() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let weir = pair(&stable, &canary, [0, 1]).start();
    assert_eq!(tunnel(&weir).1, "canary");
    assert_eq!(weir.verb(&["kill", "engine", "--reason", "test"]).0, Some(0));
    assert_eq!(tunnel(&weir).1, "stable");
    weir.save_weights("[engine]\nstable = 1\ncanary = 1\nmaintenance = \"moving house\"\n");
    eventually("it is closed", SOON, || {
        let mut client = weir.client();
        client.send(ASK.as_bytes()).expect("it is sent");
        client.head().start.starts_with("HTTP/1.1 503") && client.rest(SOON).1
    });
}

#[test]
fn a_silent_tunnel_ends_after_its_idle_time_and_a_half_after_that_of_bodies() {
    let stable = Talker::named("stable");
    let weir = single(&stable).table("timeouts", "tunnel_idle = \"400ms\"").start();
    let (mut client, _) = tunnel(&weir);
    let began = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        echoes(&mut client, b"not silent");
    }
    assert!(remains(&mut client).1.is_err());
    assert!(began.elapsed() > Duration::from_millis(1100), "{:?}", began.elapsed());
    eventually("the endpoint is let go", SOON, || stable.open() == 0);
}

#[test]
fn endpoints_are_told_whose_tunnel_it_is() {
    let stable = Talker::named("stable");
    let front = NamedFront::before(stable.address());
    let weir = setup().pool_at("stable", &[&front.url()]).pool_lines("proxy_protocol = \"v2\"").start();
    let (mut client, _) = tunnel(&weir);
    echoes(&mut client, b"hello");
    let own = client.wire().stream().local_addr().expect("it is connected");
    let named = front.clients();
    assert_eq!((named.len(), named[0].version, named[0].ends), (1, 2, Some((own, weir.address()))));
    assert_eq!(stable.talks()[0].heard, b"hello");
}

#[test]
fn a_socket_in_the_file_system_is_an_endpoint_too() {
    let directory = TempDir::new();
    let path = directory.path().join("db.sock");
    let listener = UnixListener::bind(&path).expect("a socket can be made");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is connected to");
        stream.write_all(b"socket\n").expect("it is open");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("it ends in order");
        stream.write_all(FAREWELL).expect("the other half is open");
        heard
    });
    let weir = setup().pool_at("stable", &[&format!("unix:{}", path.display())]).start();
    let mut client = weir.client();
    assert_eq!(granted(&mut client, ASK), "socket");
    client.send(b"hello").expect("it is sent");
    end_sending(&mut client);
    let (last, ended) = remains(&mut client);
    assert_eq!((last.as_slice(), ended.is_ok()), (FAREWELL, true));
    assert_eq!(server.join().expect("no panic"), b"hello");
}

#[test]
fn a_client_may_ask_over_tls() {
    let stable = Talker::named("stable");
    let authority = Authority::new();
    let issued = authority.issue("proxy.test");
    let weir = single(&stable)
        .listener("secure", "tls = { certificates = [{ cert = \"proxy.crt\", key = \"proxy.key\" }] }")
        .file("proxy.crt", &issued.cert)
        .file("proxy.key", &issued.key)
        .start();
    let mut client = Tls::of("proxy.test").connect(weir.listener("secure")).expect("hands are shaken");
    assert_eq!(granted(&mut client, &format!("{ASK}early")), "stable");
    let mut back = Vec::new();
    client.wire().exactly(5, &mut back).expect("it comes back");
    assert_eq!(back, b"early");
    echoes(&mut client, &vec![7; 100_000]);
}

fn over_http2(authority: &str) -> http::Request<()> {
    http::Request::builder().method(http::Method::CONNECT).uri(authority).body(()).expect("a head")
}

/// A stream with its tunnel, and who is at the other end.
#[track_caller]
fn stream(weir: &Weir) -> (H2Socket, String) {
    let mut socket = H2Socket::open(weir.address(), over_http2("db.internal:5432")).expect("an answer");
    assert_eq!((socket.status(), socket.answer.headers().len()), (200, 0));
    let mut name = socket.hear(1);
    while name.last() != Some(&b'\n') {
        name.extend(socket.hear(1));
    }
    (socket, String::from_utf8(name).expect("a name").trim_end().to_owned())
}

#[test]
fn over_http2_a_stream_is_the_tunnel() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let weir = pair(&stable, &canary, [1, 1]).service("on_zero_streams = \"close\"").start();
    let mut open: Vec<_> = (0..10).map(|_| stream(&weir)).collect();
    let on_canary = open.iter().filter(|(_, at)| at == "canary").count();
    assert!((1..=9).contains(&on_canary), "{on_canary} of 10");
    for (socket, _) in &mut open {
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        socket.say(&bytes);
        assert!(socket.hear(bytes.len()) == bytes);
    }
    let gauge = || weir.metrics().sum("weir_long_streams", &[("kind", "connect")]);
    eventually("they are counted", SOON, || gauge() == 10.0);
    weir.put_split([1, 0]);
    for (mut socket, name) in open {
        if name == "canary" {
            assert_eq!(socket.ended(), Err(Some(Reason::CONNECT_ERROR)), "cut, and not ended");
            continue;
        }
        socket.end();
        assert_eq!(socket.ended(), Ok(()), "one end is passed on as one");
        assert_eq!(socket.rest(), FAREWELL, "and the other half goes on");
    }
    eventually("the endpoints are let go", SOON, || stable.open() + canary.open() == 0);
    let ended = |talker: &Talker| talker.talks().iter().all(|talk| talk.ended == Some(talker.greeting() == "stable\n"));
    assert!(ended(&stable) && ended(&canary));
    assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[]), 0.0);
}

#[test]
fn over_http2_breaks_are_passed_on_and_both_ends_may_leave() {
    let stable = Talker::named("stable");
    let weir = single(&stable).text("[access_log]\nto = \"stdout\"").start();
    let (mut socket, _) = stream(&weir);
    socket.say(BREAK);
    assert_eq!(socket.ended(), Err(Some(Reason::CONNECT_ERROR)));
    let (socket, _) = stream(&weir);
    socket.reset(Reason::CANCEL);
    eventually("the endpoint is told", SOON, || stable.talks()[1].ended == Some(false));
    let (mut socket, _) = stream(&weir);
    socket.say(LEAVE);
    socket.end();
    assert_eq!((socket.ended(), socket.rest()), (Ok(()), FAREWELL));
    eventually("they are logged", SOON, || weir.access_log().count("\"CONNECT\"") == 3);
    assert_eq!(weir.access_log().count("\"host\":\"db.internal:5432\""), 3);
    assert_eq!(weir.access_log().count("\"status\":200"), 3, "{:?}", weir.access_log().lines());
}

#[test]
fn an_endpoint_that_breaks_off_while_it_is_written_to_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let weir = setup().pool_at("stable", &[&url]).start();
    let mut client = Raw::to(weir.address());
    let ask = [literal(":method", "CONNECT"), literal(":authority", "db.internal:5432")].concat();
    client.send(&frame(HEADERS, END_HEADERS, 1, &ask)).expect("weir reads");
    let (endpoint, _) = listener.accept().expect("weir connects");
    // As much as is taken ahead of an endpoint that reads nothing.
    client.patience(Duration::from_millis(500));
    let mut room = [65_535, 256 * 1024];
    loop {
        let piece = 16_384.min(room[0]).min(room[1]);
        if piece > 0 {
            client.send(&frame(DATA, 0, 1, &vec![7; piece])).expect("weir reads");
            room = room.map(|bytes| bytes - piece);
            continue;
        }
        let Ok(came) = client.next() else { break };
        let came = came.expect("it goes on");
        if came.kind == WINDOW_UPDATE {
            room[came.stream as usize] += came.payload.iter().fold(0, |all, &byte| all << 8 | usize::from(byte));
        }
    }
    socket2::SockRef::from(&endpoint).set_linger(Some(Duration::ZERO)).expect("it is open");
    drop(endpoint);
    client.listen(SOON, |reaction| !reaction.resets.is_empty());
    assert_eq!(client.reaction.resets, [(1, u32::from(Reason::CONNECT_ERROR))], "{:?}", client.reaction);
}

#[test]
fn over_http2_what_is_not_listed_is_refused_on_its_stream_alone() {
    let (stable, down) = (Upstream::named("stable"), Upstream::down("down"));
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").text(ROUTE).start();
    let status = |weir: &Weir, request| H2Socket::open(weir.address(), request).expect("an answer").status();
    for authority in ["db.internal:5433", "internal:443", "127.0.0.1:5432", "[::1]:443"] {
        assert_eq!(status(&weir, over_http2(authority)), 403, "{authority}");
    }
    assert_eq!(status(&weir, over_http2("db.internal")), 400);
    for (name, value) in [("host", "other.internal:443"), ("content-length", "5")] {
        let mut request = over_http2("db.internal:5432");
        request.headers_mut().insert(name, value.parse().expect("a value"));
        assert_eq!(status(&weir, request), 400, "{name}");
    }
    let mut named = over_http2("db.internal:5432");
    named.headers_mut().insert("host", "db.internal".parse().expect("a value"));
    assert_eq!(status(&weir, named), 200);
    eventually("only that one came to an endpoint", SOON, || stable.accepted() == 1);
    let weir = Setup::single(&stable).table("health", "kind = \"off\"").start();
    assert_eq!(status(&weir, over_http2("db.internal:5432")), 405);
    let weir = setup().pool_at("stable", &[&down.url()]).start();
    assert_eq!(status(&weir, over_http2("db.internal:5432")), 502);
}

#[test]
fn a_tunnel_outlives_changes_and_ends_with_the_drain() {
    let (stable, canary) = (Talker::named("stable"), Talker::named("canary"));
    let setup = pair(&stable, &canary, [1, 0]).service("on_zero_streams = \"keep\"").text("[limits]\ndrain = \"1s\"");
    let mut weir = setup.start();
    let (mut client, _) = tunnel(&weir);
    weir.put_split([0, 1]);
    weir.save_config(&setup.config_text().replace("db.internal:5432", "no.longer:1"));
    assert_eq!(weir.admin("POST", "/api/v1/reload", &[], "{}").status, 200);
    let mut refused = weir.client();
    refused.send(ASK.as_bytes()).expect("it is sent");
    assert_eq!(refused.answer().expect("an answer").status, 403, "new ones go by the new list");
    echoes(&mut client, b"still here");
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    echoes(&mut client, b"until the deadline");
    assert_eq!(weir.ended_within(SOON).expect("it ends").code(), Some(0));
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    assert!(client.closed_within(SOON));
}

#[test]
fn an_upgrade_of_the_binary_leaves_tunnels_where_they_are() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    let (mut client, _) = tunnel(&weir);
    weir.upgrade(&[]);
    echoes(&mut client, b"in the old process");
    let (mut next, _) = tunnel(&weir);
    echoes(&mut next, b"in the new one");
    end_sending(&mut client);
    assert_eq!(remains(&mut client).0, FAREWELL);
}

#[test]
fn tunnels_leave_nothing_behind_however_they_end() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    // Some are kept for hard times, and a tunnel that is left behind by each of 30 would show.
    let before = weir.descriptors();
    for turn in 0..120 {
        let (mut client, _) = tunnel(&weir);
        match turn % 4 {
            0 => end_sending(&mut client),
            1 => client.send(LEAVE).expect("it is sent"),
            2 => client.send(BREAK).expect("it is sent"),
            _ => client.reset(),
        }
    }
    eventually("the endpoint has none", SOON, || stable.open() == 0);
    eventually("descriptors are given back", SOON, || weir.descriptors() < before + 10);
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_requests_in_flight", &[]), 0.0);
    assert_eq!(metrics.sum("weir_requests_total", &[("pool", "stable")]), 120.0);
    assert_eq!(metrics.sum("weir_pool_faults_total", &[]), 0.0);
}

#[test]
fn a_tunnel_is_one_line_of_the_access_log() {
    let stable = Talker::named("stable");
    let weir = single(&stable).text("[access_log]\nto = \"stdout\"").start();
    let (mut client, _) = tunnel(&weir);
    echoes(&mut client, b"hello");
    end_sending(&mut client);
    assert_eq!(remains(&mut client).0, FAREWELL);
    eventually("it is logged", SOON, || weir.access_log().count("CONNECT") == 1);
    let lines = weir.access_log().lines();
    let line = lines.iter().find(|line| line.contains("CONNECT")).expect("it is there");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let bytes_down = stable.greeting().len() + 5 + FAREWELL.len();
    let expected: [(&str, serde_json::Value); 7] = [
        ("method", "CONNECT".into()),
        ("host", "db.internal:5432".into()),
        ("status", 200.into()),
        ("pool", "stable".into()),
        ("why", "weight".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", bytes_down.into()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(weir.metrics().sum("weir_requests_total", &[("pool", "stable"), ("code", "200")]), 1.0);
}

#[test]
fn explain_says_where_a_tunnel_would_go() {
    let stable = Talker::named("stable");
    let weir = single(&stable).start();
    let (code, out, err) = weir.verb(&["explain", "-X", "CONNECT", "db.internal:5432"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("tunnels") && out.contains("stable"), "{out}");
    let (_, out, _) = weir.verb(&["explain", "-X", "CONNECT", "other.test:1"]);
    assert!(out.contains("403"), "{out}");
    assert!(stable.talks().is_empty(), "nothing is sent");
}
