//! Automatic certificates (ACME, RFC 8555), as the file asks for them. It orders none.

use std::path::PathBuf;
use std::time::Duration;

/// Let's Encrypt; the certificates of its staging directory are trusted by nobody, and its limits are wider.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `[acme]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSpec {
    /// The directory of the authority. Default [`LETS_ENCRYPT`].
    pub directory: String,
    /// Who is told when something is wrong, as `mailto:` addresses.
    pub contact: Vec<String>,
    /// How the authority sees that a name is served from here.
    pub challenge: ChallengeKind,
    /// Where accounts, certificates and what was tried are kept.
    pub state_dir: PathBuf,
    /// PEM: the authorities that the directory's own certificate must be issued by; none: the public ones, and those of
    /// `SSL_CERT_FILE`.
    pub roots: Option<PathBuf>,
    /// An account elsewhere that the one at the authority is bound to (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// How long before its end a certificate is renewed; none: when a third of its time is left.
    pub renew_before: Option<Duration>,
    /// The wait after a first failed order. Default 2 min.
    pub retry_min: Duration,
    /// The longest wait between failed orders, unless the authority asks for a longer one. Default 12 h.
    pub retry_max: Duration,
    /// Every name that a certificate is kept for, lower case, each once.
    pub names: Vec<String>,
}

/// What an authority looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A file over plain HTTP on port 80 (RFC 8555 §8.3).
    Http01,
    /// A handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

/// `[acme.external_account]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// What the authority calls its key.
    pub key_id: String,
    /// The file that holds the key, in base64url.
    pub key_file: PathBuf,
}

/// A name whose certificate is ordered and renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name, lower case.
    pub name: String,
    /// Where the certificate is with its key, once there is one.
    pub file: PathBuf,
}

// === impl AcmeSpec ===

impl AcmeSpec {
    /// Where everything of this authority is: what another one issued, such as a staging one, counts for nothing.
    pub fn home(&self) -> PathBuf {
        home(&self.state_dir, &self.directory)
    }
}

/// The directory of one authority below `state_dir`, named for the address of its directory.
pub fn home(state_dir: &std::path::Path, directory: &str) -> PathBuf {
    let bare = directory.strip_prefix("https://").unwrap_or(directory);
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    state_dir.join(bare.chars().map(keep).collect::<String>().trim_start_matches('.'))
}

/// The file of a certificate with its key.
pub fn certificate_file(home: &std::path::Path, name: &str) -> PathBuf {
    home.join(format!("{name}.pem"))
}

// === impl ChallengeKind ===

impl ChallengeKind {
    /// As the file and the standard write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_has_a_directory_of_its_own_below_the_state() {
        for (directory, home_name) in [
            (LETS_ENCRYPT, "acme-v02.api.letsencrypt.org-directory"),
            ("https://ca.example:14000/dir", "ca.example-14000-dir"),
            ("https://../../etc", "-..-etc"),
        ] {
            assert_eq!(home("state".as_ref(), directory), std::path::Path::new("state").join(home_name));
        }
    }
}
