//! WebSockets where one of the ends, or both, speak HTTP/2 (RFC 8441).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;

use crate::harness::frames::{
    self, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawEndpoint, SETTINGS, WINDOW_UPDATE, setting,
};
use crate::harness::h2_socket::{H2Socket, H2SocketUpstream, ask};
use crate::harness::ws::{self, CLOSE, TEXT, WsUpstream, frame};
use crate::harness::{Behaviour, Client, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(4);

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: chat\r\n\r\n";

fn to(url: &str) -> Weir {
    Setup::new().workers(1).pool_at("stable", &[url]).table("health", "kind = \"off\"").start()
}

fn open(weir: &Weir, path: &str) -> H2Socket {
    H2Socket::open(weir.address(), ask(path, Some("websocket"))).expect("an answer")
}

/// What an HTTP/1 client gets when it asks for an upgrade.
fn upgrade(weir: &Weir, path: &str) -> (Client, crate::harness::Answer) {
    let mut client = weir.client().lenient();
    client.send(ASK.replace("/ws", path).as_bytes()).expect("it is sent");
    let answer = client.answer().expect("an answer");
    (client, answer)
}

#[test]
fn an_extended_connect_becomes_an_upgrade_at_an_http_1_endpoint() {
    let stable = WsUpstream::named("stable");
    let weir = to(&stable.url());
    let mut request = ask("/ws?room=1", Some("websocket"));
    for (name, value) in [("sec-websocket-protocol", "chat"), ("sec-websocket-key", "the client's"), ("cookie", "a=1")]
    {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let mut socket = H2Socket::open(weir.address(), request).expect("an answer");
    assert_eq!((socket.status(), socket.field("x-upstream")), (200, Some("stable")));
    assert_eq!((socket.field("sec-websocket-protocol"), socket.field("sec-websocket-accept")), (Some("chat"), None));
    assert_eq!((socket.field("upgrade"), socket.field("connection")), (None, None));
    let head = &stable.heads()[0];
    assert_eq!(head.start, "GET /ws?room=1 HTTP/1.1");
    for (name, value) in [("host", "test"), ("upgrade", "websocket"), ("connection", "upgrade"), ("cookie", "a=1")] {
        assert_eq!(head.all(name), [value], "{name}");
    }
    let key = head.all("sec-websocket-key");
    assert!(key.len() == 1 && key[0].len() == 24 && key[0] != "the client's", "{key:?}");
    for text in ["hello", &"x".repeat(300_000), "again"] {
        socket.say(&frame(TEXT, text.as_bytes(), true));
        let back = frame(TEXT, text.as_bytes(), false);
        assert_eq!(socket.hear(back.len()), back);
    }
    socket.say(&frame(CLOSE, &1000_u16.to_be_bytes(), true));
    assert_eq!(socket.hear(4), frame(CLOSE, &1000_u16.to_be_bytes(), false));
    assert_eq!(socket.ended(), Ok(()), "the endpoint's FIN is the end of the stream");
    assert_eq!(stable.ended(), [Ok(1000)]);
    let lines = weir.metrics();
    assert_eq!(lines.sum("weir_upstream_errors_total", &[]), 0.0);
}

#[test]
fn an_endpoint_that_refuses_is_heard_and_one_that_grants_falsely_is_not_believed() {
    let stable = WsUpstream::named("stable");
    let weir = to(&stable.url());
    let mut socket = open(&weir, "/refused");
    assert_eq!((socket.status(), socket.hear(4)), (403, b"no!\n".to_vec()));
    stable.answer_wrongly();
    let socket = open(&weir, "/ws");
    assert_eq!(socket.status(), 502);
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 1.0);
    // A 200 would say that there is a tunnel.
    let page = Upstream::named("page");
    let weir = to(&page.url());
    assert_eq!(open(&weir, "/ws").status(), 501);
    assert_eq!(page.last().target, "/ws");
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0, "it did nothing wrong");
    assert_eq!(weir.h2().get("/").status, 200);
}

