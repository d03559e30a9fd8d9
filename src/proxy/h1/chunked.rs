//! Decodes a chunked body strictly (RFC 9112 §7.1): exact CRLFs, plain hexadecimal sizes, legal extensions.
//!
//! Extensions are read, checked, bounded and dropped; they mean nothing beyond this hop. Trailers are kept as far as
//! they may pass on (`trailers`).

use std::ops::Range;

use super::{syntax, trailers};

/// Longest line of size and extensions, bytes. Nobody is known to send extensions longer than a few dozen.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// Bytes of extensions over a whole body: many small ones cost as much as a large one (hyper's bound).
const EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// Bytes of trailers (hyper's bound).
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Trailer fields, as many as fields in a request head; gRPC sends a handful.
const TRAILER_FIELDS_MAX: usize = 100;

/// Where the decoder is within a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// Decoder of one body.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    /// The lines of those that pass, each with its line end; no room until there is one.
    trailers: Vec<u8>,
}

/// What the decoder found at the front of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Body bytes, as a range of the input.
    Data(Range<usize>),
    /// More input is needed.
    More,
    /// The body is complete.
    End,
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed: {0}")]
pub struct BadChunk(pub &'static str);

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Size, extension_bytes: 0, trailer_bytes: 0, trailer_fields: 0, trailers: Vec::new() }
    }
}

// === impl Decoder ===

impl Decoder {
    /// Decodes from the front of `input`: how many bytes are used up (a `Data` range lies within them), and what they
    /// were. Call again with the rest until `More` or `End`.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Piece), BadChunk> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Size => match self.size_line(rest)? {
                    None => return Ok((used, Piece::More)),
                    Some(line) => used += line,
                },
                State::Data(_) if rest.is_empty() => return Ok((used, Piece::More)),
                State::Data(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.state = match left - n as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok((used + n, Piece::Data(used..used + n)));
                }
                State::DataEnd => match rest {
                    [] | [b'\r'] => return Ok((used, Piece::More)),
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    _ => return Err(BadChunk("a chunk is longer than its size says")),
                },
                State::Trailers => match self.trailer_line(rest)? {
                    None => return Ok((used, Piece::More)),
                    Some(line) => used += line,
                },
                State::Done => return Ok((used, Piece::End)),
            }
        }
    }

    /// Whether the last chunk and its trailers have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that may pass on, as lines `name: value CRLF` with names in lower case.
    pub fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Reads `SIZE [extensions] CRLF`; the bytes it took.
    fn size_line(&mut self, rest: &[u8]) -> Result<Option<usize>, BadChunk> {
        let Some(line) = line(rest, SIZE_LINE_BYTES_MAX)? else {
            return match rest.first() {
                Some(b) if !b.is_ascii_hexdigit() => Err(BadChunk("a chunk size is not hexadecimal")),
                _ => Ok(None),
            };
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        // 15 digits are more than any body and leave no room for an overflow.
        if digits == 0 || digits > 15 {
            return Err(BadChunk("a chunk size is not hexadecimal, or too large"));
        }
        extensions(&line[digits..])?;
        self.extension_bytes += line.len() - digits;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BadChunk("there are too many chunk extensions"));
        }
        let hex = |n: u64, b: &u8| n * 16 + u64::from((*b as char).to_digit(16).unwrap_or(0));
        self.state = match line[..digits].iter().fold(0, hex) {
            0 => State::Trailers,
            size => State::Data(size),
        };
        Ok(Some(line.len() + 2))
    }

    /// Reads one trailer line, or the empty line that ends the body.
    fn trailer_line(&mut self, rest: &[u8]) -> Result<Option<usize>, BadChunk> {
        let Some(line) = line(rest, TRAILER_BYTES_MAX)? else { return Ok(None) };
        self.trailer_bytes += line.len() + 2;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BadChunk("the trailers are too large"));
        }
        if line.is_empty() {
            self.state = State::Done;
        } else {
            let colon = memchr::memchr(b':', line).ok_or(BadChunk("a trailer has no colon"))?;
            if !syntax::is_token(&line[..colon]) || !syntax::is_value(&line[colon + 1..]) {
                return Err(BadChunk("a trailer is malformed"));
            }
            self.trailer_fields += 1;
            if self.trailer_fields > TRAILER_FIELDS_MAX {
                return Err(BadChunk("there are too many trailers"));
            }
            trailers::push(&mut self.trailers, &line[..colon], &line[colon + 1..]);
        }
        Ok(Some(line.len() + 2))
    }
}

