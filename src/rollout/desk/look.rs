//! Looking: rollouts, events. Nothing here waits for a runner.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Desk, DeskError, ID_BYTES_MAX};
use crate::rollout::event::Event;
use crate::rollout::view::View;

// === impl Desk ===

impl Desk {
    /// One rollout, live or ended.
    pub fn one(&self, id: &str) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        if let Some(seat) = office.seat(id) {
            return Ok(seat.view.load_full());
        }
        let ended = office.ended().iter().find(|view| view.rollout.id == id).cloned();
        ended.or_else(|| office.kept(id)).ok_or_else(|| DeskError::Unknown(id.chars().take(ID_BYTES_MAX).collect()))
    }

    /// The rollouts that hold a service, then those that ended, newest first.
    pub fn list(&self) -> Result<Vec<Arc<View>>, DeskError> {
        let office = self.office()?;
        let mut views: Vec<_> = office.seats().values().map(|seat| seat.view.load_full()).collect();
        let known = |views: &[Arc<View>], id: &str| views.iter().any(|view| view.rollout.id == id);
        let ended: Vec<_> = office.ended().iter().cloned().collect();
        for view in ended.into_iter().chain(office.all_kept()) {
            if !known(&views, &view.rollout.id) {
                views.push(view);
            }
        }
        views.sort_by_key(|view| (!view.rollout.state.is_live(), std::cmp::Reverse(view.rollout.started_at_ms)));
        Ok(views)
    }

    /// Events after the one with this number, oldest first, at most `most`.
    pub fn events(&self, after: u64, most: usize) -> Result<Vec<Arc<Event>>, DeskError> {
        let office = self.office()?;
        let mut events = office.stream.recent_after(after).unwrap_or_else(|| office.events_kept(after, most));
        events.truncate(most);
        Ok(events)
    }

    /// The number of the newest event.
    pub fn last_event(&self) -> Result<u64, DeskError> {
        Ok(self.office()?.stream.last())
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Result<broadcast::Receiver<Arc<Event>>, DeskError> {
        Ok(self.office()?.stream.subscribe())
    }

    /// The newest events of one rollout, oldest first.
    pub fn events_of(&self, id: &str, most: usize) -> Vec<Arc<Event>> {
        self.office().map(|office| office.stream.recent_of(id, most)).unwrap_or_default()
    }
}
