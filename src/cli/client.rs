//! Asks the admin API of a running weir, and puts its refusals into words. One request per connection, with deadlines.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::{Failure, WRONG};
use super::place::{self, Place};
use super::refusal::{unauthorized, words};
use super::trust::Trust;
use super::{Globals, near, screen};

/// Time for a connection. The admin API is on this machine or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for an answer: a little more than the admin API gives itself, so that its own words arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// Largest answer that is read; a status of thousands of endpoints is below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What weir is asked.
#[derive(Debug)]
pub(super) struct Question {
    method: Method,
    path: String,
    body: Option<Value>,
    headers: Vec<(&'static str, HeaderValue)>,
}

/// The admin API of one running weir.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    json: bool,
    timeout: Duration,
    /// What may be done all the same while no weir runs, as a sentence.
    instead: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody listens there.
    #[error("no weir answers at {url} ({reason})")]
    NotRunning { url: String, reason: String },
    /// It listens but did not answer in time, or not in HTTP.
    #[error("{url} gave no answer: {reason}")]
    NoAnswer { url: String, reason: String },
    /// The token file cannot be used.
    #[error("cannot read the admin token file {file}")]
    Token {
        file: String,
        #[source]
        source: std::io::Error,
    },
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

// === impl Question ===

impl Question {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, headers: Vec::new() }
    }

    pub(super) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    pub(super) fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, body: Some(body), ..Self::get(path) }
    }

    /// With a header; a value that is none is left out.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_bytes(value.as_bytes()).ok().map(|value| (name, value)));
        self
    }
}

// === impl Client ===

impl Client {
    /// The running weir that the arguments or the configuration name.
    pub(super) fn new(globals: &Globals) -> Result<Self, Failure> {
        Ok(Self { place: place::admin(globals)?, json: globals.json(), timeout: ANSWER_TIMEOUT, instead: None })
    }

    /// One at a known address, without a token.
    pub(super) fn at(authority: String) -> Self {
        Self {
            place: Place { authority, token_file: None, tls: None, guessed: false },
            json: false,
            timeout: ANSWER_TIMEOUT,
            instead: None,
        }
    }

    /// With a command that helps while no weir runs.
    pub(super) fn instead(mut self, command: String) -> Self {
        self.instead = Some(format!("to change the weights file all the same: {command}"));
        self
    }

    /// With another sentence for the time in which no weir runs.
    pub(super) fn elsewise(mut self, sentence: &str) -> Self {
        self.instead = Some(sentence.to_owned());
        self
    }

    /// With another deadline for an answer.
    pub(super) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks and waits. A refusal is a failure, said as the API said it.
    pub(super) fn ask(&self, question: Question) -> Result<Value, Failure> {
        let answer = self.send(question).map_err(|error| self.unanswered(error))?;
        self.document(&answer)
    }

    /// The document of an answer; a refusal is a failure.
    pub(super) fn document(&self, answer: &Answer) -> Result<Value, Failure> {
        let document: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match document {
            Some(document) if answer.status.is_success() => Ok(document),
            Some(document) => Err(self.refused(answer.status, &document)),
            None => Err(Failure::failed(format!(
                "{} answered {} without a document; is it the admin address of weir?",
                self.place.url(),
                answer.status
            ))),
        }
    }

    /// Asks and waits; none when the answer has this status.
    pub(super) fn ask_unless(&self, question: Question, none: StatusCode) -> Result<Option<Value>, Failure> {
        let answer = self.send(question).map_err(|error| self.unanswered(error))?;
        if answer.status == none { Ok(None) } else { self.document(&answer).map(Some) }
    }

