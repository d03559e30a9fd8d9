//! One access log line: what it says and how it is written. Formatting only; no I/O.
//!
//! A line is one line and valid JSON whatever a client sends. Every `\u00XX` escape of a byte stands for exactly that
//! byte: control characters, bytes that are not UTF-8, and the UTF-8 bytes of characters that move the cursor or the
//! reading direction (C1, line separators, bidi marks). All other characters stand for themselves, so nothing is lost.

use std::io::Write;
use std::net::IpAddr;

use crate::model::{Fault, Why};

/// What is logged of a request. Bytes are as the client sent them.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the head had arrived, µs since the Unix epoch.
    pub unix_us: u64,
    /// Request id.
    pub request_id: &'a [u8],
    /// The trace that it belongs to, where traces are kept.
    pub trace_id: Option<&'a [u8]>,
    /// The client, as trusted proxies tell it.
    pub client_ip: Option<IpAddr>,
    /// Method.
    pub method: &'a [u8],
    /// Host.
    pub host: &'a [u8],
    /// Path, with the query when the caller wants it logged.
    pub path: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'a str,
    /// Status sent; 499 when the client left before it.
    pub status: u16,
    /// Request body bytes.
    pub bytes_in: u64,
    /// Response body bytes.
    pub bytes_out: u64,
    /// From head to end of response, µs.
    pub duration_us: u64,
    /// From sending upstream to its response head, µs; none when nothing was sent.
    pub upstream_us: Option<u64>,
    /// Service.
    pub service: Option<&'a str>,
    /// Pool that answered.
    pub pool: Option<&'a str>,
    /// Why that pool.
    pub why: Option<Why>,
    /// Endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// All attempts: `canary:connect_refused,stable:200`.
    pub attempts: &'a str,
    /// Generation of the snapshot it was decided on.
    pub generation: u64,
    /// Whose fault, when it failed.
    pub fault: Option<Fault>,
    /// User agent.
    pub user_agent: Option<&'a [u8]>,
    /// How a gRPC call ended: its `grpc-status`.
    pub grpc_status: Option<u32>,
    /// The unit's bucket, 0..1 000 000.
    pub bucket: Option<u32>,
}

/// Text of the current second, kept from line to line.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    text: [u8; 19],
}

// === impl Record ===

