//! The notifier as a whole, over real sockets: receivers that fail, hang, redirect; a flood; other rules meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::super::event::{Event, Kind, Severity};
use super::super::stream::{Draft, Stream};
use super::listen::listen;
use super::notifier::Notifier;
use super::outbox::WAITING_MAX;
use crate::model::Name;
use crate::model::notify::{Address, Channel, Escalation, Least, Notifications, Until, Wants, Way};

pub(super) fn named(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// A channel that hears everything, at an address where nobody is.
pub(super) fn channel(name: &str) -> Channel {
    channel_at(name, "http://127.0.0.1:9/")
}

fn channel_at(name: &str, url: &str) -> Channel {
    Channel {
        name: named(name),
        way: Way::Webhook { url: Address::new(url).unwrap(), secret: None },
        wants: Wants { events: Vec::new(), least: Least::Info, services: Vec::new() },
        cooldown: Duration::from_secs(300),
        timeout: Duration::from_secs(5),
        attempts: 3,
        only_escalated: false,
    }
}

pub(super) fn event(id: u64, kind: Kind, severity: Severity) -> Event {
    Event {
        id,
        at_ms: id * 1_000,
        kind,
        severity,
        service: "engine".into(),
        rollout_id: Some("r".into()),
        who: "weir".into(),
        message: "something".into(),
        data: json!({}),
    }
}

fn draft(kind: Kind, severity: Severity) -> Draft {
    let Event { kind, severity, service, rollout_id, who, message, data, .. } = event(0, kind, severity);
    Draft { kind, severity, service, rollout_id, who, message, data }
}

/// A server that answers each request with the next of these statuses, the last one again and again; 0 is no answer.
struct Receiver {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn answering(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, asked) = (Arc::clone(&bodies), AtomicUsize::new(0));
        // It ends with the process.
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let status = statuses[asked.fetch_add(1, Ordering::Relaxed).min(statuses.len() - 1)];
                if status == 0 {
                    hanging.push(stream);
                    continue;
                }
                let text = read(&mut stream);
                kept.lock().unwrap().push(text);
                let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 4\r\nlocation: /\r\n\r\nsaid");
            }
        });
        Self { address, bodies }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?token=secret", self.address)
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

