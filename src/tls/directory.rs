//! Which certificates a directory holds. Flat: `NAME.crt` or `NAME.pem` with `NAME.key`, or one `NAME.pem` with both.
//! By subdirectory, as certbot and Kubernetes lay them out: `NAME/fullchain.pem` with `NAME/privkey.pem`, or
//! `NAME/tls.crt` with `NAME/tls.key`. Anything else is none of its business.

use std::io;
use std::path::Path;

use crate::model::CertificateFiles;

/// Most entries that are looked at; more are left out, aloud.
const ENTRIES_MAX: usize = 10_000;

/// Every pair, by path; `default.*` goes first, since the first is what unknown names get.
pub(super) fn pairs(dir: &Path) -> io::Result<Vec<CertificateFiles>> {
    let mut pairs = Vec::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)?.take(ENTRIES_MAX) {
        paths.push(entry?.path());
    }
    if paths.len() == ENTRIES_MAX {
        tracing::warn!(dir = %dir.display(), ENTRIES_MAX, "too many entries in a directory of certificates");
    }
    for path in paths.iter().filter(|path| !is_hidden(path)) {
        if path.is_dir() {
            let layouts = [("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key")];
            let found = layouts.iter().map(|(cert, key)| (path.join(cert), path.join(key)));
            pairs.extend(found.filter(|(cert, key)| cert.is_file() && key.is_file()).take(1));
            continue;
        }
        let key = path.with_extension("key");
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => pairs.push((path.clone(), key)),
            // Where there is a `.crt` too, this is something beside it, such as the chain alone.
            Some("pem") if path.with_extension("crt").is_file() => {}
            Some("pem") if key.is_file() => pairs.push((path.clone(), key)),
            Some("pem") if holds_key(path) => pairs.push((path.clone(), path.clone())),
            _ => {}
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().map(|(cert, key)| CertificateFiles { cert, key }).collect();
    let is_default = |pair: &CertificateFiles| {
        pair.cert.file_stem().is_some_and(|stem| stem == "default")
            || pair.cert.parent().filter(|parent| *parent != dir).is_some_and(|parent| parent.ends_with("default"))
    };
    pairs.sort_by_cached_key(|pair| (!is_default(pair), pair.clone()));
    Ok(pairs)
}

/// Editors and Kubernetes (`..data`) keep what they are about under such names.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a file that stands alone is a certificate with its key, and not a bundle of authorities.
fn holds_key(path: &Path) -> bool {
    super::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, b"PRIVATE KEY-----").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_of_acme_clients_of_kubernetes_and_flat_ones_are_found_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("weir-certs-{}", std::process::id()));
        let at = |name: &str| dir.join(name);
        for sub in ["live.example", "k8s", "empty", "..data"] {
            std::fs::create_dir_all(at(sub)).expect("a directory");
        }
        let key = "-----BEGIN PRIVATE KEY-----\n";
        for (name, text) in [
            ("a.crt", ""),
            ("a.key", ""),
            ("a.pem", key),
            ("b.pem", ""),
            ("b.key", ""),
            ("both.pem", key),
            ("authorities.pem", ""),
            ("default.crt", ""),
            ("readme.txt", ""),
            (".hidden.crt", ""),
            ("live.example/fullchain.pem", ""),
            ("live.example/privkey.pem", ""),
            ("k8s/tls.crt", ""),
            ("k8s/tls.key", ""),
            ("..data/tls.crt", ""),
            ("..data/tls.key", ""),
        ] {
            std::fs::write(at(name), text).expect("a file");
        }
        let found = pairs(&dir).expect("it can be read");
        let found: Vec<_> = found.iter().map(|it| (it.cert.clone(), it.key.clone())).collect();
        let expected = [
            // Its key is missing, which is said when it is read.
            ("default.crt", "default.key"),
            ("a.crt", "a.key"),
            ("b.pem", "b.key"),
            ("both.pem", "both.pem"),
            ("k8s/tls.crt", "k8s/tls.key"),
            ("live.example/fullchain.pem", "live.example/privkey.pem"),
        ];
        assert_eq!(found, expected.map(|(cert, key)| (at(cert), at(key))));
        std::fs::remove_dir_all(&dir).expect("it was made here");
        assert!(pairs(&dir).is_err());
    }
}
