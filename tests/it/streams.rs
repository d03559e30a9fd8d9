//! Long streams: what becomes of them when the weight of their pool goes to 0, how they are closed, and where they are
//! seen.

use std::time::{Duration, Instant};

use crate::harness::ws::{CLOSE, TEXT, frame, read_frame};
use crate::harness::{
    Act, Behaviour, Client, End, H2Upstream, Setup, Shape, Then, Upstream, Weir, WsUpstream, eventually,
};

const SOON: Duration = Duration::from_secs(4);

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                      9\r\ndata: 1\n\n\r\n";

fn pair(stable: &str, canary: &str, streams: &str) -> Setup {
    Setup::new()
        .workers(1)
        .pool_at("stable", &[stable])
        .pool_at("canary", &[canary])
        .split([0, 1])
        .table("health", "kind = \"off\"")
        .service(streams)
}

/// A client with a WebSocket open, on whatever pool the weights say.
#[track_caller]
fn socket(weir: &Weir) -> Client {
    let mut client = weir.client().lenient();
    client.send(format!("{ASK}\r\n").as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 101);
    client
}

#[track_caller]
fn echoes(client: &mut Client, text: &str) {
    client.send(&frame(TEXT, text.as_bytes(), true)).expect("it is sent");
    assert_eq!(read_frame(client.wire(), false).expect("a frame"), (TEXT, text.as_bytes().to_vec()));
}

/// The code of the Close frame that comes next, which is answered.
#[track_caller]
fn closed(client: &mut Client) -> u16 {
    let (opcode, payload) = read_frame(client.wire(), false).expect("a frame");
    assert_eq!((opcode, payload.len()), (CLOSE, 2));
    client.send(&frame(CLOSE, &payload, true)).expect("it is sent");
    u16::from_be_bytes([payload[0], payload[1]])
}

fn gauge(weir: &Weir, pool: &str, kind: &str) -> f64 {
    weir.metrics().sum("weir_long_streams", &[("pool", pool), ("kind", kind)])
}

#[test]
fn sockets_of_a_pool_that_goes_to_zero_are_closed_in_order_and_those_of_other_pools_stay() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let weir = pair(&stable.url(), &canary.url(), "streams_drain = \"1s\"").start();
    let mut leaving: Vec<_> = (0..20).map(|_| socket(&weir)).collect();
    weir.put_split([1, 1]);
    let mut mixed: Vec<_> = (0..20).map(|_| socket(&weir)).collect();
    let (on_stable, on_canary) = (stable.open(), canary.open());
    assert!(on_stable > 0 && on_canary > 20, "both pools have some: {on_stable} {on_canary}");
    let began = Instant::now();
    weir.put_split([1, 0]);
    let mut ends: Vec<Duration> = Vec::new();
    for client in &mut leaving {
        assert_eq!(closed(client), 1001, "going away");
        assert!(client.closed_within(SOON));
        ends.push(began.elapsed());
    }
    eventually("the canary has none left", SOON, || canary.open() == 0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(canary.ended(), vec![Ok(1001); on_canary], "each was told by a Close frame");
    assert!(ends[19] - ends[0] > Duration::from_millis(200), "they are spread: {ends:?}");
    assert_eq!((stable.open(), stable.ended().len()), (on_stable, 0));
    let still = mixed.iter_mut().filter_map(|client| {
        client.send(&frame(TEXT, b"still", true)).ok()?;
        read_frame(client.wire(), false).ok().filter(|(opcode, _)| *opcode == TEXT)
    });
    assert_eq!(still.count(), on_stable);
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_long_streams_closed_total", &[("pool", "canary")]), on_canary as f64);
    assert_eq!(metrics.sum("weir_upstream_errors_total", &[]), 0.0, "nobody is to blame");
}

