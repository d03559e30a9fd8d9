//! A request head reads the same whole and in two pieces, and what is accepted has one reading: that of a second,
//! simpler reader.

use weir::model::{Head, Limits};
use weir::proxy::h1::request::{Framing, Parsed, Refused, parse};

use super::http::{all, cuts, is_token, is_value, lines, request};

/// Low limits, so that short inputs reach them.
const LIMITS: fn() -> Limits =
    || Limits { head_bytes_max: 2048, fields_max: 24, target_bytes_max: 512, ..Limits::default() };

/// Reads a head, in every two pieces.
pub(crate) fn check(bytes: &[u8]) {
    let whole = request(bytes, &LIMITS());
    if let Ok(Some((head, parsed))) = &whole {
        canonical(head, parsed);
        second_reading(bytes, head, parsed);
        let alone = request(&bytes[..parsed.head_bytes], &LIMITS()).map(|found| found.map(|(_, parsed)| parsed));
        assert_eq!(alone, Ok(Some(*parsed)), "what stands behind a head is no part of it");
    }
    for cut in cuts(bytes.len(), 64) {
        same(&whole, &dripped(bytes, cut), cut);
    }
}

type Read = Result<Option<(Head, Parsed)>, Refused>;

fn dripped(bytes: &[u8], cut: usize) -> Read {
    let mut head = Head { bytes: bytes[..cut].to_vec(), ..Head::default() };
    let mut scanned = 0;
    if let Some(parsed) = parse(&mut head, &mut scanned, &LIMITS())? {
        return Ok(Some((head, parsed)));
    }
    head.bytes.extend_from_slice(&bytes[cut..]);
    Ok(parse(&mut head, &mut scanned, &LIMITS())?.map(|parsed| (head, parsed)))
}

fn same(whole: &Read, dripped: &Read, cut: usize) {
    match (whole, dripped) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some((head, parsed))), Ok(Some((other, also)))) => {
            assert_eq!(parsed, also, "in two pieces at {cut}");
            assert_eq!((head.method(), head.target()), (other.method(), other.target()));
            assert_eq!((head.path(), head.authority()), (other.path(), other.authority()));
            assert!(head.iter().eq(other.iter()), "fields in two pieces at {cut}");
        }
        // Which of several faults is found first may depend on what has arrived.
        (Err(_), Err(_)) => {}
        _ => panic!("whole {whole:?}, in two pieces at {cut} {dripped:?}"),
    }
}

/// What routing and forwarding rely on.
fn canonical(head: &Head, parsed: &Parsed) {
    assert!(parsed.head_bytes <= LIMITS().head_bytes_max && head.target().len() <= LIMITS().target_bytes_max);
    assert!(!head.method().is_empty() && !head.method().bytes().any(|b| b.is_ascii_lowercase()));
    assert_eq!(head.is_connect(), head.method() == "CONNECT");
    let special = matches!((head.target(), head.method()), ("*", "OPTIONS") | ("", "CONNECT"));
    assert!(head.path().starts_with('/') || special, "{}", head.target());
    assert!(head.target().bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    assert!(!head.path().contains(['?', '\\']) && head.path_len as usize == head.path().len());
    assert_eq!(head.authority(), head.authority().to_ascii_lowercase());
    assert!(parsed.http10 || !head.authority().is_empty());
    assert!(!head.authority().contains(['@', '/', ',', ' ', '?', '#', '\\']));
    assert!(!parsed.upgrade || (parsed.framing == Framing::None && head.method() == "GET" && !parsed.http10));
    assert!(parsed.framing != Framing::Length(0), "no body is none");
    for (name, value) in head.iter() {
        assert!(is_token(name.as_bytes()) && name == name.to_ascii_lowercase() && is_value(value), "{name}");
    }
}

fn second_reading(bytes: &[u8], head: &Head, parsed: &Parsed) {
    let (start, fields) = lines(&bytes[..parsed.head_bytes]);
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, version] = parts[..] else { panic!("{start:?} was taken") };
    assert_eq!((method, version == "HTTP/1.0"), (head.method(), parsed.http10));
    assert!(target.ends_with(head.target()));
    if method == "CONNECT" {
        authority_form(target, head, parsed);
    }
    assert_eq!(fields.len(), head.fields.len());
    for ((name, value), (other, found)) in fields.iter().zip(head.iter()) {
        // The authority is turned into lower case where it stands.
        assert!(name == other && (value == found || (name == "host" && value.eq_ignore_ascii_case(found))), "{name}");
    }
    let hosts = all(&fields, "host");
    assert!(hosts.len() <= 1 && (parsed.http10 || hosts.len() == 1));
    if let [host] = hosts[..] {
        let whole = host.eq_ignore_ascii_case(head.authority().as_bytes());
        assert!(whole || method == "CONNECT" && host.eq_ignore_ascii_case(head.host().as_bytes()));
    }
    let (lengths, codings) = (all(&fields, "content-length"), all(&fields, "transfer-encoding"));
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::None,
        ([length], []) => {
            assert!(length.iter().all(u8::is_ascii_digit), "{length:?} was taken");
            match std::str::from_utf8(length).expect("digits").parse().expect("a number") {
                0 => Framing::None,
                length => Framing::Length(length),
            }
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !parsed.http10 => Framing::Chunked,
        _ => panic!("two framings were taken: {lengths:?} {codings:?}"),
    };
    assert_eq!(framing, parsed.framing);
    let says = |wanted: &str| {
        let lists = all(&fields, "connection").join(&b","[..]).to_ascii_lowercase();
        lists.split(|&b| b == b',').any(|token| token.trim_ascii() == wanted.as_bytes())
    };
    let kept = method != "CONNECT" && !says("close") && (!parsed.http10 || says("keep-alive"));
    assert_eq!(parsed.keep_alive, kept);
}

/// The target of a CONNECT is its authority, whatever Host says, and nothing of a body is read from what follows it.
fn authority_form(target: &str, head: &Head, parsed: &Parsed) {
    assert_eq!(target.to_ascii_lowercase(), head.authority());
    let (host, port) = target.rsplit_once(':').expect("a host and a port");
    assert!(!host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']')), "{target}");
    assert!(port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0), "{target}");
    assert!(parsed.framing == Framing::None && !parsed.upgrade && !parsed.expects_continue);
}
