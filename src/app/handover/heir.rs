//! The side of the new process: takes the sockets over, says how far it is, waits for its turn.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Wire;
use super::{BUCKET_ENTRIES, ENV, HandoverError, Memory, Message, Parcel, STATE_VERSION, VERSION, system};
use crate::throttle::handed::{BUCKETS_MAX, LIMITS_MAX, Remembered};
use crate::upstream::handed::HANDED_MAX;

/// Time that the old process gets for each of its words. It has the sockets at hand, and what it lets go of has
/// deadlines of its own.
const PATIENCE: Duration = Duration::from_secs(15);

/// The line to the process before this one.
#[derive(Debug, Clone)]
pub(in crate::app) struct Heir(Arc<Wire>);

// === impl Heir ===

impl Heir {
    /// The line, when this process was started to take over, and the sockets that came by it.
    pub(in crate::app) fn find() -> Result<Option<(Self, Vec<Parcel>)>, HandoverError> {
        if std::env::var_os(ENV).is_none() {
            return Ok(None);
        }
        let end = take_stdin().map_err(system("cannot take the line to the process before this one"))?;
        let wire = Wire::of(end).map_err(system("WEIR_TAKES_OVER is set, and standard input is not from weir"))?;
        let mut parcels: Vec<Parcel> = Vec::new();
        loop {
            match wire.receive(PATIENCE)? {
                (Message::Parcel { what, asked }, sockets) => {
                    match parcels.iter_mut().find(|parcel| parcel.what == what) {
                        Some(parcel) => parcel.sockets.extend(sockets),
                        None => parcels.push(Parcel { what, asked, sockets }),
                    }
                }
                (Message::Offer { version: 1..=VERSION }, _) => return Ok(Some((Self(Arc::new(wire)), parcels))),
                (other, _) => {
                    let why = format!("this weir does not understand the process before it: {other:?}");
                    let heir = Self(Arc::new(wire));
                    heir.failed(&why);
                    return Err(HandoverError::Unexpected(why));
                }
            }
        }
    }

    /// Says that this process could serve, and waits until the old one let go of what only one may write; what it
    /// remembers.
    pub(in crate::app) fn wait_for_turn(&self) -> Result<Memory, HandoverError> {
        self.0.send(&Message::Checked, &[])?;
        let mut memory = Memory::default();
        let mut bound = Bound::default();
        loop {
            match self.0.receive(PATIENCE)?.0 {
                Message::Go => return Ok(memory),
                Message::Buckets(some) if bound.holds(&some) => memory.buckets.push(some),
                Message::State { version: STATE_VERSION, closed } if memory.closed.len() < HANDED_MAX => {
                    memory.closed.extend(closed);
                }
                Message::State { version, .. } => {
                    tracing::warn!(version, "what was ejected in the process before this one is not taken over");
                }
                other => return Err(HandoverError::Unexpected(format!("{other:?}"))),
            }
        }
    }

    /// Says that this process accepts, and waits until the old one has told whoever watches over both; what that one's
    /// rate limits counted meanwhile goes to `counted`. The old one being gone is no reason to stop any more.
    pub(in crate::app) fn serving(&self, mut counted: impl FnMut(&Remembered)) {
        let mut bound = Bound::default();
        let mut said = self.0.send(&Message::Serving, &[]).and_then(|()| self.0.receive(PATIENCE));
        while let Ok((Message::Buckets(some), _)) = &said
            && bound.holds(some)
        {
            counted(some);
            said = self.0.receive(PATIENCE);
        }
        if let Err(error) = said {
            tracing::warn!(%error, "the process before this one did not hear that this one serves");
        }
    }

    /// Says why this process gives up.
    pub(in crate::app) fn failed(&self, why: &str) {
        // A reason fits into one record; its end matters less than its beginning.
        let why = why.chars().take(4_000).collect();
        let _ = self.0.send(&Message::Failed { why }, &[]);
    }
}

/// Keeps what comes of buckets in bounds.
#[derive(Debug, Default)]
struct Bound {
    messages: usize,
    buckets: usize,
}

// === impl Bound ===

impl Bound {
    fn holds(&mut self, some: &Remembered) -> bool {
        self.messages += 1;
        self.buckets += some.buckets.len();
        // The last message of each limit need not be full.
        self.messages <= BUCKETS_MAX / BUCKET_ENTRIES + LIMITS_MAX && self.buckets <= BUCKETS_MAX
    }
}

/// Takes what standard input is, and leaves nothing in its place.
fn take_stdin() -> std::io::Result<OwnedFd> {
    let end = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(end)
}
