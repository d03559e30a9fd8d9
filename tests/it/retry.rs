//! Forward, the failing part: one safe retry, never a second execution, timeouts, and whose fault it was.

use std::time::{Duration, Instant};

use crate::harness::{Act, Behaviour, Client, Door, End, H2Upstream, Metrics, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

/// Everything goes to the canary by weight; stable is where failover and retries go.
fn canary_first() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 1]).table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let weir = setup.table("timeouts", "response_header = \"300ms\"\nidle = \"400ms\"").start();
    (stable, canary, weir)
}

fn blamed(metrics: &Metrics, pool: &str) -> f64 {
    metrics.sum("weir_upstream_errors_total", &[("pool", pool)])
}

#[test]
fn a_get_whose_canary_refuses_or_resets_is_answered_by_stable_and_counts_against_the_canary() {
    let (stable, canary, weir) = canary_first();
    let mut client = weir.client();
    assert_eq!(client.get("/").upstream(), "canary");
    let before = blamed(&weir.metrics(), "canary");
    canary.door(Door::Reset);
    canary.drop_connections();
    for turn in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "turn {turn}");
    }
    assert_eq!(stable.count(), 5);
    let metrics = weir.metrics();
    assert!(blamed(&metrics, "canary") >= before + 5.0, "{:#?}", metrics.lines_with("upstream_errors"));
    assert_eq!(blamed(&metrics, "stable"), 0.0);
    let retried = metrics.sum("weir_retries_total", &[("pool", "canary")]);
    assert!(retried >= 5.0, "{:#?}", metrics.lines_with("retries"));
}

#[test]
fn the_only_endpoint_of_a_pool_fails_calls_that_cannot_be_repeated_until_it_is_ejected_and_comes_back_by_one_of_them() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 1]).table("breaker", "failures = 3\nmin_requests = 1000000");
    let weir = setup.table("health", "kind = \"off\"").start();
    let post = |weir: &Weir| {
        let answer = weir.client().ask("POST", "/", &[], b"body");
        (answer.status, answer.status == 200 && answer.upstream() == "canary")
    };
    assert_eq!(post(&weir), (200, true));
    canary.behave(Behaviour::ResetAfterHead);
    let failed = (0..50).filter(|_| post(&weir).0 != 200).count();
    assert_eq!(failed, 3, "after as many it is out, and stable takes its part");
    canary.behave(Behaviour::Answer);
    // Nobody ever asks for anything that could be repeated.
    eventually("the canary is tried and serves", SOON * 2, || post(&weir) == (200, true));
    assert!((0..10).all(|_| post(&weir) == (200, true)));
}

#[test]
fn a_connection_refused_is_retried_for_any_method() {
    let (stable, mut canary, weir) = canary_first();
    canary.kill();
    let mut client = weir.client();
    for method in ["GET", "POST", "PUT", "PATCH"] {
        let answer = client.ask(method, "/", &[], b"body");
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "{method}");
        assert_eq!(stable.last().body, b"body", "{method}");
    }
}

#[test]
fn a_post_that_an_upstream_may_have_seen_is_never_sent_twice() {
    for behaviour in [
        Behaviour::ResetAfterHead,
        Behaviour::ResetInsideHead,
        Behaviour::HalfClose,
        Behaviour::StallBeforeHead,
        Behaviour::raw_and_close("garbage\r\n\r\n"),
        Behaviour::raw_and_close(""),
    ] {
        let (stable, canary, weir) = canary_first();
        canary.behave(behaviour.clone());
        let mut client = weir.client();
        for number in 0..3 {
            let id = format!("post-{number}");
            let answer = client.ask("POST", "/", &[("x-id", &id)], b"pay");
            assert!(matches!(answer.status, 502 | 504), "{behaviour:?}: {}", answer.status);
            assert_eq!(canary.count_of(&id) + stable.count_of(&id), 1, "{behaviour:?}");
        }
    }
}

#[test]
fn a_post_on_a_pooled_connection_that_was_just_closed_is_executed_at_most_once() {
    let (stable, canary, weir) = canary_first();
    let mut client = weir.client();
    for number in 0..20 {
        let id = format!("p{number}");
        assert_eq!(client.get("/").status, 200);
        canary.drop_connections();
        let answer = client.try_ask("POST", "/", &[("x-id", &id)], b"pay").expect("an answer");
        assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
        assert!(canary.count_of(&id) + stable.count_of(&id) <= 1);
    }
}

