//! Secrets that others may read, in files or on the way: noted by `weir check` and `weir doctor`. A
//! file that holds the hash of a token alone is none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{Config, Problem};

/// The right of everybody to read (chmod(1)).
const OTHERS_READ: u32 = 0o004;

/// A note for each such file, and one for tokens that travel in the clear.
pub(super) fn notes(config: &Config) -> Vec<Problem> {
    let admin = &config.admin;
    let open = !admin.address.ip().to_canonical().is_loopback() && admin.tls.is_none();
    let open = open.then(|| {
        let found = format!("[admin] speaks plain HTTP on {}: who listens there reads its tokens", admin.address);
        let help = "add [admin.tls], or listen on 127.0.0.1; [policy] admin keeps it so";
        Problem::without_place(&config.path.display().to_string(), found, help)
    });
    let tokens = config.admin.token_file.iter().map(|file| ("[admin] token_file", file.as_path()));
    let named = config.tokens.iter().map(|token| ("[[tokens]] file", token.file.as_path()));
    let key = config.key_file.iter().map(|file| ("key_file", file.as_path()));
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).chain(&config.admin.tls);
    let private = listeners.flat_map(|tls| &tls.certificates).map(|files| ("tls key", files.key.as_path()));
    let external = config.acme.iter().filter_map(|acme| acme.external_account.as_ref());
    let external = external.map(|external| ("[acme.external_account] key_file", external.key_file.as_path()));
    let files = tokens.chain(named).chain(key).chain(private).chain(external);
    open.into_iter().chain(files.filter_map(|(what, path)| note(what, path))).collect()
}

fn note(what: &str, path: &Path) -> Option<Problem> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let hashed = || std::fs::read(path).is_ok_and(|text| text.trim_ascii_start().starts_with(b"sha256:"));
    if mode & OTHERS_READ == 0 || hashed() {
        return None;
    }
    let file = path.display().to_string();
    let found = format!("{what}: every user of this machine may read the secret in it (mode {mode:o})");
    Some(Problem::without_place(&file, found, &format!("chmod 600 {file}")))
}