impl Record<'_> {
    /// Appends the record as a JSON object and a newline.
    pub(super) fn json(&self, clock: &mut Clock, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":\"");
        clock.write(self.unix_us, out);
        out.extend_from_slice(b"\",\"request_id\":");
        quoted(self.request_id, out);
        if let Some(ip) = self.client_ip {
            let _ = write!(out, ",\"client_ip\":\"{ip}\"");
        }
        for (key, value) in [("method", self.method), ("host", self.host), ("path", self.path)] {
            key_to(key, out);
            quoted(value, out);
        }
        key_to("protocol", out);
        quoted(self.protocol.as_bytes(), out);
        let numbers = [
            ("status", u64::from(self.status)),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("generation", self.generation),
        ];
        for (key, value) in numbers {
            key_to(key, out);
            integer(value, out);
        }
        key_to("duration_ms", out);
        milliseconds(self.duration_us, out);
        if let Some(us) = self.upstream_us {
            key_to("upstream_ms", out);
            milliseconds(us, out);
        }
        for (key, value) in self.words() {
            if let Some(value) = value {
                key_to(key, out);
                quoted(value, out);
            }
        }
        if let Some(status) = self.grpc_status {
            key_to("grpc_status", out);
            integer(status.into(), out);
        }
        if let Some(bucket) = self.bucket {
            key_to("bucket", out);
            integer(bucket.into(), out);
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends the record as text for people and a newline.
    pub(super) fn text(&self, clock: &mut Clock, out: &mut Vec<u8>) {
        clock.write(self.unix_us, out);
        out.push(b' ');
        match self.client_ip {
            Some(ip) => drop(write!(out, "{ip}")),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" \"");
        for (before, part) in [("", self.method), (" ", self.host), ("", self.path), (" ", self.protocol.as_bytes())] {
            out.extend_from_slice(before.as_bytes());
            escape(part, out);
        }
        out.extend_from_slice(b"\" ");
        integer(self.status.into(), out);
        out.push(b' ');
        milliseconds(self.duration_us, out);
        out.extend_from_slice(b"ms in=");
        integer(self.bytes_in, out);
        out.extend_from_slice(b" out=");
        integer(self.bytes_out, out);
        out.extend_from_slice(b" gen=");
        integer(self.generation, out);
        for (key, value) in self.words() {
            let Some(value) = value else { continue };
            out.push(b' ');
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            quoted(value, out);
        }
        out.extend_from_slice(b" id=");
        quoted(self.request_id, out);
        out.push(b'\n');
    }

    fn words(&self) -> [(&'static str, Option<&[u8]>); 8] {
        [
            ("service", self.service.map(str::as_bytes)),
            ("pool", self.pool.map(str::as_bytes)),
            ("why", self.why.map(|why| why.as_str().as_bytes())),
            ("endpoint", self.endpoint.map(str::as_bytes)),
            ("attempts", Some(self.attempts.as_bytes()).filter(|text| !text.is_empty())),
            ("fault", self.fault.map(|fault| fault.as_str().as_bytes())),
            ("user_agent", self.user_agent),
            ("trace_id", self.trace_id),
        ]
    }
}

// === impl Clock ===

impl Clock {
    /// RFC 3339 in UTC with microseconds.
    fn write(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        let second = unix_us / 1_000_000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = timestamp(second);
        }
        out.extend_from_slice(&self.text);
        let mut digits = *b".000000Z";
        let mut rest = unix_us % 1_000_000;
        for digit in digits[1..7].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

/// `YYYY-MM-DDTHH:MM:SS`; years above 9999 wrap. Days to date: Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn timestamp(second: u64) -> [u8; 19] {
    let (days, rest) = (second / 86_400 + 719_468, second % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let parts = [(3, 4, year % 10_000), (6, 2, month), (9, 2, day)];
    let times = [(12, 2, rest / 3_600), (15, 2, rest / 60 % 60), (18, 2, rest % 60)];
    for (last, width, mut value) in parts.into_iter().chain(times) {
        for at in (last + 1 - width..=last).rev() {
            text[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    text
}

fn key_to(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn integer(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn milliseconds(us: u64, out: &mut Vec<u8>) {
    integer(us / 1_000, out);
    let rest = us % 1_000;
    out.push(b'.');
    out.extend_from_slice(&[b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape(bytes, out);
    out.push(b'"');
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let plain = |&b: &u8| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\';
    if bytes.iter().all(plain) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', text[0]]),
                c if c.is_control() || moves_the_reader(c) => text.iter().for_each(|&b| escape_byte(b, out)),
                _ => out.extend_from_slice(text),
            }
        }
        chunk.invalid().iter().for_each(|&b| escape_byte(b, out));
    }
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// Separators, zero-width and bidirectional marks: what makes a line look like another one.
fn moves_the_reader(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn sample() -> Record<'static> {
        Record {
            unix_us: 1_700_000_000_123_456,
            request_id: b"id-1",
            trace_id: None,
            client_ip: Some(IpAddr::from([192, 0, 2, 7])),
            method: b"GET",
            host: b"example.org",
            path: b"/a?b=\"c\"\r\n\x1b[31m\xff\xe2\x80\xa8\xc3\xa9",
            protocol: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 12_345,
            duration_us: 1_002,
            upstream_us: Some(987),
            service: Some("engine"),
            pool: Some("stable"),
            why: Some(Why::Retry),
            endpoint: Some("127.0.0.1:9000"),
            attempts: "canary:connect_refused,stable:200",
            generation: 7,
            fault: None,
            user_agent: Some(b"curl/8"),
            grpc_status: None,
            bucket: Some(42),
        }
    }

    #[test]
    fn lines_look_as_promised() {
        let (mut clock, mut out) = (Clock::default(), Vec::new());
        sample().json(&mut clock, &mut out);
        sample().text(&mut clock, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), include_str!("record.golden"));
    }

    #[test]
    fn dates_are_right_at_their_edges() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
        ] {
            assert_eq!(std::str::from_utf8(&timestamp(second)).unwrap(), text);
        }
    }

    /// Undoes the escapes by the rule of the module documentation.
    fn unescape(text: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            if let Some(hex) = rest.strip_prefix("\\u00") {
                out.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                rest = &rest[6..];
            } else {
                let skip = usize::from(c == '\\');
                let c = rest[skip..].chars().next().unwrap();
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[skip + c.len_utf8()..];
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_valid_line_and_nothing_is_lost(
            path in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                any::<String>().prop_map(String::into_bytes),
            ],
        ) {
            let record = Record { path: &path, user_agent: Some(&path), ..sample() };
            for json in [true, false] {
                let mut out = Vec::new();
                let mut clock = Clock::default();
                if json { record.json(&mut clock, &mut out) } else { record.text(&mut clock, &mut out) }
                let line = String::from_utf8(out).unwrap();
                prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains(|c: char| c.is_control()));
                if json {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
                    let from = line.find("\"path\":\"").unwrap() + 8;
                    let to = line.find("\",\"protocol\":").unwrap();
                    prop_assert_eq!(unescape(&line[from..to]), path.clone());
                }
            }
        }
    }
}
