//! A client that sends exactly the bytes it is given and refuses answers that it does not understand.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::tls::Tls;
use super::wire::{Framing, Head, Wire, declared};

/// How long an answer may take before the test fails; far above every timeout that tests configure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Response fields that weir or a test upstream may send. Anything else fails the test (house style, rule 32).
const EXPECTED_FIELDS: &[&str] = &[
    "age",
    "allow",
    "cache-control",
    "cache-status",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "location",
    "proxy-status",
    "ratelimit",
    "ratelimit-policy",
    "referrer-policy",
    "retry-after",
    "server-timing",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "via",
    "www-authenticate",
    "x-accel-buffering",
    "x-cache",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
    "x-upstream",
];

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its framing.
    Whole,
    /// The connection ended or broke before the framing was satisfied.
    Cut,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Final status code.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Status codes of interim answers before it.
    pub interim: Vec<u16>,
    /// How the body ended.
    pub end: End,
}

impl Answer {
    /// Which upstream answered; empty when weir did.
    pub fn upstream(&self) -> &str {
        self.head.field("x-upstream").unwrap_or_default()
    }

    /// First value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `name=value` pair of a cookie that this answer sets.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        let lines = self.head.all("set-cookie");
        lines.iter().find(|line| line.starts_with(&prefix)).map(|line| line.split(';').next().unwrap_or("").to_owned())
    }
}

/// A keep-alive connection. Connects lazily and again after it was closed, unless told otherwise.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    wire: Wire,
    lenient: bool,
}

impl Client {
    /// Connects, with `Host: test` on the requests that it composes.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects or says why not.
    pub fn try_to(address: SocketAddr) -> io::Result<Self> {
        let wire = Wire::new(TcpStream::connect_timeout(&address, PATIENCE)?);
        wire.patience(PATIENCE);
        Ok(Self { address, host: "test".to_owned(), wire, lenient: false })
    }

    /// Connects and shakes hands, or says why not; asks for the host that TLS asks for.
    pub fn try_over(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let wire = Wire::new(TcpStream::connect_timeout(&address, PATIENCE)?);
        wire.patience(PATIENCE);
        let wire = wire.secure(tls.connection())?;
        Ok(Self { address, host: tls.name.clone(), wire, lenient: false })
    }

    /// Connects from a given local address.
    #[track_caller]
    pub fn from(local: SocketAddr, address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
            .expect("a socket can be made");
        socket.bind(&local.into()).expect("a loopback address can be bound");
        socket.connect(&address.into()).expect("weir accepts");
        let wire = Wire::new(socket.into());
        wire.patience(PATIENCE);
        Self { address, host: "test".to_owned(), wire, lenient: false }
    }

    /// Uses this `Host` from now on.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Accepts any response field; for answers of hostile upstreams.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Bounds every later read.
    pub fn patience(self, time: Duration) -> Self {
        self.wire.patience(time);
        self
    }

    /// The bytes below.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Writes exactly these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes)
    }

    /// `GET path` and its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// `GET path` with fields and its answer.
    #[track_caller]
    pub fn get_with(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, fields, b"")
    }

    /// A request and its answer; fails the test when there is none.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_ask(method, path, fields, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request and its answer, or why there is none. The answer may come, and the connection end, before all of the
    /// request could be sent.
    pub fn try_ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let bytes = request(method, path, &self.host, fields, body);
        let sent = self.wire.write(&bytes);
        let answer = self.answer_to(method);
        match sent {
            Err(error) if answer.is_err() => Err(error),
            _ => answer,
        }
    }

    /// The next answer, to a request that was sent with [`Client::send`].
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.answer_to("GET")
    }

    /// The next answer, knowing the method (an answer to HEAD has no body).
    pub fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut interim = Vec::new();
        let (head, status) = loop {
            let head = self.wire.head()?.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            let status = status(&head)?;
            if status >= 200 || status == 101 {
                break (head, status);
            }
            interim.push(status);
        };
        if !self.lenient {
            for (name, _) in &head.fields {
                let expected = EXPECTED_FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name));
                assert!(expected || name.starts_with("x-test-"), "unexpected response field {name}: {head:?}");
            }
        }
        let framing = match (method, status) {
            ("HEAD", _) | (_, 101 | 204 | 304) => Framing::None,
            _ => declared(&head)?.unwrap_or(Framing::UntilClose),
        };
        let mut body = Vec::new();
        let (end, trailers) = match self.wire.body(framing, &mut body) {
            Ok(trailers) => (End::Whole, trailers),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(error) if timed_out(&error) => return Err(error),
            Err(_) => (End::Cut, Vec::new()),
        };
        Ok(Answer { status, head, body, trailers, interim, end })
    }

    /// The next head only, for bodies that are read piece by piece.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.wire.head().expect("a head comes").expect("the connection is open")
    }

    /// Waits until the peer has closed; false when it sends something or does not close within `time`.
    pub fn closed_within(&mut self, time: Duration) -> bool {
        if !self.wire.ahead().is_empty() {
            return false;
        }
        let began = Instant::now();
        self.wire.patience(time);
        let closed = match self.wire.fill() {
            Ok(count) => count == 0,
            Err(error) => !timed_out(&error),
        };
        self.wire.patience(PATIENCE);
        closed && began.elapsed() <= time + Duration::from_millis(50)
    }

    /// Reads everything until the peer closes or stays silent for `silence`; says whether it closed.
    pub fn rest(&mut self, silence: Duration) -> (Vec<u8>, bool) {
        self.wire.patience(silence);
        let closed = loop {
            match self.wire.fill() {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break !timed_out(&error),
            }
        };
        self.wire.patience(PATIENCE);
        (self.wire.ahead().to_vec(), closed)
    }

    /// Resets the connection (RST) as a client that vanished.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO));
    }

    /// Where it is connected to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether a read ended by the client's own patience.
pub fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The bytes of a well-formed request; a body brings its `Content-Length`.
pub fn request(method: &str, path: &str, host: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn status(head: &Head) -> io::Result<u16> {
    let mut parts = head.start.splitn(3, ' ');
    match (parts.next(), parts.next().map(str::parse::<u16>)) {
        (Some("HTTP/1.1"), Some(Ok(code))) if (100..600).contains(&code) => Ok(code),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("status line {:?}", head.start))),
    }
}