#[test]
fn every_way_to_zero_counts_file_api_rollback_and_kill() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let weir = pair(&stable.url(), &canary.url(), "on_zero_streams = \"close\"").start();
    let ways: [(&str, &dyn Fn()); 4] = [
        ("file", &|| weir.save_split([1, 0])),
        ("api", &|| drop(weir.put_split([1, 0]))),
        ("rollback", &|| drop(weir.rollback("broken"))),
        ("kill", &|| assert_eq!(weir.verb(&["kill", "engine", "--reason", "test"]).0, Some(0))),
    ];
    for (way, go) in ways {
        weir.put_split([0, 1]);
        let mut client = socket(&weir);
        echoes(&mut client, way);
        let began = Instant::now();
        go();
        assert_eq!(closed(&mut client), 1001, "{way}");
        assert!(client.closed_within(SOON), "{way}");
        assert!(began.elapsed() < Duration::from_secs(2), "{way}: {:?}", began.elapsed());
    }
}

#[test]
fn keep_keeps_and_a_pool_may_say_otherwise_than_its_service() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let setup = pair(&stable.url(), &canary.url(), "on_zero_streams = \"keep\"");
    let weir = setup.start();
    let mut kept = socket(&weir);
    weir.put_split([1, 0]);
    std::thread::sleep(Duration::from_millis(400));
    echoes(&mut kept, "still here");
    let text = setup.config_text().replace("pools.canary]\n", "pools.canary]\non_zero_streams = \"close\"\n");
    weir.save_config(&text);
    assert_eq!(weir.admin("POST", "/api/v1/reload", &[], "{}").status, 200);
    std::thread::sleep(Duration::from_millis(200));
    echoes(&mut kept, "its weight did not change");
    weir.put_split([0, 1]);
    echoes(&mut kept, "nor did this close it");
    weir.put_split([1, 0]);
    assert_eq!(closed(&mut kept), 1001);
}

#[test]
fn what_was_opened_at_zero_stays_and_a_weight_that_comes_back_stops_the_closing() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let weir = pair(&stable.url(), &canary.url(), "streams_drain = \"1h\"\ndirect_paths = true").start();
    let mut moved: Vec<_> = (0..3).map(|_| socket(&weir)).collect();
    weir.put_split([1, 0]);
    let draining = || weir.metrics().sum("weir_long_streams_draining", &[("pool", "canary")]);
    eventually("they are about to be closed", SOON, || draining() == 3.0);
    let mut named = weir.client().lenient();
    named.send(format!("{}\r\n", ASK.replace("/ws", "/canary/ws")).as_bytes()).expect("it is sent");
    assert_eq!(named.answer().expect("an answer").status, 101);
    eventually("it is seen", SOON, || gauge(&weir, "canary", "websocket") == 4.0);
    assert_eq!(draining(), 3.0, "what asked for the pool by name at weight 0 stays");
    weir.put_split([1, 1]);
    eventually("nothing is about to be closed", SOON, || draining() == 0.0);
    moved.iter_mut().for_each(|client| echoes(client, "here to stay"));
    echoes(&mut named, "and this");
}

#[test]
fn a_frame_under_way_comes_whole_before_the_close() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let weir = pair(&stable.url(), &canary.url(), "on_zero_streams = \"close\"").start();
    let mut client = socket(&weir);
    let message = vec![b'm'; 100_000];
    let bytes = frame(TEXT, &message, true);
    client.send(&bytes[..50_000]).expect("it is sent");
    weir.put_split([1, 0]);
    std::thread::sleep(Duration::from_millis(200));
    // The endpoint has nothing of the message yet, so the client is told first; its frame still ends.
    let (opcode, payload) = read_frame(client.wire(), false).expect("a frame");
    assert_eq!((opcode, payload), (CLOSE, 1001_u16.to_be_bytes().to_vec()));
    client.send(&bytes[50_000..]).expect("it is sent");
    client.send(&frame(CLOSE, &1001_u16.to_be_bytes(), true)).expect("it is sent");
    assert!(client.closed_within(SOON));
    eventually("the endpoint was told behind the frame", SOON, || canary.ended() == [Ok(1001)]);
}

