//! What an operator demands of a configuration. Checked where the file is read; nothing on the request path asks it.

use super::TlsVersion;

/// `[policy]`; without it nothing is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicySpec {
    /// Every endpoint speaks verified TLS, or is a socket of this machine.
    pub endpoints_tls: bool,
    /// Every TCP listener speaks TLS or redirects to `https`.
    pub listeners_tls: bool,
    /// Affinity cookies are `Secure` (RFC 6265 §5.2.5), whatever the connection that they are set on.
    pub secure_cookies: bool,
    /// Nothing that is safe by default is switched off.
    pub no_leniency: bool,
    /// The admin API speaks TLS where other machines come in.
    pub admin_tls: bool,
    /// The admin API is on loopback.
    pub admin_loopback: bool,
    /// The oldest version of TLS that a listener may speak; none: any that weir can.
    pub min_tls_version: Option<TlsVersion>,
}

// === impl PolicySpec ===

impl PolicySpec {
    /// Whether a floor lies below the one demanded.
    pub fn is_older(&self, floor: TlsVersion) -> bool {
        self.min_tls_version == Some(TlsVersion::V13) && floor == TlsVersion::V12
    }
}
