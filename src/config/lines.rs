//! Edits of a weights text that is not TOML as a whole, line by line: one service's pools get other weights, and every
//! other byte stays. Only for moving a service to stable (a rollback must work at three in the morning); everything
//! else is refused until the text is mended.
//!
//! Does not mend anything: what is wrong on other lines is wrong afterwards as well.

use std::ops::Range;

use toml_edit::DocumentMut;

use super::weights::is_word;
use crate::model::{Weight, Weights};

/// Why lines cannot be told apart safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoLines {
    /// A text over several lines may hold anything, also what looks like a table.
    #[error("it holds a text over several lines")]
    LongText,
    /// There is no line `[SERVICE]`.
    #[error("it has no line [SERVICE]")]
    NoTable,
    /// There are several.
    #[error("it has several lines [SERVICE]")]
    ManyTables,
}

/// Puts `weights` on the lines of the pools in the table of `service`; pools without a line get one below its header.
pub fn edit_lines(text: &str, service: &str, weights: &Weights) -> Result<String, NoLines> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let section = section(text, service)?;
    let (mut missing, mut inside) = (String::new(), String::new());
    let mut seen: Vec<&str> = Vec::new();
    for line in &lines[section.start + 1..section.end] {
        let pool = key(line).and_then(|key| weights.iter().find(|(pool, _)| pool.as_str() == key));
        match pool {
            Some((pool, weight)) if !seen.contains(&pool.as_str()) => {
                seen.push(pool.as_str());
                inside += &replaced(line, pool, weight);
            }
            // A second line of a pool, or one of a pool that there is not, would be an error of its own.
            Some(_) => inside += &format!("# {line}"),
            None if names_no_pool(line) => inside += &format!("# {line}"),
            None => inside += line,
        }
    }
    for (pool, weight) in weights.iter().filter(|(pool, _)| !seen.contains(&pool.as_str())) {
        missing += &format!("{pool} = {}\n", written(weight));
    }
    let header = closed(lines[section.start]);
    let end = if header.ends_with('\n') { "" } else { "\n" };
    let (above, below) = (lines[..section.start].concat(), lines[section.end..].concat());
    Ok(format!("{above}{header}{end}{missing}{inside}{below}"))
}

