//! `[notifications]`: channels and escalations, with the secrets that their files hold.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lettre::message::Mailbox as MailAddress;

use crate::config::cursor::{At, Fields, meant, shorten};
use crate::model::notify::{
    Address, CHANNELS_MAX, Channel, ESCALATIONS_MAX, Escalation, Least, Login, MailTls, Mailbox, Notifications,
    RECEIVERS_MAX, SECRET_BYTES_MAX, Secret, TIMEOUT_MAX, Until, Wants, Way,
};
use crate::model::{Name, ServiceSpec};

/// Held back by default: as long as a person takes to look (and as in the tools that people come from).
const COOLDOWN: Duration = Duration::from_secs(300);

/// Time for one try.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tries: with the time between them (1, 2, 4, 8, 16 s) a receiver may be away for half a minute.
const ATTEMPTS: u32 = 6;

type Services<'s> = &'s [At<ServiceSpec>];

pub(super) fn notifications(fields: &Fields<'_>, dir: &Path, services: Services<'_>) -> Notifications {
    let mut channels: Vec<Channel> = Vec::new();
    // Names that stand in the file, also of channels that do not hold, so that one mistake is told once.
    let mut names: Vec<String> = Vec::new();
    for entry in fields.list("channels", "notifications.channels[]") {
        let Some(name) = name(&entry) else { continue };
        if names.contains(&name.value.to_string()) {
            let found = format!("channel \"{}\" is named twice", name.value);
            entry.sink.local(name.span.clone(), &name.path, found, "give each its own name");
        }
        names.push(name.value.to_string());
        channels.extend(channel(&entry, name.value, dir, services));
    }
    most(fields, "channels", channels.len(), CHANNELS_MAX);
    let entries = fields.list("escalations", "notifications.escalations[]");
    let escalations: Vec<Escalation> = entries.iter().filter_map(|entry| escalation(entry, &names, services)).collect();
    most(fields, "escalations", escalations.len(), ESCALATIONS_MAX);
    let quiet = |channel: &&Channel| {
        channel.only_escalated && !escalations.iter().any(|rule| rule.channels.contains(&channel.name))
    };
    if let Some(channel) = channels.iter().find(quiet) {
        let found = format!("channel \"{}\" is only_escalated and nothing is escalated to it", channel.name);
        fields.sink.note(fields.key_span("channels"), &fields.path, found, "name it in an escalation");
    }
    Notifications { channels, escalations }
}

fn most(fields: &Fields<'_>, key: &'static str, count: usize, most: usize) {
    if count > most {
        let found = format!("{count} {key}; at most {most}");
        fields.sink.whole(fields.key_span(key), &fields.path_of(key), found, "take some out");
    }
}

/// A value that must be there.
fn needed<T>(fields: &Fields<'_>, key: &str, value: Option<T>, example: &str) -> Option<T> {
    if value.is_none() && !fields.has(key) {
        let found = format!("{} has no {key}", fields.path);
        fields.sink.local(fields.span.clone(), &fields.path, found, format!("add {key} = {example}"));
    }
    value
}

fn name(fields: &Fields<'_>) -> Option<At<Name>> {
    let text = needed(fields, "name", fields.text("name"), "\"ops\"")?;
    match Name::new(&text.value) {
        Ok(name) => Some(text.with(name)),
        Err(_) => {
            let found = format!("\"{}\" is not a name", shorten(&text.value));
            let help = "use 1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit";
            fields.refuse(&text, found, help);
            None
        }
    }
}

