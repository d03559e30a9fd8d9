//! Frames that chance has written: nothing panics, nothing is kept without end, and what weir says is well-formed.

use proptest::prelude::*;

use super::super::core::Shared;
use super::super::frame::{END_HEADERS, END_STREAM, Frame, HEAD_BYTES, HEADERS, PAYLOAD_MAX};
use super::super::handles::Hold;
use super::super::send::Kind;
use super::peer::*;
use super::*;

/// A frame that may be sound.
fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0_u32), Just(1), Just(3), Just(5), Just(2), 0_u32..40];
    let payload = prop_oneof![
        Just(asking("POST", &[])),
        Just(asking("GET", &[("content-length", "3")])),
        Just(block(&[(":status", "200")])),
        Just(block(&[("a", "b")])),
        Just(vec![0, 0, 0, 8]),
        Just(vec![0, 0, 1, 0, 0, 0, 0, 3, 0, 4, 0, 1, 0, 0]),
        Just(vec![0, 4, 0, 0, 0, 9]),
        Just(vec![0x7f, 0xff, 0xff, 0xff]),
        prop::collection::vec(any::<u8>(), 0..40),
        (0_usize..16_384).prop_map(|length| vec![7; length]),
    ];
    let flags = prop_oneof![Just(4_u8), Just(5), Just(0), Just(1), any::<u8>()];
    (0_u8..11, flags, stream, payload).prop_map(|(kind, flags, stream, payload)| of(kind, flags, stream, &payload))
}

/// Whether these are whole frames of the kinds that weir sends.
fn are_frames(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let frame = Frame::read(head);
        if frame.length > PAYLOAD_MAX || frame.kind > 9 || rest.len() < frame.length {
            return false;
        }
        bytes = &rest[frame.length..];
    }
    bytes.is_empty()
}

/// What a holder of streams does.
fn act(held: &mut Vec<Hold>, shared: &std::rc::Rc<Shared>, what: usize) {
    let mut core = shared.core.borrow_mut();
    if let Some(key) = core.next_request() {
        held.push(Hold::new(shared, &mut core, key));
    }
    drop(core);
    let Some(hold) = held.get(what % held.len().max(1)) else { return };
    let data = Bytes::from(vec![1; what * 37 % 40_000]);
    match what % 7 {
        0 => drop(held.remove(what % held.len())),
        1 => drop(hold.with(|core, key| core.send_head(key, Kind::Final { end: false }, |head| head.status(200)))),
        2 => drop(hold.with(|core, key| core.send_data(key, data, what.is_multiple_of(2)))),
        3 => drop(hold.with(|core, key| core.send_trailers(key, [(&b"a"[..], &b"b"[..])]))),
        4 => hold.with(|core, key| core.send_reset(key, super::super::error::Reason::CANCEL)),
        5 => hold.shut(),
        _ => hold.with(|core, key| {
            let taken = core.streams[key].data.pop_front().map_or(0, |data| data.len());
            core.config.purse.take(taken);
            core.release(key, taken);
        }),
    }
}

