//! HTTPS to an ACME authority, as the library that speaks its protocol (`instant-acme`) wants it: a deadline for each
//! call, a bound on each answer, and what an authority says of when to come back. It knows nothing of orders.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::time::timeout;

use super::tls;

/// Time for a call, from looking up the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer; a chain of certificates takes a few KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Idle connections that are kept, for as long as an order lasts.
const IDLE_MAX: usize = 1;

const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// A way to one authority.
#[derive(Clone)]
pub struct Authority {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    come_back: Arc<Mutex<Option<SystemTime>>>,
}

/// Why there is no way to it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The roots cannot be read.
    #[error("{path}: {why}")]
    Roots {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be spoken at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

// === impl Authority ===

impl Authority {
    /// A way to the authority whose own certificate is of `roots` (PEM); none: of the public ones. Reads files.
    pub fn new(roots: Option<&Path>) -> Result<Self, AuthorityError> {
        let config = match roots {
            None => tls::client()?,
            Some(path) => tls::client_of(path)
                .map_err(|why| AuthorityError::Roots { path: path.display().to_string(), why: why.to_string() })?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_max_idle_per_host(IDLE_MAX).build(connector.wrap_connector(tcp));
        Ok(Self { client, come_back: Arc::default() })
    }

    /// When an answer last said to come back, be it a refusal or an order that takes its time (RFC 8555 §7.4);
    /// forgotten by this.
    pub fn take_come_back(&self) -> Option<SystemTime> {
        self.come_back.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let to = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let failed = |why: String| Error::Other(format!("{to}: {why}").into());
        let whole = async {
            let response = self.client.request(request).await.map_err(|error| failed(reasons(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| failed(format!("the answer broke off: {error}")))?;
            Ok::<_, Error>((parts, body.to_bytes()))
        };
        let late = |_| failed(format!("no answer within {} s", PATIENCE.as_secs()));
        let (parts, body) = timeout(PATIENCE, whole).await.map_err(late)??;
        if let Some(at) = come_back(&parts.headers, SystemTime::now()) {
            *self.come_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        }
        let refused = parts.status.is_client_error() || parts.status.is_server_error();
        // What is in front of an authority refuses in its own words.
        if refused && serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_err() {
            return Err(failed(format!("it answered {}", parts.status)));
        }
        Ok(BytesResponse::from(Response::from_parts(parts, http_body_util::Full::new(body))))
    }
}

impl HttpClient for Authority {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn come_back(fields: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds.into())),
        Err(_) => jiff::fmt::rfc2822::parse(text).ok().map(|at| SystemTime::from(at.timestamp())),
    }
}

/// The words of the innermost error: those around it only say that a call was made.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let of = |text: &'static str| {
            let fields = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            come_back(&fields, now).map(|at| at.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs())
        };
        assert_eq!(of("120"), Some(1_000_000_120));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
        assert_eq!((of("-1"), of("soon"), of("")), (None, None, None));
        assert_eq!(come_back(&HeaderMap::new(), now), None);
    }
}
