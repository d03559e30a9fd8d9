//! Seeded runs of everything that can happen to the two files and the writer, in any order: changes by API, edits that
//! the watcher sees at once, late or never, broken and vanishing files, read-only ones, restarts. After every step the
//! promises must hold. A failure names its seed.

use super::change::Refused;
use super::testing::{Bench, CONFIG};
use super::writer::Mode;

/// Runs, and steps of each: about a second in all.
const SEEDS: u64 = 60;
const STEPS: u32 = 60;

/// What must be true now.
struct Model {
    /// The weights that must be live.
    live: (u32, u32),
    /// What stands in the file, when it holds.
    file: Option<(u32, u32)>,
    /// The text that the watcher has not told of yet.
    untold: Option<String>,
    /// A rollback that the file does not say.
    pending: bool,
    read_only: bool,
    generation: u64,
}

/// A small generator (splitmix64), so that a seed says it all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn pair(&mut self) -> (u32, u32) {
        (1 + self.roll(4) as u32, self.roll(4) as u32)
    }
}

#[test]
fn no_order_of_changes_edits_faults_and_restarts_breaks_a_promise() {
    for seed in 0..SEEDS {
        let (mut dice, mut bench) = (Dice(seed), Bench::new(CONFIG, Some(&text((90, 10)))));
        let mut model = Model {
            live: (90, 10),
            file: Some((90, 10)),
            untold: None,
            pending: false,
            read_only: false,
            generation: 1,
        };
        for step in 0..STEPS {
            let at = format!("seed {seed}, step {step}");
            match dice.roll(10) {
                0..=2 => set(&bench, &mut model, dice.pair(), dice.roll(3) == 0, &at),
                3 => rollback(&bench, &mut model, &at),
                4 | 5 => edit(&bench, &mut model, Some(dice.pair())),
                6 => edit(&bench, &mut model, None),
                7 => tell(&bench, &mut model, &at),
                8 if dice.roll(2) == 0 => mode(&bench, &mut model),
                8 => undo(&bench, &mut model, &at),
                _ => (bench, model) = restart(bench, model),
            }
            check(&bench, &mut model, &at);
        }
        tell(&bench, &mut model, &format!("seed {seed}, end"));
    }
}

fn check(bench: &Bench, model: &mut Model, at: &str) {
    assert_eq!(bench.live(), model.live, "{at}: live");
    let generation = bench.generation();
    assert!(generation >= model.generation, "{at}: the generation fell");
    model.generation = generation;
    let pending = bench.board.status().services[0].pending.is_some();
    assert_eq!(pending, model.pending, "{at}: pending");
}

/// An edit that holds is taken in before anything else is done to the file, also when the watcher has not told of it.
fn catch_up(model: &mut Model) {
    if model.untold.is_some()
        && let Some(file) = model.file
    {
        (model.live, model.pending, model.untold) = (file, false, None);
    }
}

fn set(bench: &Bench, model: &mut Model, pair: (u32, u32), stale: bool, at: &str) {
    let expected = stale.then(|| model.generation + 1_000_000);
    let before = std::fs::read_to_string(bench.weights_path()).ok();
    let result = bench.set(pair.0, pair.1, expected);
    catch_up(model);
    match result {
        Err(Refused::Conflict { .. }) => assert!(stale, "{at}: a conflict that nobody asked for"),
        Err(Refused::FileBroken(_)) => assert_eq!(model.file, None, "{at}"),
        Err(Refused::ReadOnly { .. }) => assert!(model.read_only, "{at}"),
        Err(other) => panic!("{at}: {other}"),
        Ok(_) => {
            assert!(!stale, "{at}: a stale generation was taken");
            assert!(
                bench.weights_text() == text(pair) || model.file == Some(pair),
                "{at}: the file says another thing"
            );
            (model.live, model.file, model.pending, model.untold) = (pair, Some(pair), false, None);
            return;
        }
    }
    assert_eq!(std::fs::read_to_string(bench.weights_path()).ok(), before, "{at}: a refused change touched the file");
}

fn rollback(bench: &Bench, model: &mut Model, at: &str) {
    let applied = bench.rollback().unwrap_or_else(|refused| panic!("{at}: a rollback was refused: {refused}"));
    catch_up(model);
    model.live = (100, 0);
    let says_so = bench.weights_text() == text((100, 0)) || model.file == Some((100, 0));
    assert_eq!(applied.pending.is_none(), says_so, "{at}: {applied:?}");
    model.pending = !says_so;
    if says_so {
        (model.file, model.untold) = (Some((100, 0)), None);
    }
}

fn undo(bench: &Bench, model: &mut Model, at: &str) {
    let result = bench.undo();
    catch_up(model);
    match result {
        Ok(_) => {
            (model.live, model.pending) = (bench.live(), false);
            (model.file, model.untold) = (Some(model.live), None);
            assert!(bench.weights_text().contains(&format!("canary = {}", model.live.1)), "{at}");
        }
        Err(Refused::NothingToUndo(_)) => {}
        Err(Refused::FileBroken(_)) => assert_eq!(model.file, None, "{at}"),
        Err(Refused::ReadOnly { .. }) => assert!(model.read_only, "{at}"),
        Err(other) => panic!("{at}: {other}"),
    }
}

/// Somebody saves the file; the watcher has not seen it yet.
fn edit(bench: &Bench, model: &mut Model, pair: Option<(u32, u32)>) {
    if model.read_only {
        return;
    }
    let text = pair.map_or_else(|| "[engine\nstable".to_owned(), text);
    if std::fs::read_to_string(bench.weights_path()).is_ok_and(|old| old == text) {
        return;
    }
    std::fs::write(bench.weights_path(), &text).expect("written");
    (model.file, model.untold) = (pair, Some(text));
}

/// The watcher tells of what was saved.
fn tell(bench: &Bench, model: &mut Model, at: &str) {
    let Some(told) = model.untold.take() else { return };
    let result = bench.seen(None, Some(&told));
    match model.file {
        Some(file) => {
            assert!(result.is_ok(), "{at}: {result:?}");
            // Saved back to what was read last: nothing was decided anew, so what is held stays held.
            let held = bench.board.status().services[0].pending.is_some();
            assert!(held == model.pending || !held, "{at}: a save cannot hold anything");
            (model.live, model.pending) = (if held { (100, 0) } else { file }, held);
        }
        None => assert_eq!(bench.live(), model.live, "{at}: a broken file moved traffic"),
    }
}

fn mode(bench: &Bench, model: &mut Model) {
    model.read_only = !model.read_only;
    if model.read_only { bench.make_read_only() } else { bench.make_writable() }
}

/// A process can only start with a file that holds; it reads what nobody told.
fn restart(bench: Bench, mut model: Model) -> (Bench, Model) {
    let Some(file) = model.file else { return (bench, model) };
    let held = model.pending && model.untold.is_none();
    let bench = bench.restarted(Mode::Normal);
    (model.live, model.pending, model.untold) = (if held { (100, 0) } else { file }, held, None);
    (bench, model)
}

fn text((stable, canary): (u32, u32)) -> String {
    format!("[engine]\nstable = {stable}\ncanary = {canary}\n")
}
