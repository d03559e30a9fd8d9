//! Automatic certificates (ACME, RFC 8555): when one is ordered, how an order goes, and what is kept of it.
//!
//! - [`schedule`]: when the next order of a name is due; pure
//! - [`shelf`]: what is kept on disk: accounts, certificates, what was tried
//! - [`order`]: one order, from the account to the certificate
//! - [`keeper`]: the task that keeps every name's certificate fresh, one order after the other
//!
//! It serves nothing: certificates are files, which listeners look at as at any other ([`crate::tls::site`]);
//! challenges are answered by [`crate::proxy`] from [`crate::tls::challenges`]. An authority that fails takes nothing
//! away. A build without the feature `acme` has none of it.

#![cfg(feature = "acme")]

pub mod keeper;
mod order;
mod schedule;
mod shelf;

use std::path::PathBuf;

use crate::outside::authority::AuthorityError;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The state cannot be kept, so nothing is ordered: what cannot be kept would be ordered again and again.
    #[error("{}: cannot be written: {why}", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Something that was kept cannot be read.
    #[error("{}: cannot be read: {why}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no way to the authority.
    #[error(transparent)]
    Way(#[from] AuthorityError),
    /// It does not answer, or answers what cannot be understood.
    #[error("no use of the authority: {0}")]
    Broken(String),
    /// It refuses.
    #[error("the authority refuses: {}", .0.words)]
    Refused(Refused),
    /// It does not look at names in the way that is configured.
    #[error("the authority offers no {0} for this name")]
    NoChallenge(&'static str),
    /// Too many challenges are pending.
    #[error("too many challenges are pending")]
    Full,
    /// It has not refused the order, and has not issued either.
    #[error("the authority is not done with the order yet")]
    Slow,
    /// It took too long.
    #[error("the order was not done within {0} s")]
    Late(u64),
    /// No key or request could be made.
    #[error("no certificate can be asked for: {0}")]
    Request(String),
    /// What it issued does not hold.
    #[error("what the authority issued cannot be used: {0}")]
    Unusable(String),
    /// It failed inside weir.
    #[error("it failed inside weir: {0}")]
    Inside(String),
}

/// What an authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The kind (RFC 8555 §6.7), such as `rateLimited`; empty when it does not say.
    pub kind: String,
    /// In words, bounded and printable.
    pub words: String,
}

/// Most characters of what an authority says; it goes to the log, to status and to the disk.
const WORDS_MAX: usize = 400;

/// What the kinds of errors begin with.
const URN: &str = "urn:ietf:params:acme:error:";

/// Kinds that refuse a call and not the order (RFC 8555 §6.7).
const PASSING: [&str; 3] = ["badNonce", "rateLimited", "serverInternal"];

// === impl AcmeError ===

impl AcmeError {
    /// Whether the order may still come to a good end, so that another one would be one too many.
    fn spares_order(&self) -> bool {
        match self {
            Self::Refused(refused) => PASSING.contains(&&*refused.kind),
            Self::NoChallenge(_) | Self::Request(_) | Self::Unusable(_) => false,
            Self::State { .. } | Self::Unread { .. } | Self::Way(_) | Self::Broken(_) => true,
            Self::Full | Self::Slow | Self::Late(_) | Self::Inside(_) => true,
        }
    }
}

// === impl Refused ===

impl From<&instant_acme::Problem> for Refused {
    fn from(problem: &instant_acme::Problem) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = printable(kind.strip_prefix(URN).unwrap_or(kind), 60);
        let mut words = problem.detail.clone().unwrap_or_default();
        for sub in &problem.subproblems {
            words = format!("{words}; {}", sub.detail.as_deref().unwrap_or_default());
        }
        let words = printable(&words, WORDS_MAX);
        let words = match (kind.is_empty(), words.is_empty()) {
            (true, true) => "it does not say why".to_owned(),
            (true, false) => words,
            (false, true) => kind.clone(),
            (false, false) => format!("{kind}: {words}"),
        };
        Self { kind, words }
    }
}

impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::Refused((&problem).into()),
            instant_acme::Error::Timeout(_) => Self::Slow,
            other => Self::Broken(printable(&other.to_string(), WORDS_MAX)),
        }
    }
}

/// At most so many characters, none of which moves a cursor.
fn printable(text: &str, max: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.clone().take(max).collect();
    if plain.count() > max {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_says_is_bounded_and_printable() {
        let problem = |kind: Option<&str>, detail: Option<&str>| {
            let value = serde_json::json!({ "type": kind, "detail": detail });
            Refused::from(&serde_json::from_value::<instant_acme::Problem>(value).expect("a problem")).words
        };
        let urn = "urn:ietf:params:acme:error:rateLimited";
        assert_eq!(problem(Some(urn), Some("too\nmany\x1b[2J")), "rateLimited: too many [2J");
        assert_eq!(problem(Some(urn), None), "rateLimited");
        assert_eq!(problem(None, None), "it does not say why");
        assert!(problem(None, Some(&"x".repeat(9_999))).len() < WORDS_MAX + 4);
    }
}