#[test]
fn what_is_no_websocket_is_closed_without_a_byte_put_in() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    canary.behave_on("/ws", Behaviour::Raw(switch.as_bytes().to_vec(), Then::Echo));
    let weir = pair(&stable.url(), &canary.url(), "on_zero_streams = \"close\"").start();
    let mut client = socket(&weir);
    client.send(b"plain text").expect("it is sent");
    let mut back = Vec::new();
    client.wire().exactly(10, &mut back).expect("it comes back");
    weir.put_split([1, 0]);
    let (rest, ended) = client.rest(SOON);
    assert_eq!((rest, ended), (Vec::new(), true));
    eventually("the endpoint is let go", SOON, || canary.open() == 0);
}

#[test]
fn events_end_as_a_cut_answer_so_that_the_client_comes_back_to_the_other_pool() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    for upstream in [&stable, &canary] {
        upstream.behave_on("/events", Behaviour::Raw(EVENTS.as_bytes().to_vec(), Then::Hold));
    }
    let weir = pair(&stable.url(), &canary.url(), "streams_drain = \"300ms\"").start();
    let mut client = weir.client().lenient();
    client.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let head = client.head();
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    let mut h2 = weir.h2();
    let answer = std::thread::scope(|scope| {
        let events = scope.spawn(|| h2.get("/events"));
        eventually("both are seen", SOON, || gauge(&weir, "canary", "events") == 2.0);
        weir.put_split([1, 0]);
        events.join().expect("an answer that was cut")
    });
    assert!(answer.cut.is_some(), "it does not look whole: {answer:?}");
    let (rest, ended) = client.rest(SOON);
    assert!(ended && rest.starts_with(b"9\r\ndata: 1\n\n\r\n") && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    let mut again = weir.client().lenient();
    again.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    again.head();
    eventually("it is on stable", SOON, || gauge(&weir, "stable", "events") == 1.0);
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0);
}

#[test]
fn answers_of_http_2_endpoints_end_too_and_calls_end_with_a_status() {
    let (stable, canary) = (H2Upstream::named("stable"), H2Upstream::named("canary"));
    let hold = |kind: &str| Act::Hold(Shape::status(200).field("content-type", kind).body(b"data: 1\n\n"));
    canary.behave_on("/events", hold("text/event-stream"));
    canary.behave_on("/call", hold("application/grpc"));
    let weir = pair(&stable.url(), &canary.url(), "on_zero_streams = \"close\"").start();
    let mut client = weir.client().lenient();
    client.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    client.head();
    let (mut h2, mut grpc) = (weir.h2(), weir.h2());
    let (events, call) = std::thread::scope(|scope| {
        let events = scope.spawn(|| h2.get("/events"));
        let call = scope.spawn(|| grpc.ask("POST", "/call", &[("content-type", "application/grpc")], b"x"));
        eventually("all are there", SOON, || canary.count() == 3 && gauge(&weir, "canary", "events") == 2.0);
        weir.put_split([1, 0]);
        (events.join().expect("an answer"), call.join().expect("no panic").expect("an answer"))
    });
    assert!(events.cut.is_some(), "{events:?}");
    // A call may be about to end, so it is given a moment first.
    assert_eq!((call.cut.clone(), call.trailer("grpc-status")), (None, Some("14")), "{call:?}");
    let (rest, ended) = client.rest(SOON);
    assert!(ended && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    eventually("the endpoint's streams are reset", SOON, || {
        canary.seen().iter().filter(|seen| seen.reset.is_some()).count() == 3
    });
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0);
}

#[test]
fn an_answer_of_known_length_is_left_to_end() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let (pieces, piece, pause) = (8, 1000, Duration::from_millis(100));
    canary.behave_on("/file", Behaviour::SlowBody { pieces, piece, pause });
    let weir = pair(&stable.url(), &canary.url(), "on_zero_streams = \"close\"").start();
    let mut client = weir.client();
    client.send(b"GET /file HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is under way", SOON, || canary.count() == 1);
    weir.put_split([1, 0]);
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.body.len(), answer.end), (8000, End::Whole));
}

