//! HTTP/1.1 on a blocking socket, read strictly: CRLF only, one framing, no folding.
//!
//! Shared by the test client (reading answers) and the test upstreams (reading requests). Strict on purpose: what weir
//! emits in either direction has to be in canonical form, and this reader is the judge.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest head that is read; above the largest that a test sends.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A start line and its fields, as they came.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Request line or status line, without its line end.
    pub start: String,
    /// Field names in their own case, values without surrounding blanks.
    pub fields: Vec<(String, String)>,
    /// Every byte up to and including the empty line.
    pub raw: Vec<u8>,
}

impl Head {
    /// The first value of a field, by name in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body at all.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// Until the peer closes.
    UntilClose,
}

/// A socket with a read buffer, perhaps with TLS over it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    tls: Option<Box<rustls::ClientConnection>>,
    ahead: Vec<u8>,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

impl Wire {
    /// Takes over a connected socket.
    pub fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, tls: None, ahead: Vec::new() }
    }

    /// Shakes hands on a connected socket.
    pub fn secure(mut self, mut tls: rustls::ClientConnection) -> io::Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// What TLS says of the connection.
    pub fn tls(&self) -> &rustls::ClientConnection {
        self.tls.as_ref().expect("it speaks TLS")
    }

    /// The socket below.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes read from the socket and not yet used.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The same bytes, taken out.
    pub fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    /// Bounds every later read.
    pub fn patience(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a read timeout above zero is accepted");
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes) };
        let mut stream = rustls::Stream::new(&mut **tls, &mut self.stream);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Reads more; 0 when the peer has ended.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut space = [0_u8; 16 * 1024];
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(&mut space),
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut space),
            };
            match read {
                Ok(count) => {
                    self.ahead.extend_from_slice(&space[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next head, or `None` when the peer ended cleanly before its first byte.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return parse_head(raw).map(Some);
            }
            if self.ahead.len() > HEAD_BYTES_MAX {
                return Err(malformed("a head without end"));
            }
            if self.fill()? == 0 {
                return match self.ahead.is_empty() {
                    true => Ok(None),
                    false => Err(malformed("ended inside a head")),
                };
            }
        }
    }

    /// A line without its CRLF.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let mut line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof));
            }
        }
    }

    /// Exactly `count` bytes, appended to `into`; on failure `into` keeps what had come.
    pub fn exactly(&mut self, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let mut left = usize::try_from(count).map_err(|_| malformed("too long a body"))?;
        loop {
            let take = left.min(self.ahead.len());
            into.extend(self.ahead.drain(..take));
            left -= take;
            if left == 0 {
                return Ok(());
            }
            if self.fill()? == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof));
            }
        }
    }

    /// A body by its framing, appended to `into`; returns trailer fields. On failure `into` keeps what had come.
    pub fn body(&mut self, framing: Framing, into: &mut Vec<u8>) -> io::Result<Vec<(String, String)>> {
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(count) => self.exactly(count, into).map(|()| Vec::new()),
            Framing::UntilClose => loop {
                into.append(&mut self.ahead);
                if self.fill()? == 0 {
                    return Ok(Vec::new());
                }
            },
            Framing::Chunked => self.chunked(into),
        }
    }

    fn chunked(&mut self, into: &mut Vec<u8>) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.line()?;
            let text = std::str::from_utf8(&line).map_err(|_| malformed("a chunk size that is not text"))?;
            let size = u64::from_str_radix(text, 16).map_err(|_| malformed("a chunk size that is not plain hex"))?;
            if size == 0 {
                break;
            }
            self.exactly(size, into)?;
            if !self.line()?.is_empty() {
                return Err(malformed("no line end after a chunk"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.push(parse_field(&line)?);
        }
    }
}

/// Reads a head strictly; an error names what is wrong.
pub fn parse_head(raw: Vec<u8>) -> io::Result<Head> {
    let text = &raw[..raw.len() - 4];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))) {
        return Err(malformed("bare CR, bare LF or NUL in a head"));
    }
    let start = String::from_utf8_lossy(lines[0]).into_owned();
    let fields = lines[1..].iter().map(|line| parse_field(line)).collect::<io::Result<Vec<_>>>()?;
    Ok(Head { start, fields, raw })
}

fn parse_field(line: &[u8]) -> io::Result<(String, String)> {
    let colon = line.iter().position(|b| *b == b':').ok_or_else(|| malformed("a field without colon"))?;
    let name = &line[..colon];
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(token) {
        return Err(malformed("a field name that is no token"));
    }
    let value = String::from_utf8_lossy(&line[colon + 1..]).trim_matches([' ', '\t']).to_owned();
    Ok((String::from_utf8_lossy(name).into_owned(), value))
}

/// The framing that a head declares, refusing anything that could be read two ways.
pub fn declared(head: &Head) -> io::Result<Option<Framing>> {
    let codings = head.all("transfer-encoding");
    let lengths = head.all("content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(None),
        ([coding], []) if *coding == "chunked" => Ok(Some(Framing::Chunked)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            length.parse().map(|n| Some(Framing::Length(n))).map_err(|_| malformed("a length beyond 64 bits"))
        }
        _ => Err(malformed("framing that can be read two ways")),
    }
}
