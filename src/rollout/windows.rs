//! Windows of time in which a rollout may start or advance, or may not. Nobody asks them before going back.
//!
//! A window is a stretch of the local day in its own zone, so it moves with daylight saving time: on a day of 23 hours
//! `02:00` to `03:00` does not happen, on one of 25 hours it happens twice.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::rollout::{Window, WindowRule};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Why nothing may start or advance at `unix_ms`; none when it may.
pub fn closed(windows: &[Window], unix_ms: u64) -> Option<String> {
    let at = Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
    let freeze = windows.iter().find(|window| window.rule == WindowRule::Freeze && within(window, at));
    if let Some(window) = freeze {
        return Some(format!("frozen ({})", say(window)));
    }
    let allowed: Vec<&Window> = windows.iter().filter(|window| window.rule == WindowRule::Allow).collect();
    let outside = !allowed.is_empty() && !allowed.iter().any(|window| within(window, at));
    outside.then(|| {
        let words: Vec<String> = allowed.iter().map(|window| say(window)).collect();
        format!("outside of its windows ({})", words.join("; "))
    })
}

fn within(window: &Window, at: Timestamp) -> bool {
    // A zone was checked when the plan was read; should its data be gone, the window is taken in UTC.
    let zone = TimeZone::get(&window.zone).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone);
    let day = local.weekday().to_monday_one_offset() as u8;
    let before = if day == 1 { 7 } else { day - 1 };
    let minute = local.hour() as u16 * 60 + local.minute() as u16;
    let on = |day: u8| window.days.is_empty() || window.days.contains(&day);
    if window.from_minute < window.to_minute {
        return on(day) && (window.from_minute..window.to_minute).contains(&minute);
    }
    // Over midnight: the evening of its day, and the morning after.
    on(day) && minute >= window.from_minute || on(before) && minute < window.to_minute
}

fn say(window: &Window) -> String {
    let days: Vec<&str> = window.days.iter().filter_map(|day| DAYS.get(usize::from(*day) - 1).copied()).collect();
    let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let (from, to) = (time(window.from_minute), time(window.to_minute));
    let reason = if window.reason.is_empty() { String::new() } else { format!(": {}", window.reason) };
    format!("{days} {from} to {to} {}{reason}", window.zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(rule: WindowRule, days: &[u8], from: u16, to: u16, zone: &str) -> Window {
        let (zone, reason) = (zone.to_owned(), String::new());
        Window { rule, days: days.to_vec(), from_minute: from * 60, to_minute: to * 60, zone, reason }
    }

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond() as u64
    }

    #[test]
    fn a_freeze_over_midnight_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-20 is a Friday.
        let windows = [window(WindowRule::Freeze, &[5], 18, 8, "UTC")];
        for (at, frozen) in [
            ("2026-11-20T17:59:00Z", false),
            ("2026-11-20T18:00:00Z", true),
            ("2026-11-21T07:59:00Z", true),
            ("2026-11-21T08:00:00Z", false),
            ("2026-11-21T18:00:00Z", false),
        ] {
            assert_eq!(closed(&windows, ms(at)).is_some(), frozen, "{at}");
        }
    }

    #[test]
    fn allowed_windows_close_everything_else() {
        let windows = [window(WindowRule::Allow, &[1, 2, 3, 4], 9, 16, "Europe/Berlin")];
        assert_eq!(closed(&windows, ms("2026-11-19T08:00:00Z")), None);
        let why = closed(&windows, ms("2026-11-19T07:59:00Z")).expect("closed");
        assert_eq!(why, "outside of its windows (mon, tue, wed, thu 09:00 to 16:00 Europe/Berlin)");
        assert!(closed(&windows, ms("2026-11-20T10:00:00Z")).is_some());
    }

    #[test]
    fn a_window_moves_with_daylight_saving_time() {
        // In Berlin summer time ended on 2026-10-25 at 01:00 UTC: 09:00 is 07:00 UTC before and 08:00 UTC after.
        let windows = [window(WindowRule::Freeze, &[], 9, 10, "Europe/Berlin")];
        assert!(closed(&windows, ms("2026-10-24T07:30:00Z")).is_some());
        assert!(closed(&windows, ms("2026-10-26T07:30:00Z")).is_none());
        assert!(closed(&windows, ms("2026-10-26T08:30:00Z")).is_some());
        // The hour that happens twice is frozen twice.
        let twice = [window(WindowRule::Freeze, &[], 2, 3, "Europe/Berlin")];
        assert!(
            closed(&twice, ms("2026-10-25T00:30:00Z")).is_some()
                && closed(&twice, ms("2026-10-25T01:30:00Z")).is_some()
        );
        // The hour that does not happen is not frozen: on 2026-03-29 clocks go from 02:00 to 03:00.
        assert!((0..60).all(|minute| closed(&twice, ms("2026-03-29T00:30:00Z") + minute * 60_000).is_none()));
    }

    #[test]
    fn no_window_closes_nothing_and_any_time_has_an_answer() {
        assert_eq!(closed(&[], 0), None);
        assert!(closed(&[window(WindowRule::Freeze, &[], 0, 24, "UTC")], u64::MAX).is_some());
    }
}
