//! Scalars of a text: strings with `${ENV}`, integers, ratios, durations, sizes, words, addresses and networks. Each
//! reader records a problem and answers with nothing when the value is not what the key holds.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::cursor::{At, Fields, Sink, Value, meant, shorten};
use super::keys::Kind;
use crate::model::time::{parse_duration, show_duration};

/// Longest duration that is accepted: ten years. More is a typing error, and far sums of it stay representable.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl<'a> Fields<'a> {
    /// A string.
    pub(crate) fn text(&self, name: &'static str) -> Option<At<String>> {
        let value = self.value(name)?;
        self.as_text(&value, "a string")
    }

    /// A string, or every string of a list.
    pub(crate) fn texts(&self, name: &'static str) -> Vec<At<String>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            return self.as_text(&value, "a string, or a list of strings").into_iter().collect();
        };
        let item = |item: &'a toml::Spanned<DeValue<'a>>| {
            let item = At { value: item.get_ref(), span: item.span(), path: value.path.clone() };
            self.as_text(&item, "a string")
        };
        items.iter().filter_map(item).collect()
    }

    /// The string that `value` is, with environment variables put in.
    pub(crate) fn as_text(&self, value: &Value<'_>, right: &str) -> Option<At<String>> {
        let DeValue::String(text) = value.value else {
            self.wrong(value, right);
            return None;
        };
        match expand(text, self.sink) {
            Ok(text) => Some(value.with(text)),
            Err((found, help)) => {
                self.sink.local(value.span.clone(), &value.path, format!("{}: {found}", value.path), help);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &'static str) -> Option<bool> {
        let value = self.value(name)?;
        match value.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong(&value, "true or false");
                None
            }
        }
    }

    /// An integer within the bounds of its key.
    pub(crate) fn integer(&self, name: &'static str) -> Option<i64> {
        let Kind::Integer(min, max) = self.key(name).kind else { unreachable!("{name} is listed as an integer") };
        let value = self.value(name)?;
        let number = as_integer(value.value).filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.wrong(&value, &format!("an integer from {min} to {max}"));
        }
        number
    }

    /// A number from 0.0 to 1.0.
    pub(crate) fn ratio(&self, name: &'static str) -> Option<f64> {
        let value = self.value(name)?;
        let number = as_number(value.value).filter(|number| (0.0..=1.0).contains(number));
        if number.is_none() {
            self.wrong(&value, "a ratio from 0.0 to 1.0");
        }
        number
    }

    /// A number within the bounds of its key.
    pub(crate) fn number(&self, name: &'static str) -> Option<f64> {
        let Kind::Number(min, max) = self.key(name).kind else { unreachable!("{name} is listed as a number") };
        let value = self.value(name)?;
        let number = as_number(value.value).filter(|number| (min as f64..=max as f64).contains(number));
        if number.is_none() {
            self.wrong(&value, &format!("a number from {min} to {max}"));
        }
        number
    }

    /// A duration of at least what its key asks for.
    pub(crate) fn duration(&self, name: &'static str) -> Option<Duration> {
        let Kind::Duration(min_ms) = self.key(name).kind else { unreachable!("{name} is listed as a duration") };
        let value = self.value(name)?;
        const RIGHT: &str = "a number with a unit, such as \"250ms\", \"2s\", \"5m\" or \"1h\"";
        let text = self.as_text(&value, RIGHT)?;
        let min = Duration::from_millis(min_ms);
        match parse_duration(&text.value) {
            Some(duration) if duration >= min && duration <= DURATION_MAX => Some(duration),
            Some(_) => {
                self.wrong(&value, &format!("a duration from \"{}\" to \"87600h\"", show_duration(min)));
                None
            }
            None => {
                self.wrong(&value, RIGHT);
                None
            }
        }
    }

    /// A size in bytes within the bounds of its key.
    pub(crate) fn size(&self, name: &'static str) -> Option<u64> {
        let Kind::Size(min, max) = self.key(name).kind else { unreachable!("{name} is listed as a size") };
        let value = self.value(name)?;
        let right = format!("a size from {min} to {max} bytes, such as \"32KiB\"");
        let bytes = match value.value {
            DeValue::Integer(_) => as_integer(value.value).and_then(|number| u64::try_from(number).ok()),
            _ => parse_size(&self.as_text(&value, &right)?.value),
        };
        let bytes = bytes.filter(|bytes| (min..=max).contains(bytes));
        if bytes.is_none() {
            self.wrong(&value, &right);
        }
        bytes
    }

    /// One of the words of its key.
    pub(crate) fn word(&self, name: &'static str) -> Option<At<&'static str>> {
        let Kind::Word(words) = self.key(name).kind else { unreachable!("{name} is listed as a word") };
        let value = self.value(name)?;
        let text = self.as_text(&value, &format!("one of \"{}\"", words.join("\", \"")))?;
        self.among(&text, words)
    }

    /// One or several of the words of its key.
    pub(crate) fn words(&self, name: &'static str) -> Vec<&'static str> {
        let Kind::Words(words) = self.key(name).kind else { unreachable!("{name} is listed as words") };
        let texts = self.texts(name);
        texts.iter().filter_map(|text| self.among(text, words)).map(|word| word.value).collect()
    }

    fn among(&self, text: &At<String>, words: &'static [&'static str]) -> Option<At<&'static str>> {
        let word = words.iter().find(|word| **word == text.value);
        if word.is_none() {
            let found = format!("{} is \"{}\"", text.path, shorten(&text.value));
            let help = match meant(&text.value, words.iter().copied()) {
                help if help.starts_with("did") => format!("{help} It is one of \"{}\"", words.join("\", \"")),
                help => help,
            };
            self.sink.local(text.span.clone(), &text.path, found, help);
        }
        word.map(|word| text.with(*word))
    }

    /// Networks or single addresses.
    pub(crate) fn networks(&self, name: &'static str) -> Vec<IpNet> {
        let read = |text: At<String>| {
            let network = parse_network(&text.value);
            if network.is_none() {
                let found = format!("{}: \"{}\" is not a network", text.path, shorten(&text.value));
                let help = "write an address or a network, such as \"10.0.0.0/8\", \"192.168.1.7\" or \"fd00::/8\"";
                self.sink.local(text.span, &text.path, found, help);
            }
            network
        };
        self.texts(name).into_iter().filter_map(read).collect()
    }

    /// An address with a port.
    pub(crate) fn address(&self, name: &'static str) -> Option<At<SocketAddr>> {
        let text = self.text(name)?;
        let address = text.value.parse().ok();
        if address.is_none() {
            let found = format!("{}: \"{}\" is not an address with a port", text.path, shorten(&text.value));
            let help = match text.value.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
                Some(port) => format!("write \"0.0.0.0:{port}\" for every address of this machine"),
                None => "write ADDRESS:PORT in numbers, such as \"0.0.0.0:8080\" or \"[::1]:9901\"".into(),
            };
            self.sink.local(text.span.clone(), &text.path, found, help);
        }
        address.map(|address| text.with(address))
    }

    /// Says that a text is wrong: `PATH: found; help`.
    pub(crate) fn refuse(&self, text: &At<String>, found: impl std::fmt::Display, help: impl std::fmt::Display) {
        self.sink.local(text.span.clone(), &text.path, format!("{}: {found}", text.path), help);
    }
}

