//! `[tracing]`: which traces are continued, begun and told.

use std::path::Path;

use super::notify::secret;
use crate::config::cursor::Fields;
use crate::model::notify::Address;
use crate::model::{Believe, Collector, Tracing};

/// Part of the traces that begin here which is recorded when nothing is said.
const SAMPLED: f64 = 0.01;

/// None when the file has no such table.
pub(super) fn tracing(root: &Fields<'_>, dir: &Path) -> Option<Tracing> {
    root.value("tracing")?;
    let fields = root.table("tracing", "tracing");
    let believe = match fields.word("believe").map(|word| word.value) {
        Some("trusted") => Believe::Trusted,
        _ => Believe::Everybody,
    };
    let service_name = fields.text("service_name").map_or_else(|| "weir".into(), |name| name.value);
    let sample = fields.ratio("sample").unwrap_or(SAMPLED);
    Some(Tracing { sample, believe, otlp: collector(&fields, dir), service_name })
}

fn collector(fields: &Fields<'_>, dir: &Path) -> Option<Collector> {
    let file = fields.text("otlp_authorization_file");
    let authorization = file.as_ref().map(|file| secret(fields, file, dir));
    let Some(text) = fields.text("otlp") else {
        if let Some(file) = &file {
            fields.refuse(file, "has no collector to go to", "add otlp = \"http://HOST:4318/v1/traces\"");
        }
        return None;
    };
    let address = Address::new(&text.value).filter(|_| text.value.parse::<http::Uri>().is_ok());
    if address.is_none() {
        // It is not quoted: it may be one that is secret and mistyped.
        let help = "write a whole one, such as \"http://127.0.0.1:4318/v1/traces\", without a user or a fragment";
        fields.sink.local_unquoted(&text, "is not the address of a collector", help);
    }
    Some(Collector { url: address?, authorization: authorization.unwrap_or(None) })
}
