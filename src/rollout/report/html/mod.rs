//! The readable page of a report: one self-contained HTML document drawn from the JSON report alone, so that a report
//! that was kept can be drawn years later. No script, nothing from elsewhere; it reads well on paper and in the dark.
//!
//! `read` takes the JSON apart, `plot` draws charts, `tables` everything else.

mod plot;
mod read;
mod tables;

use serde_json::Value;

use self::plot::{Band, Curve, Plot, Scale, escaped};
use self::read::{Point, QUANTILES, Series, member, text, wilson};

/// The style sheet.
const STYLE: &str = include_str!("style.css");

/// How far evidence is drawn: beyond 10^9 nobody compares.
const EVIDENCE_MAX: f64 = 1e9;

/// Evidence below this says the same: there is none.
const EVIDENCE_MIN: f64 = 1e-3;

/// The page of a report.
pub fn page(report: &Value) -> String {
    let series = Series::read(report);
    let (service, id) = (text(report, &["service"]), text(report, &["rolloutId", "id"]));
    let mut body = tables::head(report);
    body += &tables::banner(report);
    body += &tables::facts(report, &series);
    if !series.points.is_empty() {
        body += "<h2>What happened</h2>\n";
        body += &share(report, &series);
        body += &errors(&series, report);
        if series.has_latency() {
            body += &latency(report, &series);
        }
        body += &evidence(report, &series);
    }
    body += &tables::gates(report);
    body += &tables::latency(report);
    body += &tables::phases(report, &series);
    body += &tables::arithmetic(report);
    body += &tables::events(report);
    body += &tables::plan(report);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Drawn by weir {} from the JSON report, which holds every tick's counts: all of it can be recomputed.\
         </footer>\n</main>\n</body>\n</html>\n",
        escaped(&service),
        escaped(&id),
        env!("CARGO_PKG_VERSION"),
    )
}

fn figure(title: &str, keys: &str, plot: &Plot) -> String {
    format!("<figure>\n<h3>{}</h3>\n<figcaption>{keys}</figcaption>\n{}</figure>\n", escaped(title), plot.svg())
}

/// An entry of a legend.
fn key(class: &str, words: &str) -> String {
    format!("<span class=\"key\"><i class=\"{class}\"></i>{}</span>", escaped(words))
}

/// Names of the two pools, for legends.
fn pools(report: &Value) -> [String; 2] {
    let name = |names: &[&str], other: &str| {
        Some(text(report, names)).filter(|it| !it.is_empty()).unwrap_or_else(|| other.into())
    };
    [name(&["candidate"], "candidate"), name(&["control", "baseline", "stable"], "control")]
}

