//! The examples of RFC 7541 Appendix C, read and, where this encoder chooses as they do, written; and blocks that break
//! its rules.

use super::Malformed;
use super::decoder::{Decoded, Decoder};
use super::encoder::{Encoder, Index};
use super::fields::Fields;
use super::integers;

const DATE: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const LATER: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

/// Bytes as they are printed there.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(block, 16_384, &mut fields)?, Decoded::Whole);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

/// The table of a decoder, newest first: what the indexes behind the static table say.
fn table(decoder: &mut Decoder) -> Vec<(String, String)> {
    let entry = |index| {
        let mut block = Vec::new();
        integers::write(index, 7, 0x80, &mut block);
        read(decoder, &block).ok().and_then(|mut fields| fields.pop())
    };
    (62..).map_while(entry).collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Blocks of one connection, with their fields, and the table after each.
struct Example<'a> {
    block: &'a str,
    fields: &'a [(&'a str, &'a str)],
    table: &'a [(&'a str, &'a str)],
}

fn check_read(decoder: &mut Decoder, examples: &[Example<'_>]) {
    for Example { block, fields, table: after } in examples {
        assert_eq!(read(decoder, &hex(block)), Ok(owned(fields)), "{block}");
        assert_eq!(table(decoder), owned(after), "{block}");
    }
}

/// Appendix C.2.
#[test]
fn fields_of_each_representation_are_read() {
    let rows = [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            ("custom-key", "custom-header"),
            Some(("custom-key", "custom-header")),
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", (":path", "/sample/path"), None),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", ("password", "secret"), None),
        ("82", (":method", "GET"), None),
    ];
    for (block, field, entry) in rows {
        let entry: Vec<_> = entry.into_iter().collect();
        check_read(&mut Decoder::new(4096), &[Example { block, fields: &[field], table: &entry }]);
    }
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const AFTER_REQUESTS: &[(&str, &str)] =
    &[("custom-key", "custom-value"), ("cache-control", "no-cache"), (":authority", "www.example.com")];

/// Appendix C.3.
#[test]
fn requests_without_huffman_codes_are_read() {
    let blocks = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let example = |at: usize| Example { block: blocks[at], fields: REQUESTS[at], table: &AFTER_REQUESTS[2 - at..] };
    check_read(&mut Decoder::new(4096), &[0, 1, 2].map(example));
}

/// Appendix C.4: this encoder writes the same.
const CODED_REQUESTS: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

#[test]
fn requests_with_huffman_codes_are_read() {
    let example =
        |at: usize| Example { block: CODED_REQUESTS[at], fields: REQUESTS[at], table: &AFTER_REQUESTS[2 - at..] };
    check_read(&mut Decoder::new(4096), &[0, 1, 2].map(example));
}

#[test]
fn requests_with_huffman_codes_are_written() {
    let mut encoder = Encoder::new();
    for (block, fields) in CODED_REQUESTS.into_iter().zip(REQUESTS) {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        fields.iter().for_each(|(name, value)| encoder.field(name.as_bytes(), value.as_bytes(), Index::Yes, &mut out));
        assert_eq!(out, hex(block), "{fields:?}");
    }
}

const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const PRIVATE: (&str, &str) = ("cache-control", "private");

const ANSWERS: [&[(&str, &str)]; 3] = [
    &[(":status", "302"), PRIVATE, ("date", DATE), LOCATION],
    &[(":status", "307"), PRIVATE, ("date", DATE), LOCATION],
    &[(":status", "200"), PRIVATE, ("date", LATER), LOCATION, ("content-encoding", "gzip"), ("set-cookie", COOKIE)],
];

/// With a table of 256 bytes entries go.
const AFTER_ANSWERS: [&[(&str, &str)]; 3] = [
    &[LOCATION, ("date", DATE), PRIVATE, (":status", "302")],
    &[(":status", "307"), LOCATION, ("date", DATE), PRIVATE],
    &[("set-cookie", COOKIE), ("content-encoding", "gzip"), ("date", LATER)],
];

/// A decoder whose table has 256 bytes.
fn small() -> Decoder {
    let mut decoder = Decoder::new(256);
    assert_eq!(read(&mut decoder, &[0x3f, 0xe1, 0x01]), Ok(vec![]));
    decoder
}

/// Appendix C.5.
#[test]
fn answers_without_huffman_codes_are_read() {
    let blocks = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
         3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let example = |at: usize| Example { block: blocks[at], fields: ANSWERS[at], table: AFTER_ANSWERS[at] };
    check_read(&mut small(), &[0, 1, 2].map(example));
}

/// Appendix C.6. This encoder writes the same but for 307: its three octets are no shorter in the Huffman code, which
/// the example takes all the same.
const CODED_ANSWERS: [&str; 3] = [
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
     8f0b 97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
     dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
];

#[test]
fn answers_with_huffman_codes_are_read() {
    let example = |at: usize| Example { block: CODED_ANSWERS[at], fields: ANSWERS[at], table: AFTER_ANSWERS[at] };
    check_read(&mut small(), &[0, 1, 2].map(example));
}

#[test]
fn answers_with_huffman_codes_are_written() {
    let mut encoder = Encoder::new();
    encoder.set_table_max(256);
    let mut out = Vec::new();
    encoder.begin(&mut out);
    assert_eq!(out, [0x3f, 0xe1, 0x01]);
    for (block, fields) in CODED_ANSWERS.into_iter().zip(ANSWERS) {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            match *name {
                ":status" => encoder.status(value.parse().expect("a number"), &mut out),
                _ => encoder.field(name.as_bytes(), value.as_bytes(), Index::Yes, &mut out),
            }
        }
        let block = block.replace("4883 640e ff", "4803 3330 37");
        assert_eq!(out, hex(&block), "{fields:?}");
    }
}

