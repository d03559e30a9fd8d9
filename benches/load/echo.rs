//! The endpoint of the WebSocket row: grants every upgrade and sends every message back. A request that asks for none
//! is answered 200, so that probes pass. Messages come whole, are short and masked; anything else ends the program.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::endpoint::Peer;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Room for what one connection sends at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// A client that may have become a WebSocket.
pub(crate) struct Echo {
    stream: TcpStream,
    socket: bool,
    read: Vec<u8>,
}

impl Peer for Echo {
    const EDGES: bool = false;

    fn new(stream: TcpStream) -> Self {
        Self { stream, socket: false, read: Vec::new() }
    }

    fn serve(&mut self) -> io::Result<bool> {
        let mut bytes = [0; BUFFER_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => self.read.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        }
        let mut out = Vec::new();
        if !self.socket
            && let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head: Vec<u8> = self.read.drain(..end + 4).collect();
            out = self.greet(&String::from_utf8_lossy(&head));
        }
        if self.socket {
            self.echo(&mut out)?;
        }
        // Answers are short, and clients wait for them: they fit.
        Ok(out.is_empty() || self.stream.write(&out).is_ok_and(|count| count == out.len()))
    }
}

impl Echo {
    fn greet(&mut self, head: &str) -> Vec<u8> {
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let Some(key) = key else {
            let body = "stable answers with fifty-four bytes counted exactly..";
            return format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        };
        self.socket = true;
        let accept = STANDARD.encode(Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize());
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        format!("HTTP/1.1 101 Switching Protocols\r\n{fields}Sec-WebSocket-Accept: {accept}\r\n\r\n").into_bytes()
    }

    /// Whole messages back, without their mask.
    fn echo(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut at = 0;
        while let [first, second, mask @ ..] = &self.read[at..] {
            let length = usize::from(second & 0x7f);
            if second & 0x80 == 0 || length > 125 {
                return Err(io::Error::new(ErrorKind::InvalidData, "a frame without a mask, or a long one"));
            }
            let Some((mask, payload)) = mask.split_first_chunk::<4>().filter(|(_, rest)| rest.len() >= length) else {
                break;
            };
            out.extend([*first, length as u8]);
            out.extend(payload[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            at += 6 + length;
        }
        self.read.drain(..at);
        Ok(())
    }
}
