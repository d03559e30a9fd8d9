//! One mail to one server (SMTP, RFC 5321), within a deadline. It keeps no connection and tries nothing twice. Without
//! the protection that was asked for nothing is sent: neither a password nor a word.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox as MailAddress, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::time::timeout;

use super::tls;
use crate::model::notify::{MailTls, Mailbox};

/// Largest file of authorities that is read.
const AUTHORITIES_BYTES_MAX: u64 = 4 << 20;

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// It cannot be written: an address, or a character that no header takes.
    #[error("the mail cannot be written: {0}")]
    Unwritten(String),
    /// The server cannot be reached, or does not speak as it should.
    #[error("no mail by {to}: {why}")]
    Failed {
        /// Host and port.
        to: String,
        /// What failed.
        why: String,
    },
    /// The server does not take it, and would not the next time either.
    #[error("{to} refused the mail: {why}")]
    Refused {
        /// Host and port.
        to: String,
        /// What it said.
        why: String,
    },
    /// The time was over.
    #[error("{to} did not take the mail within {} s", .after.as_secs_f32())]
    Timeout {
        /// Host and port.
        to: String,
        /// The time that there was.
        after: Duration,
    },
}

/// Sends a mail; the server took it when this is well. `subject` is one line.
pub async fn send(mailbox: &Mailbox, subject: &str, text: String, within: Duration) -> Result<(), MailError> {
    let to = format!("{}:{}", mailbox.host, mailbox.port);
    let mail = write(mailbox, subject, text)?;
    let transport = transport(mailbox, within).await.map_err(|why| MailError::Failed { to: to.clone(), why })?;
    match timeout(within, transport.send(mail)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is_permanent() => Err(MailError::Refused { to, why: reasons(&error) }),
        Ok(Err(error)) => Err(MailError::Failed { to, why: reasons(&error) }),
        Err(_) => Err(MailError::Timeout { to, after: within }),
    }
}

fn write(mailbox: &Mailbox, subject: &str, text: String) -> Result<Message, MailError> {
    let unwritten = |error: &dyn std::fmt::Display| MailError::Unwritten(error.to_string());
    let address = |text: &String| text.parse::<MailAddress>().map_err(|error| unwritten(&error));
    let from = address(&mailbox.from)?;
    let mut number = [0; 12];
    getrandom::fill(&mut number).map_err(|error| unwritten(&error))?;
    let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("<{number}@{}>", from.email.domain());
    let mut mail = Message::builder().from(from).subject(subject).message_id(Some(id)).date_now();
    for to in &mailbox.to {
        mail = mail.to(address(to)?);
    }
    mail.header(ContentType::TEXT_PLAIN).body(text).map_err(|error| unwritten(&error))
}

async fn transport(mailbox: &Mailbox, within: Duration) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let tls = match mailbox.tls {
        MailTls::None => Tls::None,
        MailTls::Starttls => Tls::Required(parameters(mailbox).await?),
        MailTls::Implicit => Tls::Wrapper(parameters(mailbox).await?),
    };
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mailbox.host);
    let mut transport = transport.port(mailbox.port).tls(tls).timeout(Some(within));
    // What it says of itself: the domain that it writes for, since a container has no name that means anything.
    let domain = mailbox.from.parse::<MailAddress>().map(|from| from.email.domain().to_owned());
    if let Ok(domain) = domain {
        transport = transport.hello_name(ClientId::Domain(domain));
    }
    if let Some(login) = &mailbox.login {
        transport = transport.credentials(Credentials::new(login.user.clone(), login.password.reveal().to_owned()));
    }
    Ok(transport.build())
}

/// Whom it trusts: as [`tls`] has it for HTTPS.
async fn parameters(mailbox: &Mailbox) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(mailbox.host.clone());
    if let Some(path) = tls::own_authorities() {
        // A file that cannot be read adds nobody.
        for certificate in authorities(path).await.unwrap_or_default() {
            parameters = parameters.add_root_certificate(certificate);
        }
    }
    parameters.build().map_err(|error| reasons(&error))
}

async fn authorities(path: PathBuf) -> Option<Vec<Certificate>> {
    let metadata = tokio::fs::metadata(&path).await.ok()?;
    if !metadata.is_file() || metadata.len() > AUTHORITIES_BYTES_MAX {
        return None;
    }
    let text = tokio::fs::read(&path).await.ok()?;
    Certificate::from_pem(&text).ok().map(|certificate| vec![certificate])
}

/// An error and its causes, on one line.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.contains(&own) {
            text = format!("{text}: {own}");
        }
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
