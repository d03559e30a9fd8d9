//! The machine of one kill switch: what follows from an input. Pure.

use super::machine::{Effect, Illegal, Input, News, State, Switch};
use super::watch::Seen;
use crate::model::{KillSwitch, kill_reason};

/// One step under way.
struct At<'a> {
    switch: &'a mut Switch,
    spec: &'a KillSwitch,
    now_ms: u64,
    effects: &'a mut Vec<Effect>,
}

// === impl Switch ===

impl Switch {
    /// What follows from `input` at `now_ms` (ms since the Unix epoch, only shown). Only a person's word can be
    /// illegal, and then nothing changed.
    pub fn step(&mut self, spec: &KillSwitch, now_ms: u64, input: Input) -> Result<Vec<Effect>, Illegal> {
        let mut effects = Vec::new();
        let mut at = At { switch: self, spec, now_ms, effects: &mut effects };
        match input {
            Input::Tick { elapsed_ms, live, who, seen, serves } => {
                let before = at.switch.state;
                at.reconcile(live.as_deref(), &who);
                // Time counts from where it is now.
                if at.switch.state == before {
                    at.tick(elapsed_ms, &seen, serves);
                }
            }
            Input::Pull { who, reason } => at.pull(&who, &reason),
            Input::LetGo { who, reason } => at.let_go(&who, &reason)?,
            Input::Cancel { who, reason } => at.cancel(&who, &reason)?,
            Input::Failed { why } => at.failed(&why),
        }
        Ok(effects)
    }
}

// === impl At ===

