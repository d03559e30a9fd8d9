//! One order (RFC 8555 §7.4): the account, the order, its challenges, the request, the certificate. When is for
//! [`super::keeper`] to say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::schedule::{Record, Validity};
use super::shelf::Shelf;
use super::{AcmeError, Refused};
use crate::model::{AcmeSpec, ChallengeKind};
use crate::outside::authority::Authority;
use crate::tls::challenges::{Challenges, Pending, TLS_PROTOCOL};

/// How an order is looked at again: after half a second, then ever more seldom; `Retry-After` goes first.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(90));

/// Everything that an order needs.
pub(super) struct Desk<'a> {
    pub(super) spec: &'a AcmeSpec,
    pub(super) shelf: &'a Shelf,
    pub(super) authority: &'a Authority,
    pub(super) challenges: &'a Arc<Challenges>,
}

// === impl Desk ===

impl Desk<'_> {
    /// Orders a certificate for a name, or goes on with the order that `record` names, and keeps it. The record is kept
    /// whenever something comes of it that must outlive this process.
    pub(super) async fn order(&self, name: &str, record: &mut Record) -> Result<Validity, AcmeError> {
        let account = self.account().await?;
        let mut order = self.open(&account, name, record).await?;
        let ordered = self.finish(&mut order, name).await;
        let chain = match ordered {
            Ok(chain) => chain,
            // What goes wrong with a name stands in its authorisation, not in the order.
            Err(AcmeError::Refused(refused)) => {
                return Err(AcmeError::Refused(why(&mut order).await.unwrap_or(refused)));
            }
            Err(error) => return Err(error),
        };
        let own = name.to_owned();
        self.shelf
            .with(move |shelf| {
                let key = shelf.draft_key(&own, || Err(AcmeError::Unusable("its key is gone".into())))?;
                let kept = shelf.keep_certificate(&own, &chain, &key);
                kept.inspect_err(|error| {
                    if !error.spares_order() {
                        shelf.drop_draft_key(&own);
                    }
                })
            })
            .await
    }

    /// When the authority would like a certificate to be renewed, as a window, and how soon it wants to be asked again
    /// (RFC 9773); none when it does not say.
    pub(super) async fn suggestion(&self, name: &str) -> Result<Option<(u64, u64, Duration)>, AcmeError> {
        let own = name.to_owned();
        let Some(identifier) = self.shelf.with(move |shelf| Ok(shelf.identifier(&own))).await? else { return Ok(None) };
        let Some(credentials) = self.shelf.with(Shelf::account).await? else { return Ok(None) };
        let builder = Account::builder_with_http(Box::new(self.authority.clone()));
        let account = builder.from_credentials(credentials).await?;
        match account.renewal_info(&identifier).await {
            Ok((info, ask_in)) => {
                let ms = |unix_s: i64| u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000);
                let window = info.suggested_window;
                Ok(Some((ms(window.start.unix_timestamp()), ms(window.end.unix_timestamp()), ask_in)))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The account at the authority; made when there is none.
    async fn account(&self) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(self.authority.clone()));
        if let Some(credentials) = self.shelf.with(Shelf::account).await? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let external = match &self.spec.external_account {
            None => None,
            Some(external) => Some(ExternalAccountKey::new(external.key_id.clone(), &secret(&external.key_file)?)),
        };
        let contact: Vec<&str> = self.spec.contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let created = builder.create(&new, self.spec.directory.clone(), external.as_ref()).await;
        let (account, credentials) = created?;
        self.shelf.with(move |shelf| shelf.keep_account(&credentials)).await?;
        tracing::info!(account = account.id(), directory = self.spec.directory, "an ACME account was made");
        Ok(account)
    }

    /// The order that was under way when an earlier process ended, or that the authority was not done with, if it is of
    /// use, else a new one.
    async fn open(&self, account: &Account, name: &str, record: &mut Record) -> Result<Order, AcmeError> {
        if let Some(url) = &record.order {
            match account.order(url.clone()).await.map_err(AcmeError::from) {
                Ok(mut order) => {
                    if order.state().status != OrderStatus::Invalid {
                        return Ok(order);
                    }
                }
                // It may still be there.
                Err(error) if error.spares_order() => return Err(error),
                Err(_) => {}
            }
            record.order = None;
        }
        let names = [Identifier::Dns(name.to_owned())];
        // Only an authority that suggested a moment knows of replacing; orders that do may be spared its limits.
        let own = name.to_owned();
        let replaced = match record.suggested {
            Some(_) => self.shelf.with(move |shelf| Ok(shelf.identifier(&own))).await?,
            None => None,
        };
        let mut opened = account.new_order(&replacing(&names, replaced.clone())).await;
        if opened.is_err() && replaced.is_some() {
            // It may have been replaced already, by an order whose certificate was lost.
            opened = account.new_order(&NewOrder::new(&names)).await;
        }
        let order = match opened {
            Ok(order) => order,
            Err(error) => {
                let error = AcmeError::from(error);
                if matches!(&error, AcmeError::Refused(refused) if refused.kind == "accountDoesNotExist") {
                    self.shelf.forget_account();
                }
                return Err(error);
            }
        };
        (record.order, record.resumed) = (Some(order.url().to_owned()), 0);
        let (own, record) = (name.to_owned(), record.clone());
        self.shelf
            .with(move |shelf| {
                // A key is of one order.
                shelf.drop_draft_key(&own);
                shelf.keep_record(&own, &record)
            })
            .await?;
        Ok(order)
    }

    /// Takes an order to its end, from wherever it is; the chain, PEM.
    async fn finish(&self, order: &mut Order, name: &str) -> Result<String, AcmeError> {
        if order.state().status == OrderStatus::Pending {
            let _pending = self.answer_challenges(order, name).await?;
            if order.poll_ready(&POLLS).await? != OrderStatus::Ready {
                return Err(AcmeError::Refused(nameless()));
            }
        }
        if order.state().status == OrderStatus::Ready {
            let own = name.to_owned();
            let csr = self.shelf.with(move |shelf| request(&own, &shelf.draft_key(&own, new_key)?)).await?;
            order.finalize_csr(&csr).await?;
        }
        Ok(order.poll_certificate(&POLLS).await?)
    }

    /// Has every challenge of an order answered for as long as what is returned is held.
    async fn answer_challenges(&self, order: &mut Order, name: &str) -> Result<Vec<Pending>, AcmeError> {
        let (kind, what) = match self.spec.challenge {
            ChallengeKind::Http01 => (ChallengeType::Http01, self.spec.challenge.as_str()),
            ChallengeKind::TlsAlpn01 => (ChallengeType::TlsAlpn01, self.spec.challenge.as_str()),
        };
        let mut held = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let mut challenge = authorization.challenge(kind.clone()).ok_or(AcmeError::NoChallenge(what))?;
            held.push(self.answer(&challenge, name)?);
            challenge.set_ready().await?;
        }
        Ok(held)
    }

    fn answer(&self, challenge: &ChallengeHandle<'_>, name: &str) -> Result<Pending, AcmeError> {
        let text = challenge.key_authorization();
        let pending = match self.spec.challenge {
            ChallengeKind::Http01 => self.challenges.answer_http(&challenge.token, text.as_str()),
            ChallengeKind::TlsAlpn01 => self.challenges.answer_tls(name, proof(name, text.digest().as_ref())?),
        };
        pending.ok_or(AcmeError::Full)
    }
}

