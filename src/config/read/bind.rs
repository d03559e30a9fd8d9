//! Where a listener is: `address` and what belongs to it. Which addresses exclude each other is in `listeners`.

use std::path::PathBuf;

use crate::config::cursor::{At, Fields, shorten};
use crate::model::Bind;

/// Reads `address` and, for a unix socket, `mode`.
pub(super) fn bind(fields: &Fields<'_>) -> Option<At<Bind>> {
    let mode = mode(fields);
    let text = fields.text("address")?;
    let Some(path) = text.value.strip_prefix(Bind::UNIX) else {
        if let Some(value) = fields.value("mode") {
            let found = format!("{} without a unix socket", value.path);
            let help = "take it out, or write address = \"unix:/run/weir/weir.sock\"";
            fields.sink.whole(value.span, &value.path, found, help);
        }
        let address = fields.address("address")?;
        return Some(At { value: Bind::Tcp(address.value), span: address.span, path: address.path });
    };
    let wrong = match path {
        "" => Some("names no file".to_owned()),
        path if path.contains('\0') => Some("is not a path".to_owned()),
        path if path.len() > Bind::PATH_BYTES_MAX => {
            Some(format!("has {} bytes; a unix socket's path has at most {}", path.len(), Bind::PATH_BYTES_MAX))
        }
        path if !path.starts_with('/') => Some("is not absolute".to_owned()),
        _ => None,
    };
    if let Some(wrong) = wrong {
        let found = format!("\"{}\" {wrong}", shorten(&text.value));
        fields.refuse(&text, found, "write an absolute path, such as \"unix:/run/weir/weir.sock\"");
        return None;
    }
    let value = Bind::Unix { path: PathBuf::from(path), mode: mode.unwrap_or(Bind::MODE) };
    Some(At { value, path: text.path, span: text.span })
}

/// Permission bits in octal, as `chmod` takes them.
fn mode(fields: &Fields<'_>) -> Option<u32> {
    let text = fields.text("mode")?;
    let digits = text.value.strip_prefix("0o").unwrap_or(&text.value);
    let octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        let found = format!("\"{}\" are no permission bits", shorten(&text.value));
        fields.refuse(&text, found, "write them in octal, such as \"0660\"");
    }
    mode
}
