//! llhttp's request vectors (nodejs/llhttp, MIT): what its strict parser accepts is served, what it refuses is refused.
//!
//! The vectors have no `Host`, which HTTP/1.1 asks for (RFC 9112 section 3.2), so that one is put behind the request
//! line where none is. Lenient modes and pauses of that parser are left out; only its own default counts.

use std::time::Duration;

use crate::{Reaction, Stage, data};

/// One vector.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    verdict: Verdict,
}

/// What llhttp says of the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Complete,
    Refused,
    Unfinished,
}

/// Vectors that weir treats otherwise, and why.
const ARGUED: &[(&str, &str)] = &[
    ("method: CONNECT request", "CONNECT opens a tunnel, and no route allows one here: 405"),
    ("method: CONNECT request with CAPS", "CONNECT opens a tunnel, and no route allows one here: 405"),
    ("method: CONNECT with body", "CONNECT opens a tunnel, and no route allows one here: 405"),
    ("uri: Underscore in hostname", "CONNECT opens a tunnel, and no route allows one here: 405"),
    ("method: SOURCE request with ICE", "ICE and RTSP are other protocols"),
    ("method: OPTIONS request with RTSP", "ICE and RTSP are other protocols"),
    ("method: ANNOUNCE request with RTSP", "ICE and RTSP are other protocols"),
    ("sample: No HTTP version", "HTTP/0.9 has no fields, so no Host, and no end of its answer"),
    ("method: M-SEARCH request", "`*` goes with OPTIONS alone (RFC 9112 section 3.2.4)"),
    ("sample: curl GET", "`0.0.0.0=5000` is neither a host name nor an address"),
    ("sample: Firefox GET", "`0.0.0.0=5000` is neither a host name nor an address"),
    (
        "sample: Prefix newline",
        "empty lines before a request line SHOULD be ignored by a server, but hide what follows from the next parser",
    ),
    (
        "sample: Request starting with CRLF",
        "empty lines before a request line SHOULD be ignored by a server, but hide what follows from the next parser",
    ),
    (
        "transfer-encoding: POST with `chunked` as last transfer-encoding",
        "a proxy that cannot decode `deflate` may not pass on its framing; and the target holds a fragment",
    ),
    (
        "transfer-encoding: POST with `chunked` as last transfer-encoding (multiple headers)",
        "a proxy that cannot decode `deflate` may not pass on its framing; and the target holds a fragment",
    ),
    ("uri: Fragment in URI", "a fragment is never sent (RFC 9112 section 3.2)"),
    ("uri: Host terminated by a query string", "the target names another authority than Host"),
    ("uri: `host:port` terminated by a query string", "the target names another authority than Host"),
    ("uri: `host:port` terminated by a space", "the target names another authority than Host"),
    ("uri: `host:port` and basic auth", "the target names another authority than Host"),
    (
        "invalid: HTTP protocol and ANNOUNCE method",
        "any token is a method; what it means is for the upstream to say (RFC 9110 section 9.1)",
    ),
    (
        "invalid: Invalid method",
        "any token is a method; what it means is for the upstream to say (RFC 9110 section 9.1)",
    ),
];

/// Reads the vectors of one file.
fn vectors(file: &str, text: &str) -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut title = String::new();
    let mut rest = text;
    let mut default_mode = false;
    while let Some(line_end) = rest.find('\n') {
        let line = &rest[..line_end];
        rest = &rest[line_end + 1..];
        if let Some(heading) = line.strip_prefix("##") {
            heading.trim_start_matches('#').trim().clone_into(&mut title);
        } else if line.starts_with("<!-- meta=") {
            default_mode = line.contains("\"request\"") && !line.contains("pause") && !line.contains("skipBody");
        } else if line == "```http" {
            let end = rest.find("\n```").expect("a block ends");
            let bytes = unescape(&rest[..end]);
            rest = &rest[end + 4..];
            let start = rest.find("```log\n").expect("a log follows") + 7;
            let end = rest[start..].find("\n```").map_or(start, |end| start + end);
            let verdict = verdict(&rest[start..end]);
            rest = &rest[end..];
            if default_mode {
                let name = format!("{file}: {title}");
                vectors.push(Vector { name, bytes: with_host(bytes), verdict });
            }
        }
    }
    vectors
}

fn verdict(log: &str) -> Verdict {
    for line in log.lines() {
        if line.contains("message complete") {
            return Verdict::Complete;
        }
        if line.contains("error code=") {
            return Verdict::Refused;
        }
    }
    Verdict::Unfinished
}

/// The text form of a vector as its own runner reads it: `\` at a line's end joins lines, line ends are CRLF.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches('\\').replace("\\\n", "").replace('\n', "\r\n");
    let mut bytes = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.peek().copied() } else { None };
        let plain = match escaped {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('f') => 0x0c,
            Some('x') => {
                chars.next();
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two hex digits"));
                continue;
            }
            _ => {
                let mut space = [0_u8; 4];
                bytes.extend_from_slice(c.encode_utf8(&mut space).as_bytes());
                continue;
            }
        };
        chars.next();
        bytes.push(plain);
    }
    bytes
}

/// The same with a `Host` behind the first request line, unless there is one.
fn with_host(bytes: Vec<u8>) -> Vec<u8> {
    let lower = bytes.to_ascii_lowercase();
    let has_host = lower.windows(7).any(|w| w == b"\r\nhost:");
    match bytes.windows(2).position(|w| w == b"\r\n") {
        Some(at) if !has_host && at > 0 => [&bytes[..at + 2], b"Host: localhost\r\n", &bytes[at + 2..]].concat(),
        _ => bytes,
    }
}

#[test]
fn what_llhttp_accepts_is_served_and_what_it_refuses_is_refused() {
    let Some(folder) = data("llhttp/request") else { return };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let all: Vec<Vector> = files
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("a vector file is text");
            vectors(&path.file_stem().expect("a name").to_string_lossy(), &text)
        })
        .collect();
    assert!(all.len() > 100, "only {} vectors were read", all.len());
    let stage = Stage::new();
    let mut wrong = Vec::new();
    for vector in &all {
        let ended = vector.bytes.windows(4).any(|w| w == b"\r\n\r\n");
        let patience = Duration::from_millis(if ended && vector.verdict != Verdict::Unfinished { 1_500 } else { 150 });
        let (reaction, _) = stage.send(&vector.bytes, patience);
        let followed = match (vector.verdict, reaction) {
            (Verdict::Complete, Reaction::Status(200..300)) => true,
            (Verdict::Refused, Reaction::Status(400..600) | Reaction::Closed) => true,
            // What is wrong inside a head without an end may be told when the end comes; `safe` sends it.
            (Verdict::Refused, Reaction::Waiting) => !ended,
            (Verdict::Unfinished, Reaction::Status(200..300)) => false,
            (Verdict::Unfinished, _) => true,
            _ => false,
        };
        let argued = ARGUED.iter().find(|(name, _)| *name == vector.name);
        let shown = String::from_utf8_lossy(&vector.bytes);
        match (followed, argued) {
            (false, None) => {
                wrong.push(format!("{}: wanted {:?}, got {reaction:?}: {:?}", vector.name, vector.verdict, shown))
            }
            (true, Some((_, reason))) => wrong.push(format!("{}: followed after all: {reason}", vector.name)),
            _ => {}
        }
        if let Err(unsafe_row) = stage.safe(&vector.name, &vector.bytes, patience) {
            wrong.push(unsafe_row);
        }
    }
    println!("{} vectors, {} argued, {} wrong", all.len(), ARGUED.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {} vectors:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    stage.assert_no_blame();
}
