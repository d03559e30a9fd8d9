//! When what was seen in a file is worth a report. Pure: reads no clock and no file.
//!
//! - What an event announced and what looks whole is reported at once.
//! - What looks half written (missing, empty, not TOML) is reported if it stays so over [`GRACE`]. Whatever is whole
//!   within the grace is reported at once.
//! - What the poll found without an event may be in the middle of a write: it must stay for [`TWICE`].
//!
//! A limit: a second in-place save that is written in several pieces, and read because of the close of the first, is
//! reported as it stands if the pieces so far are whole TOML. Its own close corrects that within microseconds.

use std::time::{Duration, Instant};

use toml::de::{DeTable, DeValue};

use super::ContentHash;
use crate::config::{ReadError, is_blank};

/// How long a file may look half written. An editor truncates and writes within a few milliseconds, and nobody notices
/// that a bad file is reported a fifth of a second late.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// How long after a poll found something new it is read again.
pub(super) const TWICE: Duration = Duration::from_millis(50);

/// How often a file is read within its grace, for hosts without events.
const AGAIN: Duration = Duration::from_millis(50);

/// What made us look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A file event that names the file.
    Event,
    /// The clock.
    Poll,
}

/// What was seen, as far as it tells two looks apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Missing,
    Unreadable(String),
    Text(ContentHash),
}

/// The memory of one file.
#[derive(Debug)]
pub(super) struct Judge {
    reported: Seen,
    doubt: Option<Doubt>,
}

/// Something that may be half written.
#[derive(Debug)]
struct Doubt {
    seen: Seen,
    /// When the first of a row of doubtful looks was.
    until: Instant,
    /// When to look again.
    again: Instant,
}

/// Whether a text looks like all of a file: TOML with something in it, and no table of it without a value.
pub(super) fn is_finished(text: &Result<String, ReadError>) -> bool {
    let Ok(text) = text else { return false };
    let hollow = |value: &DeValue<'_>| value.as_table().is_some_and(|table| table.is_empty());
    !is_blank(text)
        && DeTable::parse(text).is_ok_and(|tree| !tree.get_ref().values().any(|value| hollow(value.get_ref())))
}

// === impl Seen ===

impl Seen {
    pub(super) fn new(text: &Result<String, ReadError>, hash: ContentHash) -> Self {
        match text {
            Ok(_) => Seen::Text(hash),
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Seen::Missing,
            Err(error) => Seen::Unreadable(error.to_string()),
        }
    }
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(known: Option<ContentHash>) -> Self {
        Self { reported: known.map_or(Seen::Missing, Seen::Text), doubt: None }
    }

    /// When to look again even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.doubt.as_ref().map(|doubt| doubt.again)
    }

    /// Whether `seen` is to be reported now; it then counts as reported.
    pub(super) fn report(
        &mut self,
        seen: Seen,
        finished: impl FnOnce() -> bool,
        trigger: Trigger,
        now: Instant,
    ) -> bool {
        if seen == self.reported {
            self.doubt = None;
            return false;
        }
        let finished = finished();
        let doubt = self.doubt.take();
        let stayed = doubt.as_ref().is_some_and(|doubt| now >= doubt.until);
        let same = doubt.as_ref().is_some_and(|doubt| doubt.seen == seen);
        if finished && (trigger == Trigger::Event || (same && stayed)) || !finished && stayed {
            self.reported = seen;
            return true;
        }
        // A change within the grace does not prolong it, or a file that never gets good would never be reported;
        // but something new and whole that no event announced has its own time.
        let until = match doubt {
            Some(doubt) if !finished || same => doubt.until,
            Some(_) | None => now + if finished { TWICE } else { GRACE },
        };
        self.doubt = Some(Doubt { seen, until, again: until.min(now + AGAIN) });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Seen {
        Seen::Text(ContentHash::of(text))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_whole_text_that_an_event_announced_is_reported_at_once_and_once() {
        let (mut judge, now) = (Judge::new(Some(ContentHash::of("a"))), Instant::now());
        assert!(!judge.report(text("a"), || true, Trigger::Event, now));
        assert!(judge.report(text("b"), || true, Trigger::Event, now));
        assert!(!judge.report(text("b"), || true, Trigger::Event, now));
        assert!(judge.report(text("a"), || true, Trigger::Event, now));
    }

    #[test]
    fn a_half_text_is_reported_only_after_its_grace() {
        let (mut judge, now) = (Judge::new(None), Instant::now());
        assert!(!judge.report(text(""), || false, Trigger::Event, now));
        assert!(!judge.report(text("x"), || false, Trigger::Event, now + ms(150)));
        assert!(judge.deadline().is_some_and(|deadline| deadline <= now + GRACE));
        assert!(judge.report(text("x"), || false, Trigger::Poll, now + GRACE));
        assert!(!judge.report(text("x"), || false, Trigger::Poll, now + GRACE * 2));
        assert_eq!(judge.deadline(), None);
    }

    #[test]
    fn a_good_save_within_the_grace_is_reported_at_once() {
        let (mut judge, now) = (Judge::new(None), Instant::now());
        assert!(!judge.report(text(""), || false, Trigger::Event, now));
        assert!(judge.report(text("good"), || true, Trigger::Event, now + ms(1)));
        assert_eq!(judge.deadline(), None);
    }

    #[test]
    fn what_only_the_poll_found_must_stay_the_same_for_a_moment() {
        let (mut judge, now) = (Judge::new(None), Instant::now());
        assert!(!judge.report(text("90"), || true, Trigger::Poll, now));
        assert!(!judge.report(text("9"), || true, Trigger::Poll, now + TWICE), "it is still changing");
        assert!(judge.report(text("9"), || true, Trigger::Poll, now + TWICE * 2));
    }

    #[test]
    fn a_file_that_returns_to_what_was_reported_is_no_news() {
        let (mut judge, now) = (Judge::new(Some(ContentHash::of("a"))), Instant::now());
        assert!(!judge.report(Seen::Missing, || false, Trigger::Event, now));
        assert!(!judge.report(text("a"), || true, Trigger::Event, now + ms(5)));
        assert_eq!(judge.deadline(), None);
    }
}