#[test]
fn status_lists_long_streams_by_pool_and_kind() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let weir = pair(&stable.url(), &canary.url(), "streams_drain = \"1h\"").start();
    let _sockets: Vec<_> = (0..3).map(|_| socket(&weir)).collect();
    weir.put_split([1, 0]);
    let canary = || weir.status()["services"][0]["pools"][1]["streams"][0].clone();
    eventually("three are about to be closed", SOON, || canary()["draining"] == 3);
    eventually("their age is told", SOON, || canary()["oldest_s"] == 1);
    assert_eq!((canary()["kind"].as_str(), canary()["running"].as_u64()), (Some("websocket"), Some(3)));
    let (code, out, _) = weir.verb(&["status"]);
    assert!(code == Some(0) && out.contains("long streams: 3 websocket (oldest "), "{out}");
    assert!(out.contains("3 about to be closed"), "{out}");
}

#[test]
fn a_silent_tunnel_ends_after_its_idle_time_and_half_of_one_after_that_of_a_body() {
    let stable = WsUpstream::named("stable");
    let setup = Setup::new().workers(1).pool_at("stable", &[&stable.url()]).table("health", "kind = \"off\"");
    let weir = setup.table("timeouts", "tunnel_idle = \"600ms\"\nidle = \"300ms\"").start();
    let mut client = socket(&weir);
    let began = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        echoes(&mut client, "not idle");
    }
    assert!(began.elapsed() > Duration::from_millis(700));
    let silent = Instant::now();
    assert!(client.closed_within(SOON));
    assert!(silent.elapsed() > Duration::from_millis(500), "{:?}", silent.elapsed());
    eventually("the endpoint is let go", SOON, || stable.open() == 0);
    // Half of a tunnel: this endpoint says nothing and never ends its side.
    let silent = Upstream::named("silent");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    silent.behave_on("/ws", Behaviour::Raw(switch.as_bytes().to_vec(), Then::Freeze));
    let weir = Setup::single(&silent).table("timeouts", "idle = \"300ms\"").start();
    let mut client = socket(&weir);
    client.wire().stream().shutdown(std::net::Shutdown::Write).expect("it can be shut");
    assert!(client.closed_within(SOON), "half a tunnel does not stay for ever");
}

#[test]
fn half_of_a_tunnel_carries_on_while_it_is_used() {
    let stable = Upstream::named("stable");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stable.behave_on("/ws", Behaviour::Raw([switch.as_bytes(), &vec![b'x'; 3_000_000]].concat(), Then::Echo));
    let weir = Setup::single(&stable).start();
    let mut client = socket(&weir);
    client.send(b"last words").expect("it is sent");
    client.wire().stream().shutdown(std::net::Shutdown::Write).expect("it can be shut");
    let mut all = Vec::new();
    client.wire().exactly(3_000_010, &mut all).expect("all of it comes");
    assert!(all.ends_with(b"last words"));
    assert!(client.closed_within(SOON));
}

/// An endpoint by hand that sends an event only when it is told to, in chunks.
fn events_on_cue() -> (String, std::sync::mpsc::Sender<()>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (cue, cues) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("weir connects");
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            seen.push(byte[0]);
        }
        let head = EVENTS.split_once("\r\n\r\n").expect("a head").0;
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("weir reads");
        while cues.recv().is_ok() {
            let _ = stream.write_all(b"9\r\ndata: 1\n\n\r\n");
        }
        let _ = stream.write_all(b"0\r\n\r\n");
    });
    (url, cue)
}

#[test]
fn an_event_is_there_before_the_next_one_is_sent() {
    let (url, cue) = events_on_cue();
    let weir = Setup::new().workers(1).pool_at("stable", &[&url]).table("health", "kind = \"off\"").start();
    let mut client = weir.client().lenient();
    client.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    assert_eq!(client.head().field("transfer-encoding"), Some("chunked"), "the head does not wait for an event");
    for _ in 0..3 {
        cue.send(()).expect("it listens");
        let mut event = Vec::new();
        client.wire().exactly(14, &mut event).expect("it comes at once");
        assert_eq!(event, b"9\r\ndata: 1\n\n\r\n");
    }
    drop(cue);
    let mut end = Vec::new();
    client.wire().exactly(5, &mut end).expect("the end comes");
    assert_eq!(end, b"0\r\n\r\n");
}
