//! Reads request bodies: bounded in size, time and depth, and strict. What two parsers could read differently
//! (a key twice) or what is not a whole number (1.5, 1e3, NaN) is refused in words.

use std::fmt;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::{Code, Problem};

/// Largest body, in bytes: weights of a thousand pools with the longest names.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Time for a whole body. Shorter under test, where it is waited for.
const BODY_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };

/// Deepest nesting; a described request needs three, a plan with gates in its phases eight.
const DEPTH_MAX: u8 = 8;

/// The same of a plan, whose numbers may also be fractions or negative: its own reader says what they must be.
const PLAN_DEPTH_MAX: u8 = 16;

/// The members of an object; what is left at the end was not expected.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(super) async fn read(body: Body) -> Result<Fields, Problem> {
    parse(&collect(body).await?)
}

/// Reads a body that holds a plan, in which numbers may be fractions.
pub(super) async fn read_plan(body: Body) -> Result<Fields, Problem> {
    parse_as(&collect(body).await?, Strict { depth: PLAN_DEPTH_MAX, numbers: Numbers::Any })
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    let collect = Limited::new(body, BODY_BYTES_MAX).collect();
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, collect).await {
        Err(_) => {
            return Err(Problem::new(Code::SlowBody, "the body did not arrive within 10 s"));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Problem::new(Code::BodyTooLarge, "at most 64 KiB are read"));
        }
        Ok(Err(_)) => return Err(Problem::new(Code::BadBody, "the body was cut short")),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    Ok(bytes)
}

/// As [`read`], of a body that is there.
pub(super) fn parse(bytes: &[u8]) -> Result<Fields, Problem> {
    parse_as(bytes, Strict { depth: DEPTH_MAX, numbers: Numbers::Whole })
}

fn parse_as(bytes: &[u8], strict: Strict) -> Result<Fields, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Fields::default());
    }
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = strict.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    match value.map_err(|error| Problem::new(Code::BadBody, error.to_string()))? {
        Value::Object(object) => Ok(Fields(object)),
        _ => Err(Problem::new(Code::BadBody, "the body must be a JSON object")),
    }
}

// === impl Fields ===

impl From<Map<String, Value>> for Fields {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl Fields {
    /// Whether nothing was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a member is a text.
    pub(super) fn is_text(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Value::String(_)))
    }

    /// What is left, as one object.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Takes a member that must be true or false; false when it is not there.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, Problem> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => {
                Err(Problem::new(Code::BadBody, format!("\"{key}\" must be true or false, not {}", kind(&other))))
            }
        }
    }

    /// Every member, in order.
    pub(super) fn into_members(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }

    /// Takes a member.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        // Order does not matter any more once a member is taken.
        self.0.swap_remove(key)
    }

    /// Takes a member that must be text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Problem::new(Code::BadBody, format!("\"{key}\" must be text, not {}", kind(&other)))),
        }
    }

    /// Takes a member that must be an object of texts, or of lists of texts.
    pub(super) fn pairs(&mut self, key: &str) -> Result<Vec<(String, String)>, Problem> {
        let wrong = |found: &Value| {
            Problem::new(Code::BadBody, format!("\"{key}\" must be an object of texts, not {}", kind(found)))
        };
        let object = match self.take(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(wrong(&other)),
        };
        let mut pairs = Vec::new();
        for (name, value) in object {
            let values = if let Value::Array(list) = value { list } else { vec![value] };
            for value in values {
                let Value::String(text) = value else { return Err(wrong(&value)) };
                pairs.push((name.clone(), text));
            }
        }
        Ok(pairs)
    }

    /// Refuses members that nobody took.
    pub(super) fn finish(self, expected: &str) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => {
                let key: String = key.chars().take(80).collect();
                Err(Problem::new(Code::BadBody, format!("unknown member {key:?}; expected {expected}")))
            }
        }
    }
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A JSON value of at most this depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
    numbers: Numbers,
}

/// Which numbers are read.
#[derive(Clone, Copy)]
enum Numbers {
    /// Whole ones from 0 on.
    Whole,
    /// All that are finite.
    Any,
}

// === impl Numbers ===

impl Numbers {
    fn depth_max(self) -> u8 {
        match self {
            Numbers::Whole => DEPTH_MAX,
            Numbers::Any => PLAN_DEPTH_MAX,
        }
    }
}

// === impl Strict ===

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let deeper = self.depth.checked_sub(1).map(|depth| Self { depth, ..self });
        deeper.ok_or_else(|| E::custom(format!("nested deeper than {}", self.numbers.depth_max())))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with whole numbers")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        match (self.numbers, u64::try_from(value)) {
            (_, Ok(value)) => Ok(value.into()),
            (Numbers::Any, Err(_)) => Ok(value.into()),
            (Numbers::Whole, Err(_)) => Err(E::custom(format!("{value} is negative"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match self.numbers {
            Numbers::Any => Ok(value.into()),
            Numbers::Whole => Err(E::custom(format!("{value:?} is not a whole number of ordinary size"))),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format!("{key:?} is there twice")));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_and_fractional_json_is_refused_in_words() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for (text, words) in [
            (r#"{"stable":1,"stable":2}"#, "twice"),
            (r#"{"a":{"b":1,"b":1}}"#, "twice"),
            (r#"{"stable":1.0}"#, "whole number"),
            (r#"{"stable":1e2}"#, "whole number"),
            (r#"{"stable":1e999}"#, "number"),
            (r#"{"stable":NaN}"#, "expected"),
            (r#"{"stable":-1}"#, "negative"),
            (r#"{"stable":99999999999999999999}"#, "whole number"),
            (r#"{"a":[[[[[[[[[[1]]]]]]]]]]}"#, "deeper"),
            (deep.as_str(), "deeper"),
            ("[1]", "object"),
            (r#"{"a":1} x"#, "trailing"),
            (r#"{"a":1"#, "EOF"),
            ("\u{feff}{}", "expected"),
        ] {
            let problem = format!("{:?}", parse(text.as_bytes()).expect_err(&text[..text.len().min(40)]));
            assert!(problem.contains(words), "{} gave {problem}", &text[..text.len().min(40)]);
        }
        assert!(parse(b" ").unwrap().is_empty());
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn whatever_is_read_is_what_an_ordinary_parser_reads(text in r#"[{}\[\]",:a-c0-9. e-]{0,40}"#) {
            if let Ok(fields) = parse(text.as_bytes()) {
                let found: Map<String, Value> = fields.into_members().collect();
                let expected = serde_json::from_str(&text).unwrap_or_default();
                let expected = if text.trim().is_empty() { Value::Object(Map::new()) } else { expected };
                prop_assert_eq!(Value::Object(found), expected);
            }
        }
    }
}
