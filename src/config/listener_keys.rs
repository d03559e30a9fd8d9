//! The tables of `[listeners.NAME]`, a part of the one table of keys ([`super::keys`]).

use super::keys::{Kind, Table, key};

/// Where clients connect, and what they speak there.
pub(super) static TABLES: &[Table] = &[
    Table {
        path: "listeners.*",
        doc: "a place where clients connect",
        keys: &[
            key("address", Kind::Text, "", "ADDRESS:PORT, or unix:/FILE; needs a restart or `weir upgrade` to change"),
            key("mode", Kind::Text, "\"0660\"", "of a unix socket: permission bits of its file, in octal"),
            key("proxy_protocol", Kind::Table("listeners.*.proxy_protocol"), "", "connections begin with that header"),
            key("service", Kind::Text, "", "with `pool`: its service; default: the only one"),
            key("pool", Kind::Text, "", "a pool that everything on this listener reaches, at any weight"),
            key("networks", Kind::Texts, "[]", "clients that may use it; none named: everybody"),
            key("tls", Kind::Table("listeners.*.tls"), "", "with it the listener speaks TLS, and plain HTTP no more"),
            key("redirect", Kind::Word(&["https"]), "", "every request is answered 308 to https, host and path kept"),
            key("redirect_port", Kind::Integer(1, 65_535), "443", "with `redirect`: the port that it leads to"),
        ],
    },
    Table {
        path: "listeners.*.proxy_protocol",
        doc: "the PROXY protocol, version 1 or 2, from balancers in front",
        keys: &[key("from", Kind::Texts, "", "networks whose connections must begin with it; others send none")],
    },
    Table {
        path: "listeners.*.tls",
        doc: "TLS on a listener; certificates are read again when their files change",
        keys: &[
            key("certificates", Kind::List("listeners.*.tls.certificates[]"), "", "by file; the first is the default"),
            key("certs_dir", Kind::Text, "", "a directory of further certificates with their keys"),
            key("acme", Kind::Texts, "[]", "names whose certificates are ordered and renewed by [acme], one for each"),
            key("min_version", Kind::Word(&["1.2", "1.3"]), "\"1.2\"", "the oldest version that is spoken"),
            key("session_tickets", Kind::Flag, "true", "whether clients may resume sessions; keys change every 6 h"),
            key("client_ca", Kind::Text, "", "authorities of client certificates; with it clients are asked for one"),
            key("client_auth", Kind::Word(&["required", "optional"]), "\"required\"", "whether a client must show one"),
        ],
    },
    Table {
        path: "listeners.*.tls.certificates[]",
        doc: "a certificate with its key",
        keys: &[
            key("cert", Kind::Text, "", "PEM: the certificate, then those that it was issued by"),
            key("key", Kind::Text, "", "PEM: its private key; default: in the same file"),
        ],
    },
];
