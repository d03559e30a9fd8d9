//! The kill switch and cohorts. A kill moves the traffic first and asks questions later, like a rollback; what takes it
//! back is written before it is live. Cohorts live in memory alone.

use super::change::{Applied, Cause, Cohort, How, Refused};
use super::desk::Desk;
use super::files::Content;
use super::history::HeldKill;
use super::reconcile::check_pools;
use super::writer::Switchboard;
use crate::model::{Name, Scope, Weights, kill_reason};

// === impl Switchboard ===

impl Switchboard {
    /// Everything of the scope to stable: live first, then in the file. What cannot be written is held until somebody
    /// saves the file.
    pub(super) fn kill(&self, desk: &mut Desk, scope: &Scope, reason: &str, cause: &Cause) -> Result<Applied, Refused> {
        let disk = self.catch_up(desk);
        known(desk, scope)?;
        if cause.how == How::Rollout && desk.kills_now().at(scope).is_some() {
            return Ok(desk.applied(false));
        }
        let reason = kill_reason(reason);
        let held = |note: String| HeldKill {
            service: service_of(scope).cloned(),
            reason: reason.clone(),
            content: disk.fingerprint(),
            note,
        };
        desk.hold_kill(scope, Some(held(String::new())));
        let changed = self.commit(desk, desk.wanted(), cause)?;
        match write_kill(desk, &disk, scope, &reason) {
            Ok(()) => {
                desk.hold_kill(scope, None);
                desk.kills.put(scope, Some(reason));
                if desk.problems.is_some() {
                    let _ = self.reload(desk, cause);
                }
                desk.keep();
                Ok(desk.applied(changed))
            }
            Err(refused) => {
                let path = desk.files.weights.display();
                let place = service_of(scope).map_or("at its top".into(), |name| format!("in [{name}]"));
                let why = super::weights::cause_of(&refused);
                let note = format!(
                    "the kill of {scope} is live, but {path} does not say so ({why}): save it with kill = true {place}"
                );
                tracing::warn!("{note}");
                desk.hold_kill(scope, Some(held(note.clone())));
                desk.keep();
                Ok(Applied { pending: Some(note), ..desk.applied(changed) })
            }
        }
    }

    /// Takes a kill back: the weights in the file count again. With `only`, a kill for another reason stays.
    pub(super) fn unkill(
        &self,
        desk: &mut Desk,
        scope: &Scope,
        only: Option<&str>,
        cause: &Cause,
    ) -> Result<Applied, Refused> {
        let disk = self.catch_up(desk);
        known(desk, scope)?;
        if only.is_some() && desk.kills_now().at(scope) != only {
            return Ok(desk.applied(false));
        }
        if desk.kills.at(scope).is_some() {
            let content = desk.files.edited_kill(&disk, scope, None, &desk.written)?;
            let file = desk.files.parse_weights(&content, &desk.config.plan).map_err(Refused::FileBroken)?;
            desk.files.write(&content)?;
            desk.seen.weights = content;
            desk.written = file.services;
            desk.kills = file.kills;
        }
        desk.hold_kill(scope, None);
        let changed = self.commit(desk, desk.wanted(), cause)?;
        if desk.problems.is_some() {
            let _ = self.reload(desk, cause);
        }
        desk.keep();
        Ok(desk.applied(changed))
    }

    /// Has the scope answer 503 for this reason (any text is one), or ends that (none): in the file, then live.
    pub(super) fn maintenance(
        &self,
        desk: &mut Desk,
        scope: &Scope,
        reason: Option<&str>,
        cause: &Cause,
    ) -> Result<Applied, Refused> {
        let disk = self.catch_up(desk);
        known(desk, scope)?;
        if reason.is_none() && desk.kills.closed.at(scope).is_none() {
            return Ok(desk.applied(false));
        }
        let reason = reason.map(kill_reason);
        let content = desk.files.edited_maintenance(&disk, scope, reason.as_deref(), &desk.written)?;
        // A kill that could not be written before can be now.
        let content = desk.with_held_kills(content)?;
        let file = desk.files.parse_weights(&content, &desk.config.plan).map_err(Refused::FileBroken)?;
        desk.files.write(&content)?;
        desk.seen.weights = content;
        desk.written = file.services;
        desk.kills = file.kills;
        desk.history.hold_kills(Vec::new());
        let changed = self.commit(desk, desk.wanted(), cause)?;
        if desk.problems.is_some() {
            let _ = self.reload(desk, cause);
        }
        desk.keep();
        Ok(desk.applied(changed))
    }

    /// Says which requests of a service go to one pool whatever its weight. No new generation: no weight moved.
    pub(super) fn set_cohort(
        &self,
        desk: &mut Desk,
        service: &Name,
        cohort: Option<Cohort>,
    ) -> Result<Applied, Refused> {
        let spec = desk.spec(service)?;
        if let Some(cohort) = &cohort {
            check_pools(&spec, &Weights::all_to(&cohort.pool, []))?;
            if cohort.matches.is_empty() {
                return Err(Refused::EmptyCohort);
            }
        }
        let at = desk.state.plan.services.iter().position(|spec| spec.name == *service);
        let live = at.and_then(|at| desk.state.services.get_mut(at));
        let changed = live.is_some_and(|live| std::mem::replace(&mut live.cohort, cohort.clone()) != cohort);
        if changed {
            self.publish(desk);
        }
        Ok(desk.applied(changed))
    }
}

