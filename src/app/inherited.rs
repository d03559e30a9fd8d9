//! Listening sockets that this process did not open itself: from the process before it ([`super::handover`]) or from
//! systemd ([`super::activation`]). It is found once, at the very start, before anything else may open a descriptor.

use std::os::fd::OwnedFd;

use super::activation::{self, ActivationError};
use super::handover::{HandoverError, Heir, Parcel};

/// What was handed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    parcels: Vec<Parcel>,
    heir: Option<Heir>,
}

/// Why what was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// By the process before this one.
    #[error("cannot take over from the process before this one")]
    Handover(#[from] HandoverError),
    /// By systemd.
    #[error(transparent)]
    Activation(#[from] ActivationError),
}

// === impl Inherited ===

impl Inherited {
    /// Finds what was handed to this process; usually nothing.
    pub fn find() -> Result<Self, InheritError> {
        if let Some((heir, parcels)) = Heir::find()? {
            return Ok(Self { parcels, heir: Some(heir) });
        }
        Ok(Self { parcels: activation::find()?, heir: None })
    }

    /// The line to the process before this one, on which a reason to give up can be told.
    pub fn complaint(&self) -> Complaint {
        Complaint(self.heir.clone())
    }

    pub(super) fn heir(&self) -> Option<&Heir> {
        self.heir.as_ref()
    }

    /// The sockets of `what`, if it was asked for at this address too. They are taken once.
    pub(super) fn take(&mut self, what: &str, asked: &str) -> Option<Vec<OwnedFd>> {
        let fits = |parcel: &Parcel| parcel.what == what && parcel.asked.as_deref().is_none_or(|at| at == asked);
        let at = self.parcels.iter().position(fits)?;
        Some(self.parcels.swap_remove(at).sockets)
    }

    /// Gives sockets that came under no known name to whatever is at their address.
    pub(super) fn name_by_address(&mut self, known: &[(String, String)]) {
        for parcel in &mut self.parcels {
            activation::name_by_address(parcel, known);
        }
    }

    /// Refuses a socket from systemd that nothing is configured for: whoever connects there would wait for ever. What
    /// an upgrade brings and nobody names any more is let go.
    pub(super) fn refuse_rest(&self) -> Result<(), ActivationError> {
        match self.parcels.first() {
            Some(parcel) if self.heir.is_none() => Err(activation::unknown(&parcel.what, activation::address(parcel))),
            _ => Ok(()),
        }
    }
}

/// Where a reason to give up is told.
#[derive(Debug, Clone)]
pub struct Complaint(Option<Heir>);

// === impl Complaint ===

impl Complaint {
    /// Tells the process before this one, if there is one, why this one gives up.
    pub fn tell(&self, why: &str) {
        if let Some(heir) = &self.0 {
            heir.failed(why);
        }
    }
}
