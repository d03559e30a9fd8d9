//! The tables of `[acme]`, a part of the one table of keys ([`super::keys`]).

use super::keys::{Kind, Table, key};

/// Where automatic certificates come from.
pub(super) static TABLES: &[Table] = &[
    Table {
        path: "acme",
        doc: "automatic certificates (RFC 8555), for the names of [listeners.NAME.tls] acme",
        keys: &[
            key("agree_to_terms", Kind::Flag, "", "that you agree to the authority's terms; it must be true"),
            key("directory", Kind::Text, "\"https://acme-v02.api.letsencrypt.org/directory\"", "the authority"),
            key("contact", Kind::Texts, "[]", "mail addresses that the authority may write to"),
            key("challenge", Kind::Word(&["http-01", "tls-alpn-01"]), "\"http-01\"", "port 80, or port 443"),
            key("state_dir", Kind::Text, "\"acme\"", "account keys and certificates; only weir's user may read it"),
            key("roots", Kind::Text, "", "authorities that the directory's own certificate must be of"),
            key("external_account", Kind::Table("acme.external_account"), "", "an account that the authority asks for"),
            key("renew_before", Kind::Duration(1000), "", "before the end; default: when a third of its time is left"),
            key("retry_min", Kind::Duration(100), "\"2m\"", "the wait after a first failed order; it doubles"),
            key("retry_max", Kind::Duration(100), "\"12h\"", "the longest wait, unless the authority asks for more"),
        ],
    },
    Table {
        path: "acme.external_account",
        doc: "an account elsewhere that the one at the authority is bound to (RFC 8555 §7.3.4)",
        keys: &[
            key("key_id", Kind::Text, "", "what the authority calls its key"),
            key("key_file", Kind::Text, "", "the file that holds the key, in base64url"),
        ],
    },
];
