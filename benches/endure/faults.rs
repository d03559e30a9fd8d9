//! Endpoints that fail, one at a time, and what clients may see of it.
//!
//! | fault | what the endpoint does | GET, with a short answer | everything else |
//! |---|---|---|---|
//! | gone | its connections end, new ones are refused | nothing | 502, 503, a cut |
//! | reset | its connections are reset, new ones after their first bytes | nothing | 502, 503, a cut |
//! | stalled | it takes requests and answers none | 504 | 504, a cut |
//!
//! "Everything else" may not be repeated (uploads, calls) or lasts (events, sockets, long answers). What fails at a
//! time when no endpoint fails is a failure of weir.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Stage;

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Serves,
    Gone,
    Resets,
    Stalls,
}

/// Whether what a client asks may be repeated by weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Repeatable,
    Once,
}

/// How long a fault lasts: longer than `timeouts.response_header`, so that a stall is seen.
const FAULT: Duration = Duration::from_secs(3);

/// Time between two.
const PEACE: Duration = Duration::from_secs(4);

/// How long after its end a fault may show: `timeouts.response_header`, and a second for a busy machine.
const AFTERMATH: Duration = Duration::from_secs(3);

/// All faults so far: what, from when, until when.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<(Mode, Instant, Option<Instant>)>>);

impl Faults {
    /// Whether a failure may be, in something that began at `began` and fails now. `status`: what was answered.
    pub(crate) fn excuse(&self, kind: Kind, status: Option<u16>, began: Instant) -> bool {
        let faults = self.0.lock().expect("nobody panics with it");
        faults.iter().rev().take(8).any(|(mode, _, until)| {
            let fits = match (kind, mode) {
                (Kind::Once, _) => true,
                (Kind::Repeatable, Mode::Stalls) => status == Some(504),
                (Kind::Repeatable, _) => false,
            };
            fits && until.is_none_or(|until| until + AFTERMATH > began)
        })
    }

    /// How many there were of a kind.
    pub(crate) fn count(&self, mode: Mode) -> usize {
        self.0.lock().expect("nobody panics with it").iter().filter(|fault| fault.0 == mode).count()
    }

    fn begin(&self, mode: Mode) {
        self.0.lock().expect("nobody panics with it").push((mode, Instant::now(), None));
    }

    fn end(&self) {
        if let Some(fault) = self.0.lock().expect("nobody panics with it").last_mut() {
            fault.2 = Some(Instant::now());
        }
    }
}

/// Lets one endpoint after the other fail in each way.
pub(crate) async fn run(stage: Arc<Stage>) {
    let mut stop = stage.stop.clone();
    for turn in 0.. {
        let origins = &stage.site.origins;
        // All origins are hit in all ways: seven of them and three ways have no common factor.
        let (origin, mode) = (&origins[turn % origins.len()], [Mode::Gone, Mode::Resets, Mode::Stalls][turn % 3]);
        if tokio::time::timeout(PEACE, stop.wait_for(|over| *over)).await.is_ok() {
            return;
        }
        stage.faults.begin(mode);
        origin.behave(mode);
        tokio::time::sleep(FAULT).await;
        origin.behave(Mode::Serves);
        stage.faults.end();
    }
}
