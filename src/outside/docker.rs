//! The Docker engine: which containers there are, and what happens to them. Three requests over its socket (Docker
//! Engine API: `/containers/json`, `/containers/ID/json`, `/events`, the same since version 1.24), asked for without a
//! version so that any engine answers. It decides nothing about traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::model::Engine;

/// Time for a connection and for a whole list.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a list of containers that are read: thousands of them.
const LIST_BYTES_MAX: usize = 16 << 20;

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 256 << 10;

/// Signals that end no container by themselves: HUP, USR1, USR2, WINCH.
const HARMLESS: [&str; 4] = ["1", "10", "12", "28"];

/// A way to an engine.
#[derive(Debug, Clone)]
pub struct Docker(Engine);

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses by network. One in the network of its host has that of loopback.
    pub networks: BTreeMap<String, IpAddr>,
    /// Whether its own health check passes; none: it has none.
    pub healthy: Option<bool>,
    /// The TCP ports that its image exposes.
    pub ports: BTreeSet<u16>,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was told to end: `docker stop` says so before anything else.
    Stopping(String),
    /// It began or ended; what it was told before is over.
    Turned(String),
    /// Something else, such as another state of health.
    Other,
}

/// Events as they happen.
pub struct Events {
    body: Incoming,
    read: BytesMut,
}

/// Why the engine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It cannot be reached.
    #[error("{engine} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        engine: String,
        /// What failed.
        why: String,
    },
    /// It answered something else.
    #[error("{engine} answered {what}")]
    Answer {
        /// Where.
        engine: String,
        /// What.
        what: String,
    },
}

// === impl Docker ===

impl Docker {
    /// The engine there.
    pub fn new(engine: Engine) -> Self {
        Self(engine)
    }

    /// The containers that run and have this label.
    pub async fn containers(&self, label: &str) -> Result<Vec<Container>, DockerError> {
        let filters = serde_json::json!({ "label": [label], "status": ["running"] });
        let listed: Vec<Listed> = self.read(&format!("/containers/json?filters={}", encoded(&filters))).await?;
        Ok(listed.into_iter().map(Container::from).collect())
    }

    /// The networks of one container; none when there is no such container.
    pub async fn networks_of(&self, id: &str) -> Result<Option<Vec<String>>, DockerError> {
        match self.read::<Inspected>(&format!("/containers/{id}/json")).await {
            Ok(inspected) => Ok(Some(inspected.network_settings.networks.into_keys().collect())),
            Err(DockerError::Answer { what, .. }) if what.starts_with("404") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What happens from now on to containers with this label.
    pub async fn events(&self, label: &str) -> Result<Events, DockerError> {
        let filters = serde_json::json!({ "type": ["container"], "label": [label] });
        let body = self.ask(&format!("/events?filters={}", encoded(&filters))).await?;
        Ok(Events { body, read: BytesMut::new() })
    }

    async fn read<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, DockerError> {
        let whole = async {
            let body = http_body_util::Limited::new(self.ask(path).await?, LIST_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.answered(error.to_string()))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| self.answered(format!("what is not understood: {error}")))
        };
        timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(self.answered("nothing in time".into())))
    }

