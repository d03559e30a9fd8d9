//! Whatever stands in a `Forwarded`, what the endpoint gets is one list by RFC 7239, and its last element is the hop
//! that weir knows; a stranger's elements are gone. An input is the values of `Forwarded` fields, a line each.

use std::net::{IpAddr, Ipv4Addr};

use weir::model::Limits;
use weir::proxy::decide::dice::Rng;
use weir::proxy::seam::{Crossing, client};

use super::http::{STRANGER, is_token, request};
use super::world::{SNAPSHOT, decided};

/// A proxy that is trusted.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The names and values of one element.
type Element = Vec<(String, Vec<u8>)>;

/// Forwards them from a stranger and from a trusted proxy.
pub(crate) fn check(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    let fields = lines.iter().map(|line| [b"Forwarded: ", *line, b"\r\n"].concat()).collect::<Vec<_>>().concat();
    let text = [b"GET / HTTP/1.1\r\nHost: www.example\r\n", &fields[..], b"\r\n"].concat();
    let Ok(Some((head, parsed))) = request(&text, &Limits::default()) else { return };
    for peer in [STRANGER, PROXY] {
        let decision = decided(&head, peer).expect("something serves");
        let crossing = Crossing { snapshot: &SNAPSHOT, head: &head, parsed: &parsed, decision: &decision, peer };
        let mut out = Vec::new();
        crossing.request(&mut Rng::new(1), &mut out).expect("it is forwarded");
        let (again, _) = request(&out, &Limits { fields_max: usize::MAX, ..Limits::default() })
            .expect("it reads well")
            .expect("it is whole");
        let sent: Vec<&[u8]> = again.iter().filter(|(name, _)| *name == "forwarded").map(|(_, value)| value).collect();
        let [sent] = sent[..] else { panic!("{} fields", sent.len()) };
        let mut elements = list(sent).unwrap_or_else(|| panic!("no list: {:?}", sent.escape_ascii().to_string()));
        let last = elements.pop().expect("an element");
        assert_eq!(last, ours(peer));
        let given: Vec<Element> = lines.iter().filter_map(|line| list(line)).flatten().collect();
        let given = if peer == PROXY { given } else { Vec::new() };
        assert_eq!(elements, given, "what a trusted proxy wrote and can be read is kept, all else is dropped");
        assert_eq!(client(&head, peer, &SNAPSHOT.trusted_proxies), peer, "nothing is decided on it");
    }
}

fn ours(peer: IpAddr) -> Element {
    let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    vec![pair("for", &peer.to_string()), pair("host", "www.example"), pair("proto", "http")]
}

/// `1#forwarded-element` (section 4), one byte at a time; elements with nothing in them are left out (RFC 9110 section
/// 5.6.1.2).
fn list(text: &[u8]) -> Option<Vec<Element>> {
    let elements = cut(text, b',')?;
    let elements = elements.into_iter().map(|element| {
        let pairs = cut(element, b';')?.into_iter().map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        pairs.map(pair).collect::<Option<Element>>()
    });
    Some(elements.collect::<Option<Vec<_>>>()?.into_iter().filter(|element| !element.is_empty()).collect())
}

/// Parts between separators that stand in no quoted string; none when one is left open.
fn cut(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

fn pair(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let equals = text.iter().position(|&b| b == b'=')?;
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let value = match inner {
        Some(inner) => unescaped(inner)?,
        None => is_token(value).then(|| value.to_vec())?,
    };
    is_token(name).then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value))
}

fn unescaped(inner: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = inner.iter();
    let mut out = Vec::new();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => out.push(*bytes.next()?),
            _ => out.push(byte),
        }
    }
    Some(out)
}
