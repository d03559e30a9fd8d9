//! What a rollback or a kill could not write into the weights file, tried again every second: a disk that was full has
//! room again, and a restart must not find the old weights. Nothing is written into a file that somebody saved since.

use super::desk::Desk;
use super::files::Content;
use super::kill::write_kill;
use super::reconcile::all_to_stable;
use super::writer::{Mode, Switchboard};
use crate::model::Scope;

// === impl Switchboard ===

impl Switchboard {
    /// Writes what is still held; whether anything was written.
    pub(super) fn write_what_is_held(&self, desk: &mut Desk) -> bool {
        let nothing = desk.history.held().is_empty() && desk.history.held_kills().is_empty();
        if nothing || desk.rests || desk.mode == Mode::Safe {
            return false;
        }
        let mut disk = self.catch_up(desk);
        let before = disk.fingerprint();
        let mut written = 0;
        for held in desk.history.held().to_vec() {
            let spec = desk.config.plan.services.iter().find(|spec| *spec.name == *held.service).cloned();
            let Some(spec) = spec.filter(|_| held.content == before) else { continue };
            if self.write_rollback(desk, &disk, &spec.name, &all_to_stable(&spec)).is_ok() {
                desk.hold(&spec.name, None);
                disk = desk.seen.weights.clone();
                written += 1;
            }
        }
        for held in desk.history.held_kills().to_vec() {
            let scope = held.service.clone().map_or(Scope::System, Scope::Service);
            if held.content == before && write_kill(desk, &disk, &scope, &held.reason).is_ok() {
                desk.hold_kill(&scope, None);
                desk.kills.put(&scope, Some(held.reason));
                disk = desk.seen.weights.clone();
                written += 1;
            }
        }
        if written == 0 {
            return false;
        }
        carry_on(desk, &before, &disk);
        tracing::info!(written, "the weights file says what is live again");
        desk.keep();
        true
    }
}

/// What is held still goes by the file as it is now: it was not saved by anybody else.
fn carry_on(desk: &mut Desk, before: &str, disk: &Content) {
    let print = disk.fingerprint();
    let mut rollbacks = desk.history.held().to_vec();
    let mut kills = desk.history.held_kills().to_vec();
    let rollbacks_held = rollbacks.iter_mut().map(|held| &mut held.content);
    let all = rollbacks_held.chain(kills.iter_mut().map(|held| &mut held.content));
    all.filter(|content| **content == before).for_each(|content| content.clone_from(&print));
    desk.history.hold(rollbacks);
    desk.history.hold_kills(kills);
}

#[cfg(test)]
mod tests {
    use crate::model::Scope;
    use crate::switchboard::change::{Change, How};
    use crate::switchboard::testing::{Bench, CONFIG, engine};
    use crate::switchboard::writer::Mode;

    const HALF: &str = "# ours\n[engine]\nstable = 50\ncanary = 50\n";

    #[test]
    fn a_rollback_and_a_kill_that_could_not_be_written_are_written_when_they_can_be() {
        let bench = Bench::new(CONFIG, Some(HALF));
        bench.make_read_only();
        assert!(bench.rollback().expect("never refused").pending.is_some());
        let kill = Change::Kill { scope: Scope::Service(engine()), reason: "now".into() };
        assert!(bench.apply(kill, How::Api).expect("never refused").pending.is_some());
        bench.board.tick();
        assert_eq!(bench.weights_text(), HALF);
        bench.make_writable();
        bench.board.tick();
        let text = bench.weights_text();
        assert!(text.starts_with("# ours") && text.contains("canary = 0") && text.contains("now"), "{text}");
        assert_eq!(bench.board.status().services[0].pending, None);
        let bench = bench.restarted(Mode::Normal);
        assert_eq!(bench.live(), (100, 0));
        assert_eq!(bench.weights_text(), text);
    }

    #[test]
    fn a_file_that_somebody_saved_meanwhile_is_left_as_it_is() {
        let bench = Bench::new(CONFIG, Some(HALF));
        bench.make_read_only();
        assert!(bench.rollback().expect("never refused").pending.is_some());
        bench.make_writable();
        let saved = "[engine]\nstable = 70\ncanary = 30\n";
        std::fs::write(bench.weights_path(), saved).expect("saved");
        bench.board.tick();
        assert_eq!((bench.live(), bench.weights_text().as_str()), ((70, 30), saved));
    }
}
