//! The cursor that readers walk a parsed text with. It knows where it is and records every problem with its place. No
//! key can be read that is not in the table of keys, and no table can be left without its unknown keys being found.
//!
//! It does not know what the keys mean: that is `read/`. What kinds and bounds they have is [`super::keys`].

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Parsed;
use super::keys::{self, Key, Table};
use super::problem::{PROBLEMS_MAX, Problem, Source};

/// Reads environment variables; a function, so that tests need not touch the real environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where problems are collected, and what values are read against.
pub(crate) struct Sink<'a> {
    source: Source<'a>,
    env: Env<'a>,
    /// What is wrong with a value by itself.
    local: RefCell<Vec<Problem>>,
    /// What is wrong between values; not shown while the syntax is broken, because it may only follow from that.
    whole: RefCell<Vec<Problem>>,
    notes: RefCell<Vec<Problem>>,
    /// Which keys were asked for: a test compares them with the table of keys.
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<(&'static str, &'static str)>>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
    pub(crate) path: String,
}

/// One table of the text while it is read; when it is dropped, keys that are not listed become problems.
pub(crate) struct Fields<'a> {
    pub(crate) sink: &'a Sink<'a>,
    pub(crate) path: String,
    /// The key that the table stands under, or its header.
    pub(crate) span: Range<usize>,
    table: &'static Table,
    entries: &'a DeTable<'a>,
}

/// One value while it is read.
pub(crate) type Value<'a> = At<&'a DeValue<'a>>;

// === impl Sink ===

impl<'a> Sink<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str, env: Env<'a>) -> Self {
        let source = Source::new(file, text);
        let (local, whole, notes) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self {
            source,
            env,
            local,
            whole,
            notes,
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Something is wrong with the value at `span`, whatever the rest says.
    pub(crate) fn local(&self, span: Range<usize>, path: &str, found: impl Display, help: impl Display) {
        self.push(&self.local, span, path, &found, &help);
    }

    /// The same of a value that is not to be seen.
    pub(crate) fn local_unquoted(&self, value: &At<String>, found: &str, help: &str) {
        let mut list = self.local.borrow_mut();
        let found = format!("{}: {found}", value.path);
        list.push(self.source.at(value.span.clone(), &value.path, found, help.to_owned()).unquoted());
    }

    /// Something is wrong between this place and another.
    pub(crate) fn whole(&self, span: Range<usize>, path: &str, found: impl Display, help: impl Display) {
        self.push(&self.whole, span, path, &found, &help);
    }

    /// Finding a place costs a walk over the text, so a hopeless one is not walked over for each of its lines.
    fn push(
        &self,
        list: &RefCell<Vec<Problem>>,
        span: Range<usize>,
        path: &str,
        found: &dyn Display,
        help: &dyn Display,
    ) {
        let mut list = list.borrow_mut();
        if list.len() < PROBLEMS_MAX {
            list.push(self.source.at(span, path, found.to_string(), help.to_string()));
        }
    }

    /// Something is wrong outside the text.
    pub(crate) fn outside(&self, place: &str, found: impl Display, help: &str) {
        self.local.borrow_mut().push(Problem::without_place(place, found.to_string(), help));
    }

    /// Something is legal and perhaps not meant.
    pub(crate) fn note(&self, span: Range<usize>, path: &str, found: impl Display, help: impl Display) {
        self.push(&self.notes, span, path, &found, &help);
    }

    /// An environment variable.
    pub(crate) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    pub(crate) fn has_local(&self) -> bool {
        !self.local.borrow().is_empty()
    }

    /// All problems and all notes.
    pub(crate) fn finish(&self, parsed: Parsed<'_>) -> (Vec<Problem>, Vec<Problem>) {
        let mut problems = self.local.take();
        let syntax = parsed.problems;
        if syntax.is_empty() {
            problems.append(&mut self.whole.borrow_mut());
        } else {
            // What stands on a line that could not be read follows from that.
            let readable = |problem: &Problem| syntax.iter().all(|other| other.line != problem.line);
            problems.retain(|problem| problem.line < parsed.lost_from && readable(problem));
        }
        problems.extend(syntax);
        (problems, self.notes.take())
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> std::collections::BTreeSet<(&'static str, &'static str)> {
        self.asked.borrow().clone()
    }
}

/// What a value is, in the words of an operator.
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shorten(text)),
        DeValue::Integer(number) => format!("the integer {}", shorten(number.as_str())),
        DeValue::Float(number) => format!("the number {}", shorten(number.as_str())),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// At most 60 characters of a foreign text, for a message.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The candidate that `word` was most likely meant to be.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let scored = candidates.into_iter().map(|candidate| {
        let prefix = word.len() >= 3 && (candidate.starts_with(&word) || word.starts_with(candidate));
        let likeness = strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase());
        (if prefix { likeness.max(0.9) } else { likeness }, candidate)
    });
    // 0.8 is where clap draws the line for its own suggestions, less a little for short keys.
    scored.filter(|(score, _)| *score > 0.78).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// `did you mean "x"?`, else `use one of …`.
pub(crate) fn meant<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> String {
    if let Some(candidate) = nearest(word, candidates.clone()) {
        return format!("did you mean \"{candidate}\"?");
    }
    let all: Vec<String> = candidates.into_iter().take(16).map(|candidate| format!("\"{candidate}\"")).collect();
    match all.len() {
        0 => String::new(),
        1 => format!("there is only {}", all[0]),
        _ => format!("use one of {}", all.join(", ")),
    }
}

