//! A second reading of heads, kept as simple as it can be, for targets to compare with. It knows nothing of the parser
//! under test: lines by CRLF, a name up to the first colon, a value without blanks around it.

use std::net::{IpAddr, Ipv4Addr};

use weir::model::{Head, Limits};
use weir::proxy::h1::request::{Parsed, Refused, parse};

/// A client that nobody trusts.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The start line and the fields of a whole head, names in lower case.
pub(crate) fn lines(head: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
    let text: Vec<char> = head.iter().map(|&b| char::from(b)).collect();
    let text: String = text.into_iter().collect();
    let mut lines = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line").split("\r\n");
    let start = lines.next().expect("a start line").to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').expect("a field has a colon");
        let bytes = value.trim_matches([' ', '\t']).chars().map(|c| c as u8).collect();
        (name.to_ascii_lowercase(), bytes)
    };
    (start, lines.map(field).collect())
}

/// The values of every field of that name.
pub(crate) fn all<'f>(fields: &'f [(String, Vec<u8>)], name: &str) -> Vec<&'f [u8]> {
    fields.iter().filter(|(found, _)| found == name).map(|(_, value)| &value[..]).collect()
}

/// Whether every byte may stand in a field value, by RFC 9110 section 5.5.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| matches!(b, b'\t' | 0x20..=0x7e | 0x80..))
}

/// Whether it is a token, by RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let legal = |b: &u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b);
    !bytes.is_empty() && bytes.iter().all(legal)
}

/// The parser under test, over bytes that came at once.
pub(crate) fn request(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, Parsed)>, Refused> {
    let mut head = Head { bytes: bytes.to_vec(), ..Head::default() };
    Ok(parse(&mut head, &mut 0, limits)?.map(|parsed| (head, parsed)))
}

/// Where to split an input of this length in two: everywhere, or at about `most` places of a long one.
pub(crate) fn cuts(len: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by((len / most).max(1))
}
