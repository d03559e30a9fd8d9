//! What `weir run` opens besides its files: keys, tokens, the directories of sockets and of what it writes. What keeps
//! it from starting is a problem of `weir check`, what it would go without a note.
//!
//! Nothing is made and nothing is written. Whether a port is free is not looked at: a running weir holds its own.

use std::path::Path;

use crate::admin::access::{Access, Token};
use crate::config::{Config, Problem};
use crate::model::{Bind, LogSink};
use crate::switchboard::keyring;

/// How a token comes about.
const MAKE_TOKEN: &str = "make one: (umask 077; openssl rand -hex 24 > FILE)";

/// How the key of affinity cookies comes about.
const MAKE_KEY: &str = "make one: (umask 077; openssl rand -hex 32 > FILE), the same on every replica; without \
                        key_file weir makes its own";

/// What keeps it from starting, and what it would go without.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
}

/// Looks for everything that `config` names.
pub(super) fn look(config: &Config) -> Needs {
    let mut needs = Needs::default();
    let main = config.path.display().to_string();
    let told = |found: String, help: &str| Problem::without_place(&main, found, help);
    for token in &config.tokens {
        if let Err(error) = Token::read(&token.file) {
            let help = MAKE_TOKEN.replace("FILE", &token.file.display().to_string());
            needs.problems.push(told(format!("[[tokens]] \"{}\": {error}", token.name), &help));
        }
    }
    // Whether a token is needed has been settled when the file was read; here its file is read.
    let certified = config.admin.asks_certificates() || !config.tokens.is_empty();
    let token_file = config.admin.token_file.as_deref();
    if let Err(error) = Access::with_grants(config.admin.address, token_file, certified, Vec::new()) {
        let help = token_file.map(|file| MAKE_TOKEN.replace("FILE", &file.display().to_string()));
        needs.problems.push(told(format!("[admin]: {error}"), &help.unwrap_or_default()));
    }
    if let Some(file) = &config.key_file
        && let Err(error) = keyring::check(file)
    {
        needs.problems.push(told(format!("key_file: {error}"), &MAKE_KEY.replace("FILE", &file.display().to_string())));
    }
    for listener in &config.listeners {
        if let Bind::Unix { path, .. } = &listener.address
            && let Some(missing) = missing_directory(path)
        {
            let found = format!("listeners.{}: there is no directory {missing} for its socket", listener.name);
            needs.problems.push(told(found, &format!("mkdir -p {missing}")));
        }
    }
    let log = match &config.plan.access_log.sink {
        LogSink::File(path) => Some(path.as_path()),
        LogSink::Off | LogSink::Stdout => None,
    };
    let written = [("[access_log] to", log), ("pid_file", config.pid_file.as_deref())];
    for (key, path) in written {
        if let Some(missing) = path.and_then(missing_directory) {
            let found = format!("{key}: there is no directory {missing}; weir runs without the file");
            needs.notes.push(told(found, &format!("mkdir -p {missing}")));
        }
    }
    needs
}

/// The directory that `path` would be in, when it is not there.
fn missing_directory(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    (!directory.is_dir()).then(|| directory.display().to_string())
}