fn channel(fields: &Fields<'_>, name: Name, dir: &Path, services: Services<'_>) -> Option<Channel> {
    let kind = needed(fields, "kind", fields.word("kind"), "\"webhook\", \"slack\" or \"email\"").map(|it| it.value);
    let least = if fields.has("events") { Least::Info } else { Least::Warning };
    let wants = wants(fields, least, services);
    let timeout = fields.duration("timeout").unwrap_or(TIMEOUT);
    if timeout > TIMEOUT_MAX {
        let found = format!("{} is longer than {} s", fields.path_of("timeout"), TIMEOUT_MAX.as_secs());
        let span = fields.key_span("timeout");
        fields.sink.local(span, &fields.path_of("timeout"), found, "who does not answer by then is tried again later");
    }
    let attempts = fields.integer("attempts").map_or(ATTEMPTS, |n| n as u32);
    let cooldown = fields.duration("cooldown").unwrap_or(COOLDOWN);
    let only_escalated = fields.flag("only_escalated").unwrap_or(false);
    let way = match kind? {
        "webhook" => {
            refuse(fields, "webhook", &["host", "port", "tls", "user", "password_file", "from", "to"]);
            let secret = fields.text("secret_file").map(|file| secret(fields, &file, dir));
            let (url, secret) = (url(fields, dir), secret.map_or(Some(None), |secret| secret.map(Some)));
            Way::Webhook { url: url?, secret: secret? }
        }
        "slack" => {
            let not = ["secret_file", "host", "port", "tls", "user", "password_file", "from", "to"];
            refuse(fields, "slack", &not);
            Way::Slack { url: url(fields, dir)? }
        }
        _ => {
            refuse(fields, "email", &["url", "url_file", "secret_file"]);
            Way::Email(mailbox(fields, dir)?)
        }
    };
    Some(Channel { name, way, wants, cooldown, timeout, attempts, only_escalated })
}

/// Keys that say nothing in a channel of this kind.
fn refuse(fields: &Fields<'_>, kind: &str, keys: &[&'static str]) {
    for key in keys.iter().filter(|key| fields.has(key)) {
        let found = format!("{} is {kind}, which has no {key}", fields.path);
        fields.sink.local(fields.key_span(key), &fields.path_of(key), found, "take it out, or name another kind");
    }
}

fn wants(fields: &Fields<'_>, least: Least, services: Services<'_>) -> Wants {
    let least = match fields.word("min_severity").map(|word| word.value) {
        Some("info") => Least::Info,
        Some("warning") => Least::Warning,
        Some("critical") => Least::Critical,
        _ => least,
    };
    let service = |text: At<String>| {
        let found = services.iter().find(|service| service.value.name.as_str() == text.value);
        if found.is_none() {
            let help = meant(&text.value, services.iter().map(|service| service.value.name.as_str()));
            fields.refuse(&text, format!("there is no service \"{}\"", shorten(&text.value)), help);
        }
        found.map(|service| service.value.name.clone())
    };
    let services = fields.texts("services").into_iter().filter_map(service).collect();
    Wants { events: fields.words("events"), least, services }
}

fn url(fields: &Fields<'_>, dir: &Path) -> Option<Address> {
    let file = fields.text("url_file");
    let text = fields.text("url");
    if let (Some(_), Some(file)) = (&text, &file) {
        let found = format!("{} has both url and url_file", fields.path);
        fields.sink.local(file.span.clone(), &file.path, found, "keep one of them");
    }
    if text.is_none() && file.is_none() {
        return needed(fields, "url", None, "\"https://…\", or url_file");
    }
    let (at, text) = match (&text, &file) {
        (Some(text), _) => (text, text.value.clone()),
        (None, Some(file)) => (file, secret(fields, file, dir)?.reveal().to_owned()),
        (None, None) => return None,
    };
    let address = Address::new(&text).filter(|_| text.parse::<http::Uri>().is_ok());
    if address.is_none() {
        // It is not quoted: it may be one that is secret and mistyped.
        let help = "write https://HOST/PATH, without a user or a fragment";
        fields.sink.local_unquoted(at, "is not the address of a webhook", help);
    }
    address
}

/// What a file holds on its only line.
pub(super) fn secret(fields: &Fields<'_>, file: &At<String>, dir: &Path) -> Option<Secret> {
    match read_secret(&dir.join(&file.value)) {
        Ok(text) => Some(Secret::new(text.trim())),
        Err(why) => {
            let help = "name a file that holds it on one line";
            fields.refuse(file, format!("\"{}\" {why}", shorten(&file.value)), help);
            None
        }
    }
}

