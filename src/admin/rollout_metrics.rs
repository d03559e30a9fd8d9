//! What the metrics say of rollouts: where each stands, its evidence, and what the engine did. At most one rollout for
//! each service, so the number of series is bounded by the configuration and the gates of a plan.

use crate::rollout::desk::notify::Told;
use crate::rollout::desk::{Desk, Shown};
use crate::rollout::kill::machine::State as SwitchState;
use crate::rollout::machine::State;
use crate::rollout::verdict::GateVerdict;
use crate::rollout::view::View;
use crate::telemetry::names::{self, Metric};
use crate::telemetry::text::Text;

/// Every state.
const STATES: [State; 5] = [State::Pending, State::RollingOut, State::Paused, State::Completed, State::RolledBack];

/// The exposition of `desk`.
pub(super) fn render(text: &mut Text, desk: &Desk) {
    text.family(&names::ROLLOUT_ENGINE_UP).count(&names::ROLLOUT_ENGINE_UP, &[], desk.why_closed().is_none().into());
    let Some(counted) = desk.counted() else { return };
    let live = desk.live();
    text.family(&names::ROLLOUT_STATE);
    for view in &live {
        for state in STATES {
            let labels = [("service", view.rollout.plan.service.as_str()), ("state", state.as_str())];
            text.count(&names::ROLLOUT_STATE, &labels, (view.rollout.state == state).into());
        }
    }
    each(text, &live, &names::ROLLOUT_PERCENT, |view| view.rollout.share.percent());
    each(text, &live, &names::ROLLOUT_PHASE, |view| view.rollout.phase as f64 + 1.0);
    gates(text, &live, &names::ROLLOUT_E_VALUE, |gate| gate.e_value);
    gates(text, &live, &names::ROLLOUT_LIMIT, |gate| gate.limit);
    gates(text, &live, &names::ROLLOUT_BOUND, |gate| gate.bound);
    text.family(&names::ROLLBACKS);
    for (cause, value) in [("automatic", counted.rollbacks_automatic), ("manual", counted.rollbacks_manual)] {
        text.count(&names::ROLLBACKS, &[("cause", cause)], value);
    }
    switches(text, desk);
    told(text, &desk.told());
    let mut one = |metric: &Metric, value: u64| text.family(metric).count(metric, &[], value);
    one(&names::ROLLOUT_TICKS, counted.ticks);
    one(&names::ROLLOUT_FALLS, counted.falls);
    let mut seconds = |metric: &Metric, value: f64| text.family(metric).ratio(metric, &[], value);
    seconds(&names::ROLLOUT_JUDGE, counted.judge_ns as f64 / 1e9);
    seconds(&names::ROLLOUT_JUDGE_LONGEST, counted.judge_longest_ns as f64 / 1e9);
}

fn switches(text: &mut Text, desk: &Desk) {
    let switches = desk.switches();
    text.family(&names::KILL_SWITCH_STATE);
    for shown in &switches {
        for state in SwitchState::ALL {
            let labels = [("switch", shown.spec.name.as_str()), ("state", state.as_str())];
            text.count(&names::KILL_SWITCH_STATE, &labels, (shown.switch.state == state).into());
        }
    }
    let mut family = |metric: &Metric, value: &dyn Fn(&Shown) -> f64| {
        text.family(metric);
        switches.iter().for_each(|shown| text.ratio(metric, &[("switch", &shown.spec.name)], value(shown)));
    };
    family(&names::KILL_SWITCH_LEFT, &|shown| shown.switch.left_ms as f64 / 1000.0);
    family(&names::KILL_SWITCH_ATTEMPTS, &|shown| f64::from(shown.switch.attempts));
    family(&names::KILL_SWITCH_TRIPS, &|shown| shown.kills as f64);
}

fn told(text: &mut Text, told: &[Told]) {
    text.family(&names::NOTIFICATIONS);
    for channel in told {
        for (outcome, value) in channel.outcomes {
            text.count(&names::NOTIFICATIONS, &[("channel", &channel.channel), ("outcome", outcome)], value);
        }
    }
    text.family(&names::NOTIFICATIONS_WAITING);
    for channel in told {
        text.count(&names::NOTIFICATIONS_WAITING, &[("channel", &channel.channel)], channel.waiting);
    }
}

fn each(text: &mut Text, live: &[std::sync::Arc<View>], metric: &Metric, value: impl Fn(&View) -> f64) {
    text.family(metric);
    for view in live {
        text.ratio(metric, &[("service", &view.rollout.plan.service)], value(view));
    }
}

fn gates(text: &mut Text, live: &[std::sync::Arc<View>], metric: &Metric, value: impl Fn(&GateVerdict) -> Option<f64>) {
    text.family(metric);
    for view in live {
        let gates = view.judgement.as_ref().map(|judgement| judgement.gates.as_slice()).unwrap_or_default();
        for gate in gates {
            if let Some(value) = value(gate) {
                text.ratio(metric, &[("service", &view.rollout.plan.service), ("gate", &gate.name)], value);
            }
        }
    }
}