/// Every entry of a table with its place.
pub(crate) fn as_entries<'t>(path: &str, entries: &'t DeTable<'t>) -> Vec<(At<&'t str>, Value<'t>)> {
    let dot = if path.is_empty() { "" } else { "." };
    let place = |(key, entry): (&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>)| {
        let path = format!("{path}{dot}{}", shorten(key.get_ref()));
        let name = At { value: key.get_ref().as_ref(), span: key.span(), path: path.clone() };
        (name, At { value: entry.get_ref(), span: entry.span(), path })
    };
    entries.iter().map(place).collect()
}

// === impl At ===

impl<T> At<T> {
    pub(crate) fn with<U>(&self, value: U) -> At<U> {
        At { value, span: self.span.clone(), path: self.path.clone() }
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// The root of a text.
    pub(crate) fn root(sink: &'a Sink<'a>, entries: &'a DeTable<'a>) -> Self {
        Self { sink, path: String::new(), span: 0..0, table: keys::table(""), entries }
    }

    /// The root of a text of another kind, whose keys are those of `table`.
    pub(crate) fn root_of(sink: &'a Sink<'a>, entries: &'a DeTable<'a>, table: &'static str) -> Self {
        Self { sink, path: String::new(), span: 0..0, table: keys::table(table), entries }
    }

    /// `name` below this table, in dotted form.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// `services.engine`, or `the file` at the root.
    pub(crate) fn place(&self) -> &str {
        if self.path.is_empty() { "the file" } else { &self.path }
    }

    /// The listed key of that name.
    pub(crate) fn key(&self, name: &'static str) -> &'static Key {
        #[cfg(test)]
        self.sink.asked.borrow_mut().insert((self.table.path, name));
        self.table.key(name).expect("every key that a reader names is listed")
    }

    /// The value under a key.
    pub(crate) fn value(&self, name: &'static str) -> Option<Value<'a>> {
        self.key(name);
        let value = self.entries.get(name)?;
        Some(At { value: value.get_ref(), span: value.span(), path: self.path_of(name) })
    }

    /// Whether a key is there, whatever its value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The place of a key itself, not of its value.
    pub(crate) fn key_span(&self, name: &str) -> Range<usize> {
        self.entries.get_key_value(name).map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// The place of a key some tables further in, or of the last table on the way that is in the text.
    pub(crate) fn span_at(&self, path: &[&str]) -> Range<usize> {
        let (mut entries, mut span) = (self.entries, self.span.clone());
        for name in path {
            let Some((key, value)) = entries.get_key_value(*name) else { break };
            span = key.span();
            let DeValue::Table(inner) = value.get_ref() else { break };
            entries = inner;
        }
        span
    }

    /// Says that the value is of a wrong kind.
    pub(crate) fn wrong(&self, value: &Value<'_>, right: &str) {
        let found = format!("{} is {}", value.path, describe(value.value));
        self.sink.local(value.span.clone(), &value.path, found, format!("write {right}"));
    }

    /// A table under a key; empty when it is absent.
    pub(crate) fn table(&self, name: &'static str, table: &'static str) -> Fields<'a> {
        self.table_if_present(name, table).unwrap_or_else(|| self.empty(name, table))
    }

    /// A table under a key.
    pub(crate) fn table_if_present(&self, name: &'static str, table: &'static str) -> Option<Fields<'a>> {
        let value = self.value(name)?;
        let span = self.key_span(name);
        self.as_table(value, span, table)
    }

    fn empty(&self, name: &'static str, table: &'static str) -> Fields<'a> {
        static NOTHING: std::sync::LazyLock<DeTable<'static>> = std::sync::LazyLock::new(DeTable::new);
        let (path, span) = (self.path_of(name), self.span.clone());
        Fields { sink: self.sink, path, span, table: keys::table(table), entries: &NOTHING }
    }

    pub(crate) fn as_table(&self, value: Value<'a>, span: Range<usize>, table: &'static str) -> Option<Fields<'a>> {
        let DeValue::Table(entries) = value.value else {
            self.wrong(&value, &format!("a table: [{}]", value.path));
            return None;
        };
        Some(Fields { sink: self.sink, path: value.path, span, table: keys::table(table), entries })
    }

    /// Every entry of a table whose names the operator chooses.
    pub(crate) fn entries(&self, name: &'static str) -> Vec<(At<&'a str>, Value<'a>)> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let DeValue::Table(entries) = value.value else {
            self.wrong(&value, &format!("a table: [{}.NAME]", value.path));
            return Vec::new();
        };
        as_entries(&value.path, entries)
    }

    /// Every entry of a list of tables.
    pub(crate) fn list(&self, name: &'static str, table: &'static str) -> Vec<Fields<'a>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            self.wrong(&value, &format!("a list of tables: [[{}]]", value.path));
            return Vec::new();
        };
        let place = |(i, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let path = format!("{}[{}]", value.path, i + 1);
            let value = At { value: item.get_ref(), span: item.span(), path };
            let span = value.span.clone();
            self.as_table(value, span, table)
        };
        items.iter().enumerate().filter_map(place).collect()
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for key in self.entries.keys() {
            let name = key.get_ref().as_ref();
            if self.table.key(name).is_some() {
                continue;
            }
            let found = format!("unknown key \"{}\" in {}", shorten(name), self.place());
            // A key below a [table] belongs to it, which is easily forgotten.
            let help = match !self.path.is_empty() && keys::table("").key(name).is_some() {
                true => "it belongs at the top of the file, above the first [table]".to_owned(),
                false => meant(name, self.table.keys.iter().map(|key| key.name)),
            };
            self.sink.local(key.span(), &self.path_of(&shorten(name)), found, help);
        }
    }
}
