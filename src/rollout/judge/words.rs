//! How verdicts are said to people: the numbers, the limit, what is missing.

/// A rate as a percentage with as many digits as mean something.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".into(),
        Some(0.0) => "0 %".into(),
        Some(rate) if rate < 0.001 => format!("{:.3} %", 100.0 * rate),
        Some(rate) if rate < 0.1 => format!("{:.2} %", 100.0 * rate),
        Some(rate) => format!("{:.1} %", 100.0 * rate),
    }
}

/// A ratio such as `3.8` or `24`.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

/// How many times the control's rate the candidate's is, by an estimate and its interval, as far as they have ends.
pub(super) fn how_many(estimate: Option<f64>, interval: [Option<f64>; 2]) -> String {
    let [low, high] = interval.map(|end| end.map(times));
    match (estimate.map(times), low, high) {
        (Some(by), Some(low), Some(high)) => format!("{by} times the control's rate [{low} to {high}]"),
        (Some(by), Some(low), None) => format!("{by} times the control's rate [at least {low}]"),
        (Some(by), None, _) => format!("{by} times the control's rate"),
        (None, Some(low), _) => format!("at least {low} times the control's rate"),
        (None, None, _) => "far above the control's rate".into(),
    }
}

/// An e-value from its logarithm: `0.03`, `12`, `4 100`, `3e12`.
pub(super) fn e_value(ln: f64) -> String {
    let value = ln.exp();
    match value {
        value if value < 0.01 => "below 0.01".into(),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 1e6 => grouped(value.round() as u64),
        _ => format!("1e{:.0}", ln / std::f64::consts::LN_10),
    }
}

/// A number in groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `e_value` as a number that JSON can hold.
pub(super) fn finite(ln: f64) -> f64 {
    ln.min(690.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_like_numbers() {
        assert_eq!([0.5, 4100.0, 3e12].map(|e: f64| e_value(e.ln())), ["0.50", "4 100", "1e12"]);
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(
            [Some(0.0), Some(0.0004), Some(0.0123), Some(0.5), None].map(rate),
            ["0 %", "0.040 %", "1.23 %", "50.0 %", "-"]
        );
        let by = |estimate, low, high| how_many(estimate, [low, high]);
        assert_eq!(by(Some(3.8), Some(2.0), Some(7.0)), "3.8 times the control's rate [2.0 to 7.0]");
        assert_eq!(by(None, Some(4.5), None), "at least 4.5 times the control's rate");
        assert!(finite(1e9).is_finite());
    }
}
