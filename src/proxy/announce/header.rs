//! The header of the PROXY protocol, versions 1 and 2: whom a balancer speaks for. Bytes in, an address out. Pure; who
//! may send one, and what is done without one, is not decided here.
//!
//! Source: "The PROXY protocol", versions 1 & 2, revision of 2020/03/05 (HAProxy 1.8 and later), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::crc32c;

/// Longest header of version 1, its CRLF included (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is read. The protocol allows 64 KiB; addresses take 216 bytes at most, and what
/// balancers add (names, a cloud's endpoint ids, a client certificate's subject) fits well into the rest.
pub const V2_BYTES_MAX: usize = 4 * 1024;

/// What a header of version 1 begins with.
const V1: &[u8] = b"PROXY ";

/// What a header of version 2 begins with (section 2.2).
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
const V2_FIXED: usize = 16;

/// The type of the field that holds a checksum (section 2.2.4, `PP2_TYPE_CRC32C`).
const TYPE_CRC32C: u8 = 0x03;

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Whom the sender speaks for; none: for itself, or for somebody whose address is not one of the internet.
    pub source: Option<IpAddr>,
    /// The header's length; what follows is the client's.
    pub bytes: usize,
}

/// What is wrong with the bytes; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// They begin like no header.
    #[error("there is no PROXY protocol header")]
    Missing,
    /// Version 1 says something else than the protocol allows.
    #[error("the PROXY protocol header of version 1 is malformed")]
    V1,
    /// Version 2 says something else than the protocol allows.
    #[error("the PROXY protocol header of version 2 is malformed")]
    V2,
    /// It is longer than is read.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// Its checksum is another one.
    #[error("the checksum of the PROXY protocol header is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `bytes`; none while it is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<Announced>, Garbled> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    match () {
        () if begins(V1) && bytes.len() < V1.len() => Ok(None),
        () if begins(V1) => version_1(bytes),
        () if begins(V2) && bytes.len() < V2_FIXED => Ok(None),
        () if begins(V2) => version_2(bytes),
        () => Err(Garbled::Missing),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.2 56324 443` and a line end: single blanks, nothing else.
fn version_1(bytes: &[u8]) -> Result<Option<Announced>, Garbled> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() >= V1_BYTES_MAX { Err(Garbled::TooLong) } else { Ok(None) };
    };
    let text = line[V1.len()..end].strip_suffix(b"\r").and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or(Garbled::V1)?;
    let bytes = end + 1;
    // "The receiver must ignore anything presented before the CRLF is found" behind UNKNOWN.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Some(Announced { source: None, bytes }));
    }
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(Garbled::V1);
    let family = word()?;
    let (source, destination) = (word()?, word()?);
    let source = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination)?.into(),
        "TCP6" => both::<Ipv6Addr>(source, destination)?.into(),
        _ => return Err(Garbled::V1),
    };
    port(word()?)?;
    port(word()?)?;
    if words.next().is_some() {
        return Err(Garbled::V1);
    }
    Ok(Some(Announced { source: Some(canonical(source)), bytes }))
}

/// The source, when both are addresses of that family.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Result<A, Garbled> {
    let address = |text: &str| text.parse::<A>().map_err(|_| Garbled::V1);
    address(destination)?;
    address(source)
}

/// Decimal digits without a leading zero, up to 65535.
fn port(text: &str) -> Result<(), Garbled> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse::<u16>() {
        Ok(_) if digits => Ok(()),
        _ => Err(Garbled::V1),
    }
}

fn version_2(bytes: &[u8]) -> Result<Option<Announced>, Garbled> {
    let (command, family) = (bytes[12], bytes[13]);
    let length = V2_FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    // The version is 2, the command LOCAL or PROXY; a receiver drops what says anything else.
    if command >> 4 != 2 || command & 0xf > 1 {
        return Err(Garbled::V2);
    }
    if length > V2_BYTES_MAX {
        return Err(Garbled::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    // LOCAL: the sender speaks for itself (a health check), and the whole block means nothing.
    if command & 0xf == 0 {
        return Ok(Some(Announced { source: None, bytes: length }));
    }
    let (source, addresses) = source(family, &header[V2_FIXED..])?;
    fields(header, V2_FIXED + addresses)?;
    Ok(Some(Announced { source, bytes: length }))
}

/// The source address, and how many bytes all addresses take.
fn source(family: u8, block: &[u8]) -> Result<(Option<IpAddr>, usize), Garbled> {
    // Streams and datagrams differ in the low half only; beyond those two nothing is assigned.
    if family & 0xf > 2 {
        return Err(Garbled::V2);
    }
    let (is_stream, whole) =
        (family & 0xf == 1, |size: usize| if block.len() < size { Err(Garbled::V2) } else { Ok(size) });
    match family >> 4 {
        // Not known: nothing but fields may follow, and they need not.
        0 => Ok((None, 0)),
        1 => {
            let size = whole(12)?;
            let octets: [u8; 4] = block[..4].try_into().map_err(|_| Garbled::V2)?;
            Ok((Some(IpAddr::from(octets)).filter(|_| is_stream), size))
        }
        2 => {
            let size = whole(36)?;
            let octets: [u8; 16] = block[..16].try_into().map_err(|_| Garbled::V2)?;
            Ok((Some(canonical(IpAddr::from(octets))).filter(|_| is_stream), size))
        }
        3 => Ok((None, whole(216)?)),
        _ => Err(Garbled::V2),
    }
}

/// Walks the fields behind the addresses: each must end within the header, and a checksum must be right.
fn fields(header: &[u8], mut at: usize) -> Result<(), Garbled> {
    while at < header.len() {
        let [kind, high, low] = *header.get(at..at + 3).and_then(|head| head.first_chunk()).ok_or(Garbled::V2)?;
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let field = header.get(value..end).ok_or(Garbled::V2)?;
        if kind == TYPE_CRC32C {
            let told = u32::from_be_bytes(field.try_into().map_err(|_| Garbled::V2)?);
            // It is made over the whole header with zeros in its own place.
            let zeroed = header.iter().enumerate().map(|(i, &byte)| if (value..end).contains(&i) { 0 } else { byte });
            if crc32c(zeroed) != told {
                return Err(Garbled::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// An IPv4 address is one, however it was written.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).expect("short").to_be_bytes();
        [V2, &[command, family], &length, block].concat()
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).expect("short").to_be_bytes(), value].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];

    fn found(text: &[u8]) -> Result<Option<(Option<String>, usize)>, Garbled> {
        let shown = |it: Announced| (it.source.map(|source| source.to_string()), it.bytes);
        parse(text).map(|it| it.map(shown))
    }

    #[test]
    fn version_1_is_one_line_of_single_blanks() {
        let one = |text: &str| found(text.as_bytes()).map(|it| it.and_then(|(source, _)| source));
        assert_eq!(one("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET"), Ok(Some("192.0.2.1".into())));
        assert_eq!(one("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), Ok(Some("2001:db8::1".into())));
        assert_eq!(one("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n"), Ok(Some("192.0.2.1".into())));
        assert_eq!(found(b"PROXY UNKNOWN\r\nGET"), Ok(Some((None, 15))));
        assert_eq!(found(b"PROXY UNKNOWN ffff::1 what ever\r\n"), Ok(Some((None, 33))));
        for wrong in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 host 1 2\r\n",
            "PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), Err(Garbled::V1), "{wrong:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(Garbled::Missing));
        assert_eq!(parse(b"PROXX"), Err(Garbled::Missing));
        assert_eq!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat()), Err(Garbled::TooLong));
        assert_eq!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 90][..]].concat()), Ok(None));
    }

    #[test]
    fn version_2_names_a_source_or_leaves_it_at_the_sender() {
        let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 1, 0, 2]].concat();
        assert_eq!(found(&v2(0x21, 0x11, &IPV4)), Ok(Some((Some("192.0.2.1".into()), 28))));
        assert_eq!(found(&v2(0x21, 0x21, &ipv6)), Ok(Some((Some("2001:db8::1".into()), 52))));
        assert_eq!(found(&v2(0x21, 0x31, &[0; 216])), Ok(Some((None, 232))));
        assert_eq!(found(&v2(0x21, 0x12, &IPV4)), Ok(Some((None, 28))), "a datagram's source is nobody's here");
        assert_eq!(found(&v2(0x21, 0x00, &[])), Ok(Some((None, 16))));
        // LOCAL: whatever stands in the block, it means nothing.
        assert_eq!(found(&v2(0x20, 0x11, &IPV4)), Ok(Some((None, 28))));
        assert_eq!(found(&v2(0x20, 0xff, b"junk")), Ok(Some((None, 20))));
        for (command, family, block) in [
            (0x11, 0x11, &IPV4[..]),
            (0x22, 0x11, &IPV4),
            (0x21, 0x41, &IPV4),
            (0x21, 0x13, &IPV4),
            (0x21, 0x11, &IPV4[..11]),
            (0x21, 0x21, &IPV4),
            (0x21, 0x31, &IPV4),
        ] {
            assert_eq!(parse(&v2(command, family, block)), Err(Garbled::V2), "{command:x} {family:x}");
        }
        assert_eq!(parse(&v2(0x21, 0x11, &[0; V2_BYTES_MAX])), Err(Garbled::TooLong));
    }

    #[test]
    fn fields_are_skipped_within_their_bounds_and_a_checksum_is_checked() {
        let with = |fields: &[u8]| v2(0x21, 0x11, &[&IPV4[..], fields].concat());
        let alpn = field(0x01, b"h2");
        let good = with(&[field(0x04, &[0; 9]), alpn.clone(), field(0xea, b"vpce")].concat());
        assert_eq!(parse(&good).map(|it| it.is_some()), Ok(true));
        for cut in [&b"\x01"[..], b"\x01\x00", b"\x01\x00\x05h2", b"\x03\x00\x03abc"] {
            assert_eq!(parse(&with(cut)), Err(Garbled::V2), "{cut:?}");
        }
        let mut sealed = with(&[alpn, field(TYPE_CRC32C, &[0; 4])].concat());
        assert_eq!(parse(&sealed), Err(Garbled::Checksum));
        let crc = crc32c(sealed.iter().copied()).to_be_bytes();
        let at = sealed.len() - 4;
        sealed[at..].copy_from_slice(&crc);
        assert_eq!(parse(&sealed).map(|it| it.is_some()), Ok(true));
        sealed[17] ^= 1;
        assert_eq!(parse(&sealed), Err(Garbled::Checksum), "an address that was changed on the way");
    }

    fn address() -> impl Strategy<Value = (IpAddr, IpAddr)> {
        let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
        let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
        prop_oneof![v4, v6]
    }

    /// Both versions of a header that says this.
    fn written((source, destination): (IpAddr, IpAddr), ports: (u16, u16), extra: &[u8]) -> [Vec<u8>; 2] {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1);
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let addresses = [octets(source), octets(destination)].concat();
        let block = [&addresses[..], &ports.0.to_be_bytes(), &ports.1.to_be_bytes(), &field(0x05, extra)].concat();
        [line.into_bytes(), v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &block)]
    }

    proptest! {
        #[test]
        fn whatever_is_announced_is_found_and_not_before_it_is_whole(
            addresses in address(),
            ports in any::<(u16, u16)>(),
            extra in proptest::collection::vec(any::<u8>(), 0..60),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            for header in written(addresses, ports, &extra) {
                let whole = Announced { source: Some(addresses.0.to_canonical()), bytes: header.len() };
                for cut in 0..header.len() {
                    prop_assert_eq!(parse(&header[..cut]), Ok(None));
                }
                prop_assert_eq!(parse(&[&header[..], &rest].concat()), Ok(Some(whole)));
            }
        }

        #[test]
        fn no_bytes_break_it_and_none_are_taken_that_are_not_there(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), like in 0..3_usize,
        ) {
            let bytes = [[&b""[..], V1, V2][like], &bytes].concat();
            if let Ok(Some(announced)) = parse(&bytes) {
                prop_assert!(announced.bytes <= bytes.len());
                prop_assert_eq!(parse(&bytes[..announced.bytes]), Ok(Some(announced)));
                prop_assert_eq!(parse(&bytes[..announced.bytes - 1]), Ok(None));
            }
        }
    }
}
