//! What clients saw, counted by protocol.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use super::faults::{Faults, Kind};

/// Failures that are told word by word, per protocol.
const TOLD_MAX: usize = 5;

/// Counts of one protocol.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) good: u64,
    /// Failed while an endpoint did.
    pub(crate) excused: u64,
    pub(crate) failed: u64,
    pub(crate) told: Vec<String>,
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<&'static str, Counts>>);

/// What is not as it should be.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Option<u16>,
    pub(crate) what: String,
}

impl Failure {
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), what: format!("status {status}") }
    }
}

impl<E: std::fmt::Display + std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let (mut what, mut source) = (error.to_string(), error.source());
        while let Some(error) = source {
            what += &format!(": {error}");
            source = error.source();
        }
        Self { status: None, what }
    }
}

impl Ledger {
    /// Books one request that began at `began`.
    pub(crate) fn book(
        &self,
        key: &'static str,
        kind: Kind,
        faults: &Faults,
        began: Instant,
        how: Result<(), Failure>,
    ) {
        let mut all = self.0.lock().expect("nobody panics with it");
        let counts = all.entry(key).or_default();
        let Err(failure) = how else {
            counts.good += 1;
            return;
        };
        if faults.excuse(kind, failure.status, began) {
            counts.excused += 1;
            return;
        }
        counts.failed += 1;
        if counts.told.len() < TOLD_MAX {
            let told = format!("{} (after {} ms)", failure.what, began.elapsed().as_millis());
            eprintln!("{key}: {told}");
            counts.told.push(told);
        }
    }

    /// The counts as they are.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, Counts> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}
