//! The report as its page needs it, read leniently from the JSON: what a report of another version does not hold is
//! left out of the page, and never keeps the rest from being shown.

use serde_json::Value;

/// Most points of a line: more than a screen has columns for it.
pub(super) const POINTS_MAX: usize = 240;

/// Quantiles that are plotted and compared.
pub(super) const QUANTILES: [&str; 3] = ["p50", "p95", "p99"];

/// The candidate first, then what it is compared with.
pub(super) const ARMS: [&str; 2] = ["candidate", "control"];

/// A stretch of time and what was counted in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Point {
    /// Seconds watched, at its end.
    pub(super) at: f64,
    /// What the candidate should have had, in percent.
    pub(super) share: f64,
    /// Requests of both arms.
    pub(super) requests: [u64; 2],
    /// Bad ones among them.
    pub(super) errors: [u64; 2],
    /// Quantiles of both arms in ms, at its end.
    pub(super) latency: [[Option<f64>; 3]; 2],
    /// By gate: evidence against the candidate, the most within the stretch; and evidence of its safety.
    pub(super) evidence: Vec<[Option<f64>; 2]>,
    /// The phase at its end.
    pub(super) phase: Option<usize>,
}

/// A gate whose evidence is plotted.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    /// Limits of both kinds of evidence.
    pub(super) limits: [Option<f64>; 2],
}

/// What the plots are drawn from.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) points: Vec<Point>,
    pub(super) lines: Vec<Line>,
}

/// A member by the first of its names that is there.
pub(super) fn member<'v>(value: &'v Value, names: &[&str]) -> &'v Value {
    names.iter().map(|name| &value[*name]).find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

