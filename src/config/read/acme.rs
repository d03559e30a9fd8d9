//! `[acme]`: where automatic certificates come from, and `[listeners.NAME.tls] acme`: for which names. That the state
//! can be written is checked where it is.

use std::path::Path;
use std::time::Duration;

use super::root::not_empty;
use crate::config::cursor::{At, Fields, shorten};
use crate::model::acme::{self, Kept, LETS_ENCRYPT};
use crate::model::{AcmeSpec, ChallengeKind, ExternalAccount, ListenerSpec, TlsSpec};

/// Below the directory of the configuration.
const STATE_DIR: &str = "acme";

/// Five failed orders within the first hour: what Let's Encrypt allows for a name.
const RETRY: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(12 * 3600));

/// Longest name of a host (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Reads the table, if there is one; relative paths start in `dir`. Its names are those of the listeners.
pub(super) fn acme(root: &Fields<'_>, dir: &Path) -> Option<AcmeSpec> {
    let fields = root.table_if_present("acme", "acme")?;
    let path = |key| fields.text(key).and_then(|text| not_empty(&fields, text)).map(|text| dir.join(text));
    if fields.flag("agree_to_terms") != Some(true) {
        let found = format!("{} does not say that you agree to the terms of the authority", fields.path);
        let help = "read them, and add agree_to_terms = true";
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
    }
    let (state_dir, roots) = (path("state_dir").unwrap_or_else(|| dir.join(STATE_DIR)), path("roots"));
    let (retry_min, retry_max) =
        (fields.duration("retry_min").unwrap_or(RETRY.0), fields.duration("retry_max").unwrap_or(RETRY.1));
    if retry_min > retry_max {
        let key = if fields.has("retry_max") { "retry_max" } else { "retry_min" };
        let help = "retry_max must be at least as long";
        fields.sink.whole(fields.key_span(key), &fields.path_of(key), "acme: retry_min is longer than retry_max", help);
    }
    let challenge = match fields.word("challenge").map(|word| word.value) {
        Some("tls-alpn-01") => ChallengeKind::TlsAlpn01,
        _ => ChallengeKind::Http01,
    };
    Some(AcmeSpec {
        directory: directory(&fields),
        contact: fields.texts("contact").into_iter().filter_map(|text| contact(&fields, text)).collect(),
        challenge,
        state_dir,
        roots,
        external_account: external_account(&fields, dir),
        renew_before: fields.duration("renew_before"),
        retry_min,
        retry_max,
        names: Vec::new(),
    })
}

fn directory(fields: &Fields<'_>) -> String {
    let Some(text) = fields.text("directory") else { return LETS_ENCRYPT.into() };
    let url: Option<http::Uri> = text.value.parse().ok();
    let fits = |url: &http::Uri| {
        let bare = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        url.scheme_str() == Some("https") && bare && url.host().is_some_and(|host| !host.is_empty())
    };
    if !url.as_ref().is_some_and(fits) {
        let found = format!("\"{}\" is not the directory of an authority", shorten(&text.value));
        fields.refuse(&text, found, format!("write an https address such as \"{LETS_ENCRYPT}\""));
    }
    text.value
}

fn contact(fields: &Fields<'_>, text: At<String>) -> Option<String> {
    let address = text.value.strip_prefix("mailto:").unwrap_or(&text.value);
    let fits = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !fits || address.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        fields.refuse(&text, format!("\"{}\" is no mail address", shorten(&text.value)), "write \"ops@shop.example\"");
        return None;
    }
    Some(format!("mailto:{address}"))
}

fn external_account(fields: &Fields<'_>, dir: &Path) -> Option<ExternalAccount> {
    let table = fields.table_if_present("external_account", "acme.external_account")?;
    let key_id = table.text("key_id").map(|text| text.value);
    let key_file = table.text("key_file").and_then(|text| not_empty(&table, text)).map(|file| dir.join(file));
    if !table.has("key_id") || !table.has("key_file") {
        let found = format!("{} needs both key_id and key_file", table.path);
        table.sink.local(table.span.clone(), &table.path, found, "the authority gave you both");
    }
    Some(ExternalAccount { key_id: key_id?, key_file: key_file? })
}

/// The names that a listener has certificates kept for.
pub(super) fn kept(fields: &Fields<'_>, acme: Option<&AcmeSpec>) -> Vec<Kept> {
    let names = fields.texts("acme");
    if let Some(value) = fields.value("acme").filter(|_| acme.is_none()) {
        let found = format!("{} without [acme], which says where certificates come from", value.path);
        fields.sink.whole(value.span, &value.path, found, "add [acme] with agree_to_terms = true");
    }
    let home = acme.map(AcmeSpec::home).unwrap_or_default();
    let mut kept: Vec<Kept> = Vec::new();
    for text in names {
        let name = text.value.trim_end_matches('.').to_ascii_lowercase();
        if let Some((found, help)) = fault(&name) {
            fields.refuse(&text, format!("\"{}\" {found}", shorten(&text.value)), help);
        } else if !kept.iter().any(|other| other.name == name) {
            kept.push(Kept { file: acme::certificate_file(&home, &name), name });
        }
    }
    kept
}

/// Why no certificate can be had for a name.
fn fault(name: &str) -> Option<(&'static str, &'static str)> {
    let label = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        let legal = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        (1..=63).contains(&label.len()) && legal && !edges
    };
    if name.starts_with("*.") {
        return Some(("is a wildcard, which neither http-01 nor tls-alpn-01 can prove", "name each host"));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some(("is an address; certificates are ordered for names", "write a host name"));
    }
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
        return Some(("is not the name of a host", "write one such as \"shop.example\", beyond ASCII as xn--..."));
    }
    None
}

/// Gathers the names, and says what does not go together.
pub(super) fn finish<'l>(
    root: &Fields<'_>,
    acme: Option<AcmeSpec>,
    listeners: &[ListenerSpec],
    all: impl Iterator<Item = &'l TlsSpec>,
) -> Option<AcmeSpec> {
    let mut acme = acme?;
    acme.names = all.flat_map(|tls| tls.acme.iter().map(|kept| kept.name.clone())).collect();
    acme.names.sort();
    acme.names.dedup();
    let span = root.key_span("acme");
    if acme.names.is_empty() {
        let help = "add acme = [\"shop.example\"] to [listeners.NAME.tls]";
        root.sink.note(span, "acme", "no listener asks [acme] for a certificate", help);
        return Some(acme);
    }
    if !cfg!(feature = "acme") {
        let found = "this weir was built without automatic certificates";
        root.sink.whole(span.clone(), "acme", found, "build it with --features acme, or take [acme] out");
    }
    let plain = |listener: &ListenerSpec| listener.tls.is_none() && listener.address.path().is_none();
    if acme.challenge == ChallengeKind::Http01 && !listeners.iter().any(plain) {
        let found = "http-01 is looked at over plain HTTP on port 80, and no listener speaks that";
        let help = "add a listener such as [listeners.plain] address = \"0.0.0.0:80\", redirect = \"https\"; or write \
                    challenge = \"tls-alpn-01\"";
        root.sink.whole(span, "acme.challenge", found, help);
    }
    Some(acme)
}
