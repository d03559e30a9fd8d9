//! Numbers and times as an operator reads them: short, with a unit, never with more digits than are worth reading.

use jiff::{Timestamp, Zoned};

use super::screen::printable;

/// A time as an operator says it: the clock, the day when it was another, and how long ago.
pub(super) fn moment(at: &str, now: &Zoned) -> String {
    let Ok(at) = at.parse::<Timestamp>() else { return printable(at) };
    let ago = now.timestamp().as_second().saturating_sub(at.as_second());
    let at = at.to_zoned(now.time_zone().clone());
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    let ago = u64::try_from(ago).map_or_else(|_| "ahead of this clock".into(), |ago| format!("{} ago", span(ago)));
    format!("{} ({ago})", at.strftime(form))
}

/// A number of seconds in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min"),
        () => format!("{seconds} s"),
    }
}

/// A time that somebody waits for: seconds are told up to an hour.
pub(super) fn elapsed(ms: u64) -> String {
    let (seconds, minutes) = (ms / 1000, ms / 60_000);
    match () {
        () if ms > 0 && ms < 100 => format!("{ms} ms"),
        () if ms > 0 && ms < 1000 => format!("0.{} s", ms / 100),
        () if minutes >= 60 => span(seconds),
        () if minutes > 0 && seconds % 60 > 0 => format!("{minutes} min {} s", seconds % 60),
        () => span(seconds),
    }
}

/// Three digits at most, so that columns stay narrow.
pub(super) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}ms"),
        ms if ms < 100.0 => format!("{ms:.1}ms"),
        ms if ms < 10_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

/// A count with its thousands apart, so that 1 300 and 13 000 are not mixed up at night.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(" ")
}

/// A ratio of requests in percent, with as many digits as are worth reading.
pub(super) fn ratio(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".into(),
        percent if percent < 0.1 => format!("{percent:.3} %"),
        percent if percent < 10.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

/// A percentage without zeros that say nothing: `5 %`, `0.5 %`.
pub(super) fn percent(percent: f64) -> String {
    let text = format!("{percent:.4}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// An e-value: two or three digits, and a power of ten from ten thousand on.
pub(super) fn evidence(value: f64) -> String {
    match value {
        value if !value.is_finite() => "∞".into(),
        value if value > 1e12 => ">10^12".into(),
        value if value < 0.005 => "0.00".into(),
        value if (1.0..1e4).contains(&value) && value.fract() < 1e-9 => count(value as u64),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        // Down, so that what is short of a limit never reads as the limit; 1/0.005 may be short of 200.
        value if value < 1e4 => count((value + 1e-6) as u64),
        value => format!("10^{:.0}", value.log10()),
    }
}

/// How many times as much: `2.4×`.
pub(super) fn times(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => "∞×".into(),
        ratio if ratio < 10.0 => format!("{ratio:.1}×"),
        ratio => format!("{ratio:.0}×"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn now() -> Zoned {
        let now: Timestamp = "2026-11-21T03:02:10Z".parse().expect("a time");
        now.to_zoned(TimeZone::UTC)
    }

    #[test]
    fn spans_and_times_stay_short() {
        assert_eq!([span(5), span(125), span(7_300), span(200_000)], ["5 s", "2 min", "2 h 1 min", "2 d 7 h"]);
        let times = [0.123, 12.345, 123.4, 12_345.0].map(milliseconds);
        assert_eq!(times, ["0.12ms", "12.3ms", "123ms", "12.3s"]);
        let waits = [400, 5_000, 60_000, 192_000, 7_260_000].map(elapsed);
        assert_eq!(waits, ["0.4 s", "5 s", "1 min", "3 min 12 s", "2 h 1 min"]);
        assert_eq!(moment("2026-11-20T23:00:00Z", &now()), "2026-11-20 23:00:00 (4 h 2 min ago)");
        assert_eq!(moment("nonsense\u{7}", &now()), "nonsense\u{fffd}");
    }

    #[test]
    fn evidence_and_ratios_stay_short() {
        let values = [0.0, 0.314, 3.25, 31.4, 199.9, 4_100.0, 3e9, f64::INFINITY].map(evidence);
        assert_eq!([evidence(20.0), evidence(1.0)], ["20", "1"]);
        assert_eq!(values, ["0.00", "0.31", "3.25", "31.4", "199", "4 100", "10^9", "∞"]);
        assert_eq!([times(2.44), times(31.4)], ["2.4×", "31×"]);
        assert_eq!([ratio(0.0), ratio(0.0005), ratio(0.0049), ratio(0.2)], ["0 %", "0.050 %", "0.49 %", "20.0 %"]);
        assert_eq!([percent(5.0), percent(0.5), percent(33.3333)], ["5 %", "0.5 %", "33.3333 %"]);
        assert_eq!([count(0), count(999), count(1_300), count(1_234_567)], ["0", "999", "1 300", "1 234 567"]);
    }
}
