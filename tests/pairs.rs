//! Captured pairs: whoever takes the receiver gets each copied request with both answers, by every way that an answer
//! takes; the client gets its answer all the same. A worker runs here, since nothing in the program takes pairs yet.

#[path = "fuzz/stage.rs"]
mod stage;

#[path = "it/harness/mod.rs"]
mod harness;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use weir::model::AccessLog as Policy;
use weir::proxy::worker::Seat;
use weir::proxy::worker::crew::Crew;
use weir::proxy::worker::listen::{Berth, Phase, run};
use weir::proxy::worker::porter::Door;
use weir::telemetry::access_log::AccessLog;
use weir::telemetry::count::Sharded;
use weir::telemetry::meter::WorkerShard;
use weir::telemetry::pair::{BODY_BYTES_MAX, Pair, SECRET, Tap};

use crate::harness::{Behaviour, Client, H2Client, H2Upstream, Reply, Upstream};

/// One worker over one snapshot.
struct Stage {
    address: SocketAddr,
    pairs: Arc<Tap>,
    phase: Option<watch::Sender<Phase>>,
    worker: Option<JoinHandle<std::io::Result<()>>>,
    _log: AccessLog,
    _revision: watch::Sender<u64>,
}

impl Stage {
    /// Everything goes to `stable`, and is copied to `canary`.
    fn new(stable: &str, canary: &str) -> Self {
        let config = format!(
            "[services.engine.pools.stable]\nendpoints = [{stable:?}]\n[services.engine.pools.canary]\n\
            endpoints = [{canary:?}]\n[[services.engine.mirrors]]\nto = \"canary\"\npercent = 100\n\
            methods = [\"GET\", \"HEAD\", \"POST\"]\nmax_in_flight = 1000\n"
        );
        let snapshot = stage::snapshot(&config, "[engine]\nstable = 1\ncanary = 0\n");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("an address");
        let (phase, phases) = watch::channel(Phase::Serving);
        let (revision, revisions) = watch::channel(1);
        let (log, pairs) = (AccessLog::start(&Policy::default()), Arc::new(Tap::default()));
        let (crew, mut handed) = Crew::new(1);
        let seat = Seat {
            index: 0,
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            meter: Arc::new(Sharded::of_each(1, || WorkerShard::for_listeners(1))),
            logger: log.logger(),
            hurry: Arc::new(|_| {}),
            instance: "weir-test".into(),
            sites: Arc::new([None]),
            pairs: Arc::clone(&pairs),
            challenges: None,
            spans: Arc::default(),
        };
        let handed = handed.pop().expect("one worker");
        let berth =
            Berth { seat, doors: vec![vec![Door::Tcp(listener)]], revision: revisions, phase: phases, crew, handed };
        let worker = std::thread::spawn(move || run(berth));
        Self { address, pairs, phase: Some(phase), worker: Some(worker), _log: log, _revision: revision }
    }

    fn client(&self) -> Client {
        Client::to(self.address)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.phase.take());
        if let Some(worker) = self.worker.take() {
            worker.join().expect("the worker does not panic").expect("the worker ends well");
        }
    }
}

#[track_caller]
fn next(receiver: &mut Receiver<Box<Pair>>) -> Pair {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match receiver.try_recv() {
            Ok(pair) => return *pair,
            Err(error) => assert!(Instant::now() < until, "no pair: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pair_is_the_request_with_both_answers_and_without_secrets() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    stable.behave(Behaviour::Reply(Reply::status(200).field("etag", "\"1\"").body("one")));
    let reply = Reply::status(500).field("set-cookie", "session=secret").body("other");
    canary.behave(Behaviour::chosen(move |_, _| {
        std::thread::sleep(Duration::from_millis(50));
        Behaviour::Reply(reply.clone())
    }));
    let stage = Stage::new(&stable.url(), &canary.url());
    assert_eq!(stage.client().get("/unseen").text(), "one");
    let mut receiver = stage.pairs.receive();
    let fields = [("authorization", "Bearer secret"), ("x-a", "1")];
    assert_eq!(stage.client().ask("POST", "/path?q", &fields, b"body").text(), "one");
    let pair = next(&mut receiver);
    assert_eq!((&*pair.service, &*pair.from, &*pair.to), ("engine", "stable", "canary"));
    assert_eq!((&*pair.request.method, &*pair.request.target), ("POST", "/path?q"));
    assert_eq!(pair.request.body.start, b"body");
    let has = |fields: &[(String, String)], name: &str, value: &str| {
        assert!(fields.contains(&(name.to_owned(), value.to_owned())), "{name}: {fields:?}");
    };
    has(&pair.request.fields, "x-a", "1");
    has(&pair.request.fields, "authorization", SECRET);
    has(&pair.request.fields, "x-weir-mirror", "stable");
    has(&pair.primary.fields, "etag", "\"1\"");
    has(&pair.copy.fields, "set-cookie", SECRET);
    assert_eq!((pair.primary.status, pair.copy.status), (200, 500));
    assert_eq!((&pair.primary.body.start[..], &pair.copy.body.start[..]), (&b"one"[..], &b"other"[..]));
    assert!(pair.primary.whole && pair.copy.whole && pair.primary.body.digest != pair.copy.body.digest);
    assert!(pair.copy.head_after >= Duration::from_millis(50) && pair.copy.head_after <= pair.copy.end_after);
    assert!(receiver.try_recv().is_err(), "what came before anybody asked is nowhere");
}

#[test]
fn an_answer_is_captured_whichever_way_it_takes_and_the_client_has_all_of_it() {
    let (http1, new) = (Upstream::named("http1"), Upstream::named("new"));
    let http2 = H2Upstream::named("http2");
    for (stable, long) in [(http1.url(), 300_000), (http2.url(), 0)] {
        let body: Vec<u8> = (0..long).map(|n: u32| (n % 251) as u8).collect();
        if long > 0 {
            http1.behave(Behaviour::Reply(Reply::status(200).body(body.clone())));
        }
        let stage = Stage::new(&stable, &new.url());
        let mut receiver = stage.pairs.receive();
        let one = stage.client().get("/");
        let other = H2Client::to(stage.address).get("/");
        assert_eq!((one.status, &one.body), (other.status, &other.body));
        assert!(long == 0 || one.body == body);
        for _ in 0..2 {
            let pair = next(&mut receiver);
            assert_eq!((pair.primary.status, pair.primary.body.bytes), (200, one.body.len() as u64));
            let kept = &one.body[..one.body.len().min(BODY_BYTES_MAX)];
            assert!(pair.primary.whole && pair.primary.body.start == kept);
            assert_eq!((pair.copy.status, &pair.copy.body.start[..]), (200, &b"new\n"[..]));
        }
    }
}

#[test]
fn an_answer_that_broke_off_is_told_from_a_whole_one_and_without_an_answer_there_is_no_pair() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    canary.behave_on("/cut", Behaviour::ResetMidBody { sent: 10, of: 100 });
    canary.behave_on("/lost", Behaviour::ResetAfterHead);
    let stage = Stage::new(&stable.url(), &canary.url());
    let mut receiver = stage.pairs.receive();
    let mut client = stage.client();
    assert_eq!(client.get("/cut").status, 200);
    let pair = next(&mut receiver);
    assert!(pair.primary.whole && !pair.copy.whole && pair.copy.body.bytes == 10);
    assert_eq!(client.get("/lost").status, 200);
    assert_eq!(client.get("/whole").status, 200);
    assert_eq!(next(&mut receiver).request.target, "/whole");
}
