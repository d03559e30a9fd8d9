//! Who may ask the admin API for anything: the token, the names it answers to, and the rule that keeps an
//! unprotected API off every address but loopback.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::{Code, Problem};
use crate::config::TOKEN_FILE_ENV;

/// Shortest accepted token, in bytes: 16 random characters of base64 hold 96 bits.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Longest accepted token, in bytes; far below what a header may hold.
const TOKEN_BYTES_MAX: usize = 512;

/// Why the admin API cannot be offered like this. Each of them keeps weir from starting.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The address can be reached from other machines and nothing protects it.
    #[error(
        "the admin address {0} is not loopback and no token is set; write a token to a file and name it in \
         [admin] token_file or {TOKEN_FILE_ENV}, or use 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The token file cannot be read.
    #[error("cannot read the admin token file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The token file does not hold a token.
    #[error(
        "the admin token file {} must hold one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII \
         characters without blanks, or sha256: and 64 hexadecimal digits", .0.display()
    )]
    NotAToken(PathBuf),
}

/// A bearer token; only its hash is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// What a caller may do; each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Also change, but neither stop everything nor force a rollout past its gates.
    Operator,
    /// Anything.
    Admin,
}

/// A token of its own, with a name and a role.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who it is for; what the audit log says.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token.
    pub token: Token,
}

/// Who asks, as the guard found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of the token; none with the single token, or without any.
    pub(super) name: Option<String>,
    pub(super) role: Role,
}

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Access {
    address: SocketAddr,
    /// Whether nobody comes in without a certificate; then one is enough where there is no token.
    certified: bool,
    token: Option<Token>,
    grants: Vec<Grant>,
}

/// What the caller of a request may do.
pub(super) fn role<B>(request: &http::Request<B>) -> Role {
    request.extensions().get::<Caller>().map_or(Role::Viewer, |caller| caller.role)
}

/// Whose token the caller of a request has; empty when it has no name.
pub(super) fn name<B>(request: &http::Request<B>) -> &str {
    request.extensions().get::<Caller>().and_then(|caller| caller.name.as_deref()).unwrap_or_default()
}

// === impl Role ===

impl Role {
    /// The word of the configuration.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// Refuses what takes a role that may more than this one.
    pub(super) fn must_be(self, needed: Role, what: &str) -> Result<(), Problem> {
        if self >= needed {
            return Ok(());
        }
        let (needed, own) = (needed.as_str(), self.as_str());
        let problem = Problem::new(Code::Forbidden, format!("{what} takes the role {needed}; this token has {own}"));
        Err(problem.with("role", needed))
    }

    /// Refuses what only an admin may.
    pub(super) fn must_be_admin(self, what: &str) -> Result<(), Problem> {
        self.must_be(Role::Admin, what)
    }
}

// === impl Token ===

impl Token {
    /// Reads a token file: one line with the token, or with `sha256:` and its hash in 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let unreadable = |reason| AccessError::Unreadable { path: path.into(), reason };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = bytes.trim_ascii();
        if let Some(digits) = text.strip_prefix(b"sha256:") {
            return hash(digits).map(Self).ok_or_else(|| AccessError::NotAToken(path.into()));
        }
        let legal = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if legal { Ok(Self(Sha256::digest(text).into())) } else { Err(AccessError::NotAToken(path.into())) }
    }

    /// Compares in a time that does not depend on where they differ: both sides are hashes.
    pub(super) fn matches(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

// === impl Access ===

impl Access {
    /// The policy for an API on `address`; refuses to leave it open to other machines.
    pub fn new(address: SocketAddr, token_file: Option<&Path>) -> Result<Self, AccessError> {
        Self::with_grants(address, token_file, false, Vec::new())
    }

    /// The same with tokens for people and programs that may less than everything. `certified`: nobody comes in without
    /// a certificate.
    pub fn with_grants(
        address: SocketAddr,
        token_file: Option<&Path>,
        certified: bool,
        grants: Vec<Grant>,
    ) -> Result<Self, AccessError> {
        let token = token_file.map(Token::read).transpose()?;
        let closed = token.is_some() || !grants.is_empty() || certified;
        if !closed && !address.ip().to_canonical().is_loopback() {
            return Err(AccessError::Exposed(address));
        }
        Ok(Self { address, certified, token, grants })
    }

    /// Whether nobody needs a token or a certificate.
    pub(super) fn is_open(&self) -> bool {
        !self.needs_token() && !self.certified
    }

    /// Whether a token is needed.
    pub(super) fn needs_token(&self) -> bool {
        self.token.is_some() || !self.grants.is_empty()
    }

    /// Whose token this is. Every token is compared, so that the time says nothing.
    pub(super) fn whose(&self, given: &[u8]) -> Option<Caller> {
        let mut found = None;
        for grant in &self.grants {
            if grant.token.matches(given) {
                found = Some(Caller { name: Some(grant.name.clone()), role: grant.role });
            }
        }
        if self.token.as_ref().is_some_and(|token| token.matches(given)) {
            found = Some(Caller { name: None, role: Role::Admin });
        }
        found
    }

    /// Whether an unprotected API answers to this host (a `Host` value). A browser that was lured to another name which
    /// resolves to loopback (DNS rebinding) sends that name.
    pub(super) fn answers_to(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let ip = bare.parse::<IpAddr>().map(|ip| ip.to_canonical());
        ip.is_ok_and(|ip| ip.is_loopback() || ip == self.address.ip().to_canonical() && !ip.is_unspecified())
    }
}

/// 32 bytes from 64 hexadecimal digits.
fn hash(digits: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    let bytes: Option<Vec<u8>> = (digits.len() == 64).then(|| digits.chunks(2).map(pair).collect())?;
    bytes?.try_into().ok()
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`; none when it is none of these.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let port_holds = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()));
    (port_holds && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token() {
        for open in ["0.0.0.0:9901", "[::]:9901", "10.1.2.3:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
            let error = Access::new(address(open), None).unwrap_err();
            assert!(error.to_string().contains("token_file"), "{error}");
        }
        for closed in ["127.0.0.1:9901", "127.9.9.9:1", "[::1]:9901", "[::ffff:127.0.0.1]:1"] {
            Access::new(address(closed), None).unwrap();
        }
    }

    #[test]
    fn only_loopback_names_and_the_own_address_are_answered_to() {
        let access = Access::new(address("127.0.0.5:9901"), None).unwrap();
        for good in ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "127.0.0.5", "[::1]:9901", "[::ffff:127.0.0.1]"] {
            assert!(access.answers_to(good), "{good}");
        }
        for bad in [
            "attacker.example",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "0.0.0.0",
            "localhost:",
            "localhost:9901:1",
            "localhost@attacker.example",
            "[::1]attacker",
            "10.0.0.1",
            "",
            "2130706433",
            "localhost.",
        ] {
            let legal_but_odd = bad == "localhost:";
            assert_eq!(access.answers_to(bad), legal_but_odd, "{bad}");
        }
    }

    #[test]
    fn a_token_is_one_long_visible_line_and_is_never_shown() {
        let path = std::env::temp_dir().join(format!("weir-token-{}", std::process::id()));
        for (content, good) in [
            ("0123456789abcdef\n", true),
            ("short", false),
            ("", false),
            ("two words 0123456789", false),
            ("0123456789abcdef\n0123456789abcdef", false),
        ] {
            std::fs::write(&path, content).unwrap();
            let token = Token::read(&path);
            assert_eq!(token.is_ok(), good, "{content:?}");
            assert!(!format!("{token:?}").contains("abcdef"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Token::read(&path), Err(AccessError::Unreadable { .. })));
    }
}
