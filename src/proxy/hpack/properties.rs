//! What the encoder writes the decoder reads, whatever the fields, the sizes of the table and how they are indexed.

use proptest::prelude::*;

use super::decoder::{Decoded, Decoder};
use super::encoder::{Encoder, Index};
use super::fields::Fields;

/// Names that repeat, known and unknown, and some that do not.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        ":method",
        ":path",
        ":status",
        ":authority",
        "accept-encoding",
        "user-agent",
        "via",
        "x-request-id",
        "x-forwarded-for",
        "traceparent",
        "a",
        "ab",
        "abc",
        "set-cookie",
        "",
    ]);
    prop_oneof![9 => known.prop_map(|name| name.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known =
        prop::sample::select(vec!["GET", "/", "200", "404", "gzip, deflate", "", "Mozilla/5.0 (X11)", "1", "0"]);
    prop_oneof![
        6 => known.prop_map(|value| value.as_bytes().to_vec()),
        2 => "[a-z0-9/]{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0_usize..5000).prop_map(|len| vec![b'x'; len]),
    ]
}

fn index() -> impl Strategy<Value = Index> {
    prop::sample::select(vec![Index::Yes, Index::Yes, Index::Yes, Index::No, Index::Never])
}

/// A field, and how it is written.
#[derive(Debug, Clone)]
struct Written {
    name: Vec<u8>,
    value: Vec<u8>,
    index: Index,
}

/// Sizes of the table that come before a block, and its fields.
fn block() -> impl Strategy<Value = (Vec<usize>, Vec<Written>)> {
    let size = prop_oneof![Just(0), Just(4096), 0_usize..400, 0_usize..10_000];
    let sizes = prop_oneof![8 => Just(vec![]), 1 => prop::collection::vec(size, 1..4)];
    let field = (name(), value(), index()).prop_map(|(name, value, index)| Written { name, value, index });
    (sizes, prop::collection::vec(field, 0..30))
}

proptest! {
    #[test]
    fn what_the_encoder_writes_the_decoder_reads(blocks in prop::collection::vec(block(), 0..30)) {
        let (mut encoder, mut decoder, mut fields) = (Encoder::new(), Decoder::new(4096), Fields::default());
        for (sizes, block) in blocks {
            sizes.iter().for_each(|&size| encoder.set_table_max(size));
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for Written { name, value, index } in &block {
                encoder.field(name, value, *index, &mut out);
            }
            fields.clear();
            prop_assert_eq!(decoder.decode(&out, 1 << 20, &mut fields), Ok(Decoded::Whole));
            let expected = block.iter().map(|field| (&field.name[..], &field.value[..]));
            prop_assert!(fields.iter().eq(expected), "{:?} of {:02x?}", fields, out);
        }
    }

    #[test]
    fn no_bytes_panic_the_decoder_and_the_list_is_bounded(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20),
        list_max in 0_usize..500,
    ) {
        let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
        for block in blocks {
            fields.clear();
            if decoder.decode(&block, list_max, &mut fields).is_err() {
                break;
            }
            prop_assert!(fields.list_size() <= list_max);
        }
    }

    #[test]
    fn a_field_that_repeats_is_one_octet_after_the_first_time(name in name(), value in "[ -~]{0,100}") {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        encoder.field(&name, value.as_bytes(), Index::Yes, &mut out);
        for _ in 0..300 {
            out.clear();
            encoder.field(&name, value.as_bytes(), Index::Yes, &mut out);
            prop_assert_eq!(out.len(), 1);
        }
    }

    #[test]
    fn every_status_is_read_as_it_was_written(statuses in prop::collection::vec(100_u16..=999, 0..50)) {
        let (mut encoder, mut decoder, mut fields) = (Encoder::new(), Decoder::new(4096), Fields::default());
        let mut out = Vec::new();
        statuses.iter().for_each(|&status| encoder.status(status, &mut out));
        decoder.decode(&out, 1 << 20, &mut fields).expect("it is well");
        let expected: Vec<String> = statuses.iter().map(u16::to_string).collect();
        prop_assert!(fields.iter().eq(expected.iter().map(|value| (&b":status"[..], value.as_bytes()))));
    }
}

/// Secrets and what differs every time never come into a table, and are written so that no hop puts them there.
#[test]
fn what_is_not_to_be_indexed_leaves_the_table_alone() {
    let (mut encoder, mut first) = (Encoder::new(), Vec::new());
    encoder.field(b"authorization", b"secret", Index::Never, &mut first);
    assert_eq!(first, [&[0x1f, 23 - 15, 6], &b"secret"[..]].concat(), "nor in the Huffman code");
    let mut again = Vec::new();
    encoder.field(b"authorization", b"secret", Index::Never, &mut again);
    assert_eq!(first, again);
    for (name, value, octets) in [("date", "now", &[0x0f, 33 - 15][..]), (":path", "/", &[0x84]), ("x", "y", &[0x00])] {
        let mut out = Vec::new();
        encoder.field(name.as_bytes(), value.as_bytes(), Index::No, &mut out);
        assert_eq!(out[..octets.len()], *octets);
    }
}

/// Values that differ where the hash does not look are told apart, and as many of them as there is room for are found.
#[test]
fn fields_whose_hashes_are_equal_are_told_apart() {
    let (mut encoder, mut decoder, mut fields) = (Encoder::new(), Decoder::new(4096), Fields::default());
    for round in 0..3 {
        for at in 0..60_u8 {
            let (mut value, mut out) = ([b'v'; 40], Vec::new());
            value[10] = at;
            encoder.field(b"x", &value, Index::Yes, &mut out);
            fields.clear();
            decoder.decode(&out, 1000, &mut fields).expect("it is well");
            assert_eq!(fields.get(b"x"), Some(&value[..]));
            // 56 entries of 73 bytes fit: when they come in turn, the next one has always just gone.
            assert!(out.len() > 1, "{round} {at}");
            out.clear();
            encoder.field(b"x", &value, Index::Yes, &mut out);
            assert_eq!(out, [0xbe]);
        }
    }
}
