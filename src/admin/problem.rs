//! What the admin API answers when it refuses: RFC 9457 `application/problem+json` with a stable `code`.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::config::Problems;
use crate::rollout::desk::DeskError;
use crate::switchboard::change::Refused;
use crate::telemetry::names;

/// A refusal. `detail` is for the caller; what only an operator may know goes to the log.
#[derive(Debug)]
pub(super) struct Problem(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    code: Code,
    detail: Cow<'static, str>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

macro_rules! codes {
    ($($variant:ident = $word:literal $status:ident $title:literal;)*) => {
        /// The kinds of refusal. Words, statuses and titles are part of the API and do not change with the occasion.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $(#[doc = $title] $variant,)* }

        impl Code {
            /// Every code; a test compares them with `openapi.json`.
            #[cfg(test)]
            pub(super) const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The word in `code`.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word,)* }
            }

            fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    BadBody = "bad_body" BAD_REQUEST "The body cannot be read as asked";
    BadHost = "bad_host" BAD_REQUEST "One Host is needed";
    BadIfMatch = "bad_if_match" BAD_REQUEST "If-Match cannot be read";
    BodyTooLarge = "body_too_large" PAYLOAD_TOO_LARGE "The body is too large";
    Conflict = "conflict" CONFLICT "Somebody else was first";
    CrossOrigin = "cross_origin" FORBIDDEN "Another origin may change nothing";
    EngineUnavailable = "engine_unavailable" SERVICE_UNAVAILABLE "The engine of the rollouts does not run";
    FileBroken = "file_broken" CONFLICT "The weights file on disk does not hold";
    Forbidden = "forbidden" FORBIDDEN "The role of this token does not allow it";
    IllegalMove = "illegal_move" CONFLICT "The state does not allow it";
    Internal = "internal" INTERNAL_SERVER_ERROR "A change failed inside weir";
    Invalid = "invalid" UNPROCESSABLE_ENTITY "What was asked for does not hold";
    InvalidConfig = "invalid_config" UNPROCESSABLE_ENTITY "The files do not hold";
    InvalidPlan = "invalid_plan" UNPROCESSABLE_ENTITY "The plan does not hold";
    InvalidWeights = "invalid_weights" UNPROCESSABLE_ENTITY "The weights do not hold";
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED "This path does not take this method";
    NotFound = "not_found" NOT_FOUND "There is nothing here";
    NotJson = "not_json" UNSUPPORTED_MEDIA_TYPE "Only JSON is read";
    NothingToUndo = "nothing_to_undo" CONFLICT "There is nothing to undo";
    Overloaded = "overloaded" SERVICE_UNAVAILABLE "The admin API is busy";
    Proxied = "proxied" FORBIDDEN "No proxy without a token";
    ReadOnly = "read_only" CONFLICT "The weights file is read-only";
    RolloutRunning = "rollout_running" CONFLICT "Another rollout is under way";
    SafeMode = "safe_mode" CONFLICT "weir runs in safe mode";
    SlowBody = "slow_body" REQUEST_TIMEOUT "The body took too long";
    Timeout = "timeout" GATEWAY_TIMEOUT "The request took too long";
    TokenInUrl = "token_in_url" BAD_REQUEST "A token does not belong into an address";
    TooManyFailures = "too_many_failures" TOO_MANY_REQUESTS "Too many wrong tokens";
    Unauthorized = "unauthorized" UNAUTHORIZED "A token is needed";
    UnknownPool = "unknown_pool" UNPROCESSABLE_ENTITY "There is no such pool";
    UnknownPlan = "unknown_plan" NOT_FOUND "There is no such plan";
    UnknownRollout = "unknown_rollout" NOT_FOUND "There is no such rollout";
    UnknownSwitch = "unknown_kill_switch" NOT_FOUND "There is no such kill switch";
    UnknownService = "unknown_service" NOT_FOUND "There is no such service";
    WriteFailed = "write_failed" INTERNAL_SERVER_ERROR "The weights file cannot be written";
    WrongHost = "wrong_host" MISDIRECTED_REQUEST "This host name is not served here";
}

// === impl Problem ===

impl Problem {
    /// A refusal.
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Refusal { code, detail: detail.into(), more: Map::new(), headers: Vec::new() }))
    }

    /// Adds a member.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(key.into(), value.into());
        self
    }

    /// Adds a response header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// No path like this.
    pub(super) fn not_found() -> Self {
        Self::new(Code::NotFound, "see /api/v1/openapi.json for the paths")
    }

    /// No service of that name.
    pub(super) fn unknown_service(name: &str) -> Self {
        let name: String = name.chars().take(80).collect();
        Self::new(Code::UnknownService, format!("there is no service {name:?}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Refusal { code, detail, more, headers } = *self.0;
        metrics::counter!(names::ADMIN_REFUSED.name, "code" => code.as_str()).increment(1);
        let mut body = json!({
            "type": format!("urn:weir:problem:{}", code.as_str()),
            "title": code.title(),
            "status": code.status().as_u16(),
            "code": code.as_str(),
            "detail": detail,
        });
        if let Value::Object(object) = &mut body {
            object.extend(more);
        }
        let mut response = (code.status(), body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(headers);
        response
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        let detail = error.to_string();
        match error {
            DeskError::Unavailable(message) => {
                let shape = json!({ "code": "SERVICE_UNAVAILABLE", "message": message });
                Self::new(Code::EngineUnavailable, detail).with("error", shape)
            }
            DeskError::Conflict { running, .. } => {
                Self::new(Code::RolloutRunning, detail).with("running", running.clone()).with("rolloutId", running)
            }
            DeskError::Illegal(_) => Self::new(Code::IllegalMove, detail),
            DeskError::UnknownSwitch(_) => Self::new(Code::UnknownSwitch, detail),
            DeskError::Unknown(_) => Self::new(Code::UnknownRollout, detail),
            DeskError::Invalid(_) => Self::new(Code::Invalid, detail),
            DeskError::Refused(refused) => (*refused).into(),
            DeskError::NotMoved(_) => Self::new(Code::Internal, detail),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Conflict { current, .. } => Self::new(Code::Conflict, detail).with("generation", current),
            Refused::UnknownService(name) => Self::unknown_service(&name),
            Refused::UnknownPool { .. } => Self::new(Code::UnknownPool, detail),
            Refused::Weights(_) | Refused::EmptyCohort => Self::new(Code::InvalidWeights, detail),
            Refused::Killed { ref service, .. } => {
                let service = service.to_string();
                Self::new(Code::Conflict, detail).with("killed", service)
            }
            Refused::NothingToUndo(_) => Self::new(Code::NothingToUndo, detail),
            Refused::ReadOnly { source, .. } => {
                tracing::warn!(error = %source.reason(), "the weights file cannot be written");
                Self::new(Code::ReadOnly, detail)
            }
            Refused::Write { source, .. } => {
                tracing::error!(error = %source.reason(), "the weights file cannot be written");
                Self::new(Code::WriteFailed, detail).with("cause", source.reason().to_string())
            }
            Refused::Problems(list) => Self::new(Code::InvalidConfig, detail).with("problems", listed(&list)),
            Refused::FileBroken(list) => Self::new(Code::FileBroken, detail).with("problems", listed(&list)),
            Refused::SafeMode => Self::new(Code::SafeMode, detail),
            Refused::Resting => {
                Self::new(Code::Overloaded, detail).header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
        }
    }
}

/// Every problem with its place, as objects.
fn listed(problems: &Problems) -> Value {
    serde_json::to_value(problems).unwrap_or_else(|_| problems.to_string().into())
}
