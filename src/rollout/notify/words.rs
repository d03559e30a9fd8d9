//! A message in the words of each kind of channel. Pure. What an event quotes of people and programs is foreign text:
//! it is shortened, and it can be neither markup nor a further line of a header.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::event::{Kind, Severity};
use super::super::view::rfc3339;
use super::Message;

/// Longest subject of a mail, in characters; more is cut by those who show it.
const SUBJECT_MAX: usize = 150;

/// Longest text of a message, in characters; the events have it whole.
const TEXT_MAX: usize = 2000;

/// The event as the API and streams have it, and what is beside it.
pub(super) fn webhook(message: &Message, channel: &str) -> Value {
    let mut body = serde_json::to_value(&*message.event).unwrap_or_default();
    body["at"] = rfc3339(message.event.at_ms).into();
    body["channel"] = channel.into();
    body["heldBack"] = message.held_back.into();
    if let Some(escalated) = &message.escalated {
        body["escalation"] = json!({
            "since": rfc3339(escalated.since_ms),
            "afterMs": escalated.after_ms,
            "events": escalated.events,
        });
    }
    body
}

/// What Slack takes, in the fields of attachments that those who are compatible with it take as well
/// (<https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments>).
pub(super) fn slack(message: &Message) -> Value {
    let event = &message.event;
    let color = match event.severity {
        Severity::Info => "#2eb67d",
        Severity::Warning => "#ecb22e",
        Severity::Critical => "#e01e5a",
    };
    let headline = escaped(&headline(message));
    let mut small = vec![format!("{} · by {}", rfc3339(event.at_ms), escaped(&shortened(&event.who, 100)))];
    small.extend(event.rollout_id.as_ref().map(|id| format!("rollout {}", escaped(id))));
    small.extend(percent(message));
    small.extend(held_back(message));
    json!({
        "text": headline,
        "attachments": [{
            "color": color,
            "fallback": headline,
            "text": escaped(&shortened(&event.message, TEXT_MAX)),
            "footer": small.join(" · "),
        }],
    })
}

/// The subject of a mail, one line.
pub(super) fn subject(message: &Message) -> String {
    shortened(&one_line(&format!("[weir] {}: {}", message.event.severity.as_str(), headline(message))), SUBJECT_MAX)
}

/// The text of a mail.
pub(super) fn mail(message: &Message) -> String {
    let event = &message.event;
    let mut text = format!("{}\n\n{}\n\n", headline(message), shortened(&event.message, TEXT_MAX));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{}", one_line(value));
    };
    line("when", &rfc3339(event.at_ms));
    line("severity", event.severity.as_str());
    line("service", if event.service.is_empty() { "all" } else { &event.service });
    event.rollout_id.iter().for_each(|id| line("rollout", id));
    line("by", &event.who);
    percent(message).iter().for_each(|percent| line("candidate", percent));
    held_back(message).iter().for_each(|held| line("also", held));
    line("event", &event.id.to_string());
    text
}

/// `engine: rollback initiated`, and that nobody looked.
fn headline(message: &Message) -> String {
    let event = &message.event;
    let whose = if event.service.is_empty() { "all services" } else { &event.service };
    let what = if is_test(message) { "a test".to_owned() } else { event.kind.as_str().replace('_', " ") };
    let nobody = |after_ms: u64| format!(" (nobody looked for {})", spelled(after_ms));
    let nobody = message.escalated.map(|escalated| nobody(escalated.after_ms)).unwrap_or_default();
    one_line(&format!("{whose}: {what}{nobody}"))
}

fn is_test(message: &Message) -> bool {
    message.event.kind == Kind::Alarm && message.event.data["test"] == true
}

fn percent(message: &Message) -> Option<String> {
    let data = &message.event.data;
    let percent = data["percent"].as_f64()?;
    let candidate = data["candidate"].as_str().unwrap_or("the candidate");
    Some(format!("{} at {percent} %", escaped(candidate)))
}

fn held_back(message: &Message) -> Option<String> {
    let more = if message.held_back == 1 { "one more like it was" } else { "more like it were" };
    match message.held_back {
        0 => None,
        1 => Some(format!("{more} held back")),
        count => Some(format!("{count} {more} held back")),
    }
}

/// `90 s`, `15 min`, `2 h`.
fn spelled(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// As Slack wants it: its own markup begins with these three.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Without any control character.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

// === impl Severity ===

impl Severity {
    /// The word that people and programs read.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::event::Event;
    use super::super::Escalated;
    use super::super::tests::event;
    use super::*;

    fn message() -> Message {
        let event = Event {
            at_ms: 1_795_230_010_000,
            message: "gate errors: 5 of <100> & more".into(),
            who: "gate errors".into(),
            data: json!({ "candidate": "canary", "percent": 5.0 }),
            ..event(7, Kind::RollbackInitiated, Severity::Critical)
        };
        Message { event: Arc::new(event), held_back: 2, escalated: None }
    }

    #[test]
    fn a_webhook_gets_the_event_as_the_stream_has_it() {
        let message = message();
        let body = webhook(&message, "ops");
        let Value::Object(event) = serde_json::to_value(&*message.event).unwrap() else { panic!("an object") };
        assert!(event.iter().all(|(key, value)| body[key] == *value), "{body}");
        assert_eq!((&body["kind"], &body["atMs"]), (&json!("rollback_initiated"), &json!(1_795_230_010_000_u64)));
        assert_eq!((&body["channel"], &body["heldBack"]), (&json!("ops"), &json!(2)));
        assert!(body.get("escalation").is_none());
        let escalated = Some(Escalated { since_ms: 1_795_230_000_000, after_ms: 60_000, events: 3 });
        let body = webhook(&Message { escalated, ..message }, "ops");
        assert_eq!(body["escalation"], json!({ "since": "2026-11-21T03:00:00.000Z", "afterMs": 60_000, "events": 3 }));
    }

    #[test]
    fn slack_gets_text_and_colour_and_foreign_text_is_no_markup() {
        let body = slack(&message());
        assert_eq!(body["text"], "engine: rollback initiated");
        let attachment = &body["attachments"][0];
        assert_eq!(attachment["color"], "#e01e5a");
        assert_eq!(attachment["text"], "gate errors: 5 of &lt;100&gt; &amp; more");
        assert_eq!(
            attachment["footer"],
            "2026-11-21T03:00:10.000Z · by gate errors · rollout r · canary at 5 % · 2 more like it were held back"
        );
    }

    #[test]
    fn a_mail_has_one_line_of_subject_whatever_it_quotes() {
        let mut message = message();
        message.escalated = Some(Escalated { since_ms: 0, after_ms: 900_000, events: 1 });
        assert_eq!(subject(&message), "[weir] critical: engine: rollback initiated (nobody looked for 15 min)");
        let service = format!("a\r\nBcc: x{}", "y".repeat(500));
        message.event = Arc::new(Event { service, ..Event::clone(&message.event) });
        let subject = subject(&message);
        assert!(!subject.contains(char::is_control) && subject.chars().count() <= SUBJECT_MAX + 1, "{subject}");
        let text = mail(&message);
        assert!(text.contains("\nseverity  critical\n") && text.contains("\nevent     7\n"), "{text}");
    }

    #[test]
    fn no_message_is_longer_than_its_bound() {
        let event = Event { message: "é".repeat(100_000), ..event(1, Kind::Alarm, Severity::Info) };
        let message = Message::of(&Arc::new(event));
        let text = slack(&message)["attachments"][0]["text"].to_string();
        assert!(text.chars().count() < TEXT_MAX + 100 && mail(&message).chars().count() < TEXT_MAX + 500);
    }
}
