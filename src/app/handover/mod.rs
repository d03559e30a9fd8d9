//! The upgrade of the binary without a gap: a running process hands its listening sockets to a new one.
//!
//! Both processes accept on the **same** sockets (the same open file descriptions), so that no accept queue is ever
//! closed with a connection in it. In this order:
//!
//! ```text
//! old                                               new (its child, spoken with over its standard input)
//! starts it; sends every socket, then Offer ──────▶ reads its configuration, takes the sockets that it names
//!                                         ◀──────── Checked
//! the control side rests: admin API, rollouts and
//! their journal, what is written beside the
//! weights file; traffic goes on. Go ──────────────▶ reads weights and journal, first lookups and probes, serves
//!                                         ◀──────── Serving
//! tells systemd, Leads ───────────────────────────▶ tells systemd that it is ready, writes its pid file
//! drains as on SIGTERM, ends
//! ```
//!
//! Before `Go` whatever goes wrong changes nothing; after it, the old process takes its control side up again. What
//! answers have shown comes before `Go`, as `State`: ejected endpoints and resting pools with the time that is left.
//! What rate limits have counted comes then too, as `Buckets`, and once more before `Leads`. What probes show is not
//! handed over: the new process asks for itself before it serves. Sockets from systemd are
//! [`super::activation`].

mod heir;
mod successor;
mod wire;

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::throttle::handed::Remembered;
use crate::upstream::handed::Closed;

pub(super) use self::heir::Heir;
pub(super) use self::successor::{Step, Successor};

/// Set in the environment of a process that takes over: its standard input is the line to the one before it.
pub(super) const ENV: &str = "WEIR_TAKES_OVER";

/// Version of what is said; 1 knows no `Buckets`. A newer one is refused, which leaves the old process serving.
const VERSION: u32 = 2;

/// Version of what is handed over of health.
const STATE_VERSION: u32 = 1;

/// Entries of one [`Message::State`]: with the longest names that there are they fit into a record.
const STATE_ENTRIES: usize = 12;

/// Buckets of one [`Message::Buckets`]: two numbers of at most 20 digits each, and what stands between them.
const BUCKET_ENTRIES: usize = 300;

/// What the old process remembers of its traffic.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What takes no requests.
    pub(super) closed: Vec<Closed>,
    /// What rate limits have counted.
    pub(super) buckets: Vec<Remembered>,
}

/// Sockets of one listener, on their way to another process.
#[derive(Debug)]
pub(super) struct Parcel {
    /// `listeners.NAME` or `admin`.
    pub(super) what: String,
    /// The address as the configuration had it, port 0 as 0; none: whatever it is now.
    pub(super) asked: Option<String>,
    /// The sockets; all of them listen.
    pub(super) sockets: Vec<OwnedFd>,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Message {
    /// Sockets of one listener come with this; several of the same name belong together.
    Parcel { what: String, asked: Option<String> },
    /// That was all.
    Offer { version: u32 },
    /// The new process can serve.
    Checked,
    /// What takes no requests in the old process; any number of them before `Go`. One of another version is left out.
    State { version: u32, closed: Vec<Closed> },
    /// Buckets of a rate limit; any number of them before `Go`, and again before `Leads`: what was counted meanwhile.
    Buckets(Remembered),
    /// The old process let go of everything that only one may write.
    Go,
    /// The new process accepts.
    Serving,
    /// The old process has told whoever watches over both.
    Leads,
    /// The new process gives up.
    Failed { why: String },
}

/// Why sockets do not get from one process to the other.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The system refused.
    #[error("{what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The other side is gone.
    #[error("the other process ended")]
    Gone,
    /// The other side took too long.
    #[error("the other process did not answer within {0} s")]
    Late(u64),
    /// The other side says something else than it should.
    #[error("the other process said something else than was expected: {0}")]
    Unexpected(String),
    /// The new process gave up, in its own words.
    #[error("{0}")]
    Refused(String),
}

pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> HandoverError {
    move |source| HandoverError::System { what, source }
}