fn service_of(scope: &Scope) -> Option<&Name> {
    match scope {
        Scope::System => None,
        Scope::Service(name) => Some(name),
    }
}

fn known(desk: &Desk, scope: &Scope) -> Result<(), Refused> {
    service_of(scope).map_or(Ok(()), |name| desk.spec(name).map(drop))
}

/// Writes a kill, also into a file that does not hold as a whole so long as it can be edited.
pub(super) fn write_kill(desk: &mut Desk, disk: &Content, scope: &Scope, reason: &str) -> Result<(), Refused> {
    let said = desk.kills.at(scope) == Some(reason);
    if said && *disk == desk.seen.weights && desk.problems.is_none() && *disk != Content::Missing {
        return Ok(());
    }
    let content = desk.files.edited_kill(disk, scope, Some(reason), &desk.written)?;
    desk.files.write(&content)?;
    desk.seen.weights = content;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::CohortMatch;
    use crate::switchboard::change::Change;
    use crate::switchboard::testing::{Bench, CONFIG, engine};
    use crate::switchboard::writer::Mode;

    const NINETY: &str = "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n";

    fn kill(bench: &Bench, scope: &Scope, reason: &str) -> Applied {
        let change = Change::Kill { scope: scope.clone(), reason: reason.into() };
        bench.apply(change, How::Api).expect("a kill is never refused")
    }

    fn unkill(bench: &Bench, scope: &Scope) -> Result<Applied, Refused> {
        bench.apply(Change::Unkill { scope: scope.clone(), only: None }, How::Cli)
    }

    fn killed(bench: &Bench) -> Option<(bool, String)> {
        let killed = bench.board.snapshot().load().services[0].killed.clone();
        killed.map(|killed| (killed.system, killed.reason))
    }

    #[test]
    fn a_kill_stands_in_the_file_beside_the_weights_and_unkilling_takes_only_the_word_out() {
        for scope in [Scope::Service(engine()), Scope::System] {
            let bench = Bench::new(CONFIG, Some(NINETY));
            let applied = kill(&bench, &scope, "bad \"build\"\nof today");
            assert!(applied.changed && applied.pending.is_none());
            assert_eq!(bench.live(), (100, 0));
            assert_eq!(killed(&bench), Some((scope == Scope::System, "bad \"build\" of today".into())));
            let text = bench.weights_text();
            assert!(text.contains("stable = 90 # most\ncanary = 10") && text.contains("kill = "), "{text}");
            // The watcher reads what was written: nothing new.
            assert!(!bench.seen(None, Some(&text)).expect("known").changed);
            let bench = bench.restarted(Mode::Normal);
            assert!(killed(&bench).is_some() && bench.live() == (100, 0), "it survives a restart");
            assert!(matches!(bench.set(50, 50, None), Err(Refused::Killed { .. })));
            assert!(bench.rollback().is_ok());
            bench.save_weights(&text).expect("as it was");
            assert!(unkill(&bench, &scope).expect("taken back").changed);
            assert_eq!((killed(&bench), bench.live()), (None, (90, 10)));
            assert_eq!(bench.weights_text(), NINETY);
        }
    }

    #[test]
    fn an_unwritable_broken_or_missing_file_stops_no_kill() {
        let scope = Scope::Service(engine());
        let bench = Bench::new(CONFIG, Some(NINETY));
        bench.make_read_only();
        let applied = kill(&bench, &scope, "now");
        assert!(applied.pending.expect("it is said").contains("kill = true in [engine]"));
        assert_eq!((bench.live(), bench.weights_text().as_str()), ((100, 0), NINETY));
        assert!(bench.board.status().services[0].pending.is_some());
        let bench = bench.restarted(Mode::Normal);
        assert_eq!(bench.live(), (100, 0), "it is held over a restart");
        bench.make_writable();
        // Nothing in the file says it, so nothing has to be written to take it back.
        unkill(&bench, &scope).expect("taken back");
        assert_eq!(bench.live(), (90, 10));

        let bench = Bench::new(CONFIG, Some(NINETY));
        assert!(bench.save_weights("[engine\nstable = ").is_err());
        assert!(kill(&bench, &scope, "now").pending.is_some());
        assert_eq!(bench.live(), (100, 0));
        bench.save_weights(NINETY).expect("mended by hand, which decides again");
        assert_eq!(bench.live(), (90, 10));

        let bench = Bench::new(CONFIG, None);
        assert!(kill(&bench, &Scope::System, "").pending.is_none());
        assert!(bench.weights_text().contains("[engine]"), "{}", bench.weights_text());
        assert_eq!(killed(&bench), Some((true, String::new())));
    }

    #[test]
    fn a_service_stays_killed_so_long_as_the_system_is() {
        let bench = Bench::new(CONFIG, Some(NINETY));
        kill(&bench, &Scope::Service(engine()), "own");
        kill(&bench, &Scope::System, "all");
        unkill(&bench, &Scope::Service(engine())).expect("taken back");
        assert_eq!(killed(&bench), Some((true, "all".into())));
        unkill(&bench, &Scope::System).expect("taken back");
        assert_eq!(bench.live(), (90, 10));
        let nobody = Scope::Service(Name::new("nobody").expect("a name"));
        assert!(matches!(unkill(&bench, &nobody), Err(Refused::UnknownService(_))));
    }

    #[test]
    fn what_is_automatic_replaces_no_persons_kill_and_takes_none_back() {
        let bench = Bench::new(CONFIG, Some(NINETY));
        let scope = Scope::Service(engine());
        let by_itself = |bench: &Bench, reason: &str| {
            let change = Change::Kill { scope: scope.clone(), reason: reason.into() };
            bench.apply(change, How::Rollout).expect("a kill is never refused").changed
        };
        let back = |bench: &Bench, only: &str| {
            let change = Change::Unkill { scope: scope.clone(), only: Some(only.into()) };
            bench.apply(change, How::Rollout).expect("taken back, or left").changed
        };
        assert!(by_itself(&bench, "errors"));
        assert_eq!(bench.board.killed_at(&scope).as_deref(), Some("errors"));
        kill(&bench, &scope, "mine");
        assert!(!back(&bench, "errors") && !by_itself(&bench, "errors"));
        assert_eq!(killed(&bench), Some((false, "mine".into())));
        // A word saved a moment ago counts as well, though nobody has read it yet.
        unkill(&bench, &scope).expect("taken back");
        assert!(by_itself(&bench, "errors"));
        std::fs::write(bench.weights_path(), "[engine]\nstable = 90\ncanary = 10\nkill = \"by hand\"\n")
            .expect("saved");
        assert!(!back(&bench, "errors"));
        assert_eq!(killed(&bench), Some((false, "by hand".into())));
        unkill(&bench, &scope).expect("taken back");
        assert!(by_itself(&bench, "errors") && back(&bench, "errors"));
        assert_eq!((bench.live(), bench.board.killed_at(&scope)), ((90, 10), None));
    }

    #[test]
    fn who_moved_a_service_last_is_known_when_the_publication_is_told() {
        let bench = Bench::new(CONFIG, Some(NINETY));
        let last = |bench: &Bench| {
            let last = bench.board.last_cause("engine").expect("a service");
            (last.cause.how, last.generation, last.weights.of("canary"), last.killed.is_some())
        };
        assert_eq!(last(&bench), (How::Start, 1, 10, false));
        let change = Change::Weights { service: engine(), weights: crate::switchboard::testing::weights(50, 50) };
        let applied = bench.apply(change, How::Rollout).expect("applied");
        assert_eq!(last(&bench), (How::Rollout, 2, 50, false));
        assert_eq!(bench.board.last_cause("engine").expect("a service").revision, applied.revision);
        // Neither endpoints nor the same weights again are somebody else's move.
        bench.apply(Change::EndpointsChanged, How::Dns).expect("applied");
        bench.save_weights("[engine]\ncanary = 50\nstable = 50 \n").expect("applied");
        bench.save_weights("[engine]\nstable = 50\ncanary = 50\n").expect("applied");
        bench.save_weights("[engine]\nstable = 70\ncanary = 30\n").expect("applied");
        assert_eq!((last(&bench).0, last(&bench).2), (How::File, 30));
        kill(&bench, &Scope::System, "stop");
        assert_eq!((last(&bench).0, last(&bench).2, last(&bench).3), (How::Api, 0, true));
        assert!(bench.board.last_cause("nobody").is_none());
    }

    #[test]
    fn a_cohort_is_published_without_a_generation_and_outlives_changes_of_weights() {
        let bench = Bench::new(CONFIG, Some(NINETY));
        let to = |pool: &str, headers: &[&str]| {
            let matches = headers.iter().map(|it| CohortMatch { header: (*it).into(), value: None }).collect();
            let cohort = Cohort { pool: Name::new(pool).expect("a name"), matches };
            bench.apply(Change::Cohort { service: engine(), cohort: Some(cohort) }, How::Rollout)
        };
        let live = || bench.board.snapshot().load().services[0].cohort.as_ref().map(|cohort| cohort.pool);
        assert!(to("canary", &["x-beta"]).expect("applied").changed);
        assert!(!to("canary", &["x-beta"]).expect("applied").changed);
        assert_eq!((live(), bench.generation()), (Some(1), 1));
        bench.set(100, 0, None).expect("applied");
        assert_eq!(live(), Some(1));
        assert!(matches!(to("nobody", &["x-beta"]), Err(Refused::UnknownPool { .. })));
        assert!(matches!(to("canary", &[]), Err(Refused::EmptyCohort)));
        let none = Change::Cohort { service: engine(), cohort: None };
        assert!(bench.apply(none, How::Rollout).expect("applied").changed);
        assert_eq!(live(), None);
    }
}
