//! gRPC: calls of all four kinds go through, their outcome is read where it stands, and weir's own answers are theirs.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, handshake};
use h2::{RecvStream, SendStream};

use crate::harness::h2c::Answer2;
use crate::harness::{Act, H2Upstream, Setup, Shape, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

const CALL: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S")];

/// One message, framed.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn single() -> (H2Upstream, Weir) {
    let stable = H2Upstream::named("stable");
    let weir = Setup::new()
        .workers(1)
        .pool_at("stable", &[&stable.url()])
        .table("health", "kind = \"off\"")
        .table("timeouts", "response_header = \"500ms\"\nidle = \"2s\"")
        .table("breaker", "failures = 1000000\nmin_requests = 1000000")
        .text("[access_log]\nto = \"stdout\"")
        .start();
    (stable, weir)
}

fn call(weir: &Weir) -> Answer2 {
    weir.h2().ask("POST", "/greeter.Greeter/Hello", CALL, MESSAGE).expect("an answer")
}

/// A call whose two directions the test drives.
struct Open {
    runtime: tokio::runtime::Runtime,
    up: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    down: Option<RecvStream>,
}

impl Open {
    fn to(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (answer, up) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("weir accepts");
            let (sender, connection) = handshake(stream).await.expect("weir speaks HTTP/2");
            tokio::spawn(connection);
            let mut request = http::Request::post("http://test/greeter.Greeter/Chat");
            for (name, value) in CALL {
                request = request.header(*name, *value);
            }
            let mut sender = sender.ready().await.expect("the connection is open");
            sender.send_request(request.body(()).expect("a head"), false).expect("a stream can be opened")
        });
        Self { runtime, up, answer: Some(answer), down: None }
    }

    fn say(&mut self, message: &'static [u8], last: bool) {
        self.up.send_data(Bytes::from_static(message), last).expect("the stream is open");
    }

    /// The next bytes; none at the end.
    fn hear(&mut self) -> Option<Bytes> {
        let (answer, down) = (self.answer.take(), &mut self.down);
        self.runtime.block_on(async {
            if let Some(answer) = answer {
                *down =
                    Some(tokio::time::timeout(SOON, answer).await.expect("in time").expect("an answer").into_body());
            }
            let down = down.as_mut().expect("an answer has begun");
            let data = tokio::time::timeout(SOON, down.data()).await.expect("in time")?;
            data.map(Some).expect("it is whole")
        })
    }

    fn status(&mut self) -> String {
        let down = self.down.as_mut().expect("an answer has begun");
        let trailers = self.runtime.block_on(down.trailers()).expect("an end").expect("trailers");
        trailers["grpc-status"].to_str().expect("text").to_owned()
    }
}

#[test]
fn a_unary_call_goes_through_with_its_deadline_and_its_status() {
    let (stable, weir) = single();
    stable.behave(Act::Call(0));
    let answer = call(&weir);
    assert_eq!((answer.status, answer.body.as_slice(), answer.trailer("grpc-status")), (200, MESSAGE, Some("0")));
    assert_eq!(answer.field("content-type"), Some("application/grpc"));
    let seen = stable.last();
    assert_eq!((seen.field("grpc-timeout"), seen.field("te")), (Some("5S"), Some("trailers")));
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/greeter.Greeter/Hello", MESSAGE));
}

#[test]
fn streams_of_all_three_kinds_go_through_message_by_message() {
    let (stable, weir) = single();
    stable.behave(Act::Stream(5));
    let mut answered = Open::to(weir.address());
    answered.say(MESSAGE, true);
    let messages: Vec<_> = std::iter::from_fn(|| answered.hear()).collect();
    assert_eq!((messages.concat().len(), answered.status().as_str()), (30, "0"));
    assert!(messages.len() >= 3, "they come as they are sent: {messages:?}");
    let reply = Shape::status(200).field("content-type", "application/grpc").body(MESSAGE).trailer("grpc-status", "0");
    stable.behave(Act::Reply(reply));
    let mut collected = Open::to(weir.address());
    for last in [false, false, true] {
        collected.say(MESSAGE, last);
    }
    assert_eq!(collected.hear().as_deref(), Some(MESSAGE));
    assert_eq!((collected.hear(), collected.status().as_str()), (None, "0"));
    assert_eq!(stable.last().body.len(), 3 * MESSAGE.len());
    // Each word is answered before the next is said, for longer than an answer's head may take.
    stable.behave(Act::Call(0));
    let mut chat = Open::to(weir.address());
    for _ in 0..8 {
        chat.say(MESSAGE, false);
        assert_eq!(chat.hear().as_deref(), Some(MESSAGE));
        std::thread::sleep(Duration::from_millis(100));
    }
    chat.say(MESSAGE, true);
    assert_eq!(chat.hear().as_deref(), Some(MESSAGE));
    assert_eq!((chat.hear(), chat.status().as_str()), (None, "0"));
}

