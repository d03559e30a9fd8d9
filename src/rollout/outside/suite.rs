//! Several HTTP requests, one after the other, with a pass rate and timings. What could not be asked counts neither
//! way: the suite passes or fails only when that is certain without it.

use super::{Context, failed, http, passed, unavailable};
use crate::model::rollout::HttpCheck;
use crate::rollout::verdict::Outcome;

/// Asks all of them.
pub(super) async fn check(requests: &[HttpCheck], min_pass_rate: f64, context: &Context) -> Outcome {
    let mut outcomes = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        let context = Context { turn: context.turn.wrapping_add(index), ..context.clone() };
        outcomes.push(http::check(request, &context).await);
    }
    judge(&outcomes, min_pass_rate)
}

fn judge(outcomes: &[Outcome], min_pass_rate: f64) -> Outcome {
    let (total, mut good, mut open) = (outcomes.len(), 0_usize, 0_usize);
    let (mut times, mut first) = (Vec::new(), None);
    for outcome in outcomes {
        match outcome {
            Outcome::Passed { value, .. } => {
                good += 1;
                times.extend(value);
            }
            Outcome::Failed { detail, .. } => first = first.or(Some(detail)),
            Outcome::Unavailable { detail } | Outcome::Waiting { detail } => {
                open += 1;
                first = first.or(Some(detail));
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let took = match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(slowest)) => format!("; median {median:.0} ms, slowest {slowest:.0} ms"),
        _ => String::new(),
    };
    let why = first.map(|detail| format!("; {detail}")).unwrap_or_default();
    let rate = |count: usize| count as f64 / total.max(1) as f64;
    let detail = format!("{good} of {total} passed, {:.0} % must{took}{why}", 100.0 * min_pass_rate);
    // A rate such as 0.8 is no exact number; half a request is not the question.
    let enough = |count: usize| rate(count) + 1e-9 >= min_pass_rate;
    match () {
        () if enough(good) && total > 0 => passed(detail, Some(rate(good))),
        () if !enough(good + open) && total > 0 => failed(detail, Some(rate(good))),
        () => unavailable(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(words: &str) -> Vec<Outcome> {
        let outcome = |word: char| match word {
            'p' => passed("200 in 10 ms".into(), Some(10.0)),
            'f' => failed("status 500".into(), Some(3.0)),
            _ => unavailable("no connection".into()),
        };
        words.chars().map(outcome).collect()
    }

    #[test]
    fn it_passes_or_fails_only_when_that_is_certain_without_what_could_not_be_asked() {
        let word = |words: &str, rate| match judge(&outcomes(words), rate) {
            Outcome::Passed { .. } => 'p',
            Outcome::Failed { .. } => 'f',
            _ => 'u',
        };
        assert_eq!(word("ppp", 1.0), 'p');
        assert_eq!(word("ppf", 1.0), 'f');
        assert_eq!(word("ppppf", 0.8), 'p');
        assert_eq!(word("pppff", 0.8), 'f');
        assert_eq!(word("ppppu", 1.0), 'u');
        assert_eq!(word("ppppu", 0.8), 'p');
        assert_eq!(word("pfuuu", 0.8), 'u');
        assert_eq!(word("ffuuu", 0.8), 'f');
        assert_eq!(word("", 1.0), 'u');
        let Outcome::Passed { detail, value } = judge(&outcomes("ppppf"), 0.8) else { panic!("it passes") };
        assert_eq!(detail, "4 of 5 passed, 80 % must; median 10 ms, slowest 10 ms; status 500");
        assert_eq!(value, Some(0.8));
    }
}
