//! Problems of a configuration text: where, what was found, what would be right; as plain text and as JSON.
//!
//! Does not find problems: see [`super::cursor`] and the readers.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One thing that is wrong with a configuration text (or, in [`super::Config::notes`], only worth knowing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named by the caller, or `environment`.
    pub file: String,
    /// Line from 1; 0 when there is no place in a text (a file that cannot be read, an environment variable).
    pub line: u32,
    /// Column from 1, in characters; 0 together with `line`.
    pub column: u32,
    /// The key in dotted form, such as `services.engine.health.interval`; may be empty.
    pub path: String,
    /// What was found.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
    /// The source line, or the part of it around the place.
    #[serde(skip)]
    source: String,
    /// Where the caret stands in `source`, and how many characters it underlines.
    #[serde(skip)]
    caret: (u32, u32),
}

/// Every problem of one text, in the order of the text; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems {
    list: Vec<Problem>,
    #[serde(skip)]
    unfinished: bool,
}

/// A text with the positions of its lines.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

/// Most problems of one text that are kept: more than anybody reads, few enough for a log and an API answer.
pub(crate) const PROBLEMS_MAX: usize = 200;

/// Longest stretch of a source line that is shown; a line of a megabyte must not flood a log.
const SOURCE_CHARS_MAX: usize = 200;

// === impl Source ===

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// A problem at a byte range of the text.
    pub(crate) fn at(&self, span: Range<usize>, path: &str, message: String, help: String) -> Problem {
        let floor = |at: usize| {
            let mut at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line = self.text[..line_start].bytes().filter(|&b| b == b'\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;
        let width = self.text[start..end.min(line_end).max(start)].chars().take(SOURCE_CHARS_MAX).count().max(1);
        let skip = (column - 1).saturating_sub(SOURCE_CHARS_MAX / 2);
        let source = self.text[line_start..line_end].trim_end_matches('\r').chars().skip(skip).take(SOURCE_CHARS_MAX);
        Problem {
            file: self.file.to_owned(),
            line: line as u32,
            column: column as u32,
            path: path.to_owned(),
            message,
            help,
            source: source.collect(),
            caret: ((column - 1 - skip) as u32, width as u32),
        }
    }
}

// === impl Problem ===

impl Problem {
    /// A problem that has no place in a text.
    pub(crate) fn without_place(file: &str, message: String, help: &str) -> Self {
        let file = file.to_owned();
        let (source, path, help) = (String::new(), String::new(), help.to_owned());
        Self { file, line: 0, column: 0, path, message, help, source, caret: (0, 0) }
    }

    /// The same without the source line, which may hold a secret.
    pub(crate) fn unquoted(self) -> Self {
        Self { source: String::new(), ..self }
    }

    /// `file:line:column: what was found; what would be right`, on one line.
    pub fn headline(&self) -> String {
        let place = if self.line == 0 { String::new() } else { format!(":{}:{}", self.line, self.column) };
        let help = if self.help.is_empty() { String::new() } else { format!("; {}", self.help) };
        format!("{}{place}: {}{help}", self.file, self.message)
    }

    /// The source line and a line with a caret below what is meant; none for a problem without a place.
    fn snippet(&self) -> Option<String> {
        if self.line == 0 || self.source.trim().is_empty() {
            return None;
        }
        let (before, width) = (self.caret.0 as usize, self.caret.1 as usize);
        let shown: String = self.source.chars().map(printable).collect();
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let indent: String = self.source.chars().map(blank).chain(std::iter::repeat(' ')).take(before).collect();
        let carets = "^".repeat(width.min(SOURCE_CHARS_MAX / 2));
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        Some(format!("  {number} | {}\n  {margin} | {indent}{carets}", shown.trim_end()))
    }
}

/// Control characters of a foreign text must not reach a terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: String = self.headline().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        f.write_str(&line)?;
        self.snippet().map_or(Ok(()), |snippet| write!(f, "\n{snippet}"))
    }
}

// === impl Problems ===

impl Problems {
    /// The same without lines and columns: of a text that the caller never saw.
    pub(crate) fn without_places(mut self) -> Self {
        for problem in &mut self.list {
            (problem.line, problem.column) = (0, 0);
        }
        self
    }

    /// Sorts `list` by place and drops exact repeats; none for an empty list. Of a hopeless text the first
    /// [`PROBLEMS_MAX`] are kept.
    pub(crate) fn new(mut list: Vec<Problem>) -> Option<Self> {
        list.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        list.dedup_by(|a, b| (a.line, a.column, &a.message) == (b.line, b.column, &b.message) && a.file == b.file);
        list.truncate(PROBLEMS_MAX);
        (!list.is_empty()).then_some(Self { list, unfinished: false })
    }

    /// One problem.
    pub(crate) fn one(problem: Problem) -> Self {
        Self { list: vec![problem], unfinished: false }
    }

    /// A text that holds nothing but blanks and comments.
    pub(crate) fn not_finished(file: &str, what: &str) -> Self {
        let message = format!("the file holds no {what} yet");
        let help = "what was loaded before stays in force until it does";
        Self { list: vec![Problem::without_place(file, message, help)], unfinished: true }
    }

    /// Whether the text was only empty or comments: somebody is still writing it, and the old one stays.
    pub fn unfinished(&self) -> bool {
        self.unfinished
    }

    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems of both.
    pub fn join(mut self, other: Problems) -> Self {
        self.unfinished &= other.unfinished;
        self.list.extend(other.list);
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
