//! Who is told what happens: channels, what each wants to hear, and who is told when nobody looks. What is sent and how
//! is not decided here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Name;

/// Most channels: more ways than people to be told.
pub const CHANNELS_MAX: usize = 50;

/// Most rules of escalation.
pub const ESCALATIONS_MAX: usize = 50;

/// Most receivers of one mail.
pub const RECEIVERS_MAX: usize = 50;

/// Longest secret, password or address out of a file, in bytes.
pub const SECRET_BYTES_MAX: u64 = 4096;

/// Longest time that one try may take: the admin API, which waits for a test, gives up after 30 s.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// Most tries of one notification.
pub const ATTEMPTS_MAX: u32 = 20;

/// The kinds of events, as streams and notifications call them.
pub const EVENT_KINDS: [&str; 18] = [
    "new_version_detected",
    "rollout_initiated",
    "canary_started",
    "canary_completed",
    "phase_started",
    "phase_completed",
    "gate_changed",
    "rollout_paused",
    "rollout_resumed",
    "rollout_completed",
    "rollback_initiated",
    "rollback_completed",
    "alarm",
    "approval",
    "action",
    "killed",
    "unkilled",
    "kill_switch",
];

/// Everything of `[notifications]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notifications {
    /// Who is told, at most [`CHANNELS_MAX`], each with a name of its own.
    pub channels: Vec<Channel>,
    /// Who is told when nobody looks, at most [`ESCALATIONS_MAX`]; every channel that is named is there.
    pub escalations: Vec<Escalation>,
}

/// One way to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: Name,
    /// How it is told.
    pub way: Way,
    /// What it wants to hear.
    pub wants: Wants,
    /// After an event, further ones of the same kind and service are held back this long, unless they matter more; the
    /// newest of them is told at the end. 0: every one is told.
    pub cooldown: Duration,
    /// Time for one try, at most [`TIMEOUT_MAX`].
    pub timeout: Duration,
    /// Tries of one notification, 1 to [`ATTEMPTS_MAX`].
    pub attempts: u32,
    /// Whether it hears nothing but what is escalated to it.
    pub only_escalated: bool,
}

/// How a channel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The event as JSON by POST; signed when there is a secret.
    Webhook {
        /// Where to.
        url: Address,
        /// What the signature is made with.
        secret: Option<Secret>,
    },
    /// A message as Slack and what is compatible with it take it.
    Slack {
        /// The incoming webhook; whoever knows it may post, so that it is a secret itself.
        url: Address,
    },
    /// A mail.
    Email(Mailbox),
}

/// A mail server, who writes, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Who logs in; never without TLS, but to this machine.
    pub login: Option<Login>,
    /// `weir@example.com` or `weir <weir@example.com>`.
    pub from: String,
    /// The same, 1 to [`RECEIVERS_MAX`].
    pub to: Vec<String>,
}

/// A user of a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte (RFC 8314); port 465.
    Implicit,
    /// TLS after `STARTTLS` (RFC 3207), or nothing is sent; port 587.
    Starttls,
    /// None; port 25.
    None,
}

/// What somebody wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// Words of [`EVENT_KINDS`]; empty: every kind.
    pub events: Vec<&'static str>,
    /// Nothing that matters less.
    pub least: Least,
    /// Of these services only; empty: of all. What concerns all services is told in any case.
    pub services: Vec<Name>,
}

/// How much something must matter at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Least {
    /// Everything.
    Info,
    /// What somebody should look at.
    Warning,
    /// What somebody must look at.
    Critical,
}

/// Who is told when nobody looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// What must have happened.
    pub wants: Wants,
    /// How long nobody looked.
    pub after: Duration,
    /// Who is told; names of channels.
    pub channels: Vec<Name>,
    /// What keeps it from happening.
    pub until: Until,
}

/// What takes an escalation back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Somebody acknowledged it or did something about it, or it came to an end by itself.
    Ended,
    /// Somebody acknowledged it or did something about it.
    Acknowledged,
}

/// Where a webhook is. Only scheme, host and port are ever shown: the rest of it often is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Arc<str>);

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

// === impl Notifications ===

impl Notifications {
    /// The channel of that name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name.as_str() == name)
    }
}

// === impl Way ===

impl Way {
    /// The word of its kind in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Way::Webhook { .. } => "webhook",
            Way::Slack { .. } => "slack",
            Way::Email(_) => "email",
        }
    }

    /// Where it leads, as far as it may be shown.
    pub fn shown(&self) -> String {
        match self {
            Way::Webhook { url, .. } | Way::Slack { url } => url.shown().to_owned(),
            Way::Email(mailbox) => mailbox.to.join(", "),
        }
    }
}

// === impl Least ===

impl Least {
    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Least::Info => "info",
            Least::Warning => "warning",
            Least::Critical => "critical",
        }
    }
}

// === impl Until ===

impl Until {
    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Until::Ended => "ended",
            Until::Acknowledged => "acknowledged",
        }
    }
}

// === impl Address ===

impl Address {
    /// An address that begins with `http://HOST` or `https://HOST`; none for any other, and for one with a user in it.
    pub fn new(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let legal = text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
        (legal && !host.is_empty() && !host.contains('@')).then(|| Self(text.into()))
    }

    /// All of it, for who calls.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port.
    pub fn shown(&self) -> &str {
        let scheme = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[scheme..].find(['/', '?']).map_or(self.0.len(), |at| scheme + at);
        &self.0[..end]
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}/..)", self.shown())
    }
}

// === impl Secret ===

impl Secret {
    /// Keeps it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// What it is, for who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_of_an_address_are_shown() {
        for (text, shown) in [
            ("https://hooks.slack.com/services/T0/B0/secret", Some("https://hooks.slack.com")),
            ("http://127.0.0.1:9000?token=secret", Some("http://127.0.0.1:9000")),
            ("http://[::1]:9000/secret", Some("http://[::1]:9000")),
            ("https://pager", Some("https://pager")),
            ("https://user:secret@pager/", None),
            ("ftp://pager/", None),
            ("https:///secret", None),
            ("https://pager/a b", None),
            ("https://pager/\u{e9}", None),
        ] {
            let address = Address::new(text);
            assert_eq!(address.as_ref().map(Address::shown), shown, "{text}");
            assert!(!format!("{address:?}").contains("secret"), "{address:?}");
        }
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(..)");
    }
}