/// The lines of the table of `service`, from its header to the next one, from 0.
pub(super) fn section(text: &str, service: &str) -> Result<Range<usize>, NoLines> {
    if text.contains("\"\"\"") || text.contains("'''") {
        return Err(NoLines::LongText);
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut headers = lines.iter().enumerate().filter(|(_, line)| header(line).as_deref() == Some(service));
    let (start, _) = headers.next().ok_or(NoLines::NoTable)?;
    if headers.next().is_some() {
        return Err(NoLines::ManyTables);
    }
    let after = lines[start + 1..].iter().position(|line| line.trim_start().starts_with('['));
    Ok(start..after.map_or(lines.len(), |at| start + 1 + at))
}

/// The name in a line `[NAME]`, also where its last bracket was forgotten; none of another line, or of `[NAME.MORE]`.
fn header(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix('[')?;
    let name = rest.split(['#', ']']).next()?.trim().trim_matches(['"', '\'']);
    (!name.is_empty() && !name.contains(['[', '.', ',', '"'])).then(|| name.to_owned())
}

/// The header with its last bracket.
fn closed(line: &str) -> String {
    let name = line.split('#').next().unwrap_or(line).trim_end();
    if name.ends_with(']') { line.to_owned() } else { format!("{name}]{}", &line[name.len()..]) }
}

/// The key of a line `KEY = …`, also where `=` was forgotten; blanks and comments have none.
fn key(line: &str) -> Option<&str> {
    let key = line.split(['=', ':', '#']).next()?.trim();
    let key = key.split_whitespace().next()?.trim_matches(['"', '\'']);
    (!key.is_empty()).then_some(key)
}

/// Whether a line gives something that is no pool a weight.
fn names_no_pool(line: &str) -> bool {
    let document = line.parse::<DocumentMut>().ok();
    let entry = document.as_ref().and_then(|document| document.iter().next());
    entry.is_some_and(|(key, value)| !is_word(key) && (value.is_integer() || value.is_str()))
}

/// The line with another value; the blanks before it and a comment stay.
fn replaced(line: &str, pool: &str, weight: Weight) -> String {
    let body = line.trim_end_matches(['\n', '\r']);
    let (text, comment) = body.split_at(body.find('#').unwrap_or(body.len()));
    let gap = if comment.is_empty() { "" } else { " " };
    if text.parse::<DocumentMut>().is_ok_and(|it| says(&it[pool], weight)) {
        return line.to_owned();
    }
    let (indent, end) = (&text[..text.len() - text.trim_start().len()], &line[body.len()..]);
    format!("{indent}{pool} = {}{gap}{comment}{end}", written(weight))
}

fn says(value: &toml_edit::Item, weight: Weight) -> bool {
    match weight {
        Weight::Relative(number) => value.as_integer() == Some(i64::from(number)),
        Weight::Percent(_) => value.as_str().is_some_and(|text| Weight::parse(text) == Ok(weight)),
    }
}

fn written(weight: Weight) -> String {
    match weight {
        Weight::Relative(number) => number.to_string(),
        Weight::Percent(_) => format!("\"{weight}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn stable() -> Weights {
        let name = |text| Name::new(text).expect("a name");
        Weights::all_to(&name("stable"), [name("stable"), name("canary")])
    }

    #[test]
    fn only_the_lines_of_the_services_own_pools_change() {
        let text = "# precious\nkill = \"all\"\n[a]\n  stable = 90 # most\ncanary = 10x\nkill = \"bad\"\n\
                    [a.maintenance]\npools = [\"canary\"]\n[b] # other\nstable = 0\ncanary = 100y\n";
        let edited = edit_lines(text, "a", &stable()).expect("by lines");
        let expected = text.replace("stable = 90 #", "stable = 100 #").replace("10x", "0");
        assert_eq!(edited, expected);
        let edited = edit_lines(text, "b", &stable()).expect("by lines");
        assert_eq!(edited, text.replace("stable = 0\ncanary = 100y", "stable = 100\ncanary = 0"));
    }

    #[test]
    fn a_pool_without_a_line_gets_one_and_a_second_line_of_it_becomes_a_comment() {
        let edited = edit_lines("[a]\ncanary = = 1\ncanary = 2\n[b]\nx", "a", &stable()).expect("by lines");
        assert_eq!(edited, "[a]\nstable = 100\ncanary = 0\n# canary = 2\n[b]\nx");
        assert_eq!(edit_lines("[a]", "a", &stable()).expect("by lines"), "[a]\nstable = 100\ncanary = 0\n");
        assert_eq!(
            edit_lines("[a # ours\ncanry = 5\ncanary 10 # x\nstable == 90", "a", &stable()).expect("by lines"),
            "[a] # ours\n# canry = 5\ncanary = 0 # x\nstable = 100"
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_edited() {
        for (text, why) in [
            ("[a]\nkill = \"\"\"\n[a]\n\"\"\"\nx", NoLines::LongText),
            ("[b]\nstable = 1x\n", NoLines::NoTable),
            ("[a]\nstable = 1\n[b]\n[a]\nstable = 2\n", NoLines::ManyTables),
        ] {
            assert_eq!(edit_lines(text, "a", &stable()), Err(why), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_around_the_table_stays(
            before in "[a-z0-9=#\\n \\[]{0,40}",
            after in "[a-z0-9=#\\n \\[]{0,40}",
        ) {
            let text = format!("{before}\n[service]\nstable = 1\ncanary = 9x\n[other]\n{after}");
            if let Ok(edited) = edit_lines(&text, "service", &stable()) {
                let kept = format!("{before}\n[service]\nstable = 100\ncanary = 0\n[other]\n{after}");
                proptest::prop_assert_eq!(edited, kept);
            }
        }
    }
}