#[test]
fn a_get_without_an_answer_is_retried_once_and_no_more() {
    for behaviour in [Behaviour::ResetAfterHead, Behaviour::raw_and_close("")] {
        let (stable, canary, weir) = canary_first();
        canary.behave(behaviour.clone());
        let answer = weir.client().get_with("/", &[("x-id", "1")]);
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "{behaviour:?}");
        stable.behave(behaviour.clone());
        let answer = weir.client().get_with("/", &[("x-id", "2")]);
        assert_eq!(answer.status, 502, "{behaviour:?}");
        assert!(canary.count_of("2") + stable.count_of("2") <= 2, "{behaviour:?}");
    }
}

#[test]
fn the_second_try_goes_to_another_endpoint_of_the_pool() {
    let (good, bad) = (Upstream::named("good"), Upstream::named("bad"));
    let setup = Setup::new().pool("stable", &[&good, &bad]).weights("stable = 1\n");
    let weir = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000").start();
    bad.behave(Behaviour::ResetAfterHead);
    let mut client = weir.client();
    for _ in 0..30 {
        assert_eq!(client.get("/").upstream(), "good");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(bad.count() > 0, "it was tried");
}

#[test]
fn retries_stay_within_a_fifth_of_the_requests() {
    let (stable, canary, weir) = canary_first();
    canary.behave(Behaviour::ResetAfterHead);
    stable.behave(Behaviour::ResetAfterHead);
    let mut clients: Vec<_> = (0..4).map(|_| weir.client()).collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        clients.iter_mut().for_each(|client| drop(client.get("/")));
    }
    let retries = stable.count() as f64;
    // Two workers; each may always spend ten a second, over a window of ten seconds.
    let allowed = canary.count() as f64 * 0.2 + 2.0 * 10.0 * (10.0 + 2.0) + 10.0;
    assert!(canary.count() > 300, "{} requests", canary.count());
    assert!(retries <= allowed, "{retries} retries, {allowed} allowed");
}

#[test]
fn an_answer_that_has_begun_is_never_tried_again_and_ends_visibly_cut() {
    let (stable, canary, weir) = canary_first();
    for behaviour in [Behaviour::ResetMidBody { sent: 500, of: 1_000 }, Behaviour::CutChunk] {
        canary.next(behaviour.clone());
        let answer = weir.client().get("/");
        assert_eq!((answer.status, answer.end), (200, End::Cut), "{behaviour:?}");
        canary.next(behaviour.clone());
        let over_h2 = weir.h2().ask("GET", "/", &[], b"");
        assert!(over_h2.is_err() || over_h2.is_ok_and(|a| a.cut.is_some()), "{behaviour:?} over h2 ends with a reset");
    }
    assert_eq!(stable.count(), 0);
}

#[test]
fn a_missing_answer_is_a_504_at_the_configured_time() {
    let (_stable, canary, weir) = canary_first();
    canary.behave(Behaviour::StallBeforeHead);
    let began = Instant::now();
    let answer = weir.client().ask("POST", "/", &[], b"x");
    let took = began.elapsed();
    assert_eq!(answer.status, 504);
    assert!(took > Duration::from_millis(270) && took < Duration::from_millis(450), "{took:?}");
    let connection = canary.last().connection;
    eventually("the upstream is let go", Duration::from_millis(500), || canary.left(connection).is_some());
}

#[test]
fn a_stalled_body_is_cut_after_the_idle_time() {
    let (_stable, canary, weir) = canary_first();
    canary.behave(Behaviour::StallMidBody { sent: 10, of: 100 });
    let began = Instant::now();
    let answer = weir.client().get("/");
    let took = began.elapsed();
    assert_eq!((answer.end, answer.body.len()), (End::Cut, 10));
    assert!(took > Duration::from_millis(350) && took < Duration::from_millis(1_000), "{took:?}");
}

#[test]
fn a_black_hole_costs_the_connect_timeout_and_then_stable_answers() {
    let stable = Upstream::named("stable");
    let hole = BlackHole::new();
    let setup = Setup::new().pool("stable", &[&stable]).pool_at("canary", &[&hole.url()]).split([0, 1]);
    let weir = setup.table("timeouts", "connect = \"250ms\"").start();
    let began = Instant::now();
    let answer = weir.client().get("/");
    assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
}

