//! What is counted of the TLS handshakes with an endpoint, per worker.

use super::count::Count;

/// One worker's counts.
#[derive(Debug, Default)]
pub struct UplinkShard {
    /// New sessions.
    pub full: Count,
    /// Earlier sessions that were resumed.
    pub resumed: Count,
    failed: [Count; UplinkFault::ALL.len()],
}

/// Why a handshake with an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkFault {
    /// The endpoint closed or reset the connection.
    Closed,
    /// It took too long.
    Timeout,
    /// Its certificate is for other names.
    Name,
    /// Its certificate is not valid yet, or no longer.
    Expired,
    /// Its certificate was issued by nobody who is trusted.
    Untrusted,
    /// Its certificate does not hold for another reason.
    Certificate,
    /// The endpoint ended the handshake with an alert.
    Alert,
    /// There is no version, suite, group or protocol that both sides have; or HTTP/2 is wanted and was not chosen.
    Unlike,
    /// What came is no TLS, or breaks its rules.
    Malformed,
}

// === impl UplinkShard ===

impl UplinkShard {
    /// Counts one that came to its end; only the owning thread may call it.
    pub fn done(&self, resumed: bool) {
        if resumed { self.resumed.add(1) } else { self.full.add(1) }
    }

    /// Counts one that failed; only the owning thread may call it.
    pub fn failed(&self, fault: UplinkFault) {
        self.failed[fault as usize].add(1);
    }

    /// How many failed by that fault.
    pub fn failures(&self, fault: UplinkFault) -> &Count {
        &self.failed[fault as usize]
    }
}

// === impl UplinkFault ===

impl UplinkFault {
    /// All of them, in declaration order.
    pub const ALL: [Self; 9] = [
        Self::Closed,
        Self::Timeout,
        Self::Name,
        Self::Expired,
        Self::Untrusted,
        Self::Certificate,
        Self::Alert,
        Self::Unlike,
        Self::Malformed,
    ];

    /// As logs, answers and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "tls_closed",
            Self::Timeout => "tls_timeout",
            Self::Name => "tls_name",
            Self::Expired => "tls_expired",
            Self::Untrusted => "tls_untrusted",
            Self::Certificate => "tls_certificate",
            Self::Alert => "tls_alert",
            Self::Unlike => "tls_unlike",
            Self::Malformed => "tls_malformed",
        }
    }

    /// What rustls says, in these words.
    pub fn of(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError, Error};
        match error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                // An authority of the same name and another key is another authority.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                _ => Self::Certificate,
            },
            Error::AlertReceived(AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(_)
            | Error::NoApplicationProtocol => Self::Unlike,
            Error::AlertReceived(_) => Self::Alert,
            Error::NoCertificatesPresented => Self::Certificate,
            _ => Self::Malformed,
        }
    }
}
