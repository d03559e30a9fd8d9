//! One number from a Prometheus server, and what it means beside the numbers before it. No sample and not a number are
//! missing data: neither good nor bad. A server that does not answer, or not with one number, could not be asked.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{excerpt, failed, passed, unavailable};
use crate::model::rollout::{Delta, Operator, PrometheusCheck};
use crate::outside::http::{Answer, Call, call};
use crate::rollout::verdict::Outcome;

/// What is remembered between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::rollout) struct Series {
    /// The first number since the rollout began.
    pub(in crate::rollout) first: Option<f64>,
    /// Looks in a row that did not hold.
    pub(in crate::rollout) failures: u32,
}

/// Asks for the number now.
pub(super) async fn query(check: &PrometheusCheck) -> Result<f64, Outcome> {
    let form = format!("query={}&timeout={}ms", encoded(&check.query), check.timeout.as_millis());
    let mut fields = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    fields.extend(check.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    let url = format!("{}/api/v1/query", check.url.trim_end_matches('/'));
    let asked = Call { method: "POST".into(), url, fields, body: form.into_bytes(), timeout: check.timeout };
    let answer = call(&asked).await.map_err(|error| unavailable(error.to_string()))?;
    number(&answer)
}

/// The one number of an answer.
fn number(answer: &Answer) -> Result<f64, Outcome> {
    if answer.cut {
        return Err(unavailable("more samples came back than fit; the query must give one".into()));
    }
    let document: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let Some(document) = document else {
        let said = excerpt(&answer.body);
        return Err(unavailable(format!("status {} and no answer of Prometheus: {said}", answer.status)));
    };
    if document["status"] != "success" {
        let said = document["error"].as_str().unwrap_or("no reason").to_owned();
        return Err(unavailable(format!("the query is refused: {}", excerpt(said.as_bytes()))));
    }
    let result = &document["data"]["result"];
    let sample = match document["data"]["resultType"].as_str() {
        Some("scalar") => Some(result),
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([]) => return Err(Outcome::Waiting { detail: "the query gives no sample yet".into() }),
            Some([one]) => Some(&one["value"]),
            Some(many) => return Err(unavailable(format!("{} samples came back; one is needed", many.len()))),
            None => None,
        },
        _ => None,
    };
    // Numbers are written as text, so that NaN and infinities have a word.
    let number = sample.and_then(|sample| sample[1].as_str()).and_then(|text| text.parse::<f64>().ok());
    match number {
        Some(number) if number.is_nan() => {
            Err(Outcome::Waiting { detail: "the query gives no number yet (NaN)".into() })
        }
        Some(number) => Ok(number),
        None => Err(unavailable("the query gives something else than one number".into())),
    }
}

/// What a number means. `series` remembers it.
pub(in crate::rollout) fn judge(check: &PrometheusCheck, number: f64, series: &mut Series) -> Outcome {
    let first = *series.first.get_or_insert(number);
    let change = number - first;
    let (compared, unit) = match check.delta {
        Delta::Value => (number, ""),
        Delta::Absolute => (change, " since the start"),
        Delta::Percent if first == 0.0 && change != 0.0 => {
            let detail = format!("{} now, 0 at the start: there is no percentage of that", shown(number));
            return Outcome::Waiting { detail };
        }
        Delta::Percent => (if first == 0.0 { 0.0 } else { 100.0 * change / first.abs() }, " % since the start"),
    };
    let threshold = check.threshold;
    let (holds, sign) = match check.operator {
        Operator::GreaterThan => (compared > threshold, "above"),
        Operator::AtLeast => (compared >= threshold, "at least"),
        Operator::LessThan => (compared < threshold, "below"),
        Operator::AtMost => (compared <= threshold, "at most"),
        Operator::Equals => (compared == threshold, "exactly"),
    };
    let detail = format!("{}{unit}, must be {sign} {}", shown(compared), shown(threshold));
    if holds {
        series.failures = 0;
        return passed(detail, Some(compared));
    }
    series.failures = series.failures.saturating_add(1);
    match check.consecutive_failures.max(1) {
        needed if series.failures < needed => {
            Outcome::Waiting { detail: format!("{detail} ({} of {needed} looks in a row)", series.failures) }
        }
        1 => failed(detail, Some(compared)),
        needed => failed(format!("{detail} ({needed} looks in a row)"), Some(compared)),
    }
}

