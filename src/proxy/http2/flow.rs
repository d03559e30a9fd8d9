//! Windows: how many bytes of DATA may go, or come (RFC 9113 §6.9). Pure.

/// The largest window (§6.9.1).
pub(super) const WINDOW_MAX: i32 = i32::MAX;

/// The window that connections begin with, and streams before SETTINGS say otherwise (§6.9.2).
pub(super) const WINDOW_AT_FIRST: i32 = 65_535;

/// Bytes that may be sent. Below zero when the peer has made its window smaller than what was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room(i32);

/// Bytes that may come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intake {
    /// As the peer knows it.
    window: i32,
    /// As large as it is when nothing has come.
    full: i32,
    /// What has been handed out, and not been dealt with.
    unreleased: u32,
    /// What has been dealt with, and not been told the peer.
    untold: u32,
}

/// More than fits a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

// === impl Room ===

impl Room {
    pub(super) fn new(window: i32) -> Self {
        Self(window)
    }

    /// Bytes that may go now.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.0.max(0) as usize
    }

    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 > 0
    }

    /// So many go. They are no more than there is room for.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes());
        self.0 -= bytes as i32;
    }

    /// The peer opens or shuts it by so much.
    #[inline]
    pub(super) fn change(&mut self, by: i32) -> Result<(), Overflow> {
        self.0 = self.0.checked_add(by).ok_or(Overflow)?;
        Ok(())
    }
}

// === impl Intake ===

impl Intake {
    /// One of so many bytes.
    pub(super) fn new(window: i32) -> Self {
        Self { window, full: window, unreleased: 0, untold: 0 }
    }

    /// So many bytes come.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Overflow> {
        if bytes as i64 > i64::from(self.window) {
            return Err(Overflow);
        }
        self.window -= bytes as i32;
        self.unreleased += bytes as u32;
        Ok(())
    }

    /// So many are dealt with; never more than have come.
    #[inline]
    pub(super) fn release(&mut self, bytes: u32) {
        let bytes = bytes.min(self.unreleased);
        self.unreleased -= bytes;
        self.untold += bytes;
    }

    /// Bytes that have come and not been dealt with.
    #[inline]
    pub(super) fn unreleased(self) -> u32 {
        self.unreleased
    }

    /// What the peer is to be told now: nothing, before it is half of the window, so that there are few updates.
    #[inline]
    pub(super) fn tell(&mut self) -> Option<u32> {
        if self.untold == 0 || i64::from(self.untold) * 2 < i64::from(self.full) {
            return None;
        }
        let increment = std::mem::take(&mut self.untold);
        self.window = self.window.saturating_add_unsigned(increment);
        Some(increment)
    }

    /// The peer has heard of another window than the one it began with.
    pub(super) fn shift(&mut self, by: i32) {
        self.window = self.window.saturating_add(by);
        self.full = self.full.saturating_add(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_goes_below_zero_and_never_over_its_bound() {
        let mut room = Room::new(10);
        room.take(10);
        assert_eq!(room.change(-20), Ok(()));
        assert_eq!((room.bytes(), room.is_open()), (0, false));
        assert_eq!(room.change(21), Ok(()));
        assert_eq!(room.bytes(), 1);
        assert_eq!(room.change(WINDOW_MAX), Err(Overflow));
    }

    #[test]
    fn the_peer_is_told_of_half_a_window_at_once() {
        let mut intake = Intake::new(100);
        assert_eq!(intake.take(101), Err(Overflow));
        assert_eq!(intake.take(100), Ok(()));
        intake.release(49);
        assert_eq!(intake.tell(), None);
        intake.release(1);
        assert_eq!(intake.tell(), Some(50));
        intake.release(1_000);
        assert_eq!((intake.tell(), intake.unreleased()), (Some(50), 0));
        assert_eq!(intake.take(100), Ok(()));
    }
}
