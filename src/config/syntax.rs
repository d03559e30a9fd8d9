//! From a text to its tree, and what is wrong with it as TOML, in words for who wrote it: what was found and what would
//! be right. What the keys and values mean is [`super::cursor`]'s and `read/`'s.

use toml::de::{DeTable, Error};

use super::cursor::shorten;
use super::problem::{self, Problem};
use super::weights::{WEIGHT_HELP, is_word};

/// The tree of a text, as much of it as can be read, and its syntax problems.
pub(crate) struct Parsed<'t> {
    pub(crate) tree: toml::Spanned<DeTable<'t>>,
    pub(crate) problems: Vec<Problem>,
    /// From this line on the tree only holds leftovers of a list that never ends.
    pub(crate) lost_from: u32,
}

/// What the values of a file mostly are: what is said to be right where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// Anything.
    Any,
    /// Weights.
    Weights,
}

/// Keys of a weights file's `maintenance` table, which hold no weights.
const NO_WEIGHTS: [&str; 4] = ["reason", "pools", "retry_after", "body"];

/// Parses with recovery.
pub(crate) fn parse_toml<'t>(file: &str, text: &'t str, values: Values) -> Parsed<'t> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let source = problem::Source::new(file, text);
    if !errors.is_empty() && text.trim_start().starts_with('{') {
        // Everything else that the parser finds follows from this.
        let at = text.len() - text.trim_start().len();
        let found = "this is JSON; weir reads TOML".to_owned();
        let problem =
            source.at(at..at + 1, "", found, "write key = value, and [table] where JSON opens an object".into());
        return Parsed { tree, problems: vec![problem], lost_from: 0 };
    }
    let problem = |error: &Error| {
        let at = error.span().unwrap_or(0..0);
        let (found, help) = told(error, text, values);
        source.at(at, "", found, help)
    };
    let mut problems: Vec<Problem> = errors.iter().take(problem::PROBLEMS_MAX).map(problem).collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    // The parser recovers and goes on. What it finds on the rest of a line, or after a list that never ends, follows
    // from the first find and would bury it.
    problems.dedup_by_key(|problem| problem.line);
    let mut lost_from = u32::MAX;
    if errors.iter().any(|error| error.message().starts_with("unclosed array"))
        && let Some(first) = problems.iter().position(|problem| problem.message.contains("array"))
    {
        problems.truncate(first + 1);
        lost_from = problems[first].line;
        problems[first].help = "close the list before this with ']'".into();
    }
    Parsed { tree, problems, lost_from }
}

/// What was found and what would be right.
fn told(error: &Error, text: &str, values: Values) -> (String, String) {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let (_, line, at) = line_of(text, start);
    if message.starts_with("string values must be quoted") {
        return unquoted(line, at, values);
    }
    if message.starts_with("duplicate key") {
        let name = error.span().and_then(|span| text.get(span)).unwrap_or_default();
        return (format!("{} stands here again", shorten(name)), twice(text, start, name));
    }
    match message.split_once(", expected ") {
        Some((found, expected)) => (found.to_owned(), format!("expected {expected}")),
        None => (message, String::new()),
    }
}

/// Where the line around a byte begins, the line, and where in it the byte is.
fn line_of(text: &str, mut start: usize) -> (usize, &str, usize) {
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[start..].find('\n').map_or(text.len(), |at| start + at);
    (from, &text[from..to], start - from)
}

/// A word that is no value, or nothing where a value should stand.
fn unquoted(line: &str, at: usize, values: Values) -> (String, String) {
    let key = line[..at].trim().trim_end_matches('=').trim();
    let rest = line[at..].trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | '#')).unwrap_or(rest.len());
    let word = shorten(&rest[..end]);
    let found = match word.is_empty() {
        true => format!("{} has no value", if key.is_empty() { "this key" } else { key }),
        false => format!("{word} is no value"),
    };
    let help = match (values, word.is_empty()) {
        (Values::Weights, _) if !is_word(key) && !NO_WEIGHTS.contains(&key) => WEIGHT_HELP.to_owned(),
        (_, true) => "write one after '=': a number, text in quotes, true or false".to_owned(),
        (_, false) => format!("write text in quotes: \"{}\"", word.trim_matches('"')),
    };
    (found, help)
}

/// Where the name stood first, as far as lines tell.
fn twice(text: &str, start: usize, name: &str) -> String {
    let (from, line, _) = line_of(text, start);
    let before = &text[..from];
    let header = line.trim_start().starts_with('[');
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let same = |other: &str| match header {
        true => other.split('#').next().map(str::trim) == line.split('#').next().map(str::trim),
        false => key(other).is_some_and(|key| key == name),
    };
    // A key is looked for in its own table only: the last place before this one.
    let first = before.lines().enumerate().filter(|(_, other)| same(other)).last();
    let what = if header { "put what stands in both into one table" } else { "take one of them out" };
    first.map_or_else(|| what.to_owned(), |(at, _)| format!("it stands on line {} already: {what}", at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, values: Values) -> Vec<String> {
        parse_toml("f", text, values).problems.iter().map(Problem::headline).collect()
    }

    #[test]
    fn what_is_no_value_is_told_with_what_was_found_and_what_would_be_right() {
        let weight = "write an integer from 0 to 1000000, or a percentage such as \"10%\"";
        for (text, found) in [
            ("[a]\ncanary = 10x # no\n", "f:2:10: 10x is no value"),
            ("[a]\ncanary = bogus\n", "f:2:10: bogus is no value"),
            ("[a]\ncanary = \nstable = 1\n", "f:2:10: canary has no value"),
            ("[a]\ncanary =", "f:2:9: canary has no value"),
        ] {
            assert_eq!(said(text, Values::Weights), [format!("{found}; {weight}")], "{text}");
        }
        assert_eq!(said("kill = bad\n", Values::Weights), ["f:1:8: bad is no value; write text in quotes: \"bad\""]);
        assert_eq!(said("idle = 10s\n", Values::Any), ["f:1:8: 10s is no value; write text in quotes: \"10s\""]);
        assert_eq!(
            said("workers = \n", Values::Any),
            ["f:1:11: workers has no value; write one after '=': a number, text in quotes, true or false"]
        );
    }

    #[test]
    fn what_stands_twice_is_told_with_where_it_stood_first() {
        let text = "[a]\nstable = 1\n[b]\nstable = 1\n[a]\ncanary = 1\n";
        let said_of_table = said(text, Values::Weights);
        assert_eq!(
            said_of_table.first().map(String::as_str),
            Some("f:5:2: a stands here again; it stands on line 1 already: put what stands in both into one table")
        );
        let of_key = said("[a]\nx = 1\nx = 2\n", Values::Any);
        assert_eq!(of_key, ["f:3:1: x stands here again; it stands on line 2 already: take one of them out"]);
    }
}
