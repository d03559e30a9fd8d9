//! Promises of the weights file: taken whole or refused whole, edited without losing a comment, on disk when said so.
//! Golden files are refreshed with `WEIR_UPDATE_GOLDEN=1`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weir::config::{
    Config, Problems, WeightsFile, WriteError, Written, diff, edit, edit_kill, fresh, restart_needed, write_weights,
};
use weir::model::{Kills, Name, Scope, Weight, Weights};

fn config(text: &str) -> Config {
    Config::parse(text, "weir.toml", &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A configuration with these services and pools.
fn plan(services: &[(&str, &[&str])]) -> Config {
    let mut text = String::new();
    for (service, pools) in services {
        for pool in *pools {
            text += &format!(
                "[services.{service}.pools.{pool}]\nendpoints = [\"http://{service}-{}:80\"]\n",
                pool.trim_matches('"')
            );
        }
        text += &format!("[[routes]]\nservice = \"{service}\"\nmatch.path_prefix = \"/{service}\"\n");
    }
    config(&text)
}

fn engine() -> Config {
    plan(&[("engine", &["stable", "canary"])])
}

fn parse(text: &str, config: &Config) -> Result<WeightsFile, Problems> {
    WeightsFile::parse(text, "weights.toml", &config.plan)
}

fn weights(entries: &[(&str, Weight)]) -> Weights {
    let entries = entries.iter().map(|(name, weight)| (Name::new(name).expect("a name"), *weight)).collect();
    Weights::new(entries).expect("legal weights")
}

/// A directory of its own for each test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-weights-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn weights_are_integers_or_percents_and_a_pool_that_is_not_named_gets_nothing() {
    let config = engine();
    let file = parse("[engine]\nstable = 90\ncanary = 10", &config).expect("legal");
    assert_eq!(file.of("engine").map(|weights| weights.share("canary")), Some(0.1));
    assert!(file.notes.is_empty());
    let file = parse("[engine]\nstable = \"99.5%\"\ncanary = \"0.5%\"", &config).expect("legal");
    assert_eq!(file.of("engine").map(|weights| weights.of("canary")), Some(5_000));
    let file = parse("[engine]\ncanary = 1", &config).expect("legal");
    assert_eq!(file.of("engine").map(|weights| weights.share("stable")), Some(0.0));
    assert_eq!(file.notes.len(), 1, "it is said");
    let file = parse("[engine]\nstable = \"100%\"", &config).expect("a missing pool is 0 % among percents");
    assert_eq!(file.of("engine").map(|weights| weights.share("stable")), Some(1.0));
}

#[test]
fn a_service_that_is_not_named_goes_all_to_stable() {
    let config = plan(&[("engine", &["stable", "canary"]), ("shop", &["stable", "canary"])]);
    let file = parse("[engine]\ncanary = 1", &config).expect("legal");
    assert_eq!(file.of("shop").map(|weights| weights.share("stable")), Some(1.0));
    assert!(file.notes.iter().any(|note| note.message.contains("shop")));
    let missing = weir::config::read_weights("/nonexistent/weights.toml", &config.plan).expect("all to stable");
    assert_eq!(missing.services, WeightsFile::all_to_stable(&config.plan).services);
    assert_eq!(missing.notes.len(), 1);
}

#[test]
fn zero_is_an_ordinary_weight_and_all_zero_is_refused() {
    let config = engine();
    assert!(parse("[engine]\nstable = 100\ncanary = 0", &config).is_ok());
    let problems = parse("[engine]\nstable = 0\ncanary = 0", &config).expect_err("nowhere to go");
    assert_eq!(
        problems.iter().next().map(|problem| problem.headline()),
        Some("weights.toml:1:2: service \"engine\": all weights are 0; give at least one pool a weight above 0".into())
    );
}

#[test]
fn a_bad_weights_file_gives_every_problem_with_its_place() {
    let names: &[&str] = &["stable", "canary"];
    let config = plan(&[
        ("engine", names),
        ("shop", &["blue"]),
        ("search", names),
        ("mixed", names),
        ("sum", names),
        ("empty", names),
        ("scalar", names),
    ]);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let text = std::fs::read_to_string(dir.join("weights-wrong.toml")).expect("the input is there");
    let problems = WeightsFile::parse(&text, "weights-wrong.toml", &config.plan).expect_err("it is wrong");
    let actual = format!("{problems}\n");
    let path = dir.join("weights-wrong.txt");
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).expect("the golden directory can be written");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), actual, "WEIR_UPDATE_GOLDEN=1 refreshes it");
}

