//! Compressed heads: RFC 7541.

use super::{Answer, COMPRESSION_ERROR, Connection, House, Row, row};
use crate::harness::frames::{END_HEADERS, END_STREAM, HEADERS, block, frame, literal};

/// A request whose block ends with these bytes.
fn with(bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&block("GET", "/"), bytes].concat())
}

/// One whose block begins with them.
fn after(bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[bytes, &block("GET", "/")].concat())
}

/// A field `x` whose value is this, in Huffman's code.
fn coded(bytes: &[u8]) -> Vec<u8> {
    with(&[&[0, 1, b'x', 0x80 | bytes.len() as u8], bytes].concat())
}

#[test]
fn a_block_that_cannot_be_read_ends_the_connection() {
    let wrong = |section, what, send| -> Row {
        // RFC 9113 §4.3: "A receiver MUST terminate the connection with a connection error of type COMPRESSION_ERROR".
        row(section, what, send, Connection(COMPRESSION_ERROR))
    };
    House::new().run(&[
        wrong("§2.3.3", "an index behind the tables", with(&[0x80 | 70])),
        wrong("§2.3.3", "a name's index behind the tables", with(&[0x40 | 63, 1, b'v'])),
        wrong("§6.1", "index 0", with(&[0x80])),
        wrong("§4.2", "a table larger than allowed", after(&[0x3f, 0xe2, 0x1f])),
        wrong("§4.2", "a change of size behind a field", with(&[0x20])),
        wrong("§5.1", "an integer without end", with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        wrong(
            "§5.1",
            "an integer beyond 64 bits",
            with(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        wrong("§5.2", "a string longer than the block", with(&[0, 1, b'x', 0x7f, 0xff, 0x01])),
        wrong("§5.2", "padding of eight bits", coded(&[0x1f, 0xff])),
        wrong("§5.2", "padding of zeros", coded(&[0x18])),
        wrong("§5.2", "the end of string within one", coded(&[0xff, 0xff, 0xff, 0xff])),
        wrong("§5.2", "a name without value", with(&[0, 1, b'x'])),
    ]);
}

#[test]
fn a_block_that_can_be_read_is() {
    House::new().run(&[
        row("§4.2", "the table emptied and filled", after(&[0x20, 0x3f, 0xe1, 0x1f]), Answer(200)),
        row("§6.2.3", "a field never to be indexed", with(&[0x10, 1, b'x', 1, b'v']), Answer(200)),
        row("§6.2.1", "a field indexed and used", with(&[0x40, 1, b'x', 1, b'v', 0xbe]), Answer(200)),
        row(
            "§4.4",
            "an entry larger than the table",
            with(&[&[0x20_u8][..0], &[0x40, 1, b'x'], &literal("", "v".repeat(5_000))[2..]].concat()),
            Answer(200),
        ),
        row("§5.2", "a value in Huffman's code", coded(&[0x1f]), Answer(200)),
        row(
            "§5.1",
            "an integer with needless bytes",
            with(&[0, 1, b'x', 0x7f, 0x80, 0x00]).into_iter().chain([]).collect(),
            Connection(COMPRESSION_ERROR),
        ),
    ]);
}
