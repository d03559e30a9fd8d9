//! Prometheus text exposition, version 0.0.4: families, samples, escaping. It decides no names and reads no counters.
//!
//! Own code, because the counters are shards of ours; a popular client did not escape label values until this year
//! (prometheus-client before 0.25.2). Format: prometheus.io/docs/instrumenting/exposition_formats.

use std::fmt::Write;

use super::histogram::{BOUNDS_S, Summary};
use super::names::{Kind, Metric};

/// What `Content-Type` says of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Most samples of one exposition; what is over it is left out and counted. Twenty services of five pools of ten
/// endpoints with ten status codes each are ten thousand.
pub const SAMPLES_MAX: usize = 100_000;

/// An exposition being written.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    samples: usize,
    left_out: u64,
}

// === impl Text ===

impl Text {
    /// Begins a family; its samples must follow at once.
    pub fn family(&mut self, metric: &Metric) -> &mut Self {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.out, "# HELP {} ", metric.name);
        escape(&mut self.out, metric.help, Quotes::Keep);
        let _ = writeln!(self.out, "\n# TYPE {} {kind}", metric.name);
        self
    }

    /// One sample with a whole value.
    pub fn count(&mut self, metric: &Metric, labels: &[(&str, &str)], value: u64) {
        self.sample(metric.name, "", labels, None, format_args!("{value}"));
    }

    /// One sample with a fraction; NaN and infinities are written as Prometheus reads them.
    pub fn ratio(&mut self, metric: &Metric, labels: &[(&str, &str)], value: f64) {
        self.sample(metric.name, "", labels, None, format_args!("{}", number(value)));
    }

    /// Buckets, sum and count of a histogram in seconds.
    pub fn histogram(&mut self, metric: &Metric, labels: &[(&str, &str)], summary: &Summary) {
        for (bound, count) in BOUNDS_S.iter().zip(summary.at_most()) {
            self.sample(metric.name, "_bucket", labels, Some(*bound), format_args!("{count}"));
        }
        let count = summary.count();
        self.sample(metric.name, "_bucket", labels, Some(f64::INFINITY), format_args!("{count}"));
        self.sample(metric.name, "_sum", labels, None, format_args!("{}", number(summary.sum_s())));
        self.sample(metric.name, "_count", labels, None, format_args!("{count}"));
    }

    /// Appends the exposition of another writer, whose families must not be among these.
    pub fn append(&mut self, other: &str) {
        self.out.push_str(other.trim_start_matches('\n'));
    }

    /// Samples that [`SAMPLES_MAX`] left out so far.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.out
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        le: Option<f64>,
        value: std::fmt::Arguments<'_>,
    ) {
        if self.samples >= SAMPLES_MAX {
            self.left_out += 1;
            return;
        }
        self.samples += 1;
        let out = &mut self.out;
        out.push_str(name);
        out.push_str(suffix);
        let mut open = '{';
        for (label, text) in labels {
            let _ = write!(out, "{open}{label}=\"");
            escape(out, text, Quotes::Escape);
            out.push('"');
            open = ',';
        }
        if let Some(le) = le {
            let _ = write!(out, "{open}le=\"{}\"", number(le));
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        let _ = writeln!(out, "{close} {value}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Escape,
    Keep,
}

fn escape(out: &mut String, text: &str, quotes: Quotes) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes == Quotes::Escape => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::histogram::Histogram;
    use super::*;

    const COUNTER: Metric =
        Metric { name: "weir_a_total", kind: Kind::Counter, labels: "pool", help: "A \\ \"b\"\nc." };
    const LATENCY: Metric = Metric { name: "weir_b_seconds", kind: Kind::Histogram, labels: "pool", help: "B." };

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let histogram = Histogram::default();
        [900, 1_000, 1_001, 70_000, 11_000_000].iter().for_each(|&us| histogram.record_us(us));
        let mut text = Text::default();
        text.family(&COUNTER).count(&COUNTER, &[("pool", "ca\"na\\ry\n")], 7);
        text.count(&COUNTER, &[], 8);
        text.ratio(&COUNTER, &[], f64::NAN);
        text.family(&LATENCY).histogram(&LATENCY, &[("pool", "x")], &Summary::of([&histogram]));
        let expected = include_str!("text.golden");
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn an_exposition_has_an_end() {
        let mut text = Text::default();
        (0..SAMPLES_MAX as u64 + 3).for_each(|i| text.count(&COUNTER, &[], i));
        assert_eq!(text.left_out(), 3);
        assert_eq!(text.into_string().lines().count(), SAMPLES_MAX);
    }

    proptest! {
        #[test]
        fn any_label_value_stays_on_its_line_and_reads_back(value in any::<String>()) {
            let mut text = Text::default();
            text.count(&COUNTER, &[("pool", &value)], 1);
            let line = text.into_string();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let quoted = line.strip_prefix("weir_a_total{pool=\"").and_then(|l| l.strip_suffix("\"} 1\n")).unwrap();
            let mut back = String::new();
            let mut chars = quoted.chars();
            while let Some(c) = chars.next() {
                prop_assert!(c != '"');
                back.push(match c {
                    '\\' => match chars.next().unwrap() { 'n' => '\n', c => c },
                    c => c,
                });
            }
            prop_assert_eq!(back, value);
        }
    }
}
