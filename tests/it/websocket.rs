//! WebSockets: a tunnel only after the upstream's 101, kept through every change, and ended with the process.

use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Client, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      x-upstream: stable\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An upstream that grants the upgrade and sends every byte back.
fn granting(name: &str) -> Upstream {
    let upstream = Upstream::named(name);
    upstream.behave_on("/ws", Behaviour::Raw(SWITCH.as_bytes().to_vec(), Then::Echo));
    upstream
}

/// A client with its tunnel open.
#[track_caller]
fn tunnel(weir: &Weir) -> Client {
    let mut client = weir.client().lenient();
    client.send(ASK.as_bytes()).expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, 101);
    assert!(answer.field("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket")), "{:?}", answer.head);
    client
}

#[track_caller]
fn echoes(client: &mut Client, text: &str) {
    client.send(text.as_bytes()).expect("it is sent");
    let mut back = Vec::new();
    client.wire().exactly(text.len() as u64, &mut back).expect("it comes back");
    assert_eq!(back, text.as_bytes());
}

#[test]
fn a_granted_upgrade_passes_bytes_both_ways() {
    let stable = granting("stable");
    let weir = Setup::single(&stable).start();
    let mut client = tunnel(&weir);
    echoes(&mut client, "hello");
    echoes(&mut client, &"x".repeat(300_000));
    for byte in ["a", "b", "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"] {
        echoes(&mut client, byte);
    }
    assert_eq!(stable.count(), 1, "what is in the tunnel is no request");
    drop(client);
    eventually("the upstream is let go", SOON, || stable.open() == 0 || stable.left(1).is_some());
}

#[test]
fn bytes_sent_right_behind_the_request_arrive_in_the_tunnel() {
    let stable = granting("stable");
    let weir = Setup::single(&stable).start();
    let mut client = weir.client().lenient();
    client.send(format!("{ASK}early").as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 101);
    let mut back = Vec::new();
    client.wire().exactly(5, &mut back).expect("it comes back");
    assert_eq!(back, b"early");
}

#[test]
fn a_tunnel_outlives_every_change_of_weights_and_configuration() {
    let (stable, canary) = (granting("stable"), granting("canary"));
    let setup = Setup::pair(&stable, &canary, [1, 0]).service("on_zero_streams = \"keep\"");
    let weir = setup.start();
    let mut client = tunnel(&weir);
    for turn in 0..5 {
        weir.put_split([u32::from(turn % 2 == 0), u32::from(turn % 2 == 1)]);
        weir.save_config(&format!("# {turn}\n{}", setup.config_text()));
        assert_eq!(weir.admin("POST", "/api/v1/reload", &[], "{}").status, 200);
        echoes(&mut client, "still here");
    }
    assert_eq!(stable.count() + canary.count(), 1);
}

#[test]
fn an_answer_other_than_101_leaves_a_connection_for_requests() {
    for status in [200, 400, 426] {
        let stable = Upstream::named("stable");
        let weir = Setup::single(&stable).start();
        stable.behave_on("/ws", Behaviour::status(status));
        let mut client = weir.client();
        client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("it is sent");
        assert_eq!(client.answer().expect("an answer").status, status);
        if let Ok(next) = client.answer() {
            assert_eq!((next.status, stable.last().target.as_str()), (200, "/next"), "{status}");
        }
        assert_eq!(stable.last().head.all("host"), ["test"], "{status}: it was read as a request of its own");
    }
}

#[test]
fn another_protocol_than_the_one_asked_for_is_a_502() {
    for answer in [SWITCH.replace("Upgrade: websocket", "Upgrade: h2c"), SWITCH.replace("Upgrade: websocket\r\n", "")] {
        let stable = Upstream::named("stable");
        let weir = Setup::single(&stable).start();
        stable.behave_on("/ws", Behaviour::Raw(answer.clone().into_bytes(), Then::Echo));
        let mut client = weir.client().lenient();
        client.send(ASK.as_bytes()).expect("it is sent");
        assert_eq!(client.answer().expect("an answer").status, 502, "{answer}");
    }
}

#[test]
fn a_vanished_upstream_ends_the_tunnel_and_a_vanished_client_frees_the_upstream() {
    let stable = granting("stable");
    let weir = Setup::single(&stable).start();
    let mut client = tunnel(&weir);
    echoes(&mut client, "hello");
    stable.drop_connections();
    assert!(client.closed_within(SOON));
    let gone = tunnel(&weir);
    let connection = stable.last().connection;
    gone.reset();
    eventually("the upstream is let go", SOON, || stable.left(connection).is_some());
}

#[test]
fn sigterm_with_open_tunnels_ends_at_the_deadline() {
    let stable = granting("stable");
    let mut weir = Setup::single(&stable).text("[limits]\ndrain = \"1s\"").start();
    let mut clients: Vec<_> = (0..4).map(|_| tunnel(&weir)).collect();
    let began = Instant::now();
    weir.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    clients.iter_mut().for_each(|client| echoes(client, "until the deadline"));
    let status = weir.ended_within(SOON).expect("it ends");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_millis(2_000), "{took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(clients.iter_mut().all(|client| client.closed_within(SOON)));
}