/// A text member; empty when there is none.
pub(super) fn text(value: &Value, names: &[&str]) -> String {
    match member(value, names) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A duration: milliseconds, or seconds and nanoseconds as the plan keeps it.
pub(super) fn milliseconds(value: &Value) -> Option<f64> {
    match value {
        Value::Object(parts) => {
            let part = |name: &str| parts.get(name).and_then(Value::as_f64);
            Some(part("secs")? * 1000.0 + part("nanos").unwrap_or(0.0) / 1e6)
        }
        value => value.as_f64(),
    }
}

// === impl Series ===

impl Series {
    /// Reads the ticks of a report and merges neighbours until there are few enough.
    pub(super) fn read(report: &Value) -> Self {
        let ticks = report["ticks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let lines = lines(report, ticks);
        let each = ticks.len().div_ceil(POINTS_MAX).max(1);
        let mut points: Vec<Point> = Vec::with_capacity(ticks.len().min(POINTS_MAX));
        let mut at = 0.0;
        for (index, tick) in ticks.iter().enumerate() {
            at += member(inner(tick), &["elapsed_ms", "elapsedMs"]).as_f64().unwrap_or(1000.0) / 1000.0;
            let point = point(tick, at, &lines);
            match points.last_mut().filter(|_| index % each != 0) {
                Some(last) => last.merge(point),
                None => points.push(point),
            }
        }
        Self { points, lines }
    }

    /// Seconds from the beginning to the end; never 0, so that a scale can be made of it.
    pub(super) fn seconds(&self) -> f64 {
        self.points.last().map_or(1.0, |point| point.at).max(1.0)
    }

    /// Whether any tick tells latencies.
    pub(super) fn has_latency(&self) -> bool {
        self.points.iter().any(|point| point.latency.iter().flatten().any(Option::is_some))
    }
}

/// The counts of a tick, which may stand beside the judgement or around it.
fn inner(tick: &Value) -> &Value {
    if tick["tick"].is_object() { &tick["tick"] } else { tick }
}

/// What the gates said in a tick.
fn gates(tick: &Value) -> &[Value] {
    let judgement = if tick["judgement"].is_object() { &tick["judgement"] } else { tick };
    judgement["gates"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Every gate that ever told evidence, in the order in which they are first seen.
fn lines(report: &Value, ticks: &[Value]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let last = report["gates"].as_array().map(Vec::as_slice).unwrap_or_default();
    for gate in ticks.iter().flat_map(gates).chain(last) {
        let limits = [gate["limit"].as_f64(), member(gate, &["safeLimit", "safe_limit"]).as_f64()];
        let measured = ["eValue", "e_value", "safeEValue", "safe_e_value"].iter().any(|name| gate[*name].is_number());
        let name = text(gate, &["name"]);
        if measured && !lines.iter().any(|line| line.name == name) {
            lines.push(Line { name, limits });
        }
    }
    lines
}

fn point(tick: &Value, at: f64, lines: &[Line]) -> Point {
    let counts = inner(tick);
    let arm = |arm: usize, names: &[&str]| member(&counts[ARMS[arm]], names).as_u64().unwrap_or(0);
    let told = gates(tick);
    let evidence = lines.iter().map(|line| {
        let gate = told.iter().find(|gate| gate["name"] == line.name.as_str()).unwrap_or(&Value::Null);
        [["eValue", "e_value"], ["safeEValue", "safe_e_value"]].map(|names| member(gate, &names).as_f64())
    });
    Point {
        at,
        // A ratio; percent where it is told as such.
        share: member(counts, &["percent"])
            .as_f64()
            .or_else(|| counts["share"].as_f64().map(|it| it * 100.0))
            .unwrap_or(0.0),
        requests: std::array::from_fn(|index| arm(index, &["attempts", "requests"])),
        errors: std::array::from_fn(|index| arm(index, &["errors"])),
        latency: std::array::from_fn(|index| latency(tick, counts, index)),
        evidence: evidence.collect(),
        phase: member(tick, &["phase"]).as_u64().map(|phase| phase as usize),
    }
}

/// Quantiles of one arm: `latency.candidate.p95`, or beside its counts.
fn latency(tick: &Value, counts: &Value, arm: usize) -> [Option<f64>; 3] {
    let apart = member(tick, &["latency"]).get(ARMS[arm]).unwrap_or(&Value::Null);
    QUANTILES.map(|name| {
        let ms = format!("{name}Ms");
        let names = [name, ms.as_str()];
        member(apart, &names).as_f64().or_else(|| member(&counts[ARMS[arm]], &names).as_f64())
    })
}

// === impl Point ===

impl Point {
    /// Takes in the stretch that follows.
    fn merge(&mut self, next: Point) {
        for arm in 0..2 {
            self.requests[arm] += next.requests[arm];
            self.errors[arm] += next.errors[arm];
            for (own, new) in self.latency[arm].iter_mut().zip(next.latency[arm]) {
                *own = new.or(*own);
            }
        }
        for (own, new) in self.evidence.iter_mut().zip(&next.evidence) {
            for (own, new) in own.iter_mut().zip(new) {
                *own = [*own, *new].into_iter().flatten().reduce(f64::max);
            }
        }
        (self.at, self.share, self.phase) = (next.at, next.share, next.phase.or(self.phase));
    }
}

/// Wilson's interval of a rate at 95 %; none without requests. Wilson, JASA 1927.
pub(super) fn wilson(errors: u64, requests: u64) -> Option<(f64, f64)> {
    if requests == 0 {
        return None;
    }
    let (n, p, z) = (requests as f64, errors as f64 / requests as f64, 1.959_964);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Some(((centre - half).max(0.0), (centre + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tick(errors: u64, evidence: f64) -> Value {
        json!({
            "tick": { "elapsed_ms": 500, "share": 0.05,
                "candidate": { "attempts": 10, "errors": errors }, "control": { "attempts": 190, "errors": 1 } },
            "judgement": { "gates": [{ "name": "error_rate", "eValue": evidence, "limit": 200.0 }] },
        })
    }

    #[test]
    fn ticks_are_merged_without_losing_counts_or_peaks() {
        let ticks: Vec<Value> =
            (0..1000).map(|n| tick(u64::from(n == 7), if n == 501 { 300.0 } else { 1.0 })).collect();
        let series = Series::read(&json!({ "ticks": ticks }));
        assert_eq!(series.points.len(), 200);
        assert_eq!(series.seconds(), 500.0);
        assert_eq!(series.points.iter().map(|point| point.requests[1]).sum::<u64>(), 190_000);
        assert_eq!(series.points.iter().map(|point| point.errors[0]).sum::<u64>(), 1);
        let peak = series.points.iter().filter_map(|point| point.evidence[0][0]).fold(0.0, f64::max);
        assert_eq!((peak, series.lines[0].limits[0]), (300.0, Some(200.0)));
        assert!(!series.has_latency());
    }

    #[test]
    fn a_report_that_holds_nothing_is_read_as_nothing() {
        for report in [json!({}), json!([]), json!({ "ticks": 7 }), json!({ "ticks": [null, 1, {}] })] {
            assert!(Series::read(&report).lines.is_empty());
        }
    }

    #[test]
    fn the_interval_of_a_rate_holds_it() {
        // R: prop.test-free Wilson of 5 in 100: 0.02154 to 0.11175.
        let (low, high) = wilson(5, 100).expect("there are requests");
        assert!((low - 0.021_54).abs() < 1e-4 && (high - 0.111_75).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(0, 10).map(|(low, _)| low), Some(0.0));
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(milliseconds(&json!({ "secs": 10, "nanos": 500_000_000 })), Some(10_500.0));
        assert_eq!(milliseconds(&json!(250)), Some(250.0));
        assert_eq!(milliseconds(&json!("x")), None);
    }
}
