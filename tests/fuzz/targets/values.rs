//! Durations, sizes and networks of the configuration: within their bounds, and what a second reader makes of them.

use std::net::IpAddr;
use std::time::Duration;

use weir::config::Config;

/// Takes the input for a value of each kind; it comes by the environment, so that no quoting stands in its way.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |line: &str| {
        let whole = format!("{line}\nservices.a.pools.stable.endpoints = [\"http://127.0.0.1:1\"]");
        Config::parse(&whole, "weir.toml", &|name| (name == "X").then(|| text.to_owned())).ok()
    };
    if let Some(config) = read("services.a.timeouts.idle = \"${X}\"") {
        let found = config.plan.services[0].timeouts.idle;
        assert!((Duration::from_millis(1)..=Duration::from_secs(87_600 * 3_600)).contains(&found));
        let expected = duration_us(text).expect("a second reader takes it too");
        // Each part is rounded to a microsecond.
        assert!(found.as_micros().abs_diff(expected) <= text.len() as u128, "{text:?} is {found:?}");
        let shown = format!("{}us", found.as_micros());
        assert_eq!(duration_us(&shown), Some(found.as_micros()));
    }
    if let Some(config) = read("limits.head_bytes_max = \"${X}\"") {
        let found = config.plan.limits.head_bytes_max as u128;
        assert!((1024..=16 << 20).contains(&found) && size(text) == Some(found), "{text:?} is {found}");
    }
    if let Some(config) = read("trusted_proxies = \"${X}\"") {
        for network in &config.plan.trusted_proxies {
            assert_eq!(network.to_string().parse(), Ok(*network));
            assert!(network.contains(&network.addr()) && network.trunc() == *network);
            let address = text.split('/').next().unwrap_or_default().parse::<IpAddr>();
            assert!(address.is_ok_and(|address| network.contains(&address)), "{text:?} is {network}");
        }
    }
}

/// A sum of numbers with units, in whole microseconds, by integers alone.
fn duration_us(text: &str) -> Option<u128> {
    let (mut total, mut rest) = (0, text);
    while !rest.is_empty() {
        let number = &rest[..rest.find(|c: char| c.is_ascii_alphabetic())?];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let us = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000_u128,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let scale = 10_u128.checked_pow(part.len() as u32)?;
        total += (whole.parse::<u128>().ok()? * scale + part.parse::<u128>().ok()?) * us / scale;
    }
    Some(total)
}

fn size(text: &str) -> Option<u128> {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[number.len()..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "k" | "K" => 1_024,
        "MiB" | "M" => 1_048_576,
        "GiB" | "G" => 1_073_741_824,
        _ => return None,
    };
    Some(number.parse::<u128>().ok()? * factor)
}
