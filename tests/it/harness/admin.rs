//! The admin API as an operator's script would use it.

use serde_json::Value;

use super::client::{Answer, Client};
use super::weir::Weir;

impl Weir {
    /// A request to the admin listener on a new connection.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut client = Client::to(self.admin_address()).host(&self.admin_address().to_string());
        let mut all = fields.to_vec();
        if !body.is_empty() && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            all.push(("content-type", "application/json"));
        }
        client.ask(method, path, &all, body.as_bytes())
    }

    /// `GET` on the admin listener.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Answer {
        self.admin("GET", path, &[], "")
    }

    /// `PUT` of the weights of stable and canary.
    #[track_caller]
    pub fn put_split(&self, [stable, canary]: [u32; 2]) -> Answer {
        let body = format!("{{\"stable\":{stable},\"canary\":{canary}}}");
        self.admin("PUT", "/api/v1/services/engine/weights", &[], &body)
    }

    /// `POST …/rollback` with a reason.
    #[track_caller]
    pub fn rollback(&self, reason: &str) -> Answer {
        let body = serde_json::json!({ "reason": reason }).to_string();
        self.admin("POST", "/api/v1/services/engine/rollback", &[], &body)
    }

    /// `POST …/undo`.
    #[track_caller]
    pub fn undo(&self) -> Answer {
        self.admin("POST", "/api/v1/services/engine/undo", &[], "{}")
    }

    /// The status document.
    #[track_caller]
    pub fn status(&self) -> Value {
        let answer = self.admin_get("/api/v1/status");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The generation that serves now, from the weights document.
    #[track_caller]
    pub fn generation(&self) -> u64 {
        let document = self.admin_get("/api/v1/services/engine/weights").json();
        find(&document, "generation").and_then(Value::as_u64).unwrap_or_else(|| panic!("no generation: {document}"))
    }

    /// The weights of stable and canary that serve now.
    #[track_caller]
    pub fn split(&self) -> [u64; 2] {
        let document = self.admin_get("/api/v1/services/engine/weights").json();
        ["stable", "canary"]
            .map(|pool| document["weights"][pool].as_u64().unwrap_or_else(|| panic!("no {pool}: {document}")))
    }

    /// All metrics now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = self.admin_get("/metrics");
        assert_eq!(answer.status, 200);
        Metrics::parse(&answer.text())
    }
}

/// The first value under `key`, wherever it is in the document.
pub fn find<'a>(document: &'a Value, key: &str) -> Option<&'a Value> {
    match document {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|value| find(value, key))),
        Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

/// One scrape, parsed.
#[derive(Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads the text format; fails the test on a line that is none.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        Self { samples: lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect() }
    }

    /// The sum over all samples of a name whose labels include these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &[(String, String)], (key, value): &(&str, &str)| {
            sample.iter().any(|(k, v)| k == key && v == value)
        };
        let fitting =
            self.samples.iter().filter(|s| s.name == name && labels.iter().all(|label| has(&s.labels, label)));
        fitting.map(|sample| sample.value).sum()
    }

    /// Whether a name occurs at all.
    pub fn knows(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// All names with their labels and values, for messages.
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let fitting = self.samples.iter().filter(|sample| sample.name.contains(part));
        fitting.map(|s| format!("{}{:?} {}", s.name, s.labels, s.value)).collect()
    }
}

/// One line of a scrape.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = match line.find('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_once(' ')?,
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: Vec::new(), value });
    };
    let mut labels = Vec::new();
    let mut rest = rest.trim_end_matches('}');
    while let Some((key, tail)) = rest.split_once("=\"") {
        let (text, tail) = tail.split_once('"')?;
        labels.push((key.trim_start_matches(',').to_owned(), text.to_owned()));
        rest = tail;
    }
    Some(Sample { name: name.to_owned(), labels, value })
}