    /// Asks and waits; every status is an answer.
    pub(super) fn send(&self, question: Question) -> Result<Answer, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.no_answer(error.to_string()))?;
        runtime.block_on(self.exchange(question))
    }

    /// The same within a runtime.
    pub(super) async fn exchange(&self, question: Question) -> Result<Answer, ClientError> {
        let exchange = async {
            let response = self.open(question).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.no_answer(error.to_string()))?.to_bytes();
            Ok(Answer { status, body })
        };
        let late = || self.no_answer(format!("nothing came within {} s", self.timeout.as_secs_f32()));
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks and gives the answer as soon as its head is there; for streams, which have no end.
    pub(super) async fn open(&self, question: Question) -> Result<Response<Incoming>, ClientError> {
        let request = self.request(question)?;
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.place.authority)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.not_running(&error)),
            Err(_) => return Err(self.no_answer("the connection timed out".into())),
        };
        match &self.place.tls {
            None => self.exchange_over(stream, request).await,
            Some(trust) => self.exchange_over(self.shake_hands(stream, trust).await?, request).await,
        }
    }

    async fn exchange_over<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed = |error: hyper::Error| match error.is_parse() && self.place.tls.is_none() {
            true => self.no_answer("it speaks no HTTP; if it speaks TLS, write https://".into()),
            false => self.no_answer(causes(&error)),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // It ends with the answer: neither is used for anything else.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(failed)
    }

    async fn shake_hands(&self, stream: TcpStream, trust: &Trust) -> Result<TlsStream<TcpStream>, ClientError> {
        let config = trust.config().map_err(|error| self.no_answer(error.to_string()))?;
        let name = ServerName::try_from(self.place.host().to_owned());
        let name = name.map_err(|error| self.no_answer(error.to_string()))?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match tokio::time::timeout(CONNECT_TIMEOUT, shaken).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.no_answer(match error.kind() {
                // What came is no record of TLS.
                std::io::ErrorKind::InvalidData if error.to_string().contains("corrupt message") => {
                    "it speaks no TLS; write http://".into()
                }
                _ => error.to_string(),
            })),
            Err(_) => Err(self.no_answer("the TLS handshake timed out".into())),
        }
    }

    fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, ClientError> {
        let body = question.body.map(|body| Bytes::from(body.to_string()));
        let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
        *request.method_mut() = question.method;
        *request.uri_mut() = question.path.parse().map_err(|error| self.no_answer(format!("{error}")))?;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.place.authority).map_err(|error| self.no_answer(error.to_string()))?;
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = self.token()? {
            headers.insert(header::AUTHORIZATION, token);
        }
        for (name, value) in question.headers {
            headers.insert(name, value);
        }
        Ok(request)
    }

    fn token(&self) -> Result<Option<HeaderValue>, ClientError> {
        let Some(path) = &self.place.token_file else { return Ok(None) };
        let unreadable = |source| ClientError::Token { file: path.display().to_string(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        if text.starts_with("sha256:") {
            let hash = "it holds the hash of a token, which only weir itself goes by; name the file with the token";
            return Err(unreadable(std::io::Error::other(hash)));
        }
        let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
        let value = value.map_err(|_| unreadable(std::io::Error::other("it holds no token")))?;
        Ok(Some(value))
    }

    fn not_running(&self, error: &std::io::Error) -> ClientError {
        let reason = if error.kind() == std::io::ErrorKind::ConnectionRefused {
            "connection refused".to_owned()
        } else {
            error.to_string()
        };
        ClientError::NotRunning { url: self.place.url(), reason }
    }

    fn no_answer(&self, reason: String) -> ClientError {
        ClientError::NoAnswer { url: self.place.url(), reason }
    }

    /// What to do when nobody answers.
    pub(super) fn unanswered(&self, error: ClientError) -> Failure {
        let advice = match &error {
            ClientError::NotRunning { .. } => {
                "\n  is it running? start it with: weir run --config FILE\
                 \n  does it take commands elsewhere? name the place with --admin URL or WEIR_ADMIN"
            }
            ClientError::NoAnswer { .. } => "\n  is this the admin address of weir? name another with --admin URL",
            ClientError::Token { .. } => "\n  name another with --token-file or WEIR_ADMIN_TOKEN_FILE",
        };
        let mut text = causes(&error);
        if let (ClientError::NotRunning { .. }, Some(sentence)) = (&error, &self.instead) {
            let _ = write!(text, "\n  {sentence}");
        }
        if self.place.guessed {
            text += "\n  no configuration was found here, so the usual address was asked; name it with --config FILE";
        }
        Failure::failed(text + advice)
    }

    /// Says a refusal: as the API's own document, or in words.
    fn refused(&self, status: StatusCode, document: &Value) -> Failure {
        let code = document["code"].as_str().unwrap_or_default();
        // What was asked for cannot be: wrong usage, wherever it is found out.
        let usage = matches!(code, "bad_body" | "invalid" | "unknown_kill_switch");
        if self.json {
            let said = Failure::Said(if usage || code.starts_with("unknown_") { WRONG } else { 1 });
            return screen::print_json(document).err().unwrap_or(said);
        }
        let mut text = words(status, document);
        match (status, code) {
            _ if usage => return Failure::wrong(text),
            (StatusCode::UNAUTHORIZED, _) => text = unauthorized(self.place.token_file.as_deref()),
            // One sentence, and the name that was meant; as with every other name that is mistyped, exit 2.
            (_, "unknown_service" | "unknown_pool") if tokio::runtime::Handle::try_current().is_err() => {
                return Failure::wrong(text + &self.nearest(document));
            }
            _ => {}
        }
        Failure::failed(text)
    }

    /// `; did you mean "engine"?` for the service that a refusal quotes.
    fn nearest(&self, document: &Value) -> String {
        let quoted = document["detail"].as_str().and_then(|detail| detail.split('"').nth(1)).unwrap_or_default();
        if document["code"] != "unknown_service" || quoted.is_empty() {
            return String::new();
        }
        let names = near::services(self);
        near::advice(quoted, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
