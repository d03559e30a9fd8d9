//! The keys of `[policy]`; a part of the table of keys.

use super::keys::{Kind, Table, key};

/// `[policy]`.
pub(super) const POLICY: Table = Table {
    path: "policy",
    doc: "what the rest of the file must keep to; a file that breaks it is refused",
    keys: &[
        key("endpoints_tls", Kind::Flag, "false", "every endpoint is https:// and verified, or a socket (unix:)"),
        key("listeners_tls", Kind::Flag, "false", "every TCP listener speaks TLS or redirects to https"),
        key("secure_cookies", Kind::Flag, "false", "affinity cookies are Secure, always"),
        key("admin", Kind::Word(&["any", "tls", "loopback"]), "\"any\"", "tls: TLS off loopback; loopback: only there"),
        key("min_tls_version", Kind::Word(&["1.2", "1.3"]), "\"1.2\"", "no listener may speak an older version"),
        key("no_leniency", Kind::Flag, "false", "neither insecure_skip_verify nor glitches_max = 0"),
    ],
};
