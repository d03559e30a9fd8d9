//! Certificates in `weir status`: what is served and until when, and what does not hold.

use std::fmt::Write as _;

use jiff::{Timestamp, Zoned};

use super::screen::{Paint, printable};
use crate::switchboard::status::{CertificateStatus, Status};

/// A certificate that is valid for less than this is shown in yellow.
const SOON_DAYS: i64 = 14;

/// Certificates that are shown for one listener; all are in the JSON.
const SHOWN_MAX: usize = 12;

/// Writes a block for each listener that speaks TLS, and a line for what is not well towards endpoints.
pub(super) fn render(text: &mut String, status: &Status, now: &Zoned, paint: Paint) {
    for tls in &status.tls {
        for failed in &tls.failed {
            let _ = writeln!(text, "\n{} listeners.{}.tls: {}", paint.red("!"), tls.listener, printable(failed));
            let _ = writeln!(text, "    what was served before is served still");
        }
        let _ = writeln!(text, "\n{}  {}", paint.bold(&printable(&tls.listener)), paint.dim("TLS"));
        for certificate in tls.certificates.iter().take(SHOWN_MAX) {
            let others = match certificate.names.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let until = until(certificate, now.timestamp(), paint);
            let _ = writeln!(text, "  {}{others}  {until}", printable(&certificate.name));
        }
        if tls.certificates.len() > SHOWN_MAX {
            let _ = writeln!(text, "  and {} more certificates", tls.certificates.len() - SHOWN_MAX);
        }
    }
    for acme in status.acme.iter().filter(|acme| acme.error.is_some() || acme.state != "held") {
        let name = printable(&acme.name);
        match &acme.error {
            None => {
                let _ = writeln!(text, "\n{} {name}: {}", paint.yellow("!"), printable(&acme.state));
            }
            Some(error) => {
                let _ = writeln!(text, "\n{} {name}: {}", paint.red("!"), printable(error));
                let _ = writeln!(text, "    failed {} times; the next order is due at {}", acme.failures, acme.next);
            }
        }
        if acme.state != "held" {
            let _ = writeln!(text, "    handshakes for it end without a certificate for it until one is issued");
        }
    }
    for tls in &status.upstream_tls {
        let place = printable(&format!("services.{}.pools.{}.tls", tls.service, tls.pool));
        for failed in &tls.failed {
            let _ = writeln!(text, "\n{} {place}: {}", paint.red("!"), printable(failed));
            let _ = writeln!(text, "    what was in use before is in use still");
        }
        if !tls.verified {
            let _ = writeln!(text, "\n{} {place}: insecure_skip_verify is on", paint.red("!"));
            let _ = writeln!(text, "    nobody checks who the endpoints are");
        }
        if let Some(certificate) = &tls.certificate {
            let until = until(certificate, now.timestamp(), paint);
            let _ = writeln!(text, "\n{place}  shows {}  {until}", printable(&certificate.name));
        }
    }
}

fn until(certificate: &CertificateStatus, now: Timestamp, paint: Paint) -> String {
    let days = (certificate.expires_unix_s - now.as_second()).div_euclid(86_400);
    let at = certificate.expires.split('T').next().unwrap_or_default();
    match days {
        ..0 => paint.red(&format!("EXPIRED on {at}")),
        0..SOON_DAYS => paint.yellow(&format!("expires on {at}, in {days} days")),
        _ => paint.dim(&format!("until {at}")),
    }
}