/// The line at the front without its CRLF, when it is complete.
fn line(rest: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, BadChunk> {
    match memchr::memchr2(b'\r', b'\n', rest) {
        Some(at) if rest[at] == b'\n' => Err(BadChunk("a line ends without a carriage return")),
        Some(at) => match rest.get(at + 1) {
            Some(b'\n') if at <= bytes_max => Ok(Some(&rest[..at])),
            None if at <= bytes_max => Ok(None),
            Some(b'\n') | None => Err(BadChunk("a line is too long")),
            Some(_) => Err(BadChunk("a carriage return stands alone")),
        },
        None if rest.len() > bytes_max => Err(BadChunk("a line is too long")),
        None => Ok(None),
    }
}

/// Checks `*( ";" token [ "=" ( token / quoted-string ) ] )`; blanks around them are refused.
fn extensions(mut rest: &[u8]) -> Result<(), BadChunk> {
    const BAD: BadChunk = BadChunk("a chunk extension is malformed");
    while let Some((b';', after)) = rest.split_first() {
        let name = after.iter().take_while(|b| !matches!(b, b';' | b'=')).count();
        if !syntax::is_token(&after[..name]) {
            return Err(BAD);
        }
        rest = &after[name..];
        let Some((b'=', value)) = rest.split_first() else { continue };
        let taken = match value.first() {
            Some(b'"') => {
                let mut escaped = false;
                let close = value[1..].iter().position(|&b| {
                    let ends = b == b'"' && !escaped;
                    escaped = b == b'\\' && !escaped;
                    ends
                });
                close.ok_or(BAD)? + 2
            }
            _ => {
                let n = value.iter().take_while(|&&b| b != b';').count();
                if !syntax::is_token(&value[..n]) {
                    return Err(BAD);
                }
                n
            }
        };
        if !syntax::is_value(&value[..taken]) {
            return Err(BAD);
        }
        rest = &value[taken..];
    }
    if rest.is_empty() { Ok(()) } else { Err(BadChunk("a chunk size is followed by something else")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` handed over in steps of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, bool), BadChunk> {
        let (mut decoder, mut pending, mut out) = (Decoder::default(), Vec::new(), Vec::new());
        for part in input.chunks(step) {
            pending.extend_from_slice(part);
            loop {
                let (used, piece) = decoder.decode(&pending)?;
                if let Piece::Data(range) = &piece {
                    out.extend_from_slice(&pending[range.clone()]);
                }
                pending.drain(..used);
                if !matches!(piece, Piece::Data(_)) {
                    break;
                }
            }
        }
        Ok((out, decoder.is_done()))
    }

    #[test]
    fn a_body_reads_the_same_in_any_pieces() {
        let body = b"5\r\nhello\r\nA;x=\"y;z\";q\r\n, world!!!\r\n0\r\nX-Sum: 1\r\n\r\n";
        for step in 1..body.len() {
            assert_eq!(decode(body, step).unwrap(), (b"hello, world!!!".to_vec(), true), "step {step}");
        }
    }

    #[test]
    fn what_two_decoders_may_read_differently_is_refused() {
        for bad in [
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n",
            "-1\r\n",
            "5_0\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "\r\n",
            "g\r\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "FFFFFFFFFFFFFFFF0\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloXX",
            "5\r\nhello!!\r\n0\r\n",
            "5;\r\nhello\r\n",
            "5;\nhello\r\n",
            "5;a\rX\r\nhello\r\n",
            "5;\0x\r\nhello\r\n",
            "0\r\n\n",
            "0\r\nbad trailer\r\n\r\n",
            "5;a=\"b\r\nhello\r\n",
        ] {
            assert!(decode(bad.as_bytes(), bad.len()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn trailers_are_kept_but_for_those_that_may_not_stand_there() {
        let body = b"1\r\na\r\n0\r\nX-Sum: \t7 \r\nHost: evil\r\nContent-Length: 5\r\ngrpc-status: 0\r\n\r\n";
        for step in 1..body.len() {
            let (mut decoder, mut pending) = (Decoder::default(), Vec::new());
            for part in body.chunks(step) {
                pending.extend_from_slice(part);
                while let (used, Piece::Data(_)) = {
                    let (used, piece) = decoder.decode(&pending).unwrap();
                    pending.drain(..used);
                    (used, piece)
                } {
                    assert!(used > 0);
                }
            }
            assert!(decoder.is_done());
            assert_eq!(decoder.take_trailers(), b"x-sum: 7\r\ngrpc-status: 0\r\n", "step {step}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("5;x={}\r\nhello\r\n", "a".repeat(65_536));
        assert!(decode(long.as_bytes(), 4096).is_err());
        let many = format!("1;{}\r\na\r\n", "x".repeat(100)).repeat(10_000);
        assert!(decode(many.as_bytes(), 4096).is_err());
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(10_000));
        assert!(decode(trailers.as_bytes(), 4096).is_err());
        let long = format!("0\r\na: {}\r\n\r\n", "x".repeat(20_000));
        assert!(decode(long.as_bytes(), 4096).is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_encoding_of_a_body_decodes_to_it(
            chunks in proptest::collection::vec("[ -~]{1,40}", 0..10),
            step in 1_usize..50,
        ) {
            let mut wire = String::new();
            for chunk in &chunks {
                wire += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
            }
            wire += "0\r\n\r\n";
            proptest::prop_assert_eq!(decode(wire.as_bytes(), step).unwrap(), (chunks.concat().into_bytes(), true));
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>) {
            let _ = decode(&bytes, bytes.len().max(1));
        }
    }
}