/// Sends a request whose body comes after its head has been seen by the canary, framed in chunks.
fn stream_up(weir: &Weir, canary: &Upstream, method: &str, pieces: usize) -> Client {
    let before = canary.count();
    let mut client = weir.client();
    let head = format!("{method} /up HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(head.as_bytes()).expect("it is sent");
    eventually("its head is there", SOON, || canary.count() > before);
    for _ in 0..pieces {
        client.send(b"2710\r\n").expect("it is sent");
        client.send(&[b'x'; 10_000]).expect("it is sent");
        client.send(b"\r\n").expect("it is sent");
    }
    client.send(b"0\r\n\r\n").expect("it is sent");
    client
}

#[test]
fn a_body_that_came_bit_by_bit_is_sent_again_up_to_64_kib_and_never_beyond() {
    let (stable, canary, weir) = canary_first();
    canary.behave(Behaviour::Raw(Vec::new(), Then::Reset));
    let answer = stream_up(&weir, &canary, "PUT", 6).answer().expect("an answer");
    assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    assert_eq!((stable.last().body.len(), stable.last().whole), (60_000, true));
    let answer = stream_up(&weir, &canary, "PUT", 7).answer().expect("an answer");
    assert_eq!((answer.status, stable.count()), (502, 1), "it is too long to be kept");
    let answer = stream_up(&weir, &canary, "POST", 1).answer().expect("an answer");
    assert_eq!((answer.status, stable.count()), (502, 1), "it could run twice");
    for (bytes, status) in [(60_000, 200), (70_000, 502)] {
        let answer = weir.h2().ask("PUT", "/up", &[], &vec![b'x'; bytes]).expect("an answer");
        assert_eq!(answer.status, status, "{bytes} bytes over h2");
    }
    assert_eq!((stable.count(), stable.last().body.len()), (2, 60_000));
}

#[test]
fn a_body_that_came_bit_by_bit_is_sent_again_to_another_http2_endpoint() {
    let (stable, canary) = (H2Upstream::named("stable"), H2Upstream::named("canary"));
    let setup = Setup::new().pool_at("stable", &[&stable.url()]).pool_at("canary", &[&canary.url()]).split([0, 1]);
    let weir = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000").start();
    canary.behave(Act::Refuse(h2::Reason::REFUSED_STREAM));
    let body = vec![b'x'; 50_000];
    // Not looked at, so that even a POST may go elsewhere.
    for method in ["PUT", "POST"] {
        let answer = weir.client().ask(method, "/up", &[], &body);
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "{method}");
        eventually("all of it is there", SOON, || stable.last().body == body);
    }
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another_one_and_for_nothing_else() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 1]).table("timeouts", "response_header = \"1500ms\"");
    let setup = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000");
    let weir = setup.table("retry", "per_try_timeout = \"150ms\"").start();
    canary.behave(Behaviour::StallBeforeHead);
    for (method, body) in [("GET", &b""[..]), ("PUT", b"small"), ("HEAD", b"")] {
        let began = Instant::now();
        let answer = weir.client().ask(method, "/", &[], body);
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "{method}");
        assert!(began.elapsed() >= Duration::from_millis(150) && began.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[("kind", "upstream_timeout")]), 3.0);
    let (seen, began) = (stable.count(), Instant::now());
    assert_eq!(weir.client().ask("POST", "/", &[], b"pay").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(1400), "what must not run twice is waited for");
    assert_eq!(stable.count(), seen);
    // Where nothing else could answer, waiting is better than giving up.
    stable.door(Door::Reset);
    stable.drop_connections();
    canary.behave(Behaviour::Late(Duration::from_millis(500)));
    let alone = Setup::new().pool("stable", &[&canary]).table("retry", "per_try_timeout = \"100ms\"").start();
    assert_eq!(alone.client().get("/").upstream(), "canary");
    assert_eq!(alone.h2().get("/").upstream(), "canary");
}

#[test]
fn a_try_over_http2_that_takes_too_long_is_given_up_too() {
    let (stable, canary) = (H2Upstream::named("stable"), H2Upstream::named("canary"));
    let setup = Setup::new().pool_at("stable", &[&stable.url()]).pool_at("canary", &[&canary.url()]).split([0, 1]);
    let weir = setup.table("retry", "per_try_timeout = \"150ms\"").start();
    canary.behave(Act::Stall);
    let began = Instant::now();
    assert_eq!(weir.client().get("/").upstream(), "stable");
    assert!(began.elapsed() >= Duration::from_millis(150) && began.elapsed() < Duration::from_secs(2));
}

