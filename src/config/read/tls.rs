//! `[listeners.NAME.tls]`: which files a listener serves TLS from; `[services.NAME.pools.NAME.tls]`: how TLS is
//! spoken to endpoints. That the files hold is checked by [`crate::tls`], when they are read.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::acme;
use super::root::not_empty;
use crate::config::cursor::{Fields, shorten};
use crate::model::{
    AcmeSpec, CertificateFiles, ClientAuth, Http2Use, Origin, PoolTlsSpec, Protocol, TlsSpec, TlsVersion,
};

/// Reads the table; relative paths start in `dir`. `acme` is where automatic certificates come from.
pub(super) fn tls(fields: &Fields<'_>, dir: &Path, acme: Option<&AcmeSpec>) -> TlsSpec {
    let file = |fields: &Fields<'_>, key: &'static str| file(fields, key, dir);
    let mut certificates = Vec::new();
    for entry in fields.list("certificates", "listeners.*.tls.certificates[]") {
        let (cert, key) = (file(&entry, "cert"), file(&entry, "key"));
        match cert {
            Some(cert) => certificates.push(CertificateFiles { key: key.unwrap_or_else(|| cert.clone()), cert }),
            None if entry.value("cert").is_none() => {
                let found = format!("{} names no certificate", entry.path);
                entry.sink.local(entry.span.clone(), &entry.path, found, "add cert = \"NAME.crt\"");
            }
            // What is wrong with it has been said.
            None => {}
        }
    }
    let certs_dir = file(fields, "certs_dir");
    let automatic = fields.has("acme");
    if !fields.has("certificates") && !fields.has("certs_dir") && !automatic {
        let found = format!("{} has no certificate", fields.path);
        let help = "add certificates = [{ cert = \"NAME.crt\", key = \"NAME.key\" }], certs_dir = \"certs\", or \
                    acme = [\"shop.example\"]";
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
    } else if certificates.is_empty() && !fields.has("certs_dir") && !automatic {
        let path = fields.path_of("certificates");
        let help = "name at least one, or a certs_dir";
        fields.sink.whole(fields.key_span("certificates"), &path, format!("{path} is empty"), help);
    }
    let min_version = match fields.word("min_version").map(|word| word.value) {
        Some("1.3") => TlsVersion::V13,
        _ => TlsVersion::V12,
    };
    let optional = fields.word("client_auth").is_some_and(|word| word.value == "optional");
    let client_auth = file(fields, "client_ca").map(|ca| ClientAuth { ca, optional });
    if let Some(value) = fields.value("client_auth").filter(|_| fields.value("client_ca").is_none()) {
        let found = format!("{} without the authorities that clients' certificates are issued by", value.path);
        fields.sink.whole(value.span, &value.path, found, "add client_ca = \"ca.pem\"");
    }
    let session_tickets = fields.flag("session_tickets").unwrap_or(true);
    TlsSpec { certificates, certs_dir, acme: acme::kept(fields, acme), min_version, session_tickets, client_auth }
}

fn file(fields: &Fields<'_>, key: &'static str, dir: &Path) -> Option<PathBuf> {
    fields.text(key).and_then(|text| not_empty(fields, text)).map(|text| dir.join(text))
}

/// Reads the table of a pool, if there is one; relative paths start in `dir`.
pub(super) fn pool(pool: &Fields<'_>, origins: &[Origin], dir: &Path) -> PoolTlsSpec {
    let present = pool.has("tls");
    let fields = pool.table("tls", "services.*.pools.*.tls");
    let is_https = |origin: &&Origin| origin.protocol == Protocol::Https;
    if present && !origins.is_empty() && !origins.iter().any(|origin| is_https(&origin)) {
        let found = format!("{} is of no use: the pool has no https endpoint", fields.path);
        fields.sink.whole(fields.span.clone(), &fields.path, found, "write endpoints = [\"https://HOST:PORT\"]");
    }
    let name = fields.text("name").and_then(|text| {
        if server_name(&text.value).is_none() {
            let found = format!("\"{}\" is no name of a server", shorten(&text.value));
            fields.refuse(&text, found, "use a host name such as \"app.example\", or an address");
            return None;
        }
        Some(text.value)
    });
    if name.is_none() && !fields.has("name") {
        for origin in origins.iter().filter(is_https).filter(|origin| server_name(&origin.host).is_none()) {
            let found = format!("{origin}: no certificate can be for the name \"{}\"", shorten(&origin.host));
            let help = format!("say whose certificate it shows: [{}] name = \"app.example\"", fields.path);
            pool.sink.whole(pool.key_span("endpoints"), &pool.path_of("endpoints"), found, help);
        }
    }
    let (cert, key) = (file(&fields, "cert", dir), file(&fields, "key", dir));
    if let Some(value) = fields.value("key").filter(|_| !fields.has("cert")) {
        let found = format!("{} without the certificate that it is for", value.path);
        fields.sink.whole(value.span, &value.path, found, "add cert = \"weir.crt\"");
    }
    let insecure_skip_verify = fields.flag("insecure_skip_verify").unwrap_or(false);
    if insecure_skip_verify {
        let path = fields.path_of("insecure_skip_verify");
        let found = format!("{path}: nobody checks who the endpoints are; who gets in between reads and changes all");
        let help = "take it out, and name the authority of the endpoints: roots = \"ca.pem\"";
        fields.sink.note(fields.key_span("insecure_skip_verify"), &path, found, help);
    }
    PoolTlsSpec {
        roots: file(&fields, "roots", dir),
        name,
        identity: cert.map(|cert| CertificateFiles { key: key.unwrap_or_else(|| cert.clone()), cert }),
        insecure_skip_verify,
        http2: match fields.word("http2").map(|word| word.value) {
            Some("off") => Http2Use::Off,
            Some("only") => Http2Use::Only,
            _ => Http2Use::Auto,
        },
    }
}

/// What TLS can ask for; a dot at the end, which names the root, is none of its business.
fn server_name(text: &str) -> Option<ServerName<'_>> {
    ServerName::try_from(text.strip_suffix('.').unwrap_or(text)).ok()
}