#[test]
fn a_block_that_breaks_a_rule_is_refused_by_the_rule() {
    let rows = [
        ("80", Malformed::Entry(0)),
        ("be", Malformed::Entry(62)),
        ("7f 00 01 61", Malformed::Entry(63)),
        ("1f 80 01 01 61", Malformed::Entry(143)),
        ("ff ff ff ff 7f", Malformed::Entry(0x7f + (1 << 28) - 1)),
        ("ff ff ff ff ff 01", Malformed::Integer),
        ("00 7f ff ff ff ff ff 01", Malformed::Integer),
        ("3f ff ff ff ff 0f", Malformed::Integer),
        ("ff", Malformed::Truncated),
        ("40", Malformed::Truncated),
        ("40 01", Malformed::Truncated),
        ("40 01 61", Malformed::Truncated),
        ("40 01 61 02 62", Malformed::Truncated),
        ("44 ff ff ff ff 7f", Malformed::Truncated),
        ("3f e2 1f", Malformed::TableSize(4097)),
        ("82 20", Malformed::LateTableSize),
        ("3f e1 1f 82 3f e1 1f", Malformed::LateTableSize),
        ("44 84 ff ff ff ff", Malformed::Eos),
        ("44 82 07 ff", Malformed::Padding),
        ("44 81 06", Malformed::Padding),
        ("00 81 ff 01 61", Malformed::Padding),
    ];
    for (block, error) in rows {
        assert_eq!(read(&mut Decoder::new(4096), &hex(block)), Err(error), "{block}");
    }
}

#[test]
fn a_table_may_change_its_size_more_than_once_before_the_first_field() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(read(&mut decoder, &hex("40 01 61 01 62")), Ok(owned(&[("a", "b")])));
    assert_eq!(read(&mut decoder, &hex("20 3f e1 1f 82")), Ok(owned(&[(":method", "GET")])));
    assert_eq!(read(&mut decoder, &hex("be")), Err(Malformed::Entry(62)));
}

/// RFC 7541 §4.2: the smallest size since the last block, and then the last.
#[test]
fn a_table_that_was_to_be_smaller_for_a_moment_is_told_of_both_sizes() {
    let mut encoder = Encoder::new();
    let mut written = |sizes: &[usize]| {
        sizes.iter().for_each(|&size| encoder.set_table_max(size));
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.field(b"a", b"b", Index::Yes, &mut out);
        out
    };
    assert_eq!(written(&[]), hex("40 01 61 01 62"));
    assert_eq!(written(&[65_536, 4096]), hex("be"), "never larger than 4096, of which it need not be told");
    assert_eq!(written(&[1000, 20, 4096]), hex("34 3f e1 1f 40 01 61 01 62"));
    assert_eq!(written(&[1000]), hex("3f c9 07 be"));
    assert_eq!(written(&[1000, 4096]), hex("3f e1 1f be"));
    assert_eq!(written(&[0]), hex("20 00 01 61 01 62"));
}

#[test]
fn fields_above_the_size_of_a_list_are_not_kept_and_the_table_stays_right() {
    let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
    // a: b, twice; then c: d, which goes into the table; then a: b again.
    let block = hex("40 01 61 01 62 be 40 01 63 01 64 bf");
    assert_eq!(decoder.decode(&block, 68, &mut fields), Ok(Decoded::TooLarge));
    assert_eq!((fields.len(), fields.list_size()), (2, 68));
    assert_eq!(table(&mut decoder), owned(&[("c", "d"), ("a", "b")]));
    fields.clear();
    assert_eq!(decoder.decode(&hex("be bf"), 68, &mut fields), Ok(Decoded::Whole));
    assert_eq!(decoder.decode(&hex("be bf"), 67, &mut fields), Ok(Decoded::TooLarge));
}

/// What is kept of a bomb is bounded by the list, not by what the block says (CVE-2016-6581 and others).
#[test]
fn a_block_of_large_entries_is_kept_up_to_the_size_of_a_list() {
    let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
    let mut block = hex("40 01 61 7f a1 1e");
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 60]);
    assert_eq!(decoder.decode(&block, 65_536, &mut fields), Ok(Decoded::TooLarge));
    assert_eq!((fields.len(), fields.list_size()), (16, 16 * 4033));
    assert!(fields.bytes.capacity() <= 2 * 65_536, "{}", fields.bytes.capacity());
    assert_eq!(decoder.decode(&[0xff, 0xff], 65_536, &mut fields), Err(Malformed::Truncated));
    fields.clear();
    assert_eq!(decoder.decode(&[0xbe; 16_000], 65_536, &mut fields), Ok(Decoded::FarTooLarge));
    assert_eq!(fields.len(), 16);
}
