//! Durations as people write them, in files and in JSON: `250ms`, `2s`, `1m30s`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserializer, Serializer};

/// `250ms`, `2s`, `1.5s`, `5m`, `1h`, `1d`, and sums such as `1m30s`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let seconds = match &tail[..unit] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') || number.len() > 15 {
            return None;
        }
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        // Binary fractions: 0.3 s is 299.999999 ms; microseconds are all that anybody means.
        total = total.checked_add(Duration::from_micros(((part.as_nanos() + 500) / 1000).try_into().ok()?))?;
        rest = &tail[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// A duration in the form that [`parse_duration`] reads.
pub fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1000, "ms"), (1, "us")];
    let fits = units.iter().find(|(unit, _)| micros >= *unit && micros.is_multiple_of(*unit));
    fits.map_or_else(|| "0s".into(), |(unit, name)| format!("{}{name}", micros / unit))
}

/// For `#[serde(with = "…")]`: as text.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show_duration(*duration))
}

/// For `#[serde(with = "…")]`: text; or seconds and nanoseconds, which is how it was written down before.
///
/// # Errors
///
/// What is neither.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(Written)
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"250ms\", \"2s\", \"5m\" or \"1h\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Duration, M::Error> {
        let mut parts = [0_u64; 2];
        while let Some((key, number)) = map.next_entry::<String, u64>()? {
            match key.as_str() {
                "secs" => parts[0] = number,
                "nanos" if number < 1_000_000_000 => parts[1] = number,
                _ => return Err(M::Error::invalid_value(serde::de::Unexpected::Map, &self)),
            }
        }
        Ok(Duration::new(parts[0], parts[1] as u32))
    }
}

/// The same for what may be missing.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super")] Duration);

    /// As text, or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    /// As [`super::deserialize`], or null.
    ///
    /// # Errors
    ///
    /// What is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|Wrapped(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Both {
        #[serde(with = "super")]
        one: Duration,
        #[serde(with = "super::option", default)]
        other: Option<Duration>,
    }

    #[test]
    fn a_duration_in_json_is_what_stands_in_files_and_the_old_form_is_still_read() {
        let both = Both { one: Duration::from_millis(1500), other: Some(Duration::from_secs(600)) };
        assert_eq!(serde_json::to_string(&both).expect("it is data"), r#"{"one":"1500ms","other":"10m"}"#);
        let old = r#"{"one":{"secs":1,"nanos":500000000},"other":{"secs":600,"nanos":0}}"#;
        assert_eq!(serde_json::from_str::<Both>(old).expect("it was written once"), both);
        let none = r#"{"one":"0s","other":null}"#;
        assert_eq!(serde_json::from_str::<Both>(none).expect("null is none").other, None);
        for wrong in ["\"5\"", "\"\"", "5", "{\"secs\":1,\"nanos\":1000000000}", "{\"s\":1}", "[1]"] {
            assert!(serde_json::from_str::<Both>(&format!("{{\"one\":{wrong}}}")).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(us in 0..=315_360_000_000_000_u64) {
            let duration = Duration::from_micros(us);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}
