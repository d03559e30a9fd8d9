//! A response head reads the same whole and in two pieces, and what is accepted has one reading.

use weir::proxy::h1::response::{BadResponse, Fate, Response, ResponseFraming, parse};

use super::http::{all, cuts, is_token, is_value, lines};

/// Reads a head, as the answer to GET and to HEAD, in every two pieces.
pub(crate) fn check(bytes: &[u8]) {
    for to_head in [false, true] {
        let whole = read(bytes, to_head);
        if let Ok(Some(response)) = &whole {
            one_reading(bytes, response, to_head);
        }
        for cut in cuts(bytes.len(), 64) {
            match (&whole, read(&bytes[..cut], to_head)) {
                (_, Ok(None)) | (Err(_), Err(_)) => {}
                (Ok(Some(whole)), Ok(Some(part))) => {
                    assert_eq!(format!("{whole:?}"), format!("{part:?}"), "after {cut} bytes");
                }
                (whole, part) => panic!("whole {whole:?}, after {cut} bytes {part:?}"),
            }
        }
    }
}

fn read(bytes: &[u8], to_head: bool) -> Result<Option<Response>, BadResponse> {
    parse(bytes, to_head, Vec::new()).map(Result::ok)
}

fn one_reading(bytes: &[u8], response: &Response, to_head: bool) {
    let (start, fields) = lines(&bytes[..response.head_bytes]);
    assert!(start.starts_with("HTTP/1.") && start[9..12].parse() == Ok(response.status), "{start:?}");
    assert!((100..=599).contains(&response.status) && is_value(&bytes[response.status_line.range()]));
    assert_eq!(fields.len(), response.lines.len());
    for ((name, value), line) in fields.iter().zip(&response.lines) {
        let (found, also) = (&bytes[line.name.range()], &bytes[line.value.range()]);
        assert!(is_token(found) && is_value(also));
        assert_eq!((name.as_bytes(), &value[..]), (&found.to_ascii_lowercase()[..], also));
        let framing = matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "keep-alive");
        assert!(!framing || line.fate != Fate::Copy, "{name} is copied");
        assert_eq!(line.fate == Fate::Length, name == "content-length");
    }
    let nominated = all(&fields, "connection").join(&b","[..]).to_ascii_lowercase();
    for token in nominated.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        let named = fields.iter().zip(&response.lines).filter(|((name, _), _)| name.as_bytes() == token);
        assert!(named.into_iter().all(|(_, line)| matches!(line.fate, Fate::Drop | Fate::Length)), "{token:?}");
    }
    let (lengths, codings) = (all(&fields, "content-length"), all(&fields, "transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two framings were taken");
    let length = lengths.first().map(|text| String::from_utf8_lossy(text).parse::<u64>().expect("a number"));
    assert_eq!(length, response.length);
    let framing = match (length, codings.len()) {
        _ if to_head || response.status < 200 || [204, 304].contains(&response.status) => ResponseFraming::None,
        (Some(0), _) => ResponseFraming::None,
        (Some(length), _) => ResponseFraming::Length(length),
        (None, 1) => ResponseFraming::Chunked,
        (None, _) => ResponseFraming::Close,
    };
    assert_eq!(framing, response.framing);
    assert!(framing != ResponseFraming::Close || !response.keep_alive);
}
