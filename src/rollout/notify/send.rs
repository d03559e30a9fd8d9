//! One try to tell a channel something.

use std::time::Duration;

use super::Message;
use super::sign::signature;
use super::words;
use crate::model::notify::{Channel, Secret, Way};
use crate::outside::http::{self, Call};
use crate::outside::mail::{self, MailError};
use crate::telemetry::clock;

/// Characters of a foreign answer that an error quotes.
const QUOTED_MAX: usize = 200;

/// Why it was not taken. It names no more of an address than scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendError {
    /// Another try may go better.
    #[error("{0}")]
    Passing(String),
    /// Another try would go the same way.
    #[error("{0}")]
    Lasting(String),
}

/// Tries once, within the time of the channel.
pub(super) async fn send(channel: &Channel, message: &Message) -> Result<(), SendError> {
    match &channel.way {
        Way::Webhook { url, secret } => {
            let body = words::webhook(message, &channel.name).to_string();
            let fields = signed(message, secret.as_ref(), body.as_bytes());
            post(url.reveal(), fields, body, channel.timeout).await
        }
        Way::Slack { url } => {
            let body = words::slack(message).to_string();
            post(url.reveal(), vec![of_json()], body, channel.timeout).await
        }
        Way::Email(mailbox) => {
            let sent = mail::send(mailbox, &words::subject(message), words::mail(message), channel.timeout).await;
            sent.map_err(|error| match error {
                MailError::Unwritten(_) | MailError::Refused { .. } => SendError::Lasting(error.to_string()),
                MailError::Failed { .. } | MailError::Timeout { .. } => SendError::Passing(error.to_string()),
            })
        }
    }
}

fn of_json() -> (String, String) {
    ("content-type".into(), "application/json".into())
}

fn signed(message: &Message, secret: Option<&Secret>, body: &[u8]) -> Vec<(String, String)> {
    let timestamp = clock::now().unix_s.to_string();
    let mut fields = vec![of_json(), ("x-weir-event".into(), message.event.kind.as_str().into())];
    if let Some(secret) = secret {
        fields.push(("x-weir-signature".into(), signature(secret, &timestamp, body)));
    }
    fields.push(("x-weir-timestamp".into(), timestamp));
    fields
}

async fn post(url: &str, fields: Vec<(String, String)>, body: String, timeout: Duration) -> Result<(), SendError> {
    let call = Call { method: "POST".into(), url: url.into(), fields, body: body.into_bytes(), timeout };
    let answer = http::call(&call).await.map_err(|error| SendError::Passing(error.to_string()))?;
    let said = String::from_utf8_lossy(&answer.body);
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_MAX).collect();
    let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
    match answer.status {
        200..=299 => Ok(()),
        // Redirects are not followed: the body would go to somebody who was not named.
        300..=399 => Err(SendError::Lasting(format!("answered {}, a redirect; name where it leads", answer.status))),
        // The server asks for another try: RFC 9110 15.5.9, RFC 8470, RFC 6585.
        408 | 425 | 429 | 500.. => Err(SendError::Passing(format!("answered {}{said}", answer.status))),
        _ => Err(SendError::Lasting(format!("answered {}{said}", answer.status))),
    }
}
