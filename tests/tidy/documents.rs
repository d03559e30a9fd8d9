//! What the program knows is in the README and the examples: keys, metrics, paths, fields, variables, verbs, flags.

use std::collections::BTreeSet;

use weir::config::{Config, read_weights};
use weir::rollout::evidence::ratio::{Counted, Ratio};
use weir::telemetry::names;

use crate::COLUMNS_MAX;
use crate::source::{files, nothing, read, root, sources};

/// Whether a word stands in a text, not as a part of a longer one.
fn says(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether a string names one of our environment variables.
fn is_variable(text: &str) -> bool {
    text.starts_with("WEIR_") && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Every key of a schema's objects, at any depth.
fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        found.extend(properties.keys().cloned());
    }
    let inner: Box<dyn Iterator<Item = &serde_json::Value>> = match schema {
        serde_json::Value::Object(members) => Box::new(members.values()),
        serde_json::Value::Array(list) => Box::new(list.iter()),
        _ => Box::new(std::iter::empty()),
    };
    inner.for_each(|value| keys(value, found));
}

#[test]
fn every_key_metric_path_field_and_variable_is_documented() {
    let readme = read("README.md");
    let examples: String = files("config", "toml").iter().map(read).collect();
    let mut wrong = Vec::new();

    let mut known = BTreeSet::new();
    keys(&weir::config::schema(), &mut known);
    keys(&weir::config::rollout_schema(), &mut known);
    assert!(known.len() > 50, "the schema lost its keys");
    let documented = |key: &String| says(&readme, key) || says(&examples, key);
    wrong.extend(known.iter().filter(|key| !documented(key)).map(|key| format!("config key {key}")));

    wrong.extend(names::ALL.iter().filter(|it| !says(&readme, it.name)).map(|it| format!("metric {}", it.name)));

    let api: serde_json::Value = serde_json::from_str(&read("src/admin/openapi.json")).expect("it is JSON");
    let paths = api["paths"].as_object().expect("it lists paths").keys();
    wrong.extend(paths.filter(|path| !readme.contains(&format!("`{path}`"))).map(|path| format!("admin path {path}")));

    let line = read("src/telemetry/access_log/record.golden");
    let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap_or_default()).expect("it is JSON");
    let fields = line.as_object().expect("a line is an object").keys();
    wrong.extend(fields.filter(|name| !readme.contains(&format!("`{name}`"))).map(|name| format!("log field {name}")));

    let code: String = sources(&["src"]).iter().flat_map(|it| it.code().map(|(_, line)| format!("{line}\n"))).collect();
    let variables: BTreeSet<&str> = code.split('"').filter(|text| is_variable(text)).collect();
    wrong.extend(variables.iter().filter(|name| !says(&readme, name)).map(|name| format!("variable {name}")));
    nothing(wrong.into_iter().map(|what| format!("README.md: {what} is missing")).collect());
}

#[test]
fn every_verb_and_flag_is_documented() {
    let readme = read("README.md");
    let help = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("it runs");
        String::from_utf8(output.stdout).expect("help is text")
    };
    let verbs = help(&["--help"]);
    let verbs: Vec<&str> = verbs
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.contains(&"run") && verbs.contains(&"rollback"), "{verbs:?}");
    let mut wrong = Vec::new();
    for verb in verbs {
        if !readme.contains(&format!("`weir {verb}")) {
            wrong.push(format!("README.md: weir {verb} is missing"));
        }
        let help = help(&[verb, "--help"]);
        let words = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | ':' | ';' | '`'));
        let flags = words.filter(|word| word.starts_with("--"));
        let flags: BTreeSet<&str> = flags.filter(|flag| *flag != "--help" && !flag.contains('=')).collect();
        let missing = flags.into_iter().filter(|flag| !says(&readme, flag));
        wrong.extend(missing.map(|flag| format!("README.md: weir {verb} {flag} is missing")));
    }
    nothing(wrong);
}

#[test]
fn links_and_line_widths_of_the_readme_hold() {
    let readme = read("README.md");
    // As GitHub makes them: without punctuation.
    let is_kept = |c: &char| c.is_alphanumeric() || "-_".contains(*c);
    let heading = |line: &str| -> String {
        let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(is_kept).collect()
    };
    let anchors: BTreeSet<String> = readme.lines().filter(|line| line.starts_with('#')).map(heading).collect();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(readme.lines()) {
        if line.chars().count() > COLUMNS_MAX && !line.starts_with('|') {
            wrong.push(format!("README.md:{number}: {} columns", line.chars().count()));
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let holds = match target.strip_prefix('#') {
                Some(anchor) => anchors.contains(anchor),
                None => target.starts_with("http") || root().join(target).exists(),
            };
            if !holds {
                wrong.push(format!("README.md:{number}: {target} leads nowhere"));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn every_example_loads() {
    let mut wrong = Vec::new();
    let mut loaded = 0;
    for path in files("config", "toml").into_iter().chain(files("docker/config", "toml")) {
        // Plans are read by tests/plans.rs.
        if path.to_string_lossy().ends_with("weights.toml") || path.parent().is_some_and(|it| it.ends_with("rollouts"))
        {
            continue;
        }
        loaded += 1;
        match Config::load(&path) {
            Err(problems) => wrong.push(problems.to_string()),
            Ok(config) => {
                assert!(config.weights_path.exists(), "{} has no weights file", path.display());
                wrong.extend(
                    read_weights(&config.weights_path, &config.plan).err().map(|problems| problems.to_string()),
                );
            }
        }
    }
    assert!(loaded >= 5, "only {loaded} examples");
    nothing(wrong);
}

/// `2 of 20` as `[2, 20]`, `9.0 times` as `[9]`.
fn numbers(cell: &str) -> Vec<f64> {
    cell.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_worked_example_of_the_readme_is_what_the_statistics_say() {
    let readme = read("README.md");
    let rows: Vec<Vec<f64>> = readme
        .lines()
        .skip_while(|line| !line.starts_with("| second | candidate failed |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').flat_map(numbers).collect())
        .collect();
    assert_eq!(rows.len(), 9);
    let mut test = Ratio::new(1.25, 300_000);
    let mut wrong = Vec::new();
    for row in rows {
        let [second, bad, items, other_bad, other_items, shown, excluded] = row[..] else { panic!("{row:?}") };
        let [items, bad] = [[items as u64, other_items as u64], [bad as u64, other_bad as u64]];
        test.pass(1000);
        test.add(&Counted { share: items[0] as f64 / (items[0] + items[1]) as f64, items, bad });
        let e = test.ln_worse(1.0).exp();
        let bound = test.excluded(0.05, 1.0).expect("something is excluded");
        if (e - shown).abs() > 0.006 || (bound - excluded).abs() > 0.06 {
            wrong.push(format!("README.md: second {second}: E = {e:.2}, excludes {bound:.1}"));
        }
    }
    nothing(wrong);
}

#[test]
fn a_word_is_not_a_part_of_a_longer_one() {
    assert!(says("`weir_x_total` is", "weir_x_total") && !says("`weir_x_total_2`", "weir_x_total"));
}