/// Where phases begin: wherever the intended share changes.
fn marks(points: &[Point]) -> Vec<(f64, String)> {
    let mut marks = Vec::new();
    let mut last = f64::NAN;
    let mut began = 0.0;
    for point in points {
        if point.share != last {
            marks.push((began, format!("{} %", trimmed(point.share))));
            last = point.share;
        }
        began = point.at;
    }
    marks
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn share(report: &Value, series: &Series) -> String {
    let [candidate, _] = pools(report);
    let realised = |point: &Point| {
        let all = point.requests[0] + point.requests[1];
        (all > 0).then(|| point.requests[0] as f64 / all as f64 * 100.0)
    };
    let most = series.points.iter().map(|point| point.share.max(realised(point).unwrap_or(0.0))).fold(1.0, f64::max);
    // A share holds from where its stretch began.
    let mut intended: Vec<(f64, Option<f64>)> = Vec::with_capacity(series.points.len() + 1);
    intended.extend(series.points.first().map(|point| (0.0, Some(point.share))));
    intended.extend(series.points.windows(2).map(|two| (two[0].at, Some(two[1].share))));
    intended.extend(series.points.last().map(|point| (point.at, Some(point.share))));
    let plot = Plot {
        label: "share of the candidate over time".into(),
        seconds: series.seconds(),
        scale: Scale::Linear(plot::top(most).min(100.0)),
        tick: |value| format!("{} %", trimmed(value)),
        marks: Vec::new(),
        bands: Vec::new(),
        curves: vec![
            Curve {
                class: "candidate".into(),
                points: series.points.iter().map(|point| (point.at, realised(point))).collect(),
                steps: false,
            },
            Curve { class: "intended".into(), points: intended, steps: true },
        ],
        limits: Vec::new(),
    };
    let keys = key("candidate", &format!("{candidate}, realised")) + &key("thin", "intended");
    figure("Share of requests", &keys, &plot)
}

/// Neighbouring points of one share together, until each has enough of the candidate's requests for a rate to be one: a
/// sixteenth of those at its share.
fn grouped(series: &Series) -> Vec<Point> {
    let mut groups: Vec<Point> = Vec::new();
    for stretch in series.points.chunk_by(|a, b| a.share == b.share) {
        let all: u64 = stretch.iter().map(|point| point.requests[0]).sum();
        group(stretch, (all / 16).max(60), &mut groups);
    }
    groups
}

fn group(points: &[Point], enough: u64, groups: &mut Vec<Point>) {
    for point in points {
        match groups.last_mut().filter(|last| last.requests[0] < enough && last.share == point.share) {
            Some(last) => {
                for arm in 0..2 {
                    last.requests[arm] += point.requests[arm];
                    last.errors[arm] += point.errors[arm];
                }
                last.at = point.at;
            }
            None => groups.push(point.clone()),
        }
    }
}

fn errors(series: &Series, report: &Value) -> String {
    let points = grouped(series);
    let rate = |point: &Point, arm: usize| {
        (point.requests[arm] > 0).then(|| point.errors[arm] as f64 / point.requests[arm] as f64)
    };
    let band = |arm: usize| {
        let one =
            |point: &Point| wilson(point.errors[arm], point.requests[arm]).map(|(low, high)| (point.at, low, high));
        points.iter().filter_map(one).collect::<Vec<_>>()
    };
    // The band of very few requests would flatten everything else.
    let rates = points.iter().flat_map(|point| [rate(point, 0), rate(point, 1)]).flatten().fold(0.0, f64::max);
    let ends = [0, 1].iter().flat_map(|arm| band(*arm)).map(|(_, _, high)| high).fold(0.0, f64::max);
    let most = ends.min((rates * 2.5).max(0.002));
    let curve = |arm: usize, class: &str| Curve {
        class: class.into(),
        points: points.iter().map(|point| (point.at, rate(point, arm))).collect(),
        steps: false,
    };
    let plot = Plot {
        label: "share of bad requests of both pools over time".into(),
        seconds: series.seconds(),
        scale: Scale::Linear(plot::top(most)),
        tick: |value| format!("{} %", trimmed(value * 100.0)),
        marks: marks(&series.points),
        bands: vec![Band { class: "control", edges: band(1) }, Band { class: "candidate", edges: band(0) }],
        curves: vec![curve(1, "control"), curve(0, "candidate")],
        limits: Vec::new(),
    };
    let [candidate, control] = pools(report);
    let keys = key("candidate", &candidate) + &key("control", &control) + "bands: 95 % (Wilson)";
    figure("Bad requests", &keys, &plot)
}

fn latency(report: &Value, series: &Series) -> String {
    let most = series
        .points
        .iter()
        .flat_map(|point| point.latency.iter().flatten().flatten())
        .fold(0.0, |a: f64, b| a.max(*b));
    let least = series.points.iter().flat_map(|point| point.latency.iter().flatten().flatten());
    let least = least.filter(|ms| **ms > 0.0).fold(f64::INFINITY, |a: f64, b| a.min(*b));
    let (least, most) = if least.is_finite() { (least * 0.8, (most * 1.25).max(least * 2.0)) } else { (0.1, 1.0) };
    let curves = [(1, "control"), (0, "candidate")].into_iter().flat_map(|(arm, class)| {
        QUANTILES.iter().enumerate().map(move |(index, name)| Curve {
            class: format!("{class} {name}"),
            points: series.points.iter().map(|point| (point.at, point.latency[arm][index])).collect(),
            steps: false,
        })
    });
    let plot = Plot {
        label: "latency quantiles of both pools over time".into(),
        seconds: series.seconds(),
        // Powers of ten alone would leave a narrow range without a number.
        scale: if most / least > 30.0 { Scale::Log(least, most) } else { Scale::Linear(plot::top(most)) },
        tick: |ms| format!("{} ms", if ms >= 1.0 || ms == 0.0 { trimmed(ms) } else { format!("{ms}") }),
        marks: marks(&series.points),
        bands: Vec::new(),
        curves: curves.collect(),
        limits: Vec::new(),
    };
    let [candidate, control] = pools(report);
    let keys = key("candidate", &candidate) + &key("control", &control);
    let keys = keys + &key("thin p50", "p50 thin") + &key("p95", "p95 bold") + &key("p99", "p99 dashed");
    figure("Latency", &keys, &plot)
}

/// One chart per gate: evidence against the candidate and evidence of its safety, each against its limit.
fn evidence(report: &Value, series: &Series) -> String {
    let mut text = String::new();
    for (index, line) in series.lines.iter().enumerate() {
        let values = series.points.iter().flat_map(|point| point.evidence[index]).flatten();
        let (low, high) = values.fold((1.0, 1.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        let limits = line.limits.into_iter().flatten().fold(high, f64::max);
        let scale = Scale::Log(low.clamp(EVIDENCE_MIN, 0.1), (limits * 10.0).min(EVIDENCE_MAX));
        let curve = |kind: usize, class: &str| Curve {
            class: class.into(),
            points: series.points.iter().map(|point| (point.at, point.evidence[index][kind])).collect(),
            steps: false,
        };
        let words = ["rolls back", "shown safe"];
        let limit =
            |(limit, word): (Option<f64>, &str)| limit.map(|limit| (limit, format!("{word} at {}", trimmed(limit))));
        let plot = Plot {
            label: format!("evidence of gate {} over time", line.name),
            seconds: series.seconds(),
            scale,
            tick: power,
            marks: marks(&series.points),
            bands: Vec::new(),
            curves: vec![curve(1, "safe"), curve(0, "against")],
            limits: line.limits.into_iter().zip(words).filter_map(limit).collect(),
        };
        let gate = report["gates"].as_array().into_iter().flatten().find(|gate| gate["name"] == line.name.as_str());
        let verdict = gate.map(text_of).filter(|verdict| !verdict.is_empty());
        let title = format!("Evidence: {}{}", line.name, verdict.map(|it| format!(" ({it})")).unwrap_or_default());
        let keys = key("against", "against the candidate") + &key("safe", "that it is not worse");
        text += &figure(&title, &(keys + "e-values, logarithmic; 1 is no evidence"), &plot);
    }
    text
}

fn text_of(gate: &Value) -> String {
    member(gate, &["verdict"]).as_str().map(|verdict| verdict.replace('_', " ")).unwrap_or_default()
}

/// A power of ten as it is read.
fn power(value: f64) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let exponent = value.log10().round();
    if (0.0..=3.0).contains(&exponent) {
        return format!("{value:.0}");
    }
    let raise = |c: char| c.to_digit(10).map_or('⁻', |digit| RAISED[digit as usize]);
    format!("10{}", format!("{exponent:.0}").chars().map(raise).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report").join(name)
    }

    fn rolled_back() -> Value {
        let text = std::fs::read_to_string(file("rolled-back.json")).expect("the report is there");
        serde_json::from_str(&text).expect("it is JSON")
    }

    #[test]
    fn the_page_of_a_rollback_is_as_recorded() {
        // Without the style sheet, which is a file of its own.
        let page = page(&rolled_back()).replace(STYLE, "");
        if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
            std::fs::write(file("rolled-back.html"), &page).expect("the golden directory can be written");
        }
        let expected = std::fs::read_to_string(file("rolled-back.html")).unwrap_or_default();
        assert!(expected == page, "WEIR_UPDATE_GOLDEN=1 refreshes tests/golden/report/rolled-back.html");
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_runs_nothing() {
        let page = page(&rolled_back());
        for foreign in ["http://", "https://", "//", "<script", "<link", "<img", "url(", "@import", "javascript:"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN") && !page.contains(">inf"), "a number is none");
        assert_eq!(page.matches("<svg").count(), 5, "share, errors, latency, two gates");
    }

    #[test]
    fn a_stranger_cannot_write_into_the_page() {
        let mut report = rolled_back();
        let evil = "<script>alert(1)</script>\"'&";
        for member in ["service", "candidate", "control", "because", "reason", "rolloutId", "startedAt", "version"] {
            report[member] = evil.into();
        }
        report["gates"][0]["name"] = evil.into();
        report["gates"][0]["verdict"] = evil.into();
        report["events"][0]["severity"] = evil.into();
        report["events"][0]["message"] = evil.into();
        report["ticks"][0]["judgement"]["gates"][0]["name"] = evil.into();
        report["arithmetic"] = evil.into();
        report["plan"]["name"] = evil.into();
        assert!(!page(&report).contains("<script"), "it stands for itself");
    }

    #[test]
    fn a_report_without_ticks_or_of_another_shape_is_still_a_page() {
        for report in [json!({}), json!([]), json!(null), json!({ "state": "completed", "gates": [{}], "ticks": [] })] {
            let page = page(&report);
            assert!(page.ends_with("</html>\n") && page.contains("class=\"banner"), "{page}");
        }
    }

    #[test]
    fn powers_are_read_as_powers() {
        assert_eq!([power(1.0), power(1000.0), power(1e4), power(1e-2)], ["1", "1000", "10⁴", "10⁻²"]);
    }
}
