//! No text can make the door panic or hang: every file of the corpus, cut, spliced and mutated, goes through every
//! parser of untrusted text. New finds of the fuzzer are added to `tests/corpus/config/`.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use weir::config::{Config, WeightsFile, edit};
use weir::model::{Name, Weight, Weights};

static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/config");
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).expect("the corpus is there").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
});

/// What every text must do: be taken, or be refused with problems that can be shown.
fn survive(text: &str) {
    let plan =
        Config::parse(include_str!("golden/config/contract.toml"), "weir.toml", &|_| None).expect("the contract").plan;
    match Config::parse(text, "weir.toml", &|_| None) {
        Ok(config) => {
            let again = Config::parse(text, "weir.toml", &|_| None).expect("the same text");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert!(!config.plan.services.is_empty() && !config.plan.routes.is_empty());
            for route in &config.plan.routes {
                assert!(config.plan.services.iter().any(|service| service.name == route.service));
            }
            for service in &config.plan.services {
                assert!(service.pool_index(&service.stable).is_some());
                assert!(service.pools.iter().all(|pool| !pool.origins.is_empty()));
            }
        }
        Err(problems) => {
            assert!(problems.to_string().lines().count() >= problems.len());
            assert!(!problems.to_string().chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            assert!(serde_json::to_string(&problems).is_ok());
            let lines = text.split('\n').count() as u32;
            assert!(problems.iter().all(|problem| problem.line <= lines));
        }
    }
    if let Err(problems) = WeightsFile::parse(text, "weights.toml", &plan) {
        assert!(!problems.to_string().is_empty());
    }
    let weights = Weights::new(vec![(Name::new("stable").expect("a name"), Weight::Relative(1))]).expect("legal");
    if let Ok(edited) = edit(text, "engine", &weights) {
        assert!(
            edit(&edited, "engine", &weights).is_ok_and(|again| again == edited),
            "an edit can be edited: {edited}"
        );
    }
}

#[test]
fn every_text_of_the_corpus_is_taken_or_refused() {
    for bytes in CORPUS.iter() {
        survive(&String::from_utf8_lossy(bytes));
    }
}

#[test]
fn deep_and_long_texts_are_refused_without_harm() {
    for deep in ["[", "{a=", "a.", "[[a.", "\"", "'''", "a=[1,", "\u{0}", "\r", "=\n"] {
        survive(&deep.repeat(3000));
    }
    survive(&format!("a{} = 1", ".a".repeat(3000)));
    survive(&format!("workers = {}", "9".repeat(100_000)));
    survive(&format!("[services.{}]", "x".repeat(100_000)));
    survive(&"x = [[[[[[[[1,]]]]]]]]\n".repeat(30_000));
    survive(&(0..30_000).map(|i| format!("x{i} = 1\n")).collect::<String>());
    survive(&"[[routes]]\nmatch.path = \"/a\"\n".repeat(20_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn mutated_texts_are_taken_or_refused(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), proptest::sample::select(b"[]{}\"'=.,#\n\\$-0_%/:".to_vec()),
        ], 0..3_u8), 0..12),
    ) {
        let (a, b) = (first.get(&CORPUS), second.get(&CORPUS));
        let mut bytes = a[..cut.0.index(a.len())].to_vec();
        bytes.extend_from_slice(&b[cut.1.index(b.len())..]);
        for (at, byte, what) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        survive(&String::from_utf8_lossy(&bytes));
    }
}