#[test]
fn a_status_of_server_kind_is_a_failure_of_the_pool_wherever_it_stands() {
    let (stable, weir) = single();
    let faults = || weir.metrics().sum("weir_pool_faults_total", &[("kind", "upstream_answer")]);
    let errors = || weir.metrics().sum("weir_lane_errors_total", &[]);
    let mut failed = 0.0;
    for status in 0..=16 {
        let server = [2, 4, 13, 14, 15].contains(&status);
        stable.behave(Act::Call(status));
        assert_eq!(call(&weir).trailer("grpc-status"), Some(status.to_string().as_str()));
        let bare = Shape::status(200).field("content-type", "application/grpc");
        stable.behave(Act::Reply(bare.field("grpc-status", &status.to_string())));
        let answer = call(&weir);
        assert_eq!((answer.status, answer.field("grpc-status")), (200, Some(status.to_string().as_str())));
        failed += if server { 2.0 } else { 0.0 };
        eventually(&format!("{status} is counted"), SOON, || (faults(), errors()) == (failed, failed));
    }
    // No status at all is unknown; a call that is cut has none.
    stable.behave(Act::Answer);
    assert_eq!(call(&weir).status, 200);
    eventually("an end without status is counted", SOON, || faults() == failed + 1.0);
    stable.behave(Act::CutAfter(10, h2::Reason::INTERNAL_ERROR));
    let _ = weir.h2().ask("POST", "/", CALL, MESSAGE);
    eventually("a cut call is counted", SOON, || faults() == failed + 2.0);
    assert_eq!(weir.metrics().sum("weir_lane_errors_total", &[]), failed + 2.0);
    // What is no call is none, whatever it says.
    stable.behave(Act::Call(13));
    assert_eq!(weir.h2().ask("POST", "/", &[], MESSAGE).expect("an answer").status, 200);
    assert_eq!(faults(), failed + 2.0);
    eventually("the log says it", SOON, || {
        let lines = weir.access_log().lines();
        lines.iter().any(|line| line.contains("\"grpc_status\":14") && line.contains("\"fault\":\"upstream_answer\""))
    });
}

#[test]
fn calls_that_fail_eject_their_endpoint_and_rest_their_pool() {
    let (stable, canary) = (H2Upstream::named("stable"), H2Upstream::named("canary"));
    for upstream in [&stable, &canary] {
        upstream.behave(Act::Call(0));
    }
    let setup = Setup::new().workers(1).pool_at("stable", &[&stable.url()]).pool_at("canary", &[&canary.url()]);
    let weir = setup.split([50, 50]).table("health", "kind = \"off\"").start();
    canary.behave(Act::Call(14));
    for _ in 0..40 {
        call(&weir);
    }
    assert!(weir.metrics().sum("weir_endpoint_ejections_total", &[("pool", "canary")]) >= 1.0);
    canary.behave(Act::Call(5));
    assert_eq!(weir.metrics().sum("weir_endpoint_ejections_total", &[("pool", "stable")]), 0.0);
}

#[test]
fn what_weir_answers_itself_is_an_error_of_grpc() {
    let (stable, weir) = single();
    stable.behave(Act::Stall);
    let answer = call(&weir);
    assert_eq!((answer.status, answer.field("grpc-status"), answer.body.len()), (200, Some("14"), 0));
    assert_eq!(answer.field("content-type"), Some("application/grpc"));
    assert!(answer.field("grpc-message").is_some_and(|message| message.contains("timeout")), "{answer:?}");
    stable.behave(Act::Refuse(h2::Reason::INTERNAL_ERROR));
    assert_eq!(call(&weir).field("grpc-status"), Some("14"));
    let nothing = Setup::single(&crate::harness::Upstream::named("up"));
    let nothing = nothing.text("[[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/only\"").start();
    assert_eq!(call(&nothing).field("grpc-status"), Some("12"));
    assert_eq!(nothing.h2().get("/").status, 404, "what is no call gets HTTP");
}

#[test]
fn grpc_probes_ask_the_health_service() {
    let stable = H2Upstream::named("stable");
    let says = |status: u8, code: &str| {
        let message = [0, 0, 0, 0, 2, 8, status];
        Act::Reply(
            Shape::status(200).field("content-type", "application/grpc").body(&message).trailer("grpc-status", code),
        )
    };
    let health = "kind = \"grpc\"\ngrpc_service = \"greeter.Greeter\"\ninterval = \"50ms\"\nfall = 1\nrise = 1";
    stable.behave(says(1, "0"));
    let weir = Setup::new().pool_at("stable", &[&stable.url()]).table("health", health).start();
    let up = || weir.metrics().sum("weir_endpoint_up", &[]) == 1.0;
    assert!(up());
    let seen = stable.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!(&seen.body[..], b"\0\0\0\0\x11\x0a\x0fgreeter.Greeter");
    for (act, reason) in [
        (says(2, "0"), "NOT_SERVING"),
        (
            Act::Reply(Shape::status(200).field("content-type", "application/grpc").field("grpc-status", "12")),
            "grpc-status 12",
        ),
        (says(1, "14"), "grpc-status 14"),
        (Act::Answer, "grpc-status 2"),
        (Act::Reply(Shape::status(503)), "status 503"),
        (Act::Stall, "timed out"),
    ] {
        stable.behave(act);
        eventually(reason, SOON, || !up());
        let status = weir.admin_get("/api/v1/status").text();
        assert!(status.contains(reason), "{reason}: {status}");
        stable.behave(says(1, "0"));
        eventually("it is up again", SOON, up);
    }
}
