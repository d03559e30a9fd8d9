//! What is wrong with a file, look after look. Files are renewed one after the other, so what does not hold is told of
//! only when it still does not at the next look.

use super::TlsError;

/// Looks in a row that must find the same thing wrong.
const TOLD_AT: u32 = 2;

/// What is wrong, and at how many looks in a row it was.
#[derive(Debug, Default)]
pub(super) struct Failing {
    pub(super) error: Option<TlsError>,
    looks: u32,
}

// === impl Failing ===

impl Failing {
    pub(super) fn note(&mut self, error: TlsError) {
        let looks = if self.error.as_ref() == Some(&error) { self.looks.saturating_add(1) } else { 1 };
        *self = Self { error: Some(error), looks };
    }

    /// What is to be told of now: what is wrong, at the look after the one that found it.
    pub(super) fn due(&self) -> Option<&TlsError> {
        self.error.as_ref().filter(|_| self.looks == TOLD_AT)
    }

    /// What is wrong, once it has been told.
    pub(super) fn shown(&self) -> Option<TlsError> {
        self.error.clone().filter(|_| self.looks >= TOLD_AT)
    }
}
