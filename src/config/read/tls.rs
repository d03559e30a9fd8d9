//! `[listeners.NAME.tls]`: which files a listener serves TLS from. That they hold is checked by [`crate::tls`], when
//! they are read.

use std::path::{Path, PathBuf};

use super::root::not_empty;
use crate::config::cursor::Fields;
use crate::model::{CertificateFiles, ClientAuth, TlsSpec, TlsVersion};

/// Reads the table; relative paths start in `dir`.
pub(super) fn tls(fields: &Fields<'_>, dir: &Path) -> TlsSpec {
    let file = |fields: &Fields<'_>, key: &'static str| -> Option<PathBuf> {
        fields.text(key).and_then(|text| not_empty(fields, text)).map(|text| dir.join(text))
    };
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
    if fields.value("certificates").is_none() && fields.value("certs_dir").is_none() {
        let found = format!("{} has no certificate", fields.path);
        let help = "add certificates = [{ cert = \"NAME.crt\", key = \"NAME.key\" }], or certs_dir = \"certs\"";
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
    } else if certificates.is_empty() && fields.value("certs_dir").is_none() {
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
    TlsSpec { certificates, certs_dir, min_version, session_tickets, client_auth }
}
