//! The endpoint of the rows with HTTP/2 on both sides: answers all requests of one read with one write, so that it is
//! not what sets the rate. A server that looks at what it is asked (nginx) is slower there than the proxies before it.
//!
//! It decodes no heads: a request without a body is answered 54 bytes, one with a body as a call of gRPC, with its
//! status in trailers. Windows are kept; what no client of these rows sends (CONTINUATION, windows too small for an
//! answer) ends the program.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use crate::attack::frames::HEAD_BYTES;
use crate::attack::octets::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::endpoint::Peer;

const BODY: &[u8; 54] = b"stable answers with fifty-four bytes counted exactly..";

/// Streams at a time, as nginx allows.
const STREAMS_MAX: u32 = 128;

/// The window that a connection begins with (RFC 9113 §6.9.2).
const WINDOW_BYTES: i64 = 65_535;

/// Of bodies, before they are given back to the connection's window.
const GIVE_BACK_BYTES: u32 = 16 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// A client's connection.
pub(crate) struct Caller {
    stream: TcpStream,
    greeted: bool,
    read: Vec<u8>,
    out: Vec<u8>,
    /// Streams to be answered, and whether each is a call, in order; more than one wait only for the window.
    waiting: VecDeque<(u32, bool)>,
    window: i64,
    taken: u32,
}

impl Peer for Caller {
    const EDGES: bool = true;

    fn new(stream: TcpStream) -> Self {
        let hello = [&3_u16.to_be_bytes()[..], &STREAMS_MAX.to_be_bytes()].concat();
        Self {
            stream,
            greeted: false,
            read: Vec::new(),
            out: frame(SETTINGS, 0, 0, &hello),
            waiting: VecDeque::new(),
            window: WINDOW_BYTES,
            taken: 0,
        }
    }

    fn serve(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        loop {
            if !self.flush() {
                return Ok(false);
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.read.extend_from_slice(&bytes[..count]),
                Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
            }
            self.take()?;
            self.answer();
        }
    }
}

impl Caller {
    /// Looks at every whole frame.
    fn take(&mut self) -> io::Result<()> {
        let mut at = 0;
        if !self.greeted {
            if self.read.len() < PREFACE.len() {
                return Ok(());
            }
            (self.greeted, at) = (true, PREFACE.len());
        }
        while let Some((head, rest)) = self.read[at..].split_first_chunk::<HEAD_BYTES>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            at += HEAD_BYTES + length;
            let (stream, ends) = (u32::from_be_bytes(stream), flags & END_STREAM != 0);
            match kind {
                HEADERS if flags & END_HEADERS == 0 => return Err(unfit("a head in several frames")),
                HEADERS if ends => self.waiting.push_back((stream, false)),
                DATA => {
                    self.taken += length as u32;
                    self.waiting.extend(ends.then_some((stream, true)));
                }
                WINDOW_UPDATE if stream == 0 => self.window += i64::from(number(payload)),
                SETTINGS if flags & ACK == 0 => {
                    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
                    if payload.chunks_exact(6).any(|it| it[..2] == [0, 4] && (number(&it[2..]) as usize) < BODY.len()) {
                        return Err(unfit("a window that no answer fits into"));
                    }
                    self.out.extend(frame(SETTINGS, ACK, 0, &[]));
                }
                PING if flags & ACK == 0 => self.out.extend(frame(PING, ACK, 0, payload)),
                _ => {}
            }
        }
        self.read.drain(..at);
        if self.taken >= GIVE_BACK_BYTES {
            self.out.extend(frame(WINDOW_UPDATE, 0, 0, &std::mem::take(&mut self.taken).to_be_bytes()));
        }
        Ok(())
    }

    /// Answers as many as the window takes.
    fn answer(&mut self) {
        while self.window >= BODY.len() as i64
            && let Some((stream, call)) = self.waiting.pop_front()
        {
            self.window -= BODY.len() as i64;
            // 200, then names of the static table (RFC 7541, appendix A) with values that are not to be remembered, as
            // nginx writes them: server, date, content-type, content-length.
            let mut block = b"\x88\x0f\x27\x05bench\x0f\x12\x1dSat, 21 Nov 2026 12:00:00 GMT".to_vec();
            block.extend(if call {
                &b"\x0f\x10\x10application/grpc"[..]
            } else {
                b"\x0f\x10\x0atext/plain\x0f\x0d\x0254"
            });
            self.push(HEADERS, END_HEADERS, stream, &block);
            self.push(DATA, if call { 0 } else { END_STREAM }, stream, BODY);
            if call {
                self.push(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x0bgrpc-status\x010");
            }
        }
    }

    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Writes what can be written now; false when the client is gone.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// The first four bytes as a number of 31 bits.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) & 0x7fff_ffff
}

fn unfit(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
