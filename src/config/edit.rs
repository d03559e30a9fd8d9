//! Edits of a weights text: comments, order and number formats stay; only what must change does.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::weights::is_word;
use super::{Values, parse_toml};
use crate::model::{KILL_WORD, MAINTENANCE_WORD, Scope, Weight, Weights};

/// Why a text could not be edited: it is not TOML, so there is nothing to keep. [`fresh`] writes a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not valid TOML at {line}:{column}: {message}")]
pub struct NotEditable {
    /// Line from 1.
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// What was found and what would be right.
    pub message: String,
}

/// Puts `weights` into the table of `service`. Missing services and pools are added at the end; pools that `weights`
/// does not name are taken out, because a file that names a pool that does not exist is refused whole.
pub fn edit(text: &str, service: &str, weights: &Weights) -> Result<String, NotEditable> {
    let mut document = parse(text)?;
    let entry = document.entry(service).or_insert_with(|| Item::Table(Table::new()));
    if !entry.is_table_like() {
        *entry = Item::Table(Table::new());
    }
    if let Some(table) = entry.as_table_like_mut() {
        put(table, weights);
    }
    Ok(document.to_string())
}

/// Puts the word that kills into a text, with its reason, or takes it out. The table of a service must be there.
pub fn edit_kill(text: &str, scope: &Scope, reason: Option<&str>) -> Result<String, NotEditable> {
    edit_word(text, KILL_WORD, scope, reason)
}

/// The same with the word of a maintenance.
pub fn edit_maintenance(text: &str, scope: &Scope, reason: Option<&str>) -> Result<String, NotEditable> {
    edit_word(text, MAINTENANCE_WORD, scope, reason)
}

fn edit_word(text: &str, word: &str, scope: &Scope, reason: Option<&str>) -> Result<String, NotEditable> {
    let mut document = parse(text)?;
    let table: Option<&mut dyn TableLike> = match scope {
        Scope::System => Some(document.as_table_mut()),
        Scope::Service(name) => document.get_mut(name).and_then(Item::as_table_like_mut),
    };
    match (table, reason) {
        (Some(table), Some(reason)) => {
            table.insert(word, Item::Value(Value::from(reason)));
        }
        (Some(table), None) => {
            table.remove(word);
        }
        (None, _) => {}
    }
    Ok(document.to_string())
}

/// Whether the text has a table of that name.
pub fn has_table(text: &str, service: &str) -> bool {
    parse(text).is_ok_and(|document| document.get(service).is_some_and(Item::is_table_like))
}

fn parse(text: &str) -> Result<DocumentMut, NotEditable> {
    text.parse::<DocumentMut>().map_err(|error| {
        // Where and in which words `weir check` says it.
        let first = parse_toml("", text, Values::Weights).problems.into_iter().next();
        let (line, column, found, help) = first
            .map_or((1, 1, error.message().to_owned(), String::new()), |it| (it.line, it.column, it.message, it.help));
        let message = if help.is_empty() { found } else { format!("{found}; {help}") };
        NotEditable { line, column, message }
    })
}

/// A whole weights text, for a file that is missing or cannot be edited.
pub fn fresh<'w>(services: impl IntoIterator<Item = (&'w str, &'w Weights)>) -> String {
    let mut document = DocumentMut::new();
    for (service, weights) in services {
        let mut table = Table::new();
        put(&mut table, weights);
        document.insert(service, Item::Table(table));
    }
    document.to_string()
}

fn put(table: &mut dyn TableLike, weights: &Weights) {
    let gone: Vec<String> =
        table.iter().map(|(pool, _)| pool.to_owned()).filter(|pool| !names(weights, pool) && !is_word(pool)).collect();
    for pool in gone {
        table.remove(&pool);
    }
    for (pool, weight) in weights.iter() {
        match table.get_mut(pool).map(Item::as_value_mut) {
            Some(Some(value)) => replace(value, weight),
            _ => {
                table.insert(pool, Item::Value(write(weight)));
            }
        }
    }
}

fn names(weights: &Weights, pool: &str) -> bool {
    weights.iter().any(|(name, _)| name.as_str() == pool)
}

/// Replaces a value and keeps the blanks and the comment around it; an equal one keeps its spelling too.
fn replace(value: &mut Value, weight: Weight) {
    let same = match &*value {
        Value::Integer(number) => weight == Weight::Relative(u32::try_from(*number.value()).unwrap_or(u32::MAX)),
        Value::String(text) => Weight::parse(text.value()) == Ok(weight),
        _ => false,
    };
    if !same {
        let decor = value.decor().clone();
        *value = write(weight);
        *value.decor_mut() = decor;
    }
}

fn write(weight: Weight) -> Value {
    match weight {
        Weight::Relative(number) => Value::from(i64::from(number)),
        Weight::Percent(_) => Value::from(weight.to_string()),
    }
}