/// The integer that `value` is, when it fits.
pub(crate) fn as_integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// The number that `value` is.
fn as_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
        other => as_integer(other).map(|number| number as f64),
    }
}

/// Puts environment variables into a string: `${NAME}`, `${NAME:-default}`; `$${` stands for `${`.
fn expand(text: &str, sink: &Sink<'_>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else {
            return Err((
                "\"${\" has no \"}\"".into(),
                "write ${NAME}, ${NAME:-default}, or $${ for the two characters".into(),
            ));
        };
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(legal) {
            let found = format!("\"${{{}}}\" does not name an environment variable", shorten(name));
            return Err((found, "use letters, digits and '_'; write $${ for the two characters".into()));
        }
        // As in a shell, `:-` also covers a variable that is set and empty.
        match (sink.env(name).filter(|value| default.is_none() || !value.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                let found = format!("environment variable {} is not set", shorten(name));
                return Err((found, format!("set it, or give a default: ${{{}:-value}}", shorten(name))));
            }
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// `512`, `32KiB`, `1MiB`, `8kB`, `1MB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "k" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A size in the form that [`parse_size`] reads.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// `10.0.0.0/8`, or one address.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let Some((address, bits)) = text.split_once('/') else { return text.parse::<IpAddr>().map(IpNet::from).ok() };
    // IpNet's own parser takes 010.0.0.0 for 10.0.0.0, where C takes it for 8.0.0.0.
    let bits = bits.parse().ok().filter(|_| bits.bytes().all(|b| b.is_ascii_digit()))?;
    IpNet::new(address.parse().ok()?, bits).ok().map(|network| network.trunc())
}