impl At<'_> {
    fn own(&self) -> String {
        format!("kill switch {}", self.spec.name)
    }

    fn enter(&mut self, state: State, who: &str, why: &str) {
        let Switch { since_ms, left_ms, .. } = self.switch;
        (*since_ms, *left_ms) = (self.now_ms, 0);
        self.switch.state = state;
        self.switch.who = who.to_owned();
        self.switch.why = why.to_owned();
        if !state.kills() {
            self.switch.foreign = false;
            self.switch.wrote = None;
        }
    }

    fn tell(&mut self, news: News, message: String) {
        self.effects.push(Effect::Tell { news, message });
    }

    /// Takes in what somebody else did to the scope.
    fn reconcile(&mut self, live: Option<&str>, who: &str) {
        let state = self.switch.state;
        match live {
            None if state.kills() => {
                self.enter(State::Armed, "somebody", "let go elsewhere");
                (self.switch.attempts, self.switch.quiet_ms, self.switch.mute_ms) = (0, 0, 0);
                self.effects.push(Effect::Forget);
                let message = format!("{} is armed again: {} was let go elsewhere", self.own(), self.spec.scope);
                self.tell(News::Elsewhere, message);
            }
            Some(reason) if !state.kills() && self.is_own(reason) => self.adopt(reason),
            Some(reason) if !state.kills() || !self.switch.foreign && self.switch.wrote.as_deref() != Some(reason) => {
                let who = if who.is_empty() { "somebody" } else { who };
                self.enter(State::Killed, who, reason);
                self.switch.foreign = true;
                self.switch.wrote = None;
                let message = format!("{} stands aside: {who} killed {}", self.own(), self.spec.scope);
                self.tell(News::Elsewhere, message);
            }
            Some(reason) if self.switch.foreign && self.switch.why != reason => reason.clone_into(&mut self.switch.why),
            _ => {}
        }
    }

    /// Whether these words are ones that it writes.
    fn is_own(&self, reason: &str) -> bool {
        reason.strip_prefix(&self.own()).is_some_and(|rest| rest.starts_with(": "))
    }

    /// Its own kill stands and it does not know: the process ended in between, or letting go did not take.
    fn adopt(&mut self, reason: &str) {
        let own = self.own();
        let why = reason.strip_prefix(&format!("{own}: ")).unwrap_or(reason).to_owned();
        let spent = self.spec.recovery.is_some_and(|recovery| self.switch.attempts >= recovery.attempts);
        self.enter(if spent { State::Exhausted } else { State::Killed }, &own, &why);
        self.switch.wrote = Some(reason.to_owned());
        self.switch.left_ms = self.spec.recovery.map_or(0, |recovery| ms(recovery.delay));
    }

    fn tick(&mut self, elapsed_ms: u64, seen: &Seen, serves: bool) {
        match self.switch.state {
            State::Armed => self.armed(elapsed_ms, seen),
            State::Grace => self.grace(elapsed_ms, seen),
            State::Killed => self.killed(elapsed_ms, serves),
            State::Recovering => self.recovering(elapsed_ms, seen),
            State::Exhausted => {}
        }
    }

    fn armed(&mut self, elapsed_ms: u64, seen: &Seen) {
        let switch = &mut *self.switch;
        switch.mute_ms = if *seen == Seen::Clear { 0 } else { switch.mute_ms.saturating_sub(elapsed_ms) };
        switch.quiet_ms = switch.quiet_ms.saturating_sub(elapsed_ms);
        if switch.quiet_ms == 0 {
            switch.attempts = 0;
        }
        let (enabled, muted) = (self.spec.enabled, switch.mute_ms > 0);
        let Seen::Tripped(why) = seen else { return };
        if !enabled || muted {
            return;
        }
        let grace_ms = ms(self.spec.grace);
        if grace_ms == 0 {
            return self.kill(why);
        }
        let own = self.own();
        self.enter(State::Grace, &own, why);
        self.switch.left_ms = grace_ms;
        let message = format!("{own} kills {} in {} s unless somebody cancels: {why}", self.spec.scope, s(grace_ms));
        self.tell(News::Grace, message);
    }

    fn grace(&mut self, elapsed_ms: u64, seen: &Seen) {
        let own = self.own();
        let over = match seen {
            _ if !self.spec.enabled => Some("it was switched off"),
            Seen::Clear => Some("the trigger let go"),
            Seen::Idle => Some("no new request goes to the pools that it watches any more"),
            Seen::Unknown | Seen::Tripped(_) => None,
        };
        if let Some(why) = over {
            self.enter(State::Armed, &own, why);
            return self.tell(News::Cancelled, format!("{own} kills nothing: {why}"));
        }
        if let Seen::Tripped(why) = seen {
            why.clone_into(&mut self.switch.why);
        }
        self.switch.left_ms = self.switch.left_ms.saturating_sub(elapsed_ms);
        if self.switch.left_ms == 0 {
            let why = self.switch.why.clone();
            self.kill(&why);
        }
    }

    /// Kills by itself.
    fn kill(&mut self, why: &str) {
        let (own, attempts) = (self.own(), self.switch.attempts);
        let reason = kill_reason(&format!("{own}: {why}"));
        let most = self.spec.recovery.map(|recovery| recovery.attempts);
        let spent = most.is_some_and(|most| attempts >= most);
        self.enter(if spent { State::Exhausted } else { State::Killed }, &own, why);
        self.switch.wrote = Some(reason.clone());
        self.switch.left_ms = self.spec.recovery.map_or(0, |recovery| ms(recovery.delay));
        self.effects.push(Effect::Kill { reason, person: false });
        self.effects.push(Effect::Forget);
        self.tell(News::Killed, format!("{} is killed by {own}: {why}", self.spec.scope));
        if spent {
            self.tell(News::Exhausted, format!("{own} gives up after {attempts} attempts: a person decides"));
        }
    }

    fn killed(&mut self, elapsed_ms: u64, serves: bool) {
        let Some(recovery) = self.spec.recovery.filter(|_| !self.switch.foreign && self.spec.enabled) else { return };
        self.switch.left_ms = self.switch.left_ms.saturating_sub(elapsed_ms);
        if self.switch.left_ms > 0 {
            return;
        }
        let own = self.own();
        if self.switch.attempts >= recovery.attempts {
            return self.exhaust();
        }
        self.switch.attempts += 1;
        let attempt = format!("attempt {} of {}", self.switch.attempts, recovery.attempts);
        if !serves {
            self.switch.left_ms = ms(recovery.delay);
            self.tell(News::AttemptFailed, format!("{own}: {attempt} failed, no endpoint serves there"));
            if self.switch.attempts >= recovery.attempts {
                self.exhaust();
            }
            return;
        }
        let only = self.switch.wrote.take();
        self.enter(State::Recovering, &own, &attempt);
        self.switch.left_ms = ms(recovery.probation);
        self.effects.push(Effect::Forget);
        self.effects.push(Effect::LetGo { only });
        self.tell(News::LetGo, format!("{own} lets {} go on probation, {attempt}", self.spec.scope));
    }

    fn exhaust(&mut self) {
        let (own, attempts) = (self.own(), self.switch.attempts);
        let (why, wrote) = (self.switch.why.clone(), self.switch.wrote.take());
        self.enter(State::Exhausted, &own, &why);
        self.switch.wrote = wrote;
        self.tell(News::Exhausted, format!("{own} gives up after {attempts} attempts: a person decides"));
    }

    fn recovering(&mut self, elapsed_ms: u64, seen: &Seen) {
        let own = self.own();
        match seen {
            // What was seen to be bad just now is not given another grace.
            Seen::Tripped(why) if self.spec.enabled => {
                let attempt = self.switch.attempts;
                self.tell(News::AttemptFailed, format!("{own}: attempt {attempt} failed: {why}"));
                self.kill(why);
            }
            Seen::Tripped(_) | Seen::Unknown | Seen::Idle => {}
            Seen::Clear => {
                self.switch.left_ms = self.switch.left_ms.saturating_sub(elapsed_ms);
                if self.switch.left_ms == 0 {
                    self.enter(State::Armed, &own, "recovered");
                    self.switch.quiet_ms = ms(self.spec.cooldown());
                    self.tell(News::Recovered, format!("{own}: {} has recovered", self.spec.scope));
                }
            }
        }
    }

    fn pull(&mut self, who: &str, reason: &str) {
        let reason = kill_reason(reason);
        self.enter(State::Killed, who, &reason);
        (self.switch.foreign, self.switch.wrote) = (true, None);
        (self.switch.attempts, self.switch.quiet_ms) = (0, 0);
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        self.effects.push(Effect::Kill { reason, person: true });
        self.effects.push(Effect::Forget);
        self.tell(News::Killed, format!("{} is killed by {who} with {}{because}", self.spec.scope, self.own()));
    }

    fn let_go(&mut self, who: &str, reason: &str) -> Result<(), Illegal> {
        match self.switch.state {
            State::Armed => return Err(Illegal(format!("{} is armed; there is nothing to let go", self.own()))),
            State::Grace => return self.cancel(who, reason),
            State::Recovering => {}
            State::Killed | State::Exhausted => self.effects.push(Effect::LetGo { only: None }),
        }
        self.enter(State::Armed, who, reason);
        (self.switch.attempts, self.switch.quiet_ms, self.switch.mute_ms) = (0, 0, 0);
        self.effects.push(Effect::Forget);
        self.tell(News::LetGo, format!("{} is let go by {who} with {}", self.spec.scope, self.own()));
        Ok(())
    }

    fn cancel(&mut self, who: &str, reason: &str) -> Result<(), Illegal> {
        if self.switch.state != State::Grace {
            let state = self.switch.state.as_str();
            return Err(Illegal(format!("{} is {state}; only a countdown can be cancelled", self.own())));
        }
        self.enter(State::Armed, who, reason);
        self.switch.mute_ms = ms(self.spec.cooldown());
        self.tell(News::Cancelled, format!("{who} cancelled {}", self.own()));
        Ok(())
    }

    /// An effect was not done: a kill is tried again at the next tick, letting go after the next delay.
    fn failed(&mut self, why: &str) {
        let own = self.own();
        match self.switch.state {
            State::Killed | State::Exhausted if !self.switch.foreign => {
                let reason = self.switch.why.clone();
                self.enter(State::Grace, &own, &reason);
                // The next tick kills, unless the trigger let go meanwhile.
                self.switch.left_ms = 1;
            }
            State::Recovering => {
                // What it wrote stands; the next tick finds it.
                self.enter(State::Armed, &own, why);
            }
            _ => {}
        }
        self.tell(News::AttemptFailed, format!("{own} could not do what it wanted: {why}"));
    }
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn s(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
