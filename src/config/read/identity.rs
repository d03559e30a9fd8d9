//! `expect_headers` and `expect_body` of `[services.NAME.health]`: who an endpoint must say it is.

use toml::de::DeValue;

use super::policies::is_token;
use crate::config::cursor::Fields;
use crate::model::{IDENTITY_BODY_BYTES_MAX, Identity, Pinned};

/// Most header fields of one probe: more is a mistake.
const HEADERS_MAX: usize = 16;

/// Reads them, if there are any.
pub(super) fn identity(fields: &Fields<'_>) -> Identity {
    let mut headers = Vec::new();
    for (name, value) in fields.entries("expect_headers") {
        const RIGHT: &str = "the value, or its beginning with a '*' behind it";
        match value.value {
            _ if !is_token(name.value) => {
                let found = format!("{} is not the name of a header", name.path);
                fields.sink.local(name.span, &name.path, found, "use letters, digits and '-'");
            }
            DeValue::String(text) if !text.is_empty() && !text.bytes().any(|b| b.is_ascii_control()) => {
                headers.push(Pinned::new(name.value, text));
            }
            _ => fields.wrong(&value, RIGHT),
        }
    }
    if headers.len() > HEADERS_MAX {
        let found = format!("{} names {} headers", fields.path_of("expect_headers"), headers.len());
        let (span, path) = (fields.key_span("expect_headers"), fields.path_of("expect_headers"));
        fields.sink.local(span, &path, found, format!("name at most {HEADERS_MAX}"));
    }
    let body = fields.text("expect_body").filter(|text| {
        let holds = !text.value.is_empty() && text.value.len() <= IDENTITY_BODY_BYTES_MAX;
        if !holds {
            fields.refuse(text, "is no text to look for", format!("write 1 to {IDENTITY_BODY_BYTES_MAX} bytes"));
        }
        holds
    });
    Identity { headers, body: body.map(|body| body.value) }
}
