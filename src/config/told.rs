//! What a changed `[notifications]` would do, in words of an operator: a part of [`super::diff()`]. It says no secret.

use super::plain::{self, Plain};
use crate::model::notify::{Channel, Escalation, MailTls, Mailbox, Notifications, Secret, Wants, Way};

/// Every difference, one line each.
pub(super) fn changes(old: &Notifications, new: &Notifications) -> Vec<String> {
    let mut lines = Vec::new();
    for channel in &new.channels {
        let name = &channel.name;
        match old.channel(name) {
            None => lines.push(format!("channel {name}: new, {} to {}", channel.way.kind(), channel.way.shown())),
            Some(before) => lines.extend(channel_change(before, channel)),
        }
    }
    for gone in old.channels.iter().filter(|gone| new.channel(&gone.name).is_none()) {
        lines.push(format!("channel {}: taken out; what waits for it is not sent", gone.name));
    }
    for (number, pair) in (1..).zip(longest(&old.escalations, &new.escalations)) {
        match pair {
            (None, Some(rule)) => lines.push(format!("escalation {number}: new, to {}", names(rule))),
            (Some(_), None) => lines.push(format!("escalation {number}: taken out")),
            (Some(before), Some(rule)) => {
                let changes = escalation(before).changes_to(&escalation(rule));
                lines.extend(changes.map(|changes| format!("escalation {number}: {changes}")));
            }
            (None, None) => {}
        }
    }
    lines
}

fn longest<'a, T>(a: &'a [T], b: &'a [T]) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
    (0..a.len().max(b.len())).map(|at| (a.get(at), b.get(at)))
}

fn channel_change(old: &Channel, new: &Channel) -> Option<String> {
    let changes = channel(old).changes_to(&channel(new));
    let (before, after) = (secrets(&old.way), secrets(&new.way));
    let secret = (before != after).then(|| "a secret is another one".to_owned());
    let changes: Vec<String> = changes.into_iter().chain(secret).collect();
    (!changes.is_empty()).then(|| format!("channel {}: {}", new.name, changes.join(", ")))
}

/// What of a channel is never shown.
fn secrets(way: &Way) -> (Option<&str>, Option<&Secret>) {
    match way {
        Way::Webhook { url, secret } => (Some(url.reveal()), secret.as_ref()),
        Way::Slack { url } => (Some(url.reveal()), None),
        Way::Email(mailbox) => (None, mailbox.login.as_ref().map(|login| &login.password)),
    }
}

fn channel(channel: &Channel) -> Plain {
    let Channel { name: _, way, wants: wanted, cooldown, timeout, attempts, only_escalated } = channel;
    let plain = Plain::default().add("kind", way.kind());
    let plain = match way {
        Way::Webhook { url, secret } => plain.add("url", url.shown()).some("secret", secret.as_ref().map(|_| "set")),
        Way::Slack { url } => plain.add("url", url.shown()),
        Way::Email(mailbox) => {
            let Mailbox { host, port, tls, login, from, to } = mailbox;
            let tls = match tls {
                MailTls::Implicit => "implicit",
                MailTls::Starttls => "starttls",
                MailTls::None => "none",
            };
            let plain = plain.add("host", host).add("port", port).add("tls", tls);
            plain.some("user", login.as_ref().map(|login| &login.user)).add("from", from).list("to", to)
        }
    };
    let plain = wants(plain, wanted).time("cooldown", *cooldown).time("timeout", *timeout);
    plain.add("attempts", attempts).add("only_escalated", only_escalated)
}

fn escalation(rule: &Escalation) -> Plain {
    let Escalation { wants: wanted, after, channels: _, until } = rule;
    let plain = wants(Plain::default().time("after", *after), wanted);
    plain.add("channels", names(rule)).add("until", until.as_str())
}

fn wants(plain: Plain, wants: &Wants) -> Plain {
    let Wants { events, least, services } = wants;
    plain.list("events", events).add("min_severity", least.as_str()).list("services", services)
}

fn names(rule: &Escalation) -> String {
    plain::joined(&rule.channels)
}