/// A field that is put into the table, taken from it, or neither; its bytes are not always what they may be.
fn some_field() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop::sample::select(vec!["a", "b", "B", "te", "content-length", ":path", ":method", ":authority", ":x"]);
    let values = vec!["/", "v", "v", "0", "trailers", "/\r\nx: y", "a b", "/ x"];
    let value = prop::sample::select(values);
    prop_oneof![
        (62_u8..66).prop_map(|index| vec![0x80 | index]),
        // The name of an entry, the value written.
        (63_u8..70, value.clone()).prop_map(|(index, value)| [
            &[0x7f, index - 63, value.len() as u8][..],
            value.as_bytes()
        ]
        .concat()),
        (name, value, prop::sample::select(vec![0x40_u8, 0x40, 0x00])).prop_map(|(name, value, first)| {
            [&[first, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
        }),
    ]
}

/// Bytes that come to the same heads, whole or as trailers, over and over.
fn some_heads() -> impl Strategy<Value = Vec<u8>> {
    let list = (any::<bool>(), prop::collection::vec(some_field(), 0..6));
    prop::collection::vec((list, any::<bool>()), 1..20).prop_map(|heads| {
        let (mut all, mut id) = (said(&[]), 1);
        for ((complete, fields), trails) in heads {
            // The path is left to chance.
            let pseudo = block(&[(":method", "GET"), (":scheme", "http")]);
            let block = [if complete { pseudo } else { Vec::new() }, fields.concat()].concat();
            if trails {
                all.extend(post(id, &[]));
            }
            all.extend(of(HEADERS, END_HEADERS | END_STREAM, id, &block));
            id += 2;
        }
        all
    })
}

proptest! {
    #[test]
    fn what_comes_from_the_table_is_judged_as_if_it_were_written(all in some_heads()) {
        let roomy = Config { streams_max: Some(1_000), ..config() };
        let [quick, thorough] = [Shared::new(&roomy, false, false), Shared::new(&roomy, false, false)];
        thorough.core.borrow_mut().look = super::super::check::Look::Whole;
        let judged = [quick, thorough].map(|shared| {
            let mut core = shared.core.borrow_mut();
            core.receive(&all);
            (core.ended, core.out.buf.clone(), core.accept.len())
        });
        prop_assert_eq!(&judged[0], &judged[1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_frames_break_the_engine(
        is_client: bool,
        vectored: bool,
        frames in prop::collection::vec((some_frame(), 0_usize..400), 0..80),
        cut in 1_usize..5_000,
    ) {
        let small = Config { stream_window: 20_000, streams_max: Some(5), list_max: 500, ..config() };
        let shared = Shared::new(&small, is_client, vectored);
        let mut held = Vec::new();
        let mut said: Vec<u8> = Vec::new();
        let skip = if is_client { 24 } else { 0 };
        let mut all = super::peer::said(&[]);
        let mut acts = Vec::new();
        for (frame, what) in frames {
            all.extend(frame);
            acts.push((all.len(), what));
        }
        if is_client {
            for _ in 0..3 {
                let mut core = shared.core.borrow_mut();
                let id = core.next_id;
                core.next_id += 2;
                let key = core.begin(id);
                let head = |head: &mut super::super::head::HeadWriter<'_>| head.request(b"POST", b"http", b"a", b"/");
                core.send_head(key, Kind::Final { end: false }, head).expect("it is new");
                held.push(Hold::new(&shared, &mut core, key));
            }
        }
        let (mut at, mut acts) = (0, acts.into_iter().peekable());
        while at < all.len() {
            let next = (at + cut).min(all.len());
            let mut core = shared.core.borrow_mut();
            let rest = std::mem::take(&mut core.rest);
            core.receive(&[&rest, &all[at..next]].concat());
            prop_assert!(core.rest.len() < HEAD_BYTES + PAYLOAD_MAX && core.streams.linked() <= 5);
            if core.ended.is_some() {
                break;
            }
            drop(core);
            while let Some((_, what)) = acts.next_if(|(due, _)| *due <= next) {
                act(&mut held, &shared, what);
            }
            at = next;
            let mut core = shared.core.borrow_mut();
            core.go_on();
            // All of it is written.
            while !core.out.is_empty() {
                let mut slices = super::super::output::Output::no_slices();
                let count = core.out.slices(&mut slices);
                let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                said.extend_from_slice(&bytes);
                core.out.written(bytes.len());
            }
        }
        prop_assert!(said.len() < skip || are_frames(&said[skip..]));
        drop(held);
        let mut core = shared.core.borrow_mut();
        core.end(Ok(()));
        prop_assert_eq!((core.streams.linked(), core.ready.len(), core.waiting.len(), core.accept.len()), (0, 0, 0, 0));
        prop_assert!(core.streams.is_at_rest());
    }
}
