//! The task that keeps the certificate of every name fresh: it waits until an order is due, takes it to its end, and
//! writes down how it went. One order at a time, so that no authority has to bear with many.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{sleep, timeout};

use super::order::Desk;
use super::schedule::{Pace, Record, Validity};
use super::shelf::{self, Shelf};
use super::{AcmeError, WORDS_MAX, printable};
use crate::model::AcmeSpec;
use crate::outside::authority::Authority;
use crate::telemetry::names;
use crate::tls::challenges::Challenges;
use crate::tls::issuance::{Issuance, Standing, State};

/// Time for one order: polls of 90 s for the name and for the certificate, and the calls around them.
const ORDER_PATIENCE: Duration = Duration::from_secs(300);

/// Longest sleep between two looks: what the wall clock does meanwhile is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon an authority is asked again that does not say (RFC 9773 §4.3.3).
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// Keeps every name of `spec` for ever.
pub async fn keep(spec: AcmeSpec, challenges: Arc<Challenges>, issuance: Arc<Issuance>) {
    let shelf = Shelf::new(spec.home());
    let mut keeper = Keeper::take_up(spec, shelf, challenges, issuance).await;
    loop {
        let now = unix_ms(SystemTime::now());
        let due = |entry: &Entry| keeper.pace().due(entry.held, &entry.record, now);
        let next = keeper.entries.iter().enumerate().map(|(index, entry)| (due(entry), index)).min();
        let Some((at, index)) = next else { return };
        if at > now {
            // What another task of this process left there while another process tried to take over.
            keeper.challenges.clear();
            keeper.ask_for_suggestion(now).await;
            sleep(Duration::from_millis(at - now).min(LOOK_EVERY)).await;
            keeper.entries = keeper.entries_anew().await;
            keeper.show(None);
            continue;
        }
        keeper.order(index).await;
    }
}

/// What keeps the state from being written, if anything does: for `weir check`.
pub fn obstacle(spec: &AcmeSpec) -> Option<String> {
    let home = spec.home();
    shelf::is_writable(&home).err().map(|error| format!("{}: cannot be written: {error}", home.display()))
}

/// The names that have no certificate yet that could be served.
pub fn missing(spec: &AcmeSpec) -> Vec<String> {
    let shelf = Shelf::new(spec.home());
    spec.names.iter().filter(|name| shelf.validity(name).is_none()).cloned().collect()
}

struct Keeper {
    spec: AcmeSpec,
    shelf: Shelf,
    challenges: Arc<Challenges>,
    issuance: Arc<Issuance>,
    entries: Vec<Entry>,
}

/// One name.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    record: Record,
    held: Option<Validity>,
}

// === impl Keeper ===

impl Keeper {
    async fn take_up(spec: AcmeSpec, shelf: Shelf, challenges: Arc<Challenges>, issuance: Arc<Issuance>) -> Self {
        let (names, own) = (spec.names.clone(), shelf.clone());
        let read = move || -> Vec<Entry> {
            let entry = |name: String| Entry { record: own.record(&name), held: own.validity(&name), name };
            names.into_iter().map(entry).collect()
        };
        let entries = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let keeper = Self { spec, shelf, challenges, issuance, entries };
        keeper.show(None);
        keeper
    }

    fn pace(&self) -> Pace {
        let AcmeSpec { renew_before, retry_min, retry_max, .. } = self.spec;
        Pace { renew_before, retry_min, retry_max }
    }

    /// What is held may have been taken away or put there by somebody else.
    async fn entries_anew(&self) -> Vec<Entry> {
        let (entries, shelf) = (self.entries.clone(), self.shelf.clone());
        let look = move || -> Vec<Entry> {
            let look = |entry: Entry| Entry { held: shelf.validity(&entry.name), ..entry };
            entries.into_iter().map(look).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| self.entries.clone())
    }

    async fn order(&mut self, index: usize) {
        let name = self.entries[index].name.clone();
        self.show(Some(index));
        let ordered = match self.begin(index).await {
            Ok(authority) => {
                let mut record = self.entries[index].record.clone();
                let desk =
                    Desk { spec: &self.spec, shelf: &self.shelf, authority: &authority, challenges: &self.challenges };
                let ordered = timeout(ORDER_PATIENCE, desk.order(&name, &mut record)).await;
                self.entries[index].record = record;
                let late = |_| Err(AcmeError::Late(ORDER_PATIENCE.as_secs()));
                ordered.unwrap_or_else(late).map_err(|error| (error, authority.take_come_back()))
            }
            Err(error) => Err((error, None)),
        };
        let result = if ordered.is_ok() { "issued" } else { "failed" };
        metrics::counter!(names::ACME_ORDERS.name, "name" => name.clone(), "result" => result).increment(1);
        match ordered {
            Ok(held) => self.succeeded(index, held).await,
            Err((error, come_back)) => self.failed(index, &error, come_back).await,
        }
        self.show(None);
    }