    /// Asks, and waits for the head of the answer.
    async fn ask(&self, path: &str) -> Result<Incoming, DockerError> {
        let asking = async {
            match &self.0 {
                Engine::Socket(socket) => {
                    let stream = UnixStream::connect(socket).await;
                    self.exchange(stream.map_err(|error| self.unreachable(&error))?, path).await
                }
                Engine::Tcp(authority) => {
                    let stream = TcpStream::connect(authority).await;
                    self.exchange(stream.map_err(|error| self.unreachable(&error))?, path).await
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(self.answered("nothing in time".into())))
    }

    async fn exchange<S>(&self, stream: S, path: &str) -> Result<Incoming, DockerError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed = |error: hyper::Error| self.answered(format!("no HTTP: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // It ends with the answer.
        tokio::spawn(connection);
        let request = Request::get(path).header(http::header::HOST, "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.answered(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(self.answered(response.status().to_string()));
        }
        Ok(response.into_body())
    }

    fn unreachable(&self, error: &std::io::Error) -> DockerError {
        DockerError::Unreachable { engine: self.0.to_string(), why: error.to_string() }
    }

    fn answered(&self, what: String) -> DockerError {
        DockerError::Answer { engine: self.0.to_string(), what }
    }
}

/// A value as JSON in a query.
fn encoded(value: &serde_json::Value) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    value.to_string().bytes().fold(String::new(), |mut text, byte| {
        match keep(byte) {
            true => text.push(byte.into()),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

// === impl Events ===

impl Events {
    /// The next one; none when the engine ended the stream or broke it off.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line = self.read.split_to(end + 1);
                // What is not understood may matter all the same.
                return Some(serde_json::from_slice::<Happened>(&line).map_or(Event::Other, Event::from));
            }
            if self.read.len() > EVENT_BYTES_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}

/// An entry of `/containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    ports: Vec<Exposed>,
    #[serde(default)]
    network_settings: Networks,
}

#[derive(Debug, Deserialize)]
struct Exposed {
    #[serde(rename = "PrivatePort")]
    port: u16,
    #[serde(rename = "Type")]
    protocol: String,
}

/// The part of `/containers/ID/json` that is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    network_settings: Networks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    #[serde(default)]
    networks: BTreeMap<String, Joined>,
}

#[derive(Debug, Deserialize)]
struct Joined {
    #[serde(rename = "IPAddress", default)]
    v4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    v6: String,
}

/// A line of `/events`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Happened {
    #[serde(default)]
    action: String,
    actor: Actor,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: BTreeMap<String, String>,
}

// === impl Container ===

impl From<Listed> for Container {
    fn from(listed: Listed) -> Self {
        let address = |(name, joined): (String, Joined)| {
            let own = if name == "host" { Some(Ipv4Addr::LOCALHOST.into()) } else { None };
            let ip = joined.v4.parse().ok().or_else(|| joined.v6.parse().ok()).or(own)?;
            Some((name, ip))
        };
        // The list says it in words alone: `Up 3 seconds (health: starting)`.
        let healthy = match &*listed.status {
            status if status.contains("(healthy)") => Some(true),
            status if status.contains("(unhealthy)") || status.contains("(health: starting)") => Some(false),
            _ => None,
        };
        let name = listed.names.first().map_or("", |name| name.trim_start_matches('/')).to_owned();
        let networks = listed.network_settings.networks.into_iter().filter_map(address).collect();
        let ports = listed.ports.iter().filter(|it| it.protocol == "tcp").map(|it| it.port).collect();
        Self { id: listed.id, name, labels: listed.labels, networks, healthy, ports }
    }
}

// === impl Event ===

impl From<Happened> for Event {
    fn from(happened: Happened) -> Self {
        let Happened { action, actor: Actor { id, attributes } } = happened;
        match &*action {
            "kill" if !attributes.get("signal").is_some_and(|signal| HARMLESS.contains(&&**signal)) => {
                Event::Stopping(id)
            }
            "start" | "die" | "destroy" => Event::Turned(id),
            _ => Event::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_container_has_its_addresses_and_its_health() {
        let listed = |status: &str, networks: &str| -> Container {
            let text = format!(
                "{{\"Id\":\"a1\",\"Names\":[\"/shop_canary_1\"],\"Labels\":{{\"weir.pool\":\"canary\"}},\
                 \"State\":\"running\",\"Status\":\"{status}\",\"NetworkSettings\":{{\"Networks\":{networks}}}}}"
            );
            serde_json::from_str::<Listed>(&text).expect("as the engine writes it").into()
        };
        let front =
            "{\"front\":{\"IPAddress\":\"172.18.0.3\",\"GlobalIPv6Address\":\"\"},\"none\":{\"IPAddress\":\"\"}}";
        let container = listed("Up 3 seconds", front);
        assert_eq!((container.name.as_str(), container.healthy), ("shop_canary_1", None));
        assert_eq!(container.networks.into_iter().collect::<Vec<_>>(), [("front".into(), [172, 18, 0, 3].into())]);
        assert_eq!(listed("Up 1 second (health: starting)", "{}").healthy, Some(false));
        assert_eq!(listed("Up 2 minutes (healthy)", "{}").healthy, Some(true));
        assert_eq!(listed("Up 2 minutes (unhealthy)", "{}").healthy, Some(false));
        let host = listed("Up 1 second", "{\"host\":{\"IPAddress\":\"\"}}");
        assert_eq!(host.networks["host"], IpAddr::from([127, 0, 0, 1]));
    }

    #[test]
    fn a_signal_that_ends_a_container_says_that_it_stops() {
        let event = |text: &str| serde_json::from_str::<Happened>(text).map_or(Event::Other, Event::from);
        let kill = |signal: &str| {
            event(&format!(
                "{{\"Type\":\"container\",\"Action\":\"kill\",\"Actor\":{{\"ID\":\"a1\",\
                 \"Attributes\":{{\"signal\":\"{signal}\"}}}}}}"
            ))
        };
        assert_eq!((kill("15"), kill("9"), kill("3")), {
            let stopping = Event::Stopping("a1".into());
            (stopping.clone(), stopping.clone(), stopping)
        });
        assert_eq!((kill("1"), kill("12")), (Event::Other, Event::Other));
        assert_eq!(event("{\"Action\":\"start\",\"Actor\":{\"ID\":\"a1\"}}"), Event::Turned("a1".into()));
        assert_eq!(event("{\"Action\":\"health_status: healthy\",\"Actor\":{\"ID\":\"a1\"}}"), Event::Other);
        assert_eq!(event("nonsense"), Event::Other);
    }

    #[test]
    fn a_query_holds_its_filters_as_json() {
        assert_eq!(
            encoded(&serde_json::json!({ "label": ["weir.service"] })),
            "%7B%22label%22%3A%5B%22weir.service%22%5D%7D"
        );
    }
}
