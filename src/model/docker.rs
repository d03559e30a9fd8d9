//! Where containers are looked for, as the file says it.

use std::path::PathBuf;

/// `[docker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSpec {
    /// Where the engine is.
    pub engine: Engine,
    /// What stands before the dot in the labels that are read. Default `weir`.
    pub label: String,
    /// The network whose addresses are used; none: what the containers share with weir, else any.
    pub network: Option<String>,
}

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// A socket in the file system.
    Socket(PathBuf),
    /// `HOST:PORT`, such as a proxy of the socket that lets only these requests through.
    Tcp(String),
}

impl Default for DockerSpec {
    fn default() -> Self {
        Self { engine: Engine::Socket("/var/run/docker.sock".into()), label: "weir".into(), network: None }
    }
}

// === impl Engine ===

impl Engine {
    /// `unix:///PATH` or `tcp://HOST:PORT`, as `DOCKER_HOST` has it.
    pub fn parse(text: &str) -> Option<Self> {
        match (text.strip_prefix("unix://"), text.strip_prefix("tcp://")) {
            (Some(path), _) if path.starts_with('/') => Some(Self::Socket(path.into())),
            (_, Some(authority)) => {
                let authority: http::uri::Authority = authority.trim_end_matches('/').parse().ok()?;
                authority.port()?;
                Some(Self::Tcp(authority.to_string()))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_named_as_docker_host_names_it() {
        let socket = Engine::parse("unix:///var/run/docker.sock").expect("one");
        assert_eq!(socket, Engine::Socket("/var/run/docker.sock".into()));
        assert_eq!(socket.to_string(), "unix:///var/run/docker.sock");
        assert_eq!(Engine::parse("tcp://proxy:2375/"), Some(Engine::Tcp("proxy:2375".into())));
        for wrong in ["", "/var/run/docker.sock", "unix://run/docker.sock", "tcp://proxy", "http://proxy:2375"] {
            assert_eq!(Engine::parse(wrong), None, "{wrong}");
        }
    }
}