    /// Asks the authority when it would like a certificate to be renewed, if it is time for one of them.
    async fn ask_for_suggestion(&mut self, now: u64) {
        let due = |entry: &Entry| entry.held.is_some() && entry.record.ask_at <= now;
        let Some(index) = self.entries.iter().position(due) else { return };
        let (roots, name) = (self.spec.roots.clone(), self.entries[index].name.clone());
        let asked = match self.shelf.with(move |_| Ok(Authority::new(roots.as_deref())?)).await {
            Ok(authority) => {
                let (spec, shelf, challenges) = (&self.spec, &self.shelf, &self.challenges);
                Desk { spec, shelf, authority: &authority, challenges }.suggestion(&name).await
            }
            Err(error) => Err(error),
        };
        let record = &mut self.entries[index].record;
        match asked {
            Ok(Some((start, end, ask_in))) => record.suggest(Some((start, end)), ask_in, now, chance()),
            Ok(None) => record.suggest(None, ASK_AGAIN, now, 0.0),
            Err(error) => {
                tracing::debug!(name, %error, "the authority does not say when it would like a renewal");
                record.ask_at = now.saturating_add(ASK_AGAIN.as_millis() as u64);
            }
        }
        // It is asked anew when this cannot be kept.
        let _ = self.keep_record(index).await;
    }

    /// Writes down that an order is under way.
    async fn begin(&mut self, index: usize) -> Result<Authority, AcmeError> {
        let (now, pace) = (unix_ms(SystemTime::now()), self.pace());
        let entry = &mut self.entries[index];
        entry.record.begin();
        let failures = entry.record.failures.max(1);
        entry.record.wait_until = pace.wait_until(failures, now, chance(), None);
        self.keep_record(index).await?;
        let roots = self.spec.roots.clone();
        self.shelf.with(move |_| Ok(Authority::new(roots.as_deref())?)).await
    }

    async fn succeeded(&mut self, index: usize, held: Validity) {
        let (entry, now) = (&mut self.entries[index], unix_ms(SystemTime::now()));
        (entry.record, entry.held) = (Record::issued(now), Some(held));
        tracing::info!(name = entry.name, expires = when(held.until), "a certificate was issued");
        if let Err(error) = self.keep_record(index).await {
            tracing::warn!(%error, "what was tried cannot be written down");
        }
    }

    async fn failed(&mut self, index: usize, error: &AcmeError, come_back: Option<SystemTime>) {
        let (now, pace) = (unix_ms(SystemTime::now()), self.pace());
        let record = &mut self.entries[index].record;
        record.failed(printable(&error.to_string(), 2 * WORDS_MAX), error.spares_order());
        let failures = record.failures;
        record.wait_until = pace.wait_until(failures, now, chance(), come_back.map(unix_ms));
        let next = when(record.wait_until);
        let held = self.entries[index].held.is_some();
        let beside = if held { "the certificate that is there is served" } else { "there is no certificate to serve" };
        tracing::error!(name = self.entries[index].name, failures, next, "no new certificate: {error}; {beside}");
        // When it could not be written before it cannot be now; the reason has just been told.
        let _ = self.keep_record(index).await;
    }

    async fn keep_record(&self, index: usize) -> Result<(), AcmeError> {
        let Entry { name, record, .. } = self.entries[index].clone();
        self.shelf.with(move |shelf| shelf.keep_record(&name, &record)).await
    }

    /// Shows everything; the order of the name at that index is under way.
    fn show(&self, under_way: Option<usize>) {
        let now = unix_ms(SystemTime::now());
        let standing = |(index, entry): (usize, &Entry)| Standing {
            name: entry.name.clone(),
            state: match entry.held {
                _ if under_way == Some(index) => State::Ordering,
                Some(held) if held.until > now => State::Held,
                _ => State::Missing,
            },
            failures: if entry.record.error.is_some() { entry.record.failures } else { 0 },
            error: entry.record.error.clone(),
            next_unix_ms: self.pace().due(entry.held, &entry.record, now),
        };
        self.issuance.show(self.entries.iter().enumerate().map(standing).collect());
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn when(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "never".into(), |at| at.to_string())
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without the system's randomness nothing is spread.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}
