//! A cookie is the first of its name over all `Cookie` fields, and the same once they are joined. An input is the name
//! on its first line, and then the fields, a line each.

use weir::model::Head;

/// Looks a cookie up.
pub(crate) fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|&b| b == b'\n');
    let Some(Ok(name)) = lines.next().map(std::str::from_utf8) else { return };
    let fields: Vec<&[u8]> = lines.collect();
    let head = Head::describe("GET", "a", "/", fields.iter().map(|field| ("cookie", *field)));
    let joined = fields.join(&b"; "[..]);
    let found = head.cookie(name);
    assert_eq!(found, Head::describe("GET", "a", "/", [("cookie", &joined[..])]).cookie(name));
    assert_eq!(found.map(<[u8]>::to_vec), walked(name.as_bytes(), &joined));
    let sent = [(name.to_owned() + "=").as_bytes(), b"mine"].concat();
    let first = Head::describe("GET", "a", "/", [("cookie", &sent[..]), ("cookie", &joined[..])]);
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b";=".contains(&b));
    assert!(!legal || first.cookie(name) == Some(b"mine"), "the first counts");
}

/// The same, one pair at a time. A name with `=` in it can be asked for too, and is compared with all of a pair.
fn walked(name: &[u8], joined: &[u8]) -> Option<Vec<u8>> {
    let mut rest = joined;
    loop {
        let end = rest.iter().position(|&b| b == b';').unwrap_or(rest.len());
        let pair = rest[..end].trim_ascii();
        if let Some(value) = pair.strip_prefix(name).and_then(|after| after.strip_prefix(b"=")) {
            return Some(value.to_vec());
        }
        rest = rest.get(end + 1..)?;
    }
}
