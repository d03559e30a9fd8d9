//! One HTTP or HTTPS call: a request, its answer within a deadline, at most 64 KiB of its body. It follows no redirect,
//! keeps no connection and tries nothing twice: who calls knows whether that is safe.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::tls;

/// Bytes of a body that are kept: enough for what a check says, and for the answer of Prometheus to a query.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// A request.
#[derive(Clone)]
pub struct Call {
    /// Its method, such as `GET`.
    pub method: String,
    /// `http://…` or `https://…`; a name and password in it become basic authorisation.
    pub url: String,
    /// Header fields; they may be secret and are never shown.
    pub fields: Vec<(String, String)>,
    /// Its body; may be empty.
    pub body: Vec<u8>,
    /// Time for everything, from looking up the name to the last byte that is read.
    pub timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body, cut at [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// Time from the call to here.
    pub took: Duration,
}

/// What makes the calls; one for all of them, since the authorities that it trusts take time to read.
struct Caller(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer. It names no more of the address than scheme, host and port.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is none, or not of a scheme that is spoken here.
    #[error("the address is no http:// or https:// URL")]
    Url,
    /// The method is none.
    #[error("the method is no HTTP method")]
    Method,
    /// A header field is none.
    #[error("the header field {0:?} has a name or a value that HTTP does not allow")]
    Field(String),
    /// HTTPS cannot be spoken at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// Nobody listens there, the name is unknown, or the certificate is not trusted.
    #[error("no connection to {to}: {}", root(.cause))]
    Connect {
        /// Scheme, host and port.
        to: String,
        /// What failed.
        cause: Error,
    },
    /// It connected but the answer broke off or is no HTTP.
    #[error("no answer of {to}: {why}")]
    Broken {
        /// Scheme, host and port.
        to: String,
        /// What failed.
        why: String,
    },
    /// The time was over.
    #[error("no answer of {to} within {} s", .after.as_secs_f32())]
    Timeout {
        /// Scheme, host and port.
        to: String,
        /// The time that there was.
        after: Duration,
    },
}

static CLIENT: LazyLock<Result<Caller, rustls::Error>> = LazyLock::new(|| {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls::client()?);
    let connector = https.https_or_http().enable_http1().wrap_connector(tcp);
    // Calls are minutes apart: a connection that is kept would be one that was closed meanwhile.
    Ok(Caller(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
});

/// Makes a call and waits for its answer; any status is one.
pub async fn call(call: &Call) -> Result<Answer, CallError> {
    let began = Instant::now();
    let request = request(call)?;
    let to = shown(request.uri());
    let Caller(client) = CLIENT.as_ref().map_err(|error| CallError::Tls(error.clone()))?;
    let exchange = async {
        let response = client.request(request).await.map_err(|cause| failed(&to, cause))?;
        let status = response.status().as_u16();
        let (body, cut) = body(response.into_body(), &to).await?;
        Ok(Answer { status, body, cut, took: began.elapsed() })
    };
    let late = || CallError::Timeout { to: to.clone(), after: call.timeout };
    timeout(call.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
    let url: Uri = call.url.parse().map_err(|_| CallError::Url)?;
    let spoken = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    if !spoken {
        return Err(CallError::Url);
    }
    let credentials = url.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
    let credentials = credentials.map(|user| format!("Basic {}", BASE64_STANDARD.encode(decoded(user))));
    let url = plain(url)?;
    let mut request = Request::new(Full::new(Bytes::from(call.body.clone())));
    *request.method_mut() = Method::from_bytes(call.method.as_bytes()).map_err(|_| CallError::Method)?;
    *request.uri_mut() = url;
    let fields = request.headers_mut();
    fields.insert(USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
    if let Some(Ok(value)) = credentials.map(HeaderValue::try_from) {
        fields.insert(AUTHORIZATION, value);
    }
    for (name, value) in &call.fields {
        let wrong = || CallError::Field(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        fields.insert(key, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(request)
}

/// The same address without a name and password.
fn plain(url: Uri) -> Result<Uri, CallError> {
    let mut parts = url.into_parts();
    if let Some(authority) = &parts.authority
        && let Some((_, host)) = authority.as_str().rsplit_once('@')
    {
        parts.authority = Some(host.parse().map_err(|_| CallError::Url)?);
    }
    Uri::from_parts(parts).map_err(|_| CallError::Url)
}

/// Percent-encoding undone, as RFC 3986, section 2.1 has it; what is none stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = match tail {
            [high, low, ..] if *first == b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { tail };
    }
    bytes
}

/// What may be shown of an address.
fn shown(url: &Uri) -> String {
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default())
}

async fn body(mut body: hyper::body::Incoming, to: &str) -> Result<(Vec<u8>, bool), CallError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Broken { to: to.into(), why: root(&error) })?;
        let Ok(data) = frame.into_data() else { continue };
        let room = BODY_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

fn failed(to: &str, cause: Error) -> CallError {
    match cause.is_connect() {
        true => CallError::Connect { to: to.into(), cause },
        false => CallError::Broken { to: to.into(), why: root(&cause) },
    }
}

/// The words of the innermost error: those around it only say that a call was made.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

// === impl Call ===

/// Without what may be secret.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let to = self.url.parse().map_or_else(|_| String::new(), |url| shown(&url));
        f.debug_struct("Call").field("method", &self.method).field("to", &to).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Mutex;

    use super::*;

    /// Answers every connection with these bytes and keeps it open; what it was asked last.
    async fn server(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<Mutex<String>>) {
        let (answer, listener) = (answer.into(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
        let last = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, last) = (answer.clone(), Arc::clone(&last));
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    *last.lock().await = String::from_utf8_lossy(&head[..read]).into_owned();
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.read(&mut head).await;
                });
            }
        });
        (address, asked)
    }

    fn get(url: String) -> Call {
        Call { method: "GET".into(), url, fields: Vec::new(), body: Vec::new(), timeout: Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn an_answer_of_any_status_is_one_and_no_redirect_is_followed() {
        let (to, asked) = server("HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 2\r\n\r\nhi").await;
        let mut asking = get(format!("http://me:p%40ss@{to}/a?b=c"));
        asking.fields.push(("X-Kind".into(), "smoke".into()));
        let answer = call(&asking).await.unwrap();
        assert_eq!((answer.status, &*answer.body, answer.cut), (302, &b"hi"[..], false));
        let asked = asked.lock().await.clone();
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {to}\r\n")) && asked.contains("x-kind: smoke\r\n"), "{asked}");
        assert!(asked.contains(&format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode("me:p@ss"))), "{asked}");
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut_and_nothing_waits_for_its_end() {
        let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        long.resize(300 << 10, b'x');
        let (to, _) = server(long).await;
        let answer = call(&get(format!("http://{to}/"))).await.unwrap();
        assert_eq!((answer.body.len(), answer.cut), (BODY_BYTES_MAX, true));
    }

    #[tokio::test]
    async fn the_deadline_is_over_everything_the_body_included() {
        let (to, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let asking = Call { timeout: Duration::from_millis(200), ..get(format!("http://{to}/")) };
        let began = Instant::now();
        let late = call(&asking).await.unwrap_err();
        assert!(matches!(late, CallError::Timeout { .. }), "{late}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn no_error_shows_what_may_be_secret() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let secret = "hunter2";
        let mut asking = get(format!("http://{secret}:{secret}@127.0.0.1:{port}/{secret}?token={secret}"));
        let refused = call(&asking).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("no connection to http://127.0.0.1:{port}: ")), "{refused}");
        asking.fields.push(("authorization".into(), format!("{secret}\n")));
        let mut told = vec![refused.to_string(), format!("{refused:?}"), format!("{asking:?}")];
        told.push(call(&asking).await.unwrap_err().to_string());
        told.push(call(&get(format!("ftp://{secret}/"))).await.unwrap_err().to_string());
        told.push(call(&get(format!("http://{secret} /"))).await.unwrap_err().to_string());
        assert!(told.iter().all(|told| !told.contains(secret)), "{told:?}");
    }
}
