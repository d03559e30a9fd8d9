//! The client is the first address from the right that no trusted proxy vouches for; what stands left of it means
//! nothing. An input is the values of `X-Forwarded-For` fields, a line each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir::model::Head;
use weir::proxy::seam::client;
use weir::routing::matcher::contains;

use super::http::STRANGER;

/// Reads a chain that came from a stranger and from a trusted proxy.
pub(crate) fn check(bytes: &[u8]) {
    let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    let lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    let of = |lines: &[&[u8]], peer: IpAddr| {
        let fields = lines.iter().map(|line| ("x-forwarded-for", *line));
        client(&Head::describe("GET", "a", "/", fields), peer, &trusted)
    };
    assert_eq!(of(&lines, STRANGER), STRANGER, "a stranger is not believed");
    let proxy = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let found = of(&lines, proxy);
    assert_eq!(found, walked(&lines.join(&b","[..]), proxy, |ip| contains(&trusted, ip)));
    assert_eq!(of(&[&lines.join(&b", "[..])], proxy), found, "fields are one list");
    if !contains(&trusted, found) {
        let forged = [b"203.0.113.99, 10.9.9.9", &lines[..].join(&b","[..])[..]].join(&b","[..]);
        assert_eq!(of(&[&forged], proxy), found, "what a client writes changes nothing");
    }
}

/// The same walk, from a list made beforehand.
fn walked(list: &[u8], peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let hops: Vec<Option<IpAddr>> = list.split(|&b| b == b',').map(hop).collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        match hop {
            Some(ip) if trusted(client) => client = ip,
            _ => break,
        }
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = text.parse().ok().or_else(|| bare?.parse().ok());
    ip.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).map(|ip| ip.to_canonical())
}
