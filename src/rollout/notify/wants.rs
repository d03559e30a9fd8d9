//! Whether somebody wants to hear an event. Pure.

use super::super::event::{Event, Severity};
use crate::model::notify::{Channel, Least, Wants};

/// Whether a channel hears an event when it happens.
pub(super) fn hears(channel: &Channel, event: &Event) -> bool {
    !channel.only_escalated && wants(&channel.wants, event)
}

/// Whether an event is among what is wanted. What concerns every service names none.
pub(super) fn wants(wants: &Wants, event: &Event) -> bool {
    let least = match wants.least {
        Least::Info => Severity::Info,
        Least::Warning => Severity::Warning,
        Least::Critical => Severity::Critical,
    };
    let service = || {
        let own = |service: &crate::model::Name| service.as_str() == event.service;
        event.service.is_empty() || wants.services.is_empty() || wants.services.iter().any(own)
    };
    let kind = || wants.events.is_empty() || wants.events.contains(&event.kind.as_str());
    event.severity >= least && kind() && service()
}

#[cfg(test)]
mod tests {
    use super::super::super::event::Kind;
    use super::super::tests::{channel, event};
    use super::*;
    use crate::model::Name;
    use crate::model::notify::EVENT_KINDS;

    #[test]
    fn a_channel_hears_what_it_asked_for_and_nothing_else() {
        let mut channel = channel("ops");
        let mut event = event(1, Kind::RollbackInitiated, Severity::Warning);
        assert!(hears(&channel, &event));
        channel.wants.least = Least::Critical;
        assert!(!hears(&channel, &event));
        event.severity = Severity::Critical;
        assert!(hears(&channel, &event));
        channel.wants.events = vec!["alarm"];
        assert!(!hears(&channel, &event));
        event.kind = Kind::Alarm;
        assert!(hears(&channel, &event));
        channel.wants.services = vec![Name::new("shop").unwrap()];
        assert!(!hears(&channel, &event));
        event.service = String::new();
        assert!(hears(&channel, &event), "what concerns all services concerns this one");
        channel.only_escalated = true;
        assert!(!hears(&channel, &event));
    }

    /// A kind that is new has to be added here, and with that to the words that the configuration takes.
    fn follows(kind: Kind) -> Option<Kind> {
        Some(match kind {
            Kind::NewVersionDetected => Kind::RolloutInitiated,
            Kind::RolloutInitiated => Kind::CanaryStarted,
            Kind::CanaryStarted => Kind::CanaryCompleted,
            Kind::CanaryCompleted => Kind::PhaseStarted,
            Kind::PhaseStarted => Kind::PhaseCompleted,
            Kind::PhaseCompleted => Kind::GateChanged,
            Kind::GateChanged => Kind::RolloutPaused,
            Kind::RolloutPaused => Kind::RolloutResumed,
            Kind::RolloutResumed => Kind::RolloutCompleted,
            Kind::RolloutCompleted => Kind::RollbackInitiated,
            Kind::RollbackInitiated => Kind::RollbackCompleted,
            Kind::RollbackCompleted => Kind::Alarm,
            Kind::Alarm => Kind::Approval,
            Kind::Approval => Kind::Action,
            Kind::Action => Kind::Killed,
            Kind::Killed => Kind::Unkilled,
            Kind::Unkilled => Kind::KillSwitch,
            Kind::KillSwitch => return None,
        })
    }

    #[test]
    fn every_kind_of_event_can_be_asked_for() {
        let kinds = std::iter::successors(Some(Kind::NewVersionDetected), |kind| follows(*kind));
        assert_eq!(kinds.map(Kind::as_str).collect::<Vec<_>>(), EVENT_KINDS);
    }
}
