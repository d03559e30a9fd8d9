//! What a peer may have weir do for nothing: one account for each connection, on which frames that move nothing are
//! booked, and from which the answers (or requests) that weir sends are taken. Pure.
//!
//! Prices are such that the default of 1000 in ten seconds is 200 resets, 100 SETTINGS, or 1000 PINGs of a client that
//! gets no answers; what clients do for the answers that they get is paid for by these, however many they are: updates
//! of two windows for each DATA frame, the PINGs by which gRPC measures its bandwidth, priorities, cancelled streams.

use std::time::{Duration, Instant};

use super::scanner::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::telemetry::flood::Flood;

/// The time in which a whole account is forgiven (Sōzu counts in windows of the same order).
const WINDOW: Duration = Duration::from_secs(10);

/// What weir's own head on a stream pays for: one reset of it.
const HEAD_EARNS: u32 = RESET_COSTS;

/// What weir's own DATA pays for at most; less, when there is little in it, so that windows opened byte by byte do not
/// pay for themselves.
const DATA_EARNS_MAX: u32 = 4;

/// A stream that the peer gave up. Clients reset their streams by the hundred when a page is left.
const RESET_COSTS: u32 = 5;

/// A stream that weir gave up because of what the peer sent.
const ERROR_COSTS: u32 = 10;

/// SETTINGS: all streams are looked through for a new window.
const SETTINGS_COSTS: u32 = 10;

/// Bytes of SETTINGS entries that cost one more.
const SETTINGS_BYTES: usize = 60;

/// DATA with nothing in it, which some send with every body: one for each request (or answer) is paid for by that.
const EMPTY_COSTS: u32 = HEAD_EARNS;

/// A piece of a header block that does not end it.
const PIECE_COSTS: u32 = 5;

/// Bytes in excess of a head (see [`excess`](crate::proxy::http2::settings::Config::excess)) that cost one: some fifty
/// heads of 30 kB, of which each has a hundred times what is needed done.
const EXCESS_BYTES: usize = 1024;

/// The account.
#[derive(Debug)]
pub(super) struct Glitches {
    max: u32,
    booked: u32,
    /// Since when nothing has been forgiven.
    since: Instant,
}

// === impl Glitches ===

impl Glitches {
    /// An account on which `max` may be booked at once, and as much again every ten seconds.
    pub(super) fn new(max: u32, now: Instant) -> Self {
        Self { max, booked: 0, since: now }
    }

    /// Books a frame from the peer; what it is, when it is more than may be.
    pub(super) fn received(&mut self, frame: &Frame<'_>, now: impl FnOnce() -> Instant) -> Option<Flood> {
        let (flood, price) = price_received(frame)?;
        self.book(price, now).then_some(flood)
    }

    /// Books a frame to the peer, or takes off what it pays for.
    pub(super) fn sent(&mut self, frame: &Frame<'_>, now: impl FnOnce() -> Instant) -> Option<Flood> {
        match frame.kind {
            HEADERS => self.booked = self.booked.saturating_sub(HEAD_EARNS),
            DATA => {
                let earned = (1 + frame.length as u32 / 16).min(DATA_EARNS_MAX);
                self.booked = self.booked.saturating_sub(earned);
            }
            RST_STREAM if blames_peer(frame.begins) => return self.book(ERROR_COSTS, now).then_some(Flood::Error),
            _ => {}
        }
        None
    }

    /// Books bytes that heads came to in excess; whether that is more than may be.
    #[cold]
    pub(super) fn unpacked(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        self.book(u32::try_from(bytes.div_ceil(EXCESS_BYTES)).unwrap_or(u32::MAX), now)
    }

    /// Whether so much is booked that more is to be expected: a quarter of what may be.
    #[inline]
    pub(super) fn is_wary(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.booked > self.max / 4 && {
            self.forgive(now());
            self.booked > self.max / 4
        }
    }

    /// Whether it is too much. The clock is read only when it seems to be.
    fn book(&mut self, price: u32, now: impl FnOnce() -> Instant) -> bool {
        self.booked = self.booked.saturating_add(price);
        if self.booked <= self.max {
            return false;
        }
        self.forgive(now());
        self.booked > self.max
    }