#[test]
fn as_many_tries_as_are_allowed_each_elsewhere_with_pauses_between() {
    let upstreams: Vec<Upstream> = ["a", "b", "c", "d"].into_iter().map(Upstream::named).collect();
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let setup = |retry: &str| {
        let setup = Setup::new().pool("stable", &all).weights("stable = 1\n").table("retry", retry);
        setup.table("breaker", "failures = 1000000\nmin_requests = 1000000\nerror_ratio = 1.0").start()
    };
    upstreams.iter().for_each(|upstream| upstream.behave(Behaviour::ResetAfterHead));
    let tries = |weir: &Weir, id: &str| {
        assert_eq!(weir.client().get_with("/", &[("x-id", id)]).status, 502);
        let of: Vec<usize> = upstreams.iter().map(|upstream| upstream.count_of(id)).collect();
        of
    };
    let of = tries(&setup("attempts = 3"), "three");
    assert_eq!(of, [1, 1, 1, 1], "four tries, each elsewhere");
    assert_eq!(tries(&setup("attempts = 0"), "none").iter().sum::<usize>(), 1);
    let weir = setup("attempts = 1\nbackoff = \"100ms\"");
    let began = Instant::now();
    (0..20).for_each(|n| assert_eq!(tries(&weir, &format!("p{n}")).iter().sum::<usize>(), 2));
    // Twenty pauses of 50 ms on average; less than 300 ms in all is as likely as one in ten million.
    assert!((300..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

/// A port that takes no more connections: its queue of waiting ones is full, so that a SYN is dropped.
pub(crate) struct BlackHole {
    listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl BlackHole {
    /// Fills the queue.
    pub(crate) fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let fill = |_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket can be made non-blocking");
            let _ = socket.connect(&address);
            socket
        };
        let waiting = (0..8).map(fill).collect();
        std::thread::sleep(Duration::from_millis(20));
        Self { listener, _waiting: waiting }
    }

    /// As an endpoint.
    pub(crate) fn url(&self) -> String {
        let address = self.listener.local_addr().expect("an address").as_socket().expect("an internet address");
        format!("http://{address}")
    }
}

#[test]
fn what_the_client_causes_never_counts_against_a_pool() {
    let (_stable, canary, weir) = canary_first();
    assert_eq!(weir.client().get("/").upstream(), "canary");
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..20 {
        for bad in ["zz\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX\r\n", "-1\r\n", "5\nhello\r\n0\r\n\r\n"] {
            let mut client = weir.client().patience(Duration::from_secs(2));
            client.send(format!("{chunked}{bad}").as_bytes()).expect("it is sent");
            match client.answer() {
                Ok(answer) => assert_eq!(answer.status, 400, "{bad:?}"),
                Err(error) => assert!(!crate::harness::client::timed_out(&error), "{bad:?}: {error}"),
            }
        }
        let mut gone: Client = weir.client();
        gone.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\npart").expect("it is sent");
        gone.reset();
        let mut gone = weir.client();
        gone.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
        gone.reset();
    }
    std::thread::sleep(Duration::from_millis(100));
    let metrics = weir.metrics();
    assert_eq!(blamed(&metrics, "canary"), 0.0, "{:#?}", metrics.lines_with("errors"));
    for kind in ["upstream_connect", "upstream_answer", "upstream_timeout"] {
        assert_eq!(metrics.sum("weir_pool_faults_total", &[("kind", kind)]), 0.0, "{kind}");
    }
    assert_eq!(weir.client().get("/").upstream(), "canary", "the canary still serves");
    drop(canary);
}

#[test]
fn an_early_answer_is_delivered_and_its_connection_not_used_again() {
    let (_stable, canary, weir) = canary_first();
    let early = b"HTTP/1.1 413 Too Large\r\nx-upstream: canary\r\ncontent-length: 0\r\n\r\n".to_vec();
    canary.next(Behaviour::Early(early, Then::Hold));
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nstart").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 413);
    let connection = canary.last().connection;
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    let _ = client.send(smuggled);
    let mut next = weir.client();
    assert_eq!(next.get("/next").status, 200);
    assert_ne!(canary.last().connection, connection);
    assert_eq!(canary.count_on("/smuggled"), 0);
    eventually("its connection is closed", SOON, || canary.left(connection).is_some());
}