#[test]
fn an_edit_keeps_comments_order_and_what_does_not_change() {
    let text = "# who: ops\n\n[shop]\nblue = 1\n\n[engine]   # the engine\ncanary = 1_0  # careful\nstable = 90\n";
    let new = weights(&[("stable", Weight::Relative(50)), ("canary", Weight::Relative(10))]);
    let edited = edit(text, "engine", &new).expect("it is TOML");
    assert_eq!(edited, text.replace("90", "50"));
    let dotted = edit("engine.stable = 90 # s\nengine.canary = 10\n", "engine", &new).expect("it is TOML");
    assert_eq!(dotted, "engine.stable = 50 # s\nengine.canary = 10\n");
    let inline = edit("engine = { stable = 1, gone = 2 } # e\n", "engine", &new).expect("it is TOML");
    assert_eq!(inline, "engine = { stable = 50, canary = 10 } # e\n");
    let added = edit("# only a comment\n", "engine", &new).expect("it is TOML");
    assert!(added.contains("# only a comment\n") && added.contains("[engine]\nstable = 50\ncanary = 10\n"), "{added}");
    assert!(edit("[engine", "engine", &new).is_err());
}

#[test]
fn a_fresh_file_is_what_the_parser_reads() {
    let config = engine();
    let file = WeightsFile::all_to_stable(&config.plan);
    let text = fresh(file.services.iter().map(|(name, weights)| (name.as_str(), weights)));
    assert_eq!(text, "[engine]\nstable = 100\ncanary = 0\n");
    assert_eq!(parse(&text, &config).map(|read| read.services), Ok(file.services));
}

#[test]
fn the_difference_is_said_in_words() {
    let (old, new) = (engine(), plan(&[("engine", &["stable", "canary"]), ("shop", &["blue"])]));
    let before = parse("[engine]\nstable = 90\ncanary = 10", &old).expect("legal");
    let after = parse("[engine]\nstable = 1\ncanary = 1", &new).expect("legal");
    assert_eq!(
        diff(&old, &before, &new, &after),
        [
            "service engine: stable 90 % → 50 %, canary 10 % → 50 % of new traffic; 400000 of 1000000 buckets move",
            "service shop: new, with pool blue",
            "route route-2: new, to shop",
        ]
    );
    assert!(diff(&old, &before, &old, &parse("[engine]\nstable = 9\ncanary = 1", &old).expect("legal")).is_empty());
    assert!(restart_needed(&old, &new).is_empty());
    let moved = config(
        "workers = 2\n[listeners.public]\naddress = \"0.0.0.0:80\"\n[services.a.pools.b]\nendpoints = [\"http://a\"]",
    );
    assert_eq!(restart_needed(&old, &moved), ["listeners.public", "workers"]);
}

#[test]
fn a_written_file_keeps_its_mode_and_its_links_and_leaves_nothing_behind() {
    let dir = Dir::new("write");
    let path = dir.0.join("weights.toml");
    assert_eq!(write_weights(&path, "a").ok(), Some(Written::Renamed), "a missing file is made");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("it is ours");
    let inode = std::fs::metadata(&path).expect("it is there").ino();
    let link = dir.0.join("link.toml");
    std::os::unix::fs::symlink("weights.toml", &link).expect("links can be made");
    write_weights(&link, "b").expect("it can be written");
    assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("b"));
    let metadata = std::fs::metadata(&path).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_ne!(metadata.ino(), inode, "it was replaced, not overwritten");
    assert!(std::fs::symlink_metadata(&link).is_ok_and(|link| link.is_symlink()));
    assert_eq!(std::fs::read_dir(&dir.0).expect("it is there").count(), 2);
}

#[test]
fn a_read_only_file_is_refused_and_stays() {
    let dir = Dir::new("read-only");
    let path = dir.0.join("weights.toml");
    std::fs::write(&path, "old").expect("it can be written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).expect("it is ours");
    assert!(matches!(write_weights(&path, "new"), Err(WriteError::ReadOnly { .. })));
    assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("old"));
}

#[test]
fn a_missing_directory_is_an_error_that_names_the_file() {
    let error = write_weights("/nonexistent/weights.toml", "x").expect_err("no such directory");
    assert_eq!(error.to_string(), "/nonexistent/weights.toml cannot be written");
    assert_eq!(error.reason().kind(), std::io::ErrorKind::NotFound);
}

const POOLS: [&str; 4] = ["stable", "canary", "next", "x.y"];

