//! What weir answers itself, and whose fault it is: the one place where an error becomes a response.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{Fault, Head, Name, Notice, RETRY_AFTER_S_DEFAULT};
use crate::proxy::h1::request::Refused;
use crate::throttle::limit::Excess;

/// A request that gets no answer from an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The head cannot be served.
    #[error(transparent)]
    Head(#[from] Refused),
    /// The body broke its framing.
    #[error("the request body is malformed: {0}")]
    Body(&'static str),
    /// The head did not arrive in time.
    #[error("the request head took too long")]
    HeadTimeout,
    /// The body stopped arriving.
    #[error("the request body took too long")]
    BodyTimeout,
    /// The client left before it was answered.
    #[error("the client went away")]
    ClientGone,
    /// The path could be read two ways and a route or prefix depends on it.
    #[error("the path can be read two ways")]
    AmbiguousPath,
    /// No route matches.
    #[error("no route matches this request")]
    NoRoute,
    /// A CONNECT, and routes that allow some, but none that allows this one.
    #[error("no route allows a tunnel to this authority")]
    NoTunnel,
    /// The client's network may not use this listener or path.
    #[error("this client may not reach this")]
    Forbidden,
    /// A rate limit has no request left for it.
    #[error("too many requests: limit {} is used up", .0.limit)]
    RateLimited(Box<Excess>),
    /// This listener sends everything to `https`, on this port.
    #[error("this is served by https only")]
    Redirect(u16),
    /// An authority looks whether a name is served from here (RFC 8555 §8.3); it gets this text.
    #[error("the answer to an ACME challenge")]
    Challenge(Arc<str>),
    /// Plain HTTP on a listener that speaks TLS.
    #[error("this port speaks TLS: ask by https")]
    PlainHttp,
    /// This very proxy is already in `Via`.
    #[error("the request went in a circle")]
    Loop,
    /// Nothing serves.
    #[error("no endpoint of {0} can serve")]
    NothingServing(Cow<'static, str>),
    /// As many requests are in flight as may be, and the queue is full or took too long.
    #[error("{0} is full")]
    Full(Cow<'static, str>),
    /// More comes than this process can do.
    #[error("weir is overloaded")]
    Overloaded,
    /// The service is killed and answers nothing meanwhile.
    #[error("service {0} is under maintenance")]
    Maintenance(Name),
    /// The service or pool is under maintenance.
    #[error("{}", .0.text)]
    Closed(Arc<Notice>),
    /// An extended CONNECT to an endpoint that answers it as any other request, but cannot say so to an HTTP/2 client.
    #[error("the endpoint speaks no WebSocket here")]
    NoWebSocket,
    /// Every permitted attempt failed.
    #[error("{}", whose(reason))]
    Upstream {
        /// The kind of the last failure.
        fault: Fault,
        /// What happened, in a few words.
        reason: &'static str,
    },
}

/// Who did what, for reasons that do not say it themselves.
fn whose(reason: &'static str) -> &'static str {
    match reason {
        "closed" => "the endpoint closed the connection without an answer",
        "closed_in_head" => "the endpoint closed the connection in the head of its answer",
        "reset" => "the endpoint reset the connection or the stream",
        "goaway" => "the endpoint is going away and did not take the request",
        "refused_stream" => "the endpoint refused the stream",
        "timeout" => "timeout: the endpoint did not answer in time",
        "malformed_answer" | "malformed_body" => "the answer of the endpoint is malformed",
        other => other,
    }
}

// === impl Refusal ===

impl Refusal {
    /// The status that the client gets.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Head(Refused::Malformed(_)) | Refusal::Body(_) | Refusal::AmbiguousPath | Refusal::PlainHttp => {
                400
            }
            Refusal::Challenge(_) => 200,
            // RFC 9110 §15.4.9: the method and the body stay as they are.
            Refusal::Redirect(_) => 308,
            Refusal::Head(Refused::Version) => 505,
            Refusal::Head(Refused::Method) => 405,
            Refusal::Head(Refused::Protocol) | Refusal::NoWebSocket => 501,
            Refusal::Head(Refused::Expectation) => 417,
            Refusal::Head(Refused::TargetTooLong) => 414,
            Refusal::Head(Refused::HeadTooLarge) => 431,
            Refusal::HeadTimeout | Refusal::BodyTimeout => 408,
            // Only ever logged: there is nobody to send it to.
            Refusal::ClientGone => 499,
            Refusal::NoRoute => 404,
            Refusal::Forbidden | Refusal::NoTunnel => 403,
            Refusal::RateLimited(_) => 429,
            Refusal::Loop => 508,
            Refusal::NothingServing(_)
            | Refusal::Full(_)
            | Refusal::Overloaded
            | Refusal::Maintenance(_)
            | Refusal::Closed(_) => 503,
            Refusal::Upstream { fault: Fault::UpstreamTimeout, .. } => 504,
            Refusal::Upstream { .. } => 502,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Refusal::Head(_)
            | Refusal::Body(_)
            | Refusal::HeadTimeout
            | Refusal::BodyTimeout
            | Refusal::ClientGone
            | Refusal::AmbiguousPath
            | Refusal::Redirect(_)
            | Refusal::Challenge(_)
            | Refusal::PlainHttp
            | Refusal::Forbidden
            | Refusal::NoTunnel
            | Refusal::NoWebSocket
            | Refusal::RateLimited(_) => Fault::Client,
            Refusal::NoRoute
            | Refusal::Loop
            | Refusal::NothingServing(_)
            | Refusal::Full(_)
            | Refusal::Overloaded
            | Refusal::Maintenance(_)
            | Refusal::Closed(_) => Fault::Proxy,
            Refusal::Upstream { fault, .. } => *fault,
        }
    }

    /// Whether the connection must be closed, because nobody can say where the next request begins.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Refusal::Head(_)
                | Refusal::Body(_)
                | Refusal::HeadTimeout
                | Refusal::BodyTimeout
                | Refusal::ClientGone
                | Refusal::PlainHttp
                | Refusal::NoTunnel
        )
    }

    /// Seconds after which a retry makes sense, for `Retry-After`.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Refusal::NothingServing(_) | Refusal::Full(_) | Refusal::Overloaded => Some(1),
            // A person has to end it, which takes longer than a moment.
            Refusal::Maintenance(_) => Some(RETRY_AFTER_S_DEFAULT),
            Refusal::Closed(notice) => Some(notice.retry_after_s),
            Refusal::RateLimited(excess) => Some(excess.wait_s),
            _ => None,
        }
    }

    /// The body of the answer and its type: one line of text, but for what an operator wrote for a maintenance.
    pub fn body(&self) -> (&'static str, String) {
        match self {
            Refusal::Closed(notice) if notice.body.is_some() => {
                (notice.content_type(), notice.body.clone().unwrap_or_default())
            }
            Refusal::Challenge(text) => ("application/octet-stream", text.to_string()),
            other => ("text/plain; charset=utf-8", format!("weir: {other}\n")),
        }
    }

    /// What went wrong as the word of RFC 9209 §2.3 for it, such as `connection_refused`.
    pub fn proxy_error(&self) -> &'static str {
        match self {
            Refusal::Head(_)
            | Refusal::Body(_)
            | Refusal::HeadTimeout
            | Refusal::BodyTimeout
            | Refusal::ClientGone
            | Refusal::AmbiguousPath
            | Refusal::PlainHttp => "http_request_error",
            Refusal::Forbidden | Refusal::NoTunnel | Refusal::RateLimited(_) => "http_request_denied",
            Refusal::Redirect(_)
            | Refusal::Challenge(_)
            | Refusal::Overloaded
            | Refusal::Maintenance(_)
            | Refusal::Closed(_) => "proxy_internal_response",
            Refusal::NoRoute => "destination_not_found",
            Refusal::Loop => "proxy_loop_detected",
            Refusal::NothingServing(_) => "destination_unavailable",
            Refusal::Full(_) => "connection_limit_reached",
            Refusal::Upstream { reason: "connect_refused", .. } => "connection_refused",
            Refusal::Upstream { reason: "connect_timeout", .. } => "connection_timeout",
            Refusal::Upstream { reason: "unasked_upgrade" | "bad_websocket_accept", .. } | Refusal::NoWebSocket => {
                "http_upgrade_failed"
            }
            Refusal::Upstream { reason: "closed" | "reset" | "goaway", .. } => "connection_terminated",
            Refusal::Upstream { fault: Fault::UpstreamConnect, .. } => "destination_unavailable",
            Refusal::Upstream { fault: Fault::UpstreamTimeout, .. } => "http_response_timeout",
            Refusal::Upstream { .. } => "http_protocol_error",
        }
    }

    /// `Proxy-Status` (RFC 9209): that weir answers, and why.
    pub fn proxy_status(&self) -> String {
        let text = self.to_string();
        // A string of a structured field holds printable ASCII (RFC 8941 §3.3.3).
        match text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            true => format!("weir; error={}; details=\"{text}\"", self.proxy_error()),
            false => format!("weir; error={}", self.proxy_error()),
        }
    }

    /// The fields that say more than the status: `Proxy-Status`, `Retry-After`, and of a rate limit `RateLimit` and
    /// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("proxy-status", self.proxy_status())];
        if let Some(seconds) = self.retry_after_s() {
            fields.push(("retry-after", seconds.to_string()));
        }
        if let Refusal::RateLimited(excess) = self {
            let Excess { limit, burst, window_s, wait_s } = &**excess;
            fields.push(("ratelimit-policy", format!("\"{limit}\";q={burst};w={window_s}")));
            fields.push(("ratelimit", format!("\"{limit}\";r=0;t={wait_s}")));
        }
        fields
    }

    /// Where the client is sent instead, for `Location`: the same host and target by `https`.
    pub fn location(&self, head: &Head) -> Option<String> {
        let Refusal::Redirect(port) = self else { return None };
        let target = Some(head.target()).filter(|target| target.starts_with('/')).unwrap_or("/");
        Some(match *port {
            443 => format!("https://{}{target}", head.host()),
            port => format!("https://{}:{port}{target}", head.host()),
        })
    }

    /// The reason phrase of [`Refusal::status`].
    pub fn phrase(&self) -> &'static str {
        phrase(self.status())
    }
}

/// The standard phrase of the statuses that weir sends.
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_status_names_the_error_and_quotes_only_what_a_structured_field_can_hold() {
        let upstream = |fault, reason| Refusal::Upstream { fault, reason };
        for (refusal, said) in [
            (
                upstream(Fault::UpstreamConnect, "connect_refused"),
                "weir; error=connection_refused; details=\"connect_refused\"",
            ),
            (
                upstream(Fault::UpstreamConnect, "connect_timeout"),
                "weir; error=connection_timeout; details=\"connect_timeout\"",
            ),
            (
                upstream(Fault::UpstreamTimeout, "timeout"),
                "weir; error=http_response_timeout; details=\"timeout: the endpoint did not answer in time\"",
            ),
            (
                upstream(Fault::UpstreamAnswer, "closed"),
                "weir; error=connection_terminated; details=\"the endpoint closed the connection without an answer\"",
            ),
            (Refusal::Loop, "weir; error=proxy_loop_detected; details=\"the request went in a circle\""),
            (Refusal::Full("pool \"a\"".into()), "weir; error=connection_limit_reached"),
            (Refusal::NothingServing("Küche".into()), "weir; error=destination_unavailable"),
        ] {
            assert_eq!(refusal.proxy_status(), said);
        }
    }
}