fn read(stream: &mut std::net::TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return body.to_owned();
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

struct Stage {
    notifier: Arc<Notifier>,
    stream: Arc<Stream>,
}

impl Stage {
    fn with(channels: Vec<Channel>, escalations: Vec<Escalation>) -> Self {
        let notifier = Arc::new(Notifier::new(Handle::current()));
        let stream = Arc::new(Stream::after(0));
        notifier.set(Notifications { channels, escalations });
        let (own, heard) = (Arc::clone(&notifier), Arc::clone(&stream));
        tokio::spawn(async move { listen(&own, &heard, |_| {}).await });
        Self { notifier, stream }
    }

    fn tell(&self, kind: Kind, severity: Severity) {
        drop(self.stream.tell(1, draft(kind, severity)));
    }

    #[track_caller]
    fn state(&self, name: &str) -> super::notifier::ChannelState {
        self.notifier.channels().into_iter().find(|state| state.channel.name.as_str() == name).expect("it is there")
    }

    /// Waits until it is so, at most 10 s.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what} never came: {:#?}", self.notifier.channels());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_neither_events_nor_other_channels_and_its_queue_is_bounded() {
    let (dead, alive) = (Receiver::answering(&[0]), Receiver::answering(&[204]));
    let quick = |name, url: String| Channel { cooldown: Duration::ZERO, ..channel_at(name, &url) };
    let stage = Stage::with(vec![quick("dead", dead.url()), quick("alive", alive.url())], Vec::new());
    let began = Instant::now();
    for _ in 0..400 {
        stage.tell(Kind::Alarm, Severity::Critical);
        // As a runner would go on: the listener gets its turn now and then.
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    stage
        .until("everything that was kept", |stage| {
            let alive = stage.state("alive");
            alive.sent + alive.dropped == 400 && alive.waiting == 0
        })
        .await;
    let dead = stage.state("dead");
    assert_eq!((dead.sent, dead.waiting, dead.dropped), (0, WAITING_MAX, 400 - WAITING_MAX as u64));
    assert_eq!(stage.notifier.missed(), 0);
    let last = alive.bodies().pop().unwrap();
    assert!(last.contains("\"id\":400,"), "the newest are kept: {last}");
}

#[tokio::test]
async fn what_will_not_be_taken_is_not_tried_again_and_the_next_one_is_sent() {
    let receiver = Receiver::answering(&[404, 302, 200]);
    let channel = Channel { cooldown: Duration::ZERO, ..channel_at("ops", &receiver.url()) };
    let stage = Stage::with(vec![channel], Vec::new());
    (0..3).for_each(|_| stage.tell(Kind::Alarm, Severity::Info));
    stage.until("the third", |stage| stage.state("ops").sent == 1).await;
    let state = stage.state("ops");
    assert_eq!((state.failed, state.retried, receiver.bodies().len()), (2, 0, 3));
    let (_, why) = state.error.unwrap();
    assert!(why.contains("302") && !why.contains("secret"), "{why}");
}

#[tokio::test]
async fn what_waits_for_a_channel_is_sent_by_its_new_settings_and_not_at_all_when_it_is_taken_out() {
    let (dead, alive) = (Receiver::answering(&[0]), Receiver::answering(&[200]));
    let stage = Stage::with(vec![channel_at("ops", &dead.url()), channel_at("old", &dead.url())], Vec::new());
    stage.tell(Kind::Alarm, Severity::Info);
    stage.until("both wait", |stage| stage.state("ops").waiting + stage.state("old").waiting == 2).await;
    let channels = vec![channel_at("ops", &alive.url())];
    stage.notifier.set(Notifications { channels, escalations: Vec::new() });
    stage.until("it is sent", |stage| stage.state("ops").sent == 1).await;
    assert_eq!((stage.notifier.channels().len(), alive.bodies().len()), (1, 1));
}

#[tokio::test]
async fn what_was_held_back_is_told_when_the_cooldown_is_over() {
    let receiver = Receiver::answering(&[200]);
    let channel = Channel { cooldown: Duration::from_millis(300), ..channel_at("ops", &receiver.url()) };
    let stage = Stage::with(vec![channel], Vec::new());
    (0..5).for_each(|_| stage.tell(Kind::GateChanged, Severity::Warning));
    stage.until("the first and the newest", |stage| stage.state("ops").sent == 2).await;
    let bodies = receiver.bodies();
    assert!(bodies[0].contains("\"id\":1,") && bodies[0].contains("\"heldBack\":0"), "{bodies:?}");
    assert!(bodies[1].contains("\"id\":5,") && bodies[1].contains("\"heldBack\":3"), "{bodies:?}");
    assert_eq!(stage.state("ops").held_back, 4);
}

#[tokio::test]
async fn what_nobody_looks_at_is_escalated_and_what_somebody_acknowledges_is_not() {
    let receiver = Receiver::answering(&[200]);
    let boss = Channel { only_escalated: true, ..channel_at("boss", &receiver.url()) };
    let rule = Escalation {
        wants: Wants { least: Least::Critical, ..boss.wants.clone() },
        after: Duration::from_millis(200),
        channels: vec![named("boss")],
        until: Until::Ended,
    };
    let stage = Stage::with(vec![boss], vec![rule]);
    stage.tell(Kind::Alarm, Severity::Critical);
    stage.until("it is open", |stage| stage.notifier.open().len() == 1).await;
    assert_eq!(stage.notifier.acknowledge(|event| event.service == "shop"), 0);
    assert_eq!(stage.notifier.acknowledge(|event| event.service == "engine"), 1);
    stage.tell(Kind::Alarm, Severity::Critical);
    stage.until("the second is told", |stage| stage.state("boss").sent == 1).await;
    let bodies = receiver.bodies();
    assert!(bodies.len() == 1 && bodies[0].contains("\"escalation\":{"), "{bodies:?}");
    assert!(stage.notifier.open().is_empty());
}

#[tokio::test]
async fn a_test_tries_each_channel_once_and_says_how_it_went() {
    let (dead, alive) = (Receiver::answering(&[503]), Receiver::answering(&[200]));
    let stage = Stage::with(vec![channel_at("dead", &dead.url()), channel_at("alive", &alive.url())], Vec::new());
    let event = Arc::new(event(0, Kind::Alarm, Severity::Info));
    let tried = stage.notifier.test(None, &event).await;
    assert_eq!(tried.iter().map(|tried| &*tried.channel).collect::<Vec<_>>(), ["alive", "dead"]);
    assert_eq!(tried[0].error, None);
    assert_eq!(tried[1].error.as_deref(), Some("answered 503: said"));
    assert_eq!(stage.notifier.test(Some("alive"), &event).await.len(), 1);
    assert_eq!((dead.bodies().len(), alive.bodies().len()), (1, 2));
}
