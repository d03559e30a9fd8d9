//! Trailers: what stands behind a body crosses between HTTP/1 and HTTP/2, but for what no trailer may be.

use crate::harness::{Behaviour, End, Setup, Upstream, Weir};

fn single() -> (Upstream, Weir) {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    (stable, weir)
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A chunked message of `lines` whose body is `abc`, with these trailer lines.
fn chunked(start: &str, lines: &str, trailers: &str) -> String {
    format!("{start}\r\n{lines}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n")
}

const ALLOWED: &str = "X-Sum: 7\r\ngrpc-status: 0\r\nx-empty:\r\n";
const FORBIDDEN: &str = "Host: evil\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nAuthorization: a\r\n\
    Set-Cookie: a=b\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Type: a/b\r\nConnection: close\r\nTE: a\r\nCookie: a=b\r\n";

#[test]
fn trailers_of_a_request_arrive_behind_its_body() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut client = weir.client();
    for step in [1, 7, 10_000] {
        let text = chunked("POST / HTTP/1.1", "Host: test\r\n", &format!("{ALLOWED}{FORBIDDEN}"));
        for part in text.as_bytes().chunks(step) {
            client.send(part).expect("it is sent");
        }
        assert_eq!(client.answer().expect("an answer").text(), "abc");
        let seen = stable.last();
        let kept = [pair("x-sum", "7"), pair("grpc-status", "0"), pair("x-empty", "")];
        assert_eq!((seen.body.as_slice(), seen.trailers.as_slice()), (&b"abc"[..], &kept[..]), "in pieces of {step}");
    }
    let mut h2 = weir.h2();
    let sent = [("x-sum", "7"), ("authorization", "a"), ("content-length", "5")];
    let answer = h2.ask_with_trailers("/", &[], b"abc", &sent).expect("an answer");
    assert_eq!(answer.body, b"abc");
    assert_eq!(stable.last().trailers, [pair("x-sum", "7")]);
    let answer = h2.ask_with_trailers("/", &[], b"", &sent).expect("an answer");
    assert_eq!((answer.status, stable.last().trailers), (200, vec![pair("x-sum", "7")]));
}

#[test]
fn trailers_of_an_answer_reach_the_client_in_its_own_protocol() {
    let (stable, weir) = single();
    let text = chunked("HTTP/1.1 200 OK", "", &format!("{ALLOWED}{FORBIDDEN}"));
    stable.behave(Behaviour::raw(&text));
    let mut client = weir.client();
    for _ in 0..3 {
        let answer = client.get_with("/", &[("te", "trailers"), ("connection", "te")]);
        let kept = [pair("x-sum", "7"), pair("grpc-status", "0"), pair("x-empty", "")];
        assert_eq!((answer.text().as_str(), answer.end, &answer.trailers[..]), ("abc", End::Whole, &kept[..]));
    }
    let answer = weir.h2().ask("GET", "/", &[("te", "trailers")], b"").expect("an answer");
    assert_eq!((answer.body.as_slice(), answer.cut.as_deref()), (&b"abc"[..], None));
    assert_eq!((answer.trailer("x-sum"), answer.trailer("grpc-status")), (Some("7"), Some("0")));
    assert_eq!(answer.trailers.len(), 3, "{:?}", answer.trailers);
    // HTTP/1.0 knows no chunks, and so no place for trailers.
    let mut old = weir.client();
    old.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    let answer = old.answer().expect("an answer");
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("abc", 0));
}

#[test]
fn whether_a_client_takes_trailers_is_told_the_endpoint() {
    let (stable, weir) = single();
    let te = |fields: &[(&str, &str)]| {
        weir.client().get_with("/", fields);
        let seen = stable.last();
        (seen.field("te").map(str::to_owned), seen.field("connection").map(str::to_owned))
    };
    let told = (Some("trailers".to_owned()), Some("te".to_owned()));
    assert_eq!(te(&[("te", "trailers"), ("connection", "te")]), told);
    assert_eq!(te(&[("te", "gzip;q=0.5, Trailers"), ("connection", "te, x-inner")]), told);
    assert_eq!(te(&[("te", "gzip")]), (None, None));
    assert_eq!(te(&[]), (None, None));
    weir.h2().ask("GET", "/", &[("te", "trailers")], b"").expect("an answer");
    assert_eq!(stable.last().field("te"), Some("trailers"));
}

#[test]
fn too_many_trailers_end_the_message_where_they_stand() {
    let (stable, weir) = single();
    let many: String = (0..200).map(|n| format!("x-{n}: a\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(20_000));
    for trailers in [&many, &long] {
        stable.behave(Behaviour::Echo);
        let mut client = weir.client();
        client.send(chunked("POST / HTTP/1.1", "Host: test\r\n", trailers).as_bytes()).expect("it is sent");
        assert_eq!(client.answer().expect("an answer").status, 400);
        stable.behave(Behaviour::raw_and_close(&chunked("HTTP/1.1 200 OK", "", trailers)));
        let answer = weir.client().try_ask("POST", "/", &[], b"x");
        assert!(answer.is_ok_and(|answer| answer.status == 502 || answer.end == End::Cut));
    }
}
