//! What stands at the start of a connection to an endpoint that wants to know whom it is opened for: a header of the
//! PROXY protocol, version 1 or 2, as haproxy.org's `doc/proxy-protocol.txt` (2020/03/05, sections 2.1 and 2.2) has it.
//!
//! Pure: addresses in, bytes out. Whose connection it is, and who may use it, is decided in `proxy`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::model::ProxyVersion;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and whose connection it is: weir's own (a probe), or somebody's.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Address families with the transport: stream sockets of IPv4 and IPv6, and none.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The two ends of a client's connection to weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

// === impl Ends ===

impl Ends {
    /// Both in one family, as the protocol wants them: that of IPv4 as far as both have one.
    fn alike(self) -> (IpAddr, IpAddr) {
        let (source, destination) = (self.source.ip().to_canonical(), self.destination.ip().to_canonical());
        match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => (source, destination),
            _ => (wide(source).into(), wide(destination).into()),
        }
    }
}

/// The header; without `ends` the connection is weir's own.
pub fn header(version: ProxyVersion, ends: Option<Ends>) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => text(ends).into_bytes(),
        ProxyVersion::V2 => binary(ends),
    }
}

fn text(ends: Option<Ends>) -> String {
    let Some(ends) = ends else { return "PROXY UNKNOWN\r\n".to_owned() };
    let (source, destination) = ends.alike();
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (ends.source.port(), ends.destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", shown(source), shown(destination))
}

/// An address of IPv6 without the dotted form that `Display` gives to one with IPv4 in it: not every reader takes that.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            let [.., high, low] = address.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        address => address.to_string(),
    }
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let Some(ends) = ends else {
        bytes.extend_from_slice(&[LOCAL, UNSPEC, 0, 0]);
        return bytes;
    };
    match ends.alike() {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend_from_slice(&[PROXY, TCP4, 0, 12]);
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            bytes.extend_from_slice(&[PROXY, TCP6, 0, 36]);
            bytes.extend_from_slice(&wide(source).octets());
            bytes.extend_from_slice(&wide(destination).octets());
        }
    }
    bytes.extend_from_slice(&ends.source.port().to_be_bytes());
    bytes.extend_from_slice(&ends.destination.port().to_be_bytes());
    bytes
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        let parse = |text: &str| text.parse().expect("an address");
        Some(Ends { source: parse(source), destination: parse(destination) })
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        for (ends, line) in [
            (ends("192.168.0.1:56324", "192.168.0.11:443"), "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
            (ends("[2001:db8::1]:1", "[2001:db8::2]:65535"), "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"),
            (ends("[::ffff:10.0.0.1]:7", "10.0.0.2:80"), "PROXY TCP4 10.0.0.1 10.0.0.2 7 80\r\n"),
            (ends("[2001:db8::1]:7", "10.0.0.2:80"), "PROXY TCP6 2001:db8::1 ::ffff:a00:2 7 80\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(header(ProxyVersion::V1, ends), line.as_bytes());
        }
    }

    #[test]
    fn version_2_is_binary() {
        let signature = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
        let v4 = header(ProxyVersion::V2, ends("192.168.0.1:56324", "192.168.0.11:443"));
        assert_eq!(&v4[..12], signature);
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb]);
        let v6 = header(ProxyVersion::V2, ends("[2001:db8::1]:1", "10.0.0.2:2"));
        assert_eq!((v6.len(), &v6[12..20]), (52, &[0x21, 0x21, 0, 36, 0x20, 0x01, 0x0d, 0xb8][..]));
        assert_eq!(v6[42..], [0xff, 0xff, 10, 0, 0, 2, 0, 1, 0, 2]);
        let own = header(ProxyVersion::V2, None);
        assert_eq!((&own[..12], &own[12..]), (&signature[..], &[0x20, 0, 0, 0][..]));
    }

    proptest! {
        #[test]
        fn whatever_the_addresses_a_header_is_as_long_as_it_says(source: IpAddr, to: IpAddr, ports: (u16, u16)) {
            let (source, destination) = (SocketAddr::new(source, ports.0), SocketAddr::new(to, ports.1));
            let ends = Some(Ends { source, destination });
            let text = String::from_utf8(header(ProxyVersion::V1, ends)).expect("it is text");
            prop_assert!(text.len() <= 107 && text.ends_with("\r\n") && text.matches('\n').count() == 1);
            let words: Vec<&str> = text.trim_end().split(' ').collect();
            prop_assert_eq!(words.len(), 6);
            let read: [IpAddr; 2] = [words[2], words[3]].map(|word| word.parse().expect("an address"));
            prop_assert_eq!(read.map(|it| it.to_canonical()), [source, destination].map(|it| it.ip().to_canonical()));
            prop_assert!(read.iter().all(|it| it.is_ipv4() == (words[1] == "TCP4")));
            let bytes = header(ProxyVersion::V2, ends);
            prop_assert_eq!(bytes.len(), 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]])));
        }
    }
}