/// Only regular files of a sane size: a device or a pipe would hang or fill the reader.
fn read_secret(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({error})");
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
        return Err("is not a small regular file".into());
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    let one_line = !text.trim().is_empty() && !text.trim().contains(char::is_control);
    if one_line { Ok(text) } else { Err("does not hold one line".into()) }
}

fn mailbox(fields: &Fields<'_>, dir: &Path) -> Option<Mailbox> {
    let tls = match fields.word("tls").map(|word| word.value) {
        Some("implicit") => MailTls::Implicit,
        Some("none") => MailTls::None,
        _ => MailTls::Starttls,
    };
    let port = fields.integer("port").map(|port| port as u16);
    let host = needed(fields, "host", fields.text("host"), "\"smtp.example.com\"").filter(|host| {
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_name = !host.value.is_empty() && host.value.bytes().all(name);
        let legal = is_name || host.value.parse::<IpAddr>().is_ok();
        if !legal {
            let found = format!("\"{}\" is not the name of a server", shorten(&host.value));
            fields.refuse(host, found, "write a host name or an address; the port has a key of its own");
        }
        legal
    });
    let from = needed(fields, "from", fields.text("from"), "\"weir@example.com\"");
    let from = from.and_then(|from| mail_address(fields, from));
    let to = fields.texts("to");
    needed(fields, "to", (!to.is_empty()).then_some(()), "[\"ops@example.com\"]");
    most(fields, "to", to.len(), RECEIVERS_MAX);
    let written = to.len();
    let to: Vec<String> = to.into_iter().filter_map(|to| mail_address(fields, to)).collect();
    let login = login(fields, dir);
    let host = host?;
    let local = host.value == "localhost" || host.value.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if login.is_some() && tls == MailTls::None && !local {
        let found = format!("{} would send its password without TLS", fields.path);
        let help = "use tls = \"starttls\" or \"implicit\", or take user and password_file out";
        fields.sink.local(fields.key_span("tls"), &fields.path_of("tls"), found, help);
    }
    let port = port.unwrap_or(match tls {
        MailTls::Implicit => 465,
        MailTls::Starttls => 587,
        MailTls::None => 25,
    });
    let whole = !to.is_empty() && to.len() == written;
    Some(Mailbox { host: host.value, port, tls, login, from: from?, to }).filter(|_| whole)
}

fn mail_address(fields: &Fields<'_>, text: At<String>) -> Option<String> {
    if text.value.parse::<MailAddress>().is_err() {
        let found = format!("\"{}\" is not a mail address", shorten(&text.value));
        fields.refuse(&text, found, "write ops@example.com, or Ops <ops@example.com>");
        return None;
    }
    Some(text.value)
}

fn login(fields: &Fields<'_>, dir: &Path) -> Option<Login> {
    match (fields.text("user"), fields.text("password_file")) {
        (Some(user), Some(file)) => Some(Login { user: user.value, password: secret(fields, &file, dir)? }),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            let found = format!("{} has only one of user and password_file", fields.path);
            fields.sink.local(one.span, &one.path, found, "give both, or neither");
            None
        }
    }
}

fn escalation(fields: &Fields<'_>, names: &[String], services: Services<'_>) -> Option<Escalation> {
    let wants = wants(fields, Least::Critical, services);
    let after = needed(fields, "after", fields.duration("after"), "\"10m\"");
    let texts = fields.texts("channels");
    needed(fields, "channels", (!texts.is_empty()).then_some(()), "[\"on-call\"]");
    let known = |text: At<String>| {
        if names.contains(&text.value) {
            return Name::new(&text.value).ok();
        }
        let help = meant(&text.value, names.iter().map(String::as_str));
        fields.refuse(&text, format!("there is no channel \"{}\"", shorten(&text.value)), help);
        None
    };
    let channels: Vec<Name> = texts.into_iter().filter_map(known).collect();
    let until = match fields.word("until").map(|word| word.value) {
        Some("acknowledged") => Until::Acknowledged,
        _ => Until::Ended,
    };
    Some(Escalation { wants, after: after?, channels, until })
}
