//! What the client gets is the endpoint's answer again, with one framing, nothing of the endpoint's connection, and one
//! affinity cookie at most. An input is the head of an answer.

use weir::model::{FieldId, Limits};
use weir::proxy::decide::Decision;
use weir::proxy::h1::response::{Response, ResponseFraming, parse};
use weir::proxy::seam::Crossing;

use super::http::{STRANGER, request};
use super::world::{SNAPSHOT, decided};
use crate::stage::NOW;

/// A new client, a direct path, a path that is stripped, and one that knows no chunks.
const REQUESTS: [&[u8]; 4] = [
    b"GET /x HTTP/1.1\r\nHost: www.example\r\n\r\n",
    b"HEAD /canary/x HTTP/1.1\r\nHost: www.example\r\n\r\n",
    b"GET /s/t/x HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    b"GET /x HTTP/1.0\r\n\r\n",
];

/// Sends an answer down to each of four requests.
pub(crate) fn check(bytes: &[u8]) {
    for asked in REQUESTS {
        let (head, parsed) = request(asked, &Limits::default()).expect("it is well").expect("it is whole");
        let to_head = head.method() == "HEAD";
        let Ok(Ok(response)) = parse(bytes, to_head, Vec::new()) else { continue };
        let decision = decided(&head, STRANGER).expect("something serves");
        let crossing =
            Crossing { snapshot: &SNAPSHOT, head: &head, parsed: &parsed, decision: &decision, peer: STRANGER };
        let mut out = Vec::new();
        let chunked = crossing.answer(&response, bytes, NOW, &mut out);
        let again = parse(&out, to_head, Vec::new()).expect("it reads well").expect("it is whole");
        assert_eq!((again.head_bytes, again.status), (out.len(), response.status));
        let framing = match response.framing {
            ResponseFraming::Chunked | ResponseFraming::Close if parsed.http10 => ResponseFraming::Close,
            ResponseFraming::Chunked | ResponseFraming::Close => ResponseFraming::Chunked,
            known => known,
        };
        assert_eq!((again.framing, chunked), (framing, framing == ResponseFraming::Chunked));
        assert!(again.length.is_none_or(|length| Some(length) == response.length));
        nothing_of_that_hop(&again, &out);
        cookies(&decision, &again, &out);
    }
}

fn nothing_of_that_hop(again: &Response, out: &[u8]) {
    for line in &again.lines {
        let name = out[line.name.range()].to_ascii_lowercase();
        // These two are of requests and mean nothing in an answer.
        let of_requests = matches!(&name[..], b"http2-settings" | b"proxy-authorization");
        let hop = FieldId::of_bytes(&name) == FieldId::HopByHop && !of_requests;
        assert!(!hop, "{} is sent down", name.escape_ascii());
    }
}

fn cookies(decision: &Decision, again: &Response, out: &[u8]) {
    let set = again.lines.iter().filter(|line| out[line.name.range()].eq_ignore_ascii_case(b"set-cookie"));
    let names = set.map(|line| out[line.value.range()].split(|&b| b == b'=').next().unwrap_or_default().trim_ascii());
    let ours = names.filter(|name| name == b"weir").count();
    let by_cookie = decision.service == 0;
    assert!(!by_cookie || ours == usize::from(decision.issue), "{ours} affinity cookies");
}
