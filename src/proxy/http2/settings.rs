//! What the two sides of a connection say of themselves (RFC 9113 §6.5). Pure.

use std::cell::Cell;
use std::rc::Rc;

use super::error::Reason;
use super::flow::WINDOW_MAX;
use super::frame::{PAYLOAD_MAX, SETTINGS, push_head};
use super::purse::Purse;
use crate::proxy::worker::costly::Costly;

/// Identifiers of settings (§6.5.2, RFC 8441 §3).
const TABLE_BYTES: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const STREAMS_MAX: u16 = 3;
const WINDOW_BYTES: u16 = 4;
const FRAME_BYTES: u16 = 5;
const LIST_BYTES: u16 = 6;
const ENABLE_CONNECT: u16 = 8;

/// What weir says of its side, and bears from the other.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// SETTINGS_INITIAL_WINDOW_SIZE: bytes of a stream that may come before they are taken; at most 2^31-1.
    pub(crate) stream_window: u32,
    /// The same of all streams together; not below 65,535, with which a connection begins.
    pub(crate) connection_window: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes by RFC 9113 §6.5.2. A larger head of a request is answered by 431.
    pub(crate) list_max: u32,
    /// SETTINGS_MAX_CONCURRENT_STREAMS; streams above are refused. None: nothing is said, as by clients.
    pub(crate) streams_max: Option<u32>,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    pub(crate) enable_connect: bool,
    /// Streams reset by the peer before they were taken that end the connection.
    pub(crate) pending_resets_max: usize,
    /// What is booked that waits to be taken, and how much of it may be.
    pub(crate) purse: Rc<Purse>,
    /// Where it waits for its next turn when its heads were enough for one ([`effort`](super::effort)). None: it does
    /// not, as no connection to an endpoint does, where each head answers a request.
    pub(crate) turns: Option<Rc<Costly>>,
    /// Told of bytes that heads unpack to in [excess](super::effort::excess); whoever takes them out has booked them.
    pub(crate) excess: Rc<Cell<usize>>,
}

/// What the peer says of its side.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The window that its streams begin with.
    pub(super) stream_window: i32,
    /// The longest payload that it takes.
    pub(super) frame_max: usize,
    /// How many streams it takes at once; `usize::MAX` when it says nothing.
    pub(super) streams_max: usize,
    /// Whether it takes an extended CONNECT.
    pub(super) enable_connect: bool,
    /// What its decoder remembers, when it said so in the last SETTINGS.
    pub(super) table_max: Option<usize>,
}

// === impl Config ===

impl Config {
    /// Appends the SETTINGS that say it. `is_client`: whether push is to be refused.
    pub(super) fn push(&self, out: &mut Vec<u8>, is_client: bool) {
        let entries = [
            is_client.then_some((ENABLE_PUSH, 0)),
            self.streams_max.map(|max| (STREAMS_MAX, max)),
            Some((WINDOW_BYTES, self.stream_window)),
            Some((LIST_BYTES, self.list_max)),
            self.enable_connect.then_some((ENABLE_CONNECT, 1)),
        ];
        push_head(out, 6 * entries.iter().flatten().count(), SETTINGS, 0, 0);
        for (id, value) in entries.into_iter().flatten() {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

// === impl Peer ===

impl Default for Peer {
    /// What holds until something is said (§6.5.2).
    fn default() -> Self {
        Self {
            stream_window: 65_535,
            frame_max: PAYLOAD_MAX,
            streams_max: usize::MAX,
            enable_connect: false,
            table_max: None,
        }
    }
}

impl Peer {
    /// Takes over the entries of a SETTINGS frame. `is_client`: whether it is a server that says so.
    pub(super) fn hear(&mut self, payload: &[u8], is_client: bool) -> Result<(), Reason> {
        self.table_max = None;
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for &[i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([i0, i1]) {
                TABLE_BYTES => self.table_max = Some(value as usize),
                // Only clients take what is pushed.
                ENABLE_PUSH if value <= u32::from(!is_client) => {}
                STREAMS_MAX => self.streams_max = value as usize,
                WINDOW_BYTES if value <= WINDOW_MAX as u32 => self.stream_window = value as i32,
                FRAME_BYTES if (PAYLOAD_MAX..1 << 24).contains(&(value as usize)) => self.frame_max = value as usize,
                ENABLE_CONNECT if value <= 1 => self.enable_connect = value == 1,
                WINDOW_BYTES => return Err(Reason::FLOW_CONTROL_ERROR),
                ENABLE_PUSH | FRAME_BYTES | ENABLE_CONNECT => return Err(Reason::PROTOCOL_ERROR),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn settings_keep_within_their_bounds() {
        for (id, value) in [(2, 2), (5, 16_383), (5, 1 << 24), (8, 2)] {
            assert_eq!(Peer::default().hear(&entry(id, value), false), Err(Reason::PROTOCOL_ERROR), "{id} {value}");
        }
        assert_eq!(Peer::default().hear(&entry(4, 1 << 31), false), Err(Reason::FLOW_CONTROL_ERROR));
        assert_eq!(Peer::default().hear(&entry(2, 1), true), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(Peer::default().hear(&entry(2, 0), true), Ok(()));
        for (id, value) in [(1, 0), (2, 0), (2, 1), (3, 0), (4, 0x7fff_ffff), (5, 0xff_ffff), (8, 1), (0xbeef, 7)] {
            assert_eq!(Peer::default().hear(&entry(id, value), false), Ok(()), "{id} {value}");
        }
        assert_eq!(Peer::default().hear(&[0; 5], false), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn what_one_side_says_the_other_hears() {
        let config = Config {
            stream_window: 77_777,
            connection_window: 99_999,
            list_max: 5_000,
            streams_max: Some(9),
            enable_connect: true,
            pending_resets_max: 1,
            purse: Rc::default(),
            turns: None,
            excess: Rc::default(),
        };
        let (mut out, mut peer) = (Vec::new(), Peer::default());
        config.push(&mut out, false);
        assert_eq!(peer.hear(&out[9..], true), Ok(()));
        assert_eq!((peer.stream_window, peer.streams_max, peer.enable_connect), (77_777, 9, true));
    }
}