fn replacing<'n>(names: &'n [Identifier], replaced: Option<CertificateIdentifier<'n>>) -> NewOrder<'n> {
    let order = NewOrder::new(names);
    match replaced {
        Some(replaced) => order.replaces(replaced),
        None => order,
    }
}

/// Why an order failed, as its authorisations say it; none when they do not.
async fn why(order: &mut Order) -> Option<Refused> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(problem.into());
        }
    }
    None
}

fn nameless() -> Refused {
    Refused { kind: String::new(), words: "the name was not proved, and it does not say why".into() }
}

fn new_key() -> Result<String, AcmeError> {
    // P-256: every client that speaks TLS 1.2 can use it.
    KeyPair::generate().map(|key| key.serialize_pem()).map_err(made)
}

/// The request for a certificate, DER (RFC 2986).
fn request(name: &str, key: &str) -> Result<Vec<u8>, AcmeError> {
    let key = KeyPair::from_pem(key).map_err(made)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(made)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key).map_err(made)?.der().to_vec())
}

/// What ends a handshake of tls-alpn-01: a certificate for the name that carries the proof (RFC 8737 §3).
fn proof(name: &str, digest: &[u8]) -> Result<Arc<ServerConfig>, AcmeError> {
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(made)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(made)?;
    let failed = |error: rustls::Error| AcmeError::Request(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?.with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| AcmeError::Request(error.to_owned()))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(failed)?;
    // Not `with_single_cert`: it reads the certificate, and knows no critical extension such as this one.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![TLS_PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn made(error: rcgen::Error) -> AcmeError {
    AcmeError::Request(error.to_string())
}

/// The key of an external account: base64url, with or without padding.
fn secret(path: &Path) -> Result<Vec<u8>, AcmeError> {
    let unread = |why: String| AcmeError::Unread { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
    let text = text.trim();
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text));
    decoded.map_err(|_| unread("it is not base64url".into()))
}