#[test]
fn resets_and_ends_of_either_side_reach_the_other() {
    let stable = Upstream::named("stable");
    let weir = to(&stable.url());
    // The key is not known before, so the answer is made for it.
    stable.behave(Behaviour::chosen(|head, _| {
        let accept = ws::accept(head.field("sec-websocket-key").unwrap_or_default());
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        Behaviour::Raw(switch.into_bytes(), if head.start.contains("/reset") { Then::Reset } else { Then::Echo })
    }));
    let mut socket = open(&weir, "/ws");
    socket.say(b"bytes");
    assert_eq!(socket.hear(5), b"bytes");
    socket.end();
    assert_eq!(socket.ended(), Ok(()), "the end of one side is the end of the other, which echoes");
    eventually("the endpoint is let go", SOON, || stable.open() == 0);
    let mut socket = open(&weir, "/ws");
    socket.say(b"bytes");
    assert_eq!(socket.hear(5), b"bytes");
    socket.reset(Reason::CANCEL);
    eventually("the endpoint is let go", SOON, || stable.open() == 0);
    let mut socket = open(&weir, "/reset");
    assert_eq!(socket.ended(), Err(Some(Reason::CANCEL)), "a reset of the endpoint is one of the stream");
}

#[test]
fn both_ends_may_speak_http_2() {
    let upstream = H2SocketUpstream::new(true);
    let weir = to(&upstream.url());
    let mut socket = open(&weir, "/ws");
    assert_eq!((socket.status(), socket.field("x-upstream")), (200, Some("h2")));
    let head = &upstream.heads()[0];
    let protocol = head.extensions.get::<h2::ext::Protocol>().expect("a protocol");
    assert_eq!((head.method.as_str(), protocol.as_str(), head.uri.path()), ("CONNECT", "websocket", "/ws"));
    let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((field("sec-websocket-version"), field("sec-websocket-key")), (Some("13"), None));
    assert_eq!((field("upgrade"), field("x-forwarded-for")), (None, Some("127.0.0.1")));
    let long = vec![b'l'; 2_000_000];
    socket.say(&long);
    assert!(socket.hear(long.len()) == long, "flow control lets all of it through");
    socket.end();
    assert_eq!(socket.ended(), Ok(()));
    eventually("in order", SOON, || upstream.ended() == [None]);
    let mut socket = open(&weir, "/ws");
    socket.say(b"x");
    socket.hear(1);
    socket.reset(Reason::CANCEL);
    eventually("the reset arrives", SOON, || upstream.ended() == [None, Some(Reason::CANCEL)]);
    let mut socket = open(&weir, "/cut");
    socket.say(b"x");
    assert_eq!(socket.ended(), Err(Some(Reason::CANCEL)));
    let mut refused = open(&weir, "/refused");
    assert_eq!((refused.status(), refused.hear(4)), (403, b"no!\n".to_vec()));
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0);
}

#[test]
fn an_http_1_client_reaches_an_http_2_endpoint() {
    let upstream = H2SocketUpstream::new(true);
    let weir = to(&upstream.url());
    let (mut client, answer) = upgrade(&weir, "/ws");
    assert_eq!((answer.status, answer.upstream()), (101, "h2"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(answer.field("upgrade").is_some_and(|it| it == "websocket"), "{:?}", answer.head);
    let protocol = upstream.heads()[0].headers.get("sec-websocket-protocol").cloned();
    assert_eq!(protocol.as_ref().map(|it| it.as_bytes()), Some(&b"chat"[..]));
    let text = "y".repeat(400_000);
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let mut stream = client.wire().stream().try_clone().expect("a socket can be cloned");
        let sent = text.as_bytes();
        scope.spawn(move || std::io::Write::write_all(&mut stream, sent).expect("it is sent"));
        client.wire().exactly(400_000, &mut back).expect("it comes back");
    });
    assert!(back == text.as_bytes());
    client.wire().stream().shutdown(std::net::Shutdown::Write).expect("it can be shut");
    assert!(client.closed_within(SOON));
    eventually("in order", SOON, || upstream.ended() == [None]);
    let (_, answer) = upgrade(&weir, "/refused");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no!\n"));
}

#[test]
fn an_http_2_endpoint_that_does_not_allow_it_is_asked_as_by_a_proxy_that_cannot() {
    let upstream = H2SocketUpstream::new(false);
    let weir = to(&upstream.url());
    let (_, answer) = upgrade(&weir, "/ws");
    assert_eq!((answer.status, upstream.heads()[0].method.as_str()), (403, "GET"), "what it says is its own");
    assert_eq!(open(&weir, "/ws").status(), 403);
    assert_eq!(open(&weir, "/plain").status(), 501, "its 200 grants nothing");
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0);
}

