//! What the admin API answers when it refuses: RFC 9457 `application/problem+json` with a stable `code`.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::config::Problems;
use crate::switchboard::change::Refused;
use crate::telemetry::names;

/// A refusal. `detail` is for the caller; what only an operator may know goes to the log.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    more: Map<String, Value>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

// === impl Problem ===

impl Problem {
    /// A refusal with its stable code and a title that never changes with the occasion.
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), more: Map::new(), headers: Vec::new() }
    }

    /// The body is not what the path takes.
    pub(super) fn body(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", "The body cannot be read as asked", detail)
    }

    /// What the body asks for does not hold.
    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "What was asked for does not hold", detail)
    }

    /// Adds a member.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.into(), value.into());
        self
    }

    /// Adds a response header.
    pub(super) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// No path like this.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", "see /api/v1/openapi.json for the paths")
    }

    /// No service of that name.
    pub(super) fn unknown_service(name: &str) -> Self {
        let name: String = name.chars().take(80).collect();
        let detail = format!("there is no service {name:?}");
        Self::new(StatusCode::NOT_FOUND, "unknown_service", "There is no such service", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        metrics::counter!(names::ADMIN_REFUSED.name, "code" => self.code).increment(1);
        let mut body = json!({
            "type": format!("urn:weir:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Value::Object(object) = &mut body {
            object.extend(self.more);
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        const CONFLICT: StatusCode = StatusCode::CONFLICT;
        const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        let detail = refused.to_string();
        let problem = |status, code, title| Self::new(status, code, title, detail);
        match refused {
            Refused::Conflict { current, .. } => {
                problem(CONFLICT, "conflict", "Somebody else was first").with("generation", current)
            }
            Refused::UnknownService(name) => Self::unknown_service(&name),
            Refused::UnknownPool { .. } => problem(INVALID, "unknown_pool", "There is no such pool"),
            Refused::Weights(_) => problem(INVALID, "invalid_weights", "The weights do not hold"),
            Refused::NothingToUndo(_) => problem(CONFLICT, "nothing_to_undo", "There is nothing to undo"),
            Refused::ReadOnly { source, .. } => {
                tracing::warn!(error = %source, "the weights file cannot be written");
                problem(CONFLICT, "read_only", "The weights file is read-only")
            }
            Refused::Write { source, .. } => {
                tracing::error!(error = %source, "the weights file cannot be written");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                problem(status, "write_failed", "The weights file cannot be written").with("cause", source.to_string())
            }
            Refused::Problems(list) => {
                problem(INVALID, "invalid_config", "The files do not hold").with("problems", listed(&list))
            }
            Refused::FileBroken(list) => problem(CONFLICT, "file_broken", "The weights file on disk does not hold")
                .with("problems", listed(&list)),
            Refused::SafeMode => problem(CONFLICT, "safe_mode", "weir runs in safe mode"),
        }
    }
}

/// Every problem with its place, as objects.
fn listed(problems: &Problems) -> Value {
    serde_json::to_value(problems).unwrap_or_else(|_| problems.to_string().into())
}
