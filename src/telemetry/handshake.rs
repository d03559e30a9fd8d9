//! What is counted of the TLS handshakes on a listener, per worker.

use super::count::Count;

/// One worker's counts.
#[derive(Debug, Default)]
pub struct HandshakeShard {
    done: [[Count; 2]; 2],
    failed: [Count; HandshakeFault::ALL.len()],
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The client left.
    Gone,
    /// It took too long.
    Timeout,
    /// The client speaks plain HTTP.
    PlainHttp,
    /// No certificate is there that could be shown: none was issued yet.
    NoCertificate,
    /// There is no version, suite, group or protocol that both sides have.
    Unlike,
    /// The client showed no certificate, or one that does not hold.
    ClientCertificate,
    /// The client refused weir's certificate, or ended the handshake for another reason of its own.
    Alert,
    /// What came is no TLS, or breaks its rules.
    Malformed,
}

/// Which handshake came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeKind {
    /// Whether TLS 1.3 is spoken, rather than 1.2.
    pub v13: bool,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

// === impl HandshakeShard ===

impl HandshakeShard {
    /// Counts one that came to its end; only the owning thread may call it.
    pub fn done(&self, kind: HandshakeKind) {
        self.count(kind).add(1);
    }

    /// Counts one that failed; only the owning thread may call it.
    pub fn failed(&self, fault: HandshakeFault) {
        self.failed[fault as usize].add(1);
    }

    /// How many of that kind came to their end.
    pub fn count(&self, kind: HandshakeKind) -> &Count {
        &self.done[usize::from(kind.v13)][usize::from(kind.resumed)]
    }

    /// How many failed by that fault.
    pub fn failures(&self, fault: HandshakeFault) -> &Count {
        &self.failed[fault as usize]
    }
}

// === impl HandshakeFault ===

impl HandshakeFault {
    /// All of them, in declaration order.
    pub const ALL: [Self; 8] = [
        Self::Gone,
        Self::Timeout,
        Self::PlainHttp,
        Self::NoCertificate,
        Self::Unlike,
        Self::ClientCertificate,
        Self::Alert,
        Self::Malformed,
    ];

    /// Why rustls gave a handshake up.
    pub fn of(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Unlike,
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => Self::ClientCertificate,
            Error::AlertReceived(_) => Self::Alert,
            // What rustls 0.23 says when it is given no certificate to show.
            Error::General(said) if said == "no server certificate chain resolved" => Self::NoCertificate,
            _ => Self::Malformed,
        }
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::PlainHttp => "plain_http",
            Self::NoCertificate => "no_certificate",
            Self::Unlike => "unlike",
            Self::ClientCertificate => "client_certificate",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
        }
    }
}

// === impl HandshakeKind ===

impl HandshakeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self { v13: true, resumed: false },
        Self { v13: true, resumed: true },
        Self { v13: false, resumed: false },
        Self { v13: false, resumed: true },
    ];

    /// The version, as metrics name it.
    pub fn version(self) -> &'static str {
        if self.v13 { "1.3" } else { "1.2" }
    }

    /// Whether it was resumed, as metrics name it.
    pub fn resumed(self) -> &'static str {
        if self.resumed { "true" } else { "false" }
    }
}