fn some_weights() -> impl Strategy<Value = Weights> {
    let relative = proptest::collection::vec(0..=1_000_000_u32, 4)
        .prop_map(|list| list.into_iter().map(Weight::Relative).collect());
    let percents = (0..=1_000_000_u32, 0..=1_000_000_u32).prop_map(|(a, b)| {
        let (low, high) = (a.min(b), a.max(b));
        [low, high - low, 1_000_000 - high, 0].map(Weight::Percent).to_vec()
    });
    let entries = |list: Vec<Weight>| {
        POOLS.iter().zip(list).map(|(pool, weight)| (Name::new(pool).expect("a name"), weight)).collect()
    };
    prop_oneof![relative, percents]
        .prop_filter_map("all zero", move |list: Vec<Weight>| Weights::new(entries(list)).ok())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_edited_in_is_what_is_read_back(a in some_weights(), b in some_weights(), start in 0..5_usize) {
        let config = plan(&[("engine", &["stable", "canary", "next", "\"x.y\""]), ("shop", &["blue"])]);
        let start = [
            "", "# c\n[shop]\nblue = 3 # keep\n", "[engine]\nstable = 1\n\n[shop]\nblue = 3 # keep\n",
            "engine.stable = \"100%\"\nshop.blue = 3 # keep\n",
            "engine = { stable = 0x10 }\nshop = { blue = 3 } # keep\n",
        ][start];
        let once = edit(start, "engine", &a).expect("it is TOML");
        let file = parse(&once, &config).expect("an edited file is legal");
        let read = file.of("engine").expect("the service is there");
        prop_assert!(a.iter().all(|(pool, weight)| read.iter().any(|entry| entry == (pool, weight))));
        // Back and forth: the text follows the weights, and nothing piles up.
        let there = edit(&once, "engine", &b).expect("it is TOML");
        prop_assert_eq!(edit(&there, "engine", &a).expect("it is TOML"), once.clone());
        prop_assert_eq!(start.contains("# keep"), once.contains("# keep"));
    }
}

#[test]
fn the_word_kill_is_read_and_no_pool_or_service_may_be_called_so() {
    let config = engine();
    let kills = |text: &str| parse(text, &config).expect("legal").kills;
    assert_eq!(kills("[engine]\nstable = 1\ncanary = 1"), Kills::default());
    assert_eq!(kills("kill = \"now\"\n[engine]\nstable = 1\ncanary = 1").system.as_deref(), Some("now"));
    assert_eq!(kills("kill = false\n[engine]\nstable = 1\ncanary = 1\nkill = false"), Kills::default());
    let file = parse("[engine]\nkill = true\nstable = \"1%\"\ncanary = \"99%\"", &config).expect("legal");
    assert_eq!(file.kills.of("engine").map(|killed| (killed.system, killed.reason)), Some((false, String::new())));
    assert_eq!(
        file.of("engine").map(|weights| weights.of("canary")),
        Some(990_000),
        "the weights stay to come back to"
    );
    let file = parse("[engine]\nkill = \"bad build\"", &config).expect("no weights are needed to kill");
    assert_eq!(file.of("engine").map(|weights| weights.share("stable")), Some(1.0));
    for (text, place) in [("kill = 3\n[engine]\nstable = 1", "1:8"), ("[engine]\nstable = 1\nkill = []", "3:8")] {
        let problems = parse(text, &config).expect_err("not a reason").to_string();
        assert!(problems.contains(&format!("weights.toml:{place}")) && problems.contains("kill = "), "{problems}");
    }
    let text = "[services.engine.pools.stable]\nendpoints = [\"http://a:1\"]\n\
                [services.engine.pools.kill]\nendpoints = [\"http://a:2\"]\n";
    let problems = Config::parse(text, "weir.toml", &|_| None).expect_err("reserved").to_string();
    assert!(problems.contains("weir.toml:3:24") && problems.contains("\"kill\" is no name"), "{problems}");
}

#[test]
fn editing_weights_keeps_a_kill_and_a_kill_keeps_everything_else() {
    let text = "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n";
    let own = Scope::Service(Name::new("engine").expect("a name"));
    for scope in [own, Scope::System] {
        let killed = edit_kill(text, &scope, Some("it \"burns\"")).expect("editable");
        let file = parse(&killed, &engine()).expect("legal");
        assert_eq!(file.kills.at(&scope), Some("it \"burns\""), "{killed}");
        let moved = edit(&killed, "engine", file.of("engine").expect("named")).expect("editable");
        assert_eq!(moved, killed);
        let half = weights(&[("stable", Weight::Relative(1)), ("canary", Weight::Relative(1))]);
        let moved = edit(&killed, "engine", &half).expect("editable");
        assert_eq!(parse(&moved, &engine()).expect("legal").kills, file.kills);
        assert_eq!(edit_kill(&killed, &scope, None).expect("editable"), text);
    }
}

#[test]
fn a_mistyped_kill_and_a_file_of_json_are_told_for_what_they_are() {
    let config = engine();
    let told = |text: &str| parse(text, &config).expect_err(text).to_string();
    assert!(told("[engine]\nstable = 90\ncanary = 10\nkil = \"x\"\n").contains("did you mean \"kill\"?"));
    assert!(told("kil = \"x\"\n[engine]\nstable = 90\n").contains("did you mean \"kill\"?"));
    assert!(told("[engine]\nstable = 90\ncanray = 10\n").contains("did you mean \"canary\"?"));
    let json = told("{ \"engine\": { \"stable\": 90 } }\n");
    assert!(json.contains("this is JSON; weir reads TOML") && json.matches("weights.toml:").count() == 1, "{json}");
}
