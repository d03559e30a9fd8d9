//! The table of attacks and faults is complete, and what it promises is tested.

use std::collections::BTreeSet;

use crate::source::{files, nothing, read, root};

/// Ids that must be there: a letter, the first and the last number, how many digits.
const IDS: &[(&str, u32, u32)] =
    &[("S-", 1, 31), ("U-", 1, 8), ("R-", 1, 11), ("H-", 1, 13), ("L-", 1, 5), ("F", 1, 40)];

/// Faults whose tests stand elsewhere, or that have no object; the text below the table says why.
const ELSEWHERE: &[&str] = &["F27", "F34", "F35"];

#[test]
fn every_attack_and_every_fault_has_one_answer_and_its_tests() {
    let path = root().join("tests/attacks.md");
    let sources: String = files("tests", "rs").iter().map(read).collect();
    let tests: BTreeSet<&str> =
        sources.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next()).collect();
    let (mut wrong, mut ids) = (Vec::new(), Vec::new());
    for (number, line) in read(&path).lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())) {
        let Some(row) = line.strip_prefix("| ").filter(|row| !row.starts_with("id ")) else { continue };
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let (id, named) = (cells[0], cells[cells.len() - 1]);
        if ids.iter().any(|it| it == id) {
            wrong.push(format!("tests/attacks.md:{number}: {id} twice"));
        }
        ids.push(id.to_owned());
        let missing = named.split(", ").filter(|name| !tests.contains(name));
        wrong.extend(missing.map(|name| format!("tests/attacks.md:{number}: {id}: no test {name}")));
    }
    for (letter, first, last) in IDS {
        let wanted = (*first..=*last).map(|n| format!("{letter}{n:02}"));
        let absent = wanted.filter(|id| !ids.contains(id) && !ELSEWHERE.contains(&id.as_str()));
        wrong.extend(absent.map(|id| format!("tests/attacks.md: {id} is missing")));
    }
    nothing(wrong);
}
