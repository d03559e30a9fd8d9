//! WebSocket messages in a closed loop: each connection sends one, waits for its echo, looks at it, sends the next.
//! With `--through HOST:PORT` the WebSocket is spoken within a tunnel that a CONNECT to there opens.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::epoll::Epoll;
use crate::options::Options;

/// What is said; as long as the answers of the other rows.
const MESSAGE: &[u8; 54] = b"a message with fifty-four bytes, counted exactly......";

/// An echo: two bytes of a head, and the message without its mask.
const ECHO_BYTES: usize = 2 + MESSAGE.len();

struct Socket {
    stream: TcpStream,
    read: [u8; ECHO_BYTES],
    have: usize,
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut message = vec![0x82, 0x80 | MESSAGE.len() as u8];
    message.extend(mask);
    message.extend(MESSAGE.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let mut epoll = Epoll::new()?;
    let mut sockets = Vec::new();
    for token in 0..options.value("connections")? {
        let socket = Socket::open(options)?;
        epoll.add(&socket.stream, token)?;
        sockets.push(socket);
    }
    let length = options.seconds("seconds")?;
    let began = Instant::now();
    for socket in &mut sockets {
        socket.say(&message)?;
    }
    let mut echoes: u64 = 0;
    while began.elapsed() < length {
        for token in epoll.ready(100)? {
            let socket = &mut sockets[token];
            if socket.hear()? {
                echoes += 1;
                socket.say(&message)?;
            }
        }
    }
    let rate = echoes as f64 / began.elapsed().as_secs_f64();
    Ok(format!("{{\"requests\":{echoes},\"rate\":{rate:.1},\"failed\":0}}"))
}

impl Socket {
    fn open(options: &Options) -> io::Result<Self> {
        let target = options.target()?;
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        if let Ok(authority) = options.text("through") {
            write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")?;
            let head = head(&mut stream)?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(io::Error::other(format!("no tunnel: {head}")));
            }
        }
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let head = head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101") || !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            return Err(io::Error::other(format!("no WebSocket: {head}")));
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, read: [0; ECHO_BYTES], have: 0 })
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        self.have = 0;
        match self.stream.write(message)? == message.len() {
            true => Ok(()),
            false => Err(ErrorKind::WriteZero.into()),
        }
    }

    /// Whether the whole echo is there.
    fn hear(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut self.read[self.have..]) {
            Ok(0) => return Err(io::Error::other("a connection was closed")),
            Ok(count) => self.have += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if self.have < ECHO_BYTES {
            return Ok(false);
        }
        match self.read[2..] == MESSAGE[..] && self.read[..2] == [0x82, MESSAGE.len() as u8] {
            true => Ok(true),
            false => Err(io::Error::new(ErrorKind::InvalidData, "another message came back")),
        }
    }
}

/// The head of an answer, and nothing of what follows it.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
