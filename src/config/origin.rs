//! Where endpoints are: `http://HOST[:PORT]`, `https://HOST[:PORT]`, `h2c://HOST[:PORT]`, `unix:/PATH`,
//! `docker://`. What cannot be reached is refused by name.

use crate::model::{Origin, Protocol};

/// Longest path of a socket, bytes: `sun_path` of unix(7) has 108 with the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

/// Reads an origin, or says what was found and what would be right.
pub(super) fn parse(text: &str) -> Result<Origin, (String, String)> {
    let wrong = |found: &str, help: &str| Err((found.to_owned(), help.to_owned()));
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(path);
    }
    if let Some((protocol, rest)) = containers(text) {
        let help = "its containers say by their labels where they are: write \"docker://\" alone";
        return match rest {
            // The pool it belongs to is filled in by who knows it.
            "" | "/" => Ok(Origin::docker(protocol, "", "")),
            _ => wrong("has a host", help),
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(
            "has no scheme",
            &format!("write \"http://{}\"", if text.is_empty() { "HOST:PORT" } else { text }),
        );
    };
    let protocol = match scheme.to_ascii_lowercase().as_str() {
        "http" => Protocol::Http1,
        "h2c" => Protocol::H2c,
        "https" => Protocol::Https,
        "grpc" => {
            let help = "gRPC is HTTP/2: use \"h2c://HOST:PORT\", or \"https://HOST:PORT\"";
            return wrong("is not an http address", help);
        }
        _ => {
            let help =
                "use \"http://HOST:PORT\", \"https://HOST:PORT\", \"h2c://HOST:PORT\", \"unix:/PATH\" or \"docker://\"";
            return wrong("is not an http address", help);
        }
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(at) = authority.find(['?', '#']) {
        let help = format!("endpoints are whole servers: write \"http://{}\"", &authority[..at]);
        return wrong("has a query or fragment", help.replace("/\"", "\"").as_str());
    }
    if let Some((host, _)) = authority.split_once('/') {
        return wrong("has a path", &format!("write \"http://{host}\"; a route's rewrite_prefix changes paths"));
    }
    if let Some((_, host)) = authority.rsplit_once('@') {
        return wrong("has a user name", &format!("write \"http://{host}\"; credentials do not belong here"));
    }
    // The port of an origin that names none (RFC 9110 §4.2).
    let (host, port) = split_port(authority, if protocol == Protocol::Https { 443 } else { 80 })?;
    check_host(host).map(|host| Origin { protocol, host, port })
}

/// What is spoken with containers, and what stands behind the scheme; none when the endpoints are none.
fn containers(text: &str) -> Option<(Protocol, &str)> {
    let plain = text.strip_prefix("docker://").map(|rest| (Protocol::Http1, rest));
    plain.or_else(|| text.strip_prefix("docker+h2c://").map(|rest| (Protocol::H2c, rest)))
}

/// A socket in the file system, behind `unix:`. As a URL it has an empty authority.
fn socket(text: &str) -> Result<Origin, (String, String)> {
    let path = text.strip_prefix("//").unwrap_or(text);
    let help = "write the path from the root, such as \"unix:/run/app.sock\"";
    let found = match path {
        path if !path.starts_with('/') => "is no path from the root",
        path if path.ends_with('/') => "is a directory",
        path if path.contains(['\0', '\n']) => "has a character that no path should have",
        path if path.len() > SOCKET_PATH_MAX => {
            let found = format!("is longer than the {SOCKET_PATH_MAX} bytes that the path of a socket may have");
            return Err((found, "put the socket into another directory".into()));
        }
        path => return Ok(Origin { protocol: Protocol::Unix, host: path.to_owned(), port: 0 }),
    };
    Err((found.to_owned(), help.to_owned()))
}

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), (String, String)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[after_bracket..].rfind(':').map(|at| at + after_bracket) else {
        return Ok((authority, default));
    };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    if host.contains(':') && !host.starts_with('[') {
        return Err(("has colons in its host".into(), "put an IPv6 address in brackets: \"http://[::1]:8080\"".into()));
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => Err((format!("\"{}\" is not a port", super::cursor::shorten(port)), "use a port from 1 to 65535".into())),
    }
}

fn check_host(host: &str) -> Result<String, (String, String)> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = inner.parse::<std::net::Ipv6Addr>();
        return address.map(|address| address.to_string()).map_err(|_| {
            (
                format!("\"{}\" is not an IPv6 address", super::cursor::shorten(inner)),
                "such as \"http://[::1]:8080\"".into(),
            )
        });
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    // A single dot at the end names the root, which says that no search domain is to be tried.
    let labels = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(legal);
    if host.len() <= 253 && labels.split('.').all(label) {
        Ok(host.to_ascii_lowercase())
    } else {
        let found = format!("\"{}\" is not a host name", super::cursor::shorten(host));
        Err((found, "use a host name or an address, such as \"http://engine-stable:8080\"".into()))
    }
}
