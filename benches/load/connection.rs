//! One client connection: writes a prepared request, reads the answer to its end, says what it was.
//!
//! Answers must carry `Content-Length`; one request is in flight at a time. No redirects, no chunked bodies.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

/// Room for the answers that the benches ask for; larger bodies pass through it in pieces.
const BUFFER_BYTES: usize = 16 * 1024;

/// What one complete answer said.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The first byte of the body, which tells the two upstreams of the benches apart; 0 if the body is empty.
    pub(crate) mark: u8,
    /// Whether the server announced that it closes the connection.
    pub(crate) last: bool,
}

/// What reading brought.
pub(crate) enum Progress {
    /// More bytes are needed.
    Waiting,
    Done(Answer),
    /// The server closed or reset the connection.
    Closed,
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    answer: Option<(Answer, usize)>,
    /// When the request in flight was handed to the kernel (or, open loop, should have been).
    pub(crate) sent: Option<Instant>,
}

impl Connection {
    pub(crate) fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nonblocking(true)?;
        Self::over(stream)
    }

    /// Begins to connect; until that is done, sending and receiving would block.
    pub(crate) fn begin(target: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Self::over(socket.into()),
        }
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0, answer: None, sent: None })
    }

    /// Sends `request`; its bytes are far fewer than a socket buffer holds, so a partial write is an error.
    pub(crate) fn send(&mut self, request: &[u8], sent: Instant) -> io::Result<()> {
        self.sent = Some(sent);
        let written = self.stream.write(request)?;
        if written == request.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// Reads what is there.
    pub(crate) fn receive(&mut self) -> io::Result<Progress> {
        loop {
            let count = match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(Progress::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Progress::Closed),
                Err(error) => return Err(error),
            };
            self.filled += count;
            if let Some(answer) = self.advance()? {
                return Ok(Progress::Done(answer));
            }
            if count < self.buffer.len() / 2 && self.filled < self.buffer.len() {
                return Ok(Progress::Waiting);
            }
        }
    }

    /// Takes the head once it is whole, then counts the body down.
    fn advance(&mut self) -> io::Result<Option<Answer>> {
        if self.answer.is_none() {
            let bytes = &self.buffer[..self.filled];
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                return if self.filled == self.buffer.len() { Err(refused("a head of 16 KiB")) } else { Ok(None) };
            };
            let (mut answer, length) = head(&bytes[..end])?;
            let body = end + 4;
            if length > 0 && self.filled == body {
                return Ok(None);
            }
            answer.mark = if length > 0 { bytes[body] } else { 0 };
            let taken = self.filled - body;
            self.filled = 0;
            return self.count(answer, length, taken);
        }
        let taken = std::mem::take(&mut self.filled);
        match self.answer.take() {
            Some((answer, left)) => self.count(answer, left, taken),
            None => Ok(None),
        }
    }

    fn count(&mut self, answer: Answer, left: usize, taken: usize) -> io::Result<Option<Answer>> {
        if taken > left {
            return Err(refused("more bytes than Content-Length said"));
        }
        if taken == left {
            return Ok(Some(answer));
        }
        self.answer = Some((answer, left - taken));
        Ok(None)
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Status, closing and body length of an answer's head.
fn head(bytes: &[u8]) -> io::Result<(Answer, usize)> {
    let text = std::str::from_utf8(bytes).map_err(|_| refused("a head that is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|digits| digits.parse().ok());
    let mut answer = Answer { status: status.ok_or_else(|| refused("no status"))?, mark: 0, last: false };
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            answer.last = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if answer.status == 204 {
        length = Some(0);
    }
    Ok((answer, length.ok_or_else(|| refused("no Content-Length"))?))
}

fn refused(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the answer has {what}"))
}
