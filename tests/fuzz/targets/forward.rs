//! What is forwarded is one request again, the same one, and nothing in it belongs to another connection.

use std::net::{IpAddr, Ipv4Addr};

use weir::model::{FieldId, Head, Limits, Rewrite};
use weir::proxy::decide::Decision;
use weir::proxy::decide::dice::Rng;
use weir::proxy::h1::request::Parsed;
use weir::proxy::seam::{Crossing, INSTANCE, client};

use super::http::{STRANGER, request};
use super::world::{SNAPSHOT, decided};

/// A proxy that is trusted.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Forwards a request from a stranger and from a trusted proxy.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(Some((head, parsed))) = request(bytes, &Limits::default()) else { return };
    for peer in [STRANGER, PROXY] {
        let Ok(decision) = decided(&head, peer) else { continue };
        if head.is_connect() {
            tunnelled(&head, &decision);
            continue;
        }
        let crossing = Crossing { snapshot: &SNAPSHOT, head: &head, parsed: &parsed, decision: &decision, peer };
        let mut out = Vec::new();
        if crossing.request(&mut Rng::new(1), &mut out).is_err() {
            continue;
        }
        // Our own fields come on top of the most that a client may send.
        let limits = Limits {
            head_bytes_max: usize::MAX,
            target_bytes_max: usize::MAX,
            fields_max: usize::MAX,
            ..Limits::default()
        };
        let (again, reparsed) = request(&out, &limits).expect("it reads well").expect("it is whole");
        assert_eq!(reparsed.head_bytes, out.len(), "one request and nothing behind it");
        same_request(&head, &parsed, &decision, &again, &reparsed);
        nothing_of_this_hop(&parsed, &again, &reparsed);
        our_fields(&head, &again, peer);
        if target_is_kept(&decision) && head.authority() == again.authority() {
            let client = client(&head, peer, &SNAPSHOT.trusted_proxies);
            let route = |head: &Head| SNAPSHOT.table.find_index(head, client);
            assert_eq!(route(&head), route(&again), "the endpoint sees what was routed by");
        }
    }
}

/// Nothing is forwarded of a CONNECT, and only what is listed opens a tunnel.
fn tunnelled(head: &Head, decision: &Decision) {
    let (host, port) = head.authority().rsplit_once(':').expect("a host and a port");
    let host = host.strip_suffix('.').unwrap_or(host);
    let port: u16 = port.parse().expect("a port");
    assert!((host, port) == ("db.internal", 5432) || host.ends_with(".shop.example") && port == 443, "{host}:{port}");
    let route = decision.route.expect("no tunnel without a route");
    assert!(!SNAPSHOT.table.routes()[route].spec.matches.connect.is_empty() && decision.direct.is_none());
}

fn target_is_kept(decision: &Decision) -> bool {
    let rewrite = decision.route.map(|route| &SNAPSHOT.table.routes()[route].spec.rewrite);
    decision.direct.is_none() && matches!(rewrite, None | Some(Rewrite::Keep))
}

fn same_request(head: &Head, parsed: &Parsed, decision: &Decision, again: &Head, reparsed: &Parsed) {
    assert_eq!(head.method(), again.method());
    let service = &SNAPSHOT.services[decision.service];
    let pool = &service.pools[decision.pool];
    let rewrite = decision.route.map(|route| &SNAPSHOT.table.routes()[route].spec.rewrite);
    let (prefix, with) = match rewrite {
        _ if decision.direct.is_some() => (pool.prefix.as_str(), ""),
        Some(Rewrite::Strip(prefix)) => (prefix.as_str(), ""),
        Some(Rewrite::Replace { prefix, with }) => (prefix.as_str(), with.as_str()),
        Some(Rewrite::Keep) | None => ("", ""),
    };
    let rest = head.target().strip_prefix(prefix).expect("it was routed by its prefix");
    let expected = format!("{with}{rest}");
    let slash = if expected.starts_with(['/', '*']) { "" } else { "/" };
    assert_eq!(format!("{slash}{expected}"), again.target());
    let kept = service.spec.preserve_host && !head.authority().is_empty();
    let own = &pool.endpoints[decision.endpoint].authority;
    assert_eq!(again.authority(), if kept { head.authority() } else { own });
    assert_eq!((parsed.framing, parsed.upgrade), (reparsed.framing, reparsed.upgrade));
    let others = |head: &Head| -> Vec<(String, Vec<u8>)> {
        let kept = head.fields.iter().zip(head.iter()).filter(|(field, _)| field.id == FieldId::Other);
        kept.map(|(_, (name, value))| (name.to_owned(), value.to_vec())).collect()
    };
    assert_eq!(others(head), others(again));
    for name in ["weir", "group", "a", ""] {
        assert_eq!(head.cookie(name), again.cookie(name), "cookie {name:?}");
    }
}

fn nothing_of_this_hop(parsed: &Parsed, again: &Head, reparsed: &Parsed) {
    assert!(!reparsed.http10 && reparsed.keep_alive && parsed.expects_continue == reparsed.expects_continue);
    let mut once = Vec::new();
    for (field, (name, value)) in again.fields.iter().zip(again.iter()) {
        match field.id {
            FieldId::HopByHop => {
                let asked = matches!((name, value), ("connection", b"upgrade") | ("upgrade", b"websocket"));
                let trailers = matches!((name, value), ("connection", b"te") | ("te", b"trailers"));
                assert!(if parsed.upgrade { asked } else { trailers }, "{name} is forwarded");
            }
            FieldId::Expect => assert_eq!(value, b"100-continue"),
            FieldId::Shadow | FieldId::Secret | FieldId::Nominated => panic!("{name} is forwarded"),
            FieldId::Via | FieldId::Other | FieldId::Trace | FieldId::Claimed | FieldId::ClientCert => continue,
            FieldId::Framing | FieldId::Host | FieldId::Cookie | FieldId::Forwarded | FieldId::RequestId => {}
        }
        assert!(!once.contains(&name), "{name} is there twice");
        once.push(name);
    }
}

fn our_fields(head: &Head, again: &Head, peer: IpAddr) {
    let text = |name: &str| String::from_utf8_lossy(again.value(name).expect(name)).into_owned();
    let hops = text("x-forwarded-for");
    let before = hops.strip_suffix(&peer.to_string()).expect("the peer is the last hop");
    assert!(before.is_empty() || (peer == PROXY && before.ends_with(", ")), "a stranger writes {before:?}");
    assert!(peer == PROXY || text("x-forwarded-proto") == "http");
    assert!(peer == PROXY || again.value("x-forwarded-host").unwrap_or_default() == head.authority().as_bytes());
    assert!(!text("x-request-id").is_empty());
    let via = again.iter().filter(|(name, _)| *name == "via").last().expect("a via").1;
    assert_eq!(via, format!("1.1 {INSTANCE}").as_bytes());
}