/// Six digits that count.
fn shown(number: f64) -> String {
    if !number.is_finite() || number == 0.0 {
        return number.to_string();
    }
    let digits = (5 - number.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// As a value of a form.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: 200, body: body.into(), cut: false, took: Duration::ZERO }
    }

    fn check(operator: Operator, threshold: f64, delta: Delta, consecutive_failures: u32) -> PrometheusCheck {
        PrometheusCheck {
            url: "http://127.0.0.1:9090".into(),
            query: "up".into(),
            headers: Default::default(),
            operator,
            threshold,
            delta,
            interval: Duration::ZERO,
            timeout: Duration::from_secs(1),
            consecutive_failures,
        }
    }

    #[test]
    fn one_sample_is_a_number_none_is_missing_and_anything_else_could_not_be_asked() {
        let vector = |samples: &str| {
            answer(&format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{samples}]}}}}"))
        };
        assert_eq!(number(&vector("{\"metric\":{},\"value\":[1.5,\"0.25\"]}")), Ok(0.25));
        let scalar = "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"+Inf\"]}}";
        assert_eq!(number(&answer(scalar)), Ok(f64::INFINITY));
        assert!(matches!(number(&vector("")), Err(Outcome::Waiting { .. })));
        assert!(matches!(number(&vector("{\"value\":[1,\"NaN\"]}")), Err(Outcome::Waiting { .. })));
        for other in [
            vector("{\"value\":[1,\"1\"]},{\"value\":[1,\"2\"]}"),
            vector("{\"value\":[1,\"one\"]}"),
            answer("{\"status\":\"error\",\"error\":\"parse error at char 3\"}"),
            answer("<html>Bad Gateway</html>"),
            answer("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}"),
            answer("[]"),
            Answer { cut: true, ..vector("") },
        ] {
            assert!(matches!(number(&other), Err(Outcome::Unavailable { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_number_is_compared_as_it_is_or_with_what_it_was_at_the_start() {
        let mut series = Series::default();
        let absolute = check(Operator::AtMost, 5.0, Delta::Absolute, 1);
        assert!(matches!(judge(&absolute, 100.0, &mut series), Outcome::Passed { .. }));
        assert!(matches!(judge(&absolute, 105.0, &mut series), Outcome::Passed { .. }));
        let Outcome::Failed { detail, value } = judge(&absolute, 106.5, &mut series) else { panic!("it fails") };
        assert_eq!((&*detail, value), ("6.5 since the start, must be at most 5", Some(6.5)));
        let percent = check(Operator::AtMost, 20.0, Delta::Percent, 1);
        assert!(matches!(judge(&percent, 119.0, &mut series), Outcome::Passed { .. }));
        assert!(matches!(judge(&percent, 121.0, &mut series), Outcome::Failed { .. }));
        let mut from_nothing = Series::default();
        assert!(matches!(judge(&percent, 0.0, &mut from_nothing), Outcome::Passed { .. }));
        assert!(matches!(judge(&percent, 1.0, &mut from_nothing), Outcome::Waiting { .. }));
        let value = check(Operator::AtLeast, 0.5, Delta::Value, 1);
        assert!(matches!(judge(&value, 0.4, &mut Series::default()), Outcome::Failed { .. }));
    }

    #[test]
    fn only_so_many_looks_in_a_row_fail_the_gate() {
        let (mut series, rule) = (Series::default(), check(Operator::AtMost, 1.0, Delta::Value, 3));
        let mut look = |number| match judge(&rule, number, &mut series) {
            Outcome::Passed { .. } => 'p',
            Outcome::Failed { .. } => 'f',
            _ => 'w',
        };
        let looks: String = [2.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0, 0.5].map(&mut look).into_iter().collect();
        assert_eq!(looks, "wwpwwffp");
    }

    #[test]
    fn numbers_and_queries_are_written_for_whom_they_are() {
        assert_eq!(
            [0.001234567, 12.5, 1e9, 0.0, 99.999999].map(shown),
            ["0.00123457", "12.5", "1000000000", "0", "100"]
        );
        assert_eq!(encoded("sum(a{b=\"c\"}) > 1"), "sum%28a%7Bb%3D%22c%22%7D%29%20%3E%201");
    }
}
