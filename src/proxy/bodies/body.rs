//! Message bodies as they stand on the wire: where they end, and how they are framed anew.

use crate::proxy::h1::chunked::{BadChunk, Decoder, Piece};
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::ResponseFraming;
use crate::proxy::heads::digits::push_hexadecimal;

/// Reads one body out of the bytes of a connection.
#[derive(Debug)]
pub(crate) enum BodyReader {
    /// It is complete, and these are its trailers, as lines.
    Done(Vec<u8>),
    /// This many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(Decoder),
    /// Until the peer closes.
    Close,
}

// === impl BodyReader ===

impl BodyReader {
    pub(crate) fn of_request(framing: Framing) -> Self {
        match framing {
            Framing::None => BodyReader::Done(Vec::new()),
            Framing::Length(length) => BodyReader::Length(length),
            Framing::Chunked => BodyReader::Chunked(Decoder::default()),
        }
    }

    pub(crate) fn of_response(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None => BodyReader::Done(Vec::new()),
            ResponseFraming::Length(length) => BodyReader::Length(length),
            ResponseFraming::Chunked => BodyReader::Chunked(Decoder::default()),
            ResponseFraming::Close => BodyReader::Close,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, BodyReader::Done(_))
    }

    /// The next piece at the front of `input`, and how many bytes it uses up, as [`Decoder::decode`].
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<(usize, Piece), BadChunk> {
        match self {
            BodyReader::Done(_) => Ok((0, Piece::End)),
            _ if input.is_empty() => Ok((0, Piece::More)),
            BodyReader::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= n as u64;
                if *left == 0 {
                    *self = BodyReader::Done(Vec::new());
                }
                Ok((n, Piece::Data(0..n)))
            }
            BodyReader::Close => Ok((input.len(), Piece::Data(0..input.len()))),
            BodyReader::Chunked(decoder) => {
                let found = decoder.decode(input)?;
                if found.1 == Piece::End {
                    *self = BodyReader::Done(decoder.take_trailers());
                }
                Ok(found)
            }
        }
    }

    /// How much of a body of known length is left.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            BodyReader::Length(left) => Some(*left),
            _ => None,
        }
    }

    /// `n` bytes of a body of known length, no more than are left, have gone another way.
    pub(crate) fn pass(&mut self, n: u64) {
        match self {
            BodyReader::Length(left) if *left > n => *left -= n,
            _ => *self = BodyReader::Done(Vec::new()),
        }
    }

    /// The peer has closed: whether the body is whole.
    pub(crate) fn close(&mut self) -> bool {
        if matches!(self, BodyReader::Close) {
            *self = BodyReader::Done(Vec::new());
        }
        self.is_done()
    }

    /// The trailers of a body that is complete, as lines; none the second time.
    pub(crate) fn take_trailers(&mut self) -> Vec<u8> {
        match self {
            BodyReader::Done(trailers) => std::mem::take(trailers),
            _ => Vec::new(),
        }
    }
}

/// Appends one chunk; nothing for no data, which would end the body.
pub(crate) fn push_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        // Its size, its ends, and those of the body.
        out.reserve(data.len() + 32);
        push_hexadecimal(out, data.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk and these trailers, which are lines.
pub(crate) fn push_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}
