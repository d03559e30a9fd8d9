//! Where endpoints are: an origin as the file names it, and the address of one endpoint. Connecting is for others.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// What stands before the service and the pool in the host of an origin whose endpoints are containers; no name of a
/// host holds a colon.
const DOCKER: &str = "docker:";

/// A place that endpoints are found at: `http://HOST:PORT`, `https://HOST:PORT`, `h2c://HOST:PORT`, `unix:/PATH` or
/// `docker://`. A host name may stand for many endpoints, and `docker://` for every container with the pool's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Host name or address, lower case, without brackets; of a socket its path; of containers [`Origin::docker`].
    pub host: String,
    /// Port; of a socket 0.
    pub port: u16,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/1.1 or HTTP/2 over TLS; which one the endpoint says (ALPN, RFC 7301).
    Https,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
    /// HTTP/1.1 over a socket in the file system.
    Unix,
}

/// The version of the PROXY protocol in which endpoints are told whom a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The address of one endpoint. It is shown as `10.0.0.1:8080`, or as `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A socket in the file system (unix(7)).
    Unix(Arc<Path>),
}

// === impl Origin ===

impl Origin {
    /// The address, when no lookup is needed for it.
    pub fn literal(&self) -> Option<Address> {
        match self.protocol {
            Protocol::Unix => Some(Address::Unix(Path::new(&self.host).into())),
            Protocol::Http1 | Protocol::Https | Protocol::H2c => {
                self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port).into())
            }
        }
    }

    /// The containers that are labelled for a pool.
    pub fn docker(protocol: Protocol, service: &str, pool: &str) -> Self {
        Self { protocol, host: format!("{DOCKER}{service}/{pool}"), port: 0 }
    }

    /// `service/pool`, when its endpoints are containers.
    pub fn labelled(&self) -> Option<&str> {
        self.host.strip_prefix(DOCKER).filter(|_| self.protocol != Protocol::Unix)
    }

    /// `host:port`, with brackets around an IPv6 address; of a socket `localhost`: its path can stand in no `Host`.
    pub fn authority(&self) -> String {
        match self.protocol {
            Protocol::Unix => "localhost".to_owned(),
            _ if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http1 => "http",
            Protocol::Https => "https",
            Protocol::H2c => "h2c",
            Protocol::Unix => return write!(f, "unix:{}", self.host),
        };
        if self.labelled().is_some() {
            return match self.protocol {
                Protocol::H2c => f.write_str("docker+h2c://"),
                _ => f.write_str("docker://"),
            };
        }
        write!(f, "{scheme}://{}", self.authority())
    }
}

// === impl Address ===

impl Address {
    /// The address and port; none for a socket in the file system.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
