//! A header of the PROXY protocol names one source and ends in one place, whatever follows; a second reader that looks
//! at whole headers only finds the same. An input is the first bytes of a connection.

use std::net::IpAddr;

use weir::proxy::announce::header::{Announced, V2_BYTES_MAX, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads them at once, cut, and with more behind.
pub(crate) fn check(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Some(announced)) => {
            let Announced { source, bytes: end } = announced;
            assert!(end <= bytes.len() && end <= V2_BYTES_MAX.max(107));
            let header = &bytes[..end];
            assert_eq!(parse(header), Ok(Some(announced)), "what follows is not looked at");
            assert_eq!(parse(&header[..end - 1]), Ok(None), "it is not whole before its end");
            let again = if header.starts_with(b"PROXY ") { line(header) } else { block(header) };
            assert_eq!(source, again, "{header:?}");
        }
        Ok(None) => {
            // A beginning that may still become one is bounded.
            assert!(bytes.len() < V2_BYTES_MAX && parse(&bytes[..bytes.len() / 2]) == Ok(None));
        }
        Err(_) => {
            let longer = [bytes, b"\r\n"].concat();
            assert!(parse(&longer).is_err(), "nothing that follows mends it");
        }
    }
}

/// Version 1, by cutting it at blanks.
fn line(header: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(header).expect("it was taken").trim_end_matches("\r\n");
    match text.split(' ').collect::<Vec<_>>()[..] {
        ["PROXY", "TCP4" | "TCP6", source, _, _, _] => Some(source.parse::<IpAddr>().expect("taken").to_canonical()),
        _ => None,
    }
}

/// Version 2, by its fixed places.
fn block(header: &[u8]) -> Option<IpAddr> {
    assert!(header.starts_with(SIGNATURE));
    match (header[12], header[13]) {
        (0x21, 0x11) => Some(IpAddr::from(<[u8; 4]>::try_from(&header[16..20]).expect("four"))),
        (0x21, 0x21) => Some(IpAddr::from(<[u8; 16]>::try_from(&header[16..32]).expect("sixteen")).to_canonical()),
        _ => None,
    }
}
