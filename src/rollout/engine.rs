//! Starts everything that rollouts need and hands out the desk. When something is missing the proxy serves all the
//! same: without a disk everything goes on in memory; without an engine the desk says why nobody works behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::desk::Desk;
use super::journal::holder::Holder;
use super::journal::{Journal, JournalError, Kept};
use super::machine::Input;
use super::notify::listen;
use super::runner::keep::Keeper;
use super::runner::office::Office;
use super::runner::{guardian, levers, sweeps, switches};
use super::stream::Stream;
use crate::model::notify::Notifications;
use crate::model::rollout::Share;
use crate::switchboard::writer::Switchboard;

/// Time that the journal gets to open; a disk that hangs must not keep weir from answering.
const OPEN: Duration = Duration::from_secs(3);

/// What the engine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Whether it is switched on.
    pub enabled: bool,
    /// Time between two looks. Default 1 s.
    pub tick: Duration,
    /// Where the journal is; none: in memory.
    pub state_dir: Option<PathBuf>,
    /// Where the main file is: relative files and commands of plans are looked for there.
    pub directory: Option<PathBuf>,
    /// Who is told what happens.
    pub notifications: Notifications,
}

/// Starts the engine on the runtime that this is called in, and takes up what was under way when the process ended.
pub async fn start(switchboard: Arc<Switchboard>, parts: Parts) -> Desk {
    if !parts.enabled {
        return Desk::closed(switchboard, "rollouts are switched off: [rollouts] enabled = false");
    }
    let board = Arc::clone(&switchboard);
    // A task of its own, so that a panic in it is an answer and not the end of the process.
    match tokio::spawn(async move { begin(board, parts).await }).await {
        Ok(Ok(desk)) => desk,
        Ok(Err(error)) => {
            tracing::error!(%error, "the engine of the rollouts does not run; traffic is served all the same");
            Desk::closed(switchboard, format!("the engine of the rollouts does not run: {error}"))
        }
        Err(error) => {
            tracing::error!(%error, "the engine of the rollouts failed inside weir; traffic is served all the same");
            Desk::closed(switchboard, "the engine of the rollouts failed at its start; the log tells more")
        }
    }
}

async fn begin(switchboard: Arc<Switchboard>, parts: Parts) -> Result<Desk, JournalError> {
    let (journal, trouble) = open(parts.state_dir).await?;
    let found = journal.health().found;
    let keeper = Keeper::new(journal);
    let stream = Stream::after(keeper.last_event().await);
    let office = Arc::new(Office::new(switchboard, keeper, stream, parts.tick, parts.directory));
    listen::start(&office, parts.notifications).await;
    for message in trouble.into_iter().chain(found) {
        office.alarm("", None, message);
    }
    office.switches.begin(&office).await;
    switches::spawn(&office);
    for kept in office.keeper.live().await {
        take_up(&office, kept).await;
    }
    for (id, service) in office.keeper.unreadable().await {
        let message = "it was under way and what was kept of it cannot be understood; nobody watches its traffic, the \
                       weights stay as they are";
        office.alarm(&service, Some(&id), message.into());
    }
    sweeps::take_up(&office).await;
    Ok(Desk::of(office))
}

/// The journal of the directory, else one in memory that is written there as soon as it can be, and why.
async fn open(directory: Option<PathBuf>) -> Result<(Journal, Option<String>), JournalError> {
    let Some(directory) = directory else { return Ok((Journal::in_memory()?, None)) };
    let place = directory.clone();
    let work = tokio::task::spawn_blocking(move || Journal::open(&place));
    let why = match timeout(OPEN, work).await {
        Ok(Ok(Ok(journal))) => return Ok((journal, None)),
        // Its rollouts are not ours to judge; the operator chose the version.
        Ok(Ok(Err(newer @ JournalError::Newer(..)))) => return Err(newer),
        Ok(Ok(Err(error))) => reasons(&error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it did not open within {} s", OPEN.as_secs()),
    };
    let why = format!("{}: {why}; {}", directory.display(), remedy());
    let message = format!("rollouts are kept in memory only, a restart forgets them ({why})");
    Ok((Journal::waiting_for(&directory, why)?, Some(message)))
}

/// What helps against a state directory that cannot be used.
fn remedy() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let user = std::fs::metadata("/proc/self").map(|own| format!("user {}", own.uid()));
    let user = user.unwrap_or_else(|_| "the user of weir".into());
    format!("let {user} write there, or set state_dir")
}

fn reasons(error: &JournalError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Goes on with a rollout of the process before this one.
async fn take_up(office: &Arc<Office>, kept: Kept) {
    let Kept { rollout, beside } = kept;
    let (id, service) = (rollout.id.clone(), rollout.plan.service.clone());
    let locked = office.keeper.lock(&service, &id, false).await;
    if let Err(JournalError::Held { rollout: holder, host, pid }) = locked {
        if host == Holder::own().host {
            let message = format!("rollout {id} is left alone: {holder} of process {pid} holds {service}");
            return office.alarm(&service, Some(&id), message);
        }
        // One journal belongs to one weir; a container that was made anew has another host name.
        tracing::warn!(rollout = id, host, pid, "the lock of another host is taken over");
        let _ = office.keeper.lock(&service, &id, true).await;
    }
    let plan = rollout.plan.clone();
    let (seat, orders) = guardian::seat(office, rollout, beside);
    office.seats().insert(id.clone(), Arc::clone(&seat));
    let live = levers::live_share(&office.switchboard, &plan).unwrap_or(Share::ZERO);
    tracing::info!(rollout = id, service = service.as_str(), live = %live, "a rollout goes on after a restart");
    office.spawn(guardian::guard(Arc::clone(office), seat, orders, Input::Recovered { live }));
}