    /// Forgives what the time since the last time does.
    fn forgive(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_micros();
        let forgiven = passed * u128::from(self.max) / WINDOW.as_micros();
        if forgiven > 0 {
            self.since = now;
            self.booked = self.booked.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
    }
}

/// What a frame from a peer costs; none when it is something to work on.
fn price_received(frame: &Frame<'_>) -> Option<(Flood, u32)> {
    match frame.kind {
        DATA if frame.flags & END_STREAM == 0 && is_empty(frame) => Some((Flood::Data, EMPTY_COSTS)),
        DATA | GOAWAY => None,
        HEADERS | PUSH_PROMISE if frame.flags & END_HEADERS != 0 => None,
        HEADERS | PUSH_PROMISE | CONTINUATION => Some((Flood::Continuation, PIECE_COSTS)),
        PRIORITY => Some((Flood::Priority, 1)),
        RST_STREAM => Some((Flood::Reset, RESET_COSTS)),
        SETTINGS => Some((Flood::Settings, SETTINGS_COSTS + (frame.length / SETTINGS_BYTES) as u32)),
        PING => Some((Flood::Ping, 1)),
        WINDOW_UPDATE => Some((Flood::WindowUpdate, 1)),
        _ => Some((Flood::Unknown, 1)),
    }
}

/// Whether a DATA frame holds nothing but padding.
fn is_empty(frame: &Frame<'_>) -> bool {
    match frame.begins.first() {
        None => true,
        Some(&padding) => frame.flags & PADDED != 0 && frame.length == 1 + usize::from(padding),
    }
}

/// Whether the code of a reset says that the peer broke the protocol (RFC 9113 §7): PROTOCOL_ERROR,
/// FLOW_CONTROL_ERROR, STREAM_CLOSED or FRAME_SIZE_ERROR.
fn blames_peer(code: &[u8]) -> bool {
    matches!(code, [0, 0, 0, 1 | 3 | 5 | 6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize, begins: &[u8]) -> Frame<'_> {
        Frame { kind, flags, length, begins }
    }

    /// How many of them a fresh account takes at once.
    fn room_for(frame: &Frame<'_>) -> u32 {
        let now = Instant::now();
        let mut account = Glitches::new(1000, now);
        (0..).take_while(|_| account.received(frame, || now).is_none()).count() as u32
    }

    #[test]
    fn what_moves_nothing_is_bounded_and_what_moves_something_is_free() {
        let rows = [
            (frame(PING, 0, 8, &[0; 4]), 1000),
            (frame(PRIORITY, 0, 5, &[0; 4]), 1000),
            (frame(WINDOW_UPDATE, 0, 4, &[0; 4]), 1000),
            (frame(0xbe, 0, 0, &[]), 1000),
            (frame(RST_STREAM, 0, 4, &[0; 4]), 200),
            (frame(SETTINGS, 0, 0, &[]), 100),
            (frame(SETTINGS, 0, 6000, &[0; 4]), 9),
            (frame(DATA, 0, 0, &[]), 200),
            (frame(DATA, PADDED, 256, &[255, 0, 0, 0]), 200),
            (frame(HEADERS, 0, 10, &[0; 4]), 200),
            (frame(CONTINUATION, 0, 0, &[]), 200),
        ];
        for (frame, room) in rows {
            assert_eq!(room_for(&frame), room, "{frame:?}");
        }
        for free in [frame(HEADERS, END_HEADERS, 9, &[0; 4]), frame(DATA, END_STREAM, 0, &[])] {
            assert_eq!(price_received(&free), None);
        }
        assert_eq!(price_received(&frame(DATA, PADDED, 257, &[255, 0, 0, 0])), None);
    }

    #[test]
    fn heads_that_name_the_same_entries_again_and_again_are_bounded() {
        let now = Instant::now();
        let mut account = Glitches::new(1000, now);
        let heads = (0..1000).take_while(|_| !account.unpacked(20 * 1024, || now)).count();
        assert_eq!(heads, 50);
        assert!(!account.unpacked(20 * 1024, || now + WINDOW), "forgiven with time");
    }

    #[test]
    fn an_account_is_forgiven_with_time() {
        let began = Instant::now();
        let mut account = Glitches::new(1000, began);
        let ping = frame(PING, 0, 8, &[0; 4]);
        for ms in 0..100_000_u64 {
            let now = began + Duration::from_millis(ms * 10);
            assert_eq!(account.received(&ping, || now), None, "a hundred a second is what is forgiven");
        }
        let end = began + Duration::from_secs(1000);
        let burst = (0..5000).take_while(|_| account.received(&ping, || end).is_none()).count();
        assert!(burst <= 2000, "{burst}");
    }

    #[test]
    fn an_account_is_wary_until_enough_is_forgiven() {
        let began = Instant::now();
        let mut account = Glitches::new(1000, began);
        let ping = frame(PING, 0, 8, &[0; 4]);
        assert!(!account.is_wary(|| began));
        (0..300).for_each(|_| assert_eq!(account.received(&ping, || began), None));
        assert!(account.is_wary(|| began));
        assert!(!account.is_wary(|| began + WINDOW / 10));
    }

    #[test]
    fn answers_pay_for_the_updates_pings_and_resets_that_they_cause() {
        let now = Instant::now();
        let mut account = Glitches::new(100, now);
        for _ in 0..10_000 {
            assert_eq!(account.sent(&frame(HEADERS, END_HEADERS, 50, &[0; 4]), || now), None);
            assert_eq!(account.sent(&frame(DATA, 0, 60, &[0; 4]), || now), None);
            for kind in [WINDOW_UPDATE, WINDOW_UPDATE, PING, RST_STREAM] {
                assert_eq!(account.received(&frame(kind, 0, 4, &[0; 4]), || now), None);
            }
        }
    }

    #[test]
    fn windows_opened_byte_by_byte_do_not_pay_for_themselves() {
        let now = Instant::now();
        let mut account = Glitches::new(1000, now);
        let mut rounds = 0;
        while account.received(&frame(WINDOW_UPDATE, 0, 4, &[0, 0, 0, 1]), || now).is_none()
            && account.received(&frame(WINDOW_UPDATE, 0, 4, &[0, 0, 0, 1]), || now).is_none()
        {
            account.sent(&frame(DATA, 0, 1, b"x"), || now);
            rounds += 1;
        }
        assert!(rounds <= 1000, "{rounds}");
    }

    #[test]
    fn streams_that_weir_resets_for_the_peers_mistakes_are_booked_and_others_are_not() {
        let now = Instant::now();
        for (code, costs) in [(0, 0), (1, 10), (2, 0), (3, 10), (5, 10), (6, 10), (7, 0), (8, 0), (11, 0)] {
            let mut account = Glitches::new(1000, now);
            account.sent(&frame(RST_STREAM, 0, 4, &[0, 0, 0, code]), || now);
            assert_eq!(account.booked, costs, "{code}");
        }
    }
}
