//! The one writer: `Change` → reconcile (pure) → publish. Only this room publishes a snapshot.
//!
//! In the order a change meets them: [`change`] says what may be asked; [`writer`] takes it, one at a time, with what
//! it knows on its `desk`; `reload`, `weights` and `kill` work out what the files should say, through `files`;
//! [`reconcile`] works out what is live next; [`publish`] builds the [`snapshot`]; [`history`] and `store` remember;
//! [`status`] shows, put together by `view`;
//! [`unsaved`] compares with the files. `keyring` holds the keys of the affinity cookies, `sample` the last minute
//! of the counters.
//!
//! A worker never waits for anything here: it loads the snapshot and that is all.

pub mod change;
pub mod writer;

mod desk;
mod files;
mod kill;
mod later;
pub(crate) mod reload;
mod weights;

pub mod publish;
pub mod reconcile;
pub mod snapshot;

pub mod history;
mod store;

pub mod keyring;
mod sample;
pub mod status;
pub mod unsaved;
mod view;

#[cfg(test)]
mod restarts;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