#[test]
fn what_is_no_websocket_is_refused_by_a_status_of_its_own() {
    let stable = WsUpstream::named("stable");
    let weir = to(&stable.url());
    let status = |request| H2Socket::open(weir.address(), request).expect("an answer").status();
    assert_eq!(status(ask("/ws", Some("connect-udp"))), 501, "a protocol that is not known");
    let mut old = ask("/ws", Some("websocket"));
    old.headers_mut().insert("sec-websocket-version", "8".parse().expect("a value"));
    assert_eq!(status(old), 400);
    let mut plain = ask("", None);
    *plain.uri_mut() = "test:80".parse().expect("an authority");
    assert_eq!(status(plain), 405, "a plain CONNECT");
    let mut client = weir.client();
    client.send(b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.field("allow").is_some()), (405, true));
    assert_eq!(stable.heads().len(), 0, "nothing of it goes anywhere");
}

#[test]
fn routes_weights_and_drains_see_a_websocket_over_http_2_as_any_other() {
    let (stable, canary) = (WsUpstream::named("stable"), WsUpstream::named("canary"));
    let setup = Setup::new().workers(1).pool_at("stable", &[&stable.url()]).pool_at("canary", &[&canary.url()]);
    let setup = setup.split([0, 1]).table("health", "kind = \"off\"").service("on_zero_streams = \"close\"");
    let weir = setup.start();
    let mut socket = open(&weir, "/ws");
    assert_eq!(socket.field("x-upstream"), Some("canary"));
    eventually("it is seen", SOON, || {
        weir.metrics().sum("weir_long_streams", &[("pool", "canary"), ("kind", "websocket")]) == 1.0
    });
    weir.put_split([1, 0]);
    assert_eq!(socket.hear(4), frame(CLOSE, &1001_u16.to_be_bytes(), false));
    socket.say(&frame(CLOSE, &1001_u16.to_be_bytes(), true));
    assert_eq!(socket.ended(), Ok(()));
    eventually("the endpoint was told", SOON, || canary.ended() == [Ok(1001)]);
    assert_eq!(open(&weir, "/ws").field("x-upstream"), Some("stable"));
}

#[test]
fn what_a_client_says_last_reaches_an_endpoint_that_has_ended_and_takes_its_time() {
    const BYTES: usize = 70_000;
    let heard = Arc::new(Mutex::new(None));
    let hears = Arc::clone(&heard);
    let endpoint = RawEndpoint::serving(move |raw, _| {
        let _ = raw.send(&frames::frame(SETTINGS, 0, 0, &setting(8, 1)));
        let (mut bytes, mut asked) = (0, 0);
        while let Ok(Some(came)) = raw.next() {
            match came.kind {
                // The first request finds out what the endpoint takes.
                HEADERS => {
                    asked += 1;
                    let end = if asked == 1 { END_STREAM } else { 0 };
                    let head = frames::literal(":status", "200");
                    let _ = raw.send(&frames::frame(HEADERS, END_HEADERS | end, came.stream, &head));
                    if asked > 1 {
                        let _ = raw.send(&frames::frame(DATA, END_STREAM, came.stream, b"bye"));
                    }
                }
                DATA => {
                    bytes += came.payload.len();
                    if came.flags & END_STREAM != 0 {
                        *hears.lock().expect("no panic") = Some(Ok(bytes));
                    } else if bytes == 65_535 {
                        std::thread::sleep(Duration::from_millis(300));
                        let more = u32::to_be_bytes(100_000);
                        for stream in [0, came.stream] {
                            let _ = raw.send(&frames::frame(WINDOW_UPDATE, 0, stream, &more));
                        }
                    }
                }
                RST_STREAM => *hears.lock().expect("no panic") = Some(Err(came.code())),
                _ => {}
            }
        }
    });
    let weir = to(&endpoint.url());
    assert_eq!(weir.h2().get("/").status, 200);
    let mut socket = open(&weir, "/ws");
    assert_eq!((socket.status(), socket.ended(), socket.rest()), (200, Ok(()), &b"bye"[..]));
    socket.say(&[7; BYTES]);
    socket.end();
    eventually("the endpoint has heard the end", SOON, || heard.lock().expect("no panic").is_some());
    assert_eq!(*heard.lock().expect("no panic"), Some(Ok(BYTES)));
}
