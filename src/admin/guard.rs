//! What every admin request must pass before a handler sees it, in this order: one host that this API answers to, no
//! token in the address, no proxy in between, no other origin, the token, a body that no form can send. Which
//! role a path takes stands in its row of `routes`.
//!
//! Without a token the API trusts whoever can connect to loopback, and a browser on this machine can: so it must never
//! do what a page of another origin asks for (cross-site request forgery, DNS rebinding).

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::access::{Access, Caller, Role};
use super::limiter::Limiter;
use super::problem::{Code, Problem};

/// Paths that need no token: probes and scrapers. They tell names of services and pools, and change nothing.
pub(super) const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Query parameters that people put tokens into. Addresses end up in logs and histories.
const TOKEN_PARAMETERS: [&str; 5] = ["token", "access_token", "api_key", "apikey", "authorization"];

/// What a proxy adds. One in front of an unprotected API would lend its loopback address to strangers.
const PROXY_HEADERS: [&str; 4] = ["via", "forwarded", "x-forwarded-for", "x-real-ip"];

/// The gate of the API.
#[derive(Debug)]
pub(super) struct Guard {
    access: Access,
    failures: Mutex<Limiter>,
}

// === impl Guard ===

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Self { access, failures: Mutex::default() }
    }

    /// Lets a request through or says why not.
    pub(super) fn check(&self, parts: &Parts, client: IpAddr, now_ms: u64) -> Result<Caller, Problem> {
        let authority = authority(parts)?;
        if self.access.is_open() && !self.access.answers_to(authority) {
            let detail = "without a token this API answers only to localhost, 127.0.0.0/8, [::1] and its own address";
            return Err(Problem::new(Code::WrongHost, detail));
        }
        if has_token(parts.uri.query().unwrap_or_default()) {
            return Err(Problem::new(Code::TokenInUrl, "send it as Authorization: Bearer"));
        }
        if OPEN.contains(&parts.uri.path()) {
            return Ok(Caller { name: None, role: Role::Viewer });
        }
        if self.access.is_open() && PROXY_HEADERS.iter().any(|name| parts.headers.contains_key(*name)) {
            let detail = "this request came through a proxy; set a token to allow that";
            return Err(Problem::new(Code::Proxied, detail));
        }
        if !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            same_origin(&parts.headers, authority)?;
            json_only(&parts.headers)?;
        }
        self.authenticate(&parts.headers, client, now_ms)
    }

    fn authenticate(&self, headers: &HeaderMap, client: IpAddr, now_ms: u64) -> Result<Caller, Problem> {
        if !self.access.needs_token() {
            return Ok(Caller { name: None, role: Role::Admin });
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait_s) = failures.wait_s(client, now_ms) {
            let problem = Problem::new(Code::TooManyFailures, format!("wait {wait_s} s"));
            return Err(problem.header(header::RETRY_AFTER, HeaderValue::from(wait_s)));
        }
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let given = values.next().map(HeaderValue::as_bytes);
        // Schemes are compared without case (RFC 9110 §11.1).
        let given = given.and_then(|value| value.split_at_checked(7)).filter(|_| values.next().is_none());
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, rest)| rest);
        match given.map(|given| self.access.whose(given)) {
            Some(Some(caller)) => return Ok(caller),
            Some(None) => {
                tracing::warn!(%client, "a wrong admin token was refused");
                failures.failed(client, now_ms);
            }
            // Not counted: a page of another origin can make a browser send this, and would lock its user out.
            None => {}
        }
        let problem = Problem::new(Code::Unauthorized, "send Authorization: Bearer with the token of token_file");
        Err(problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\"")))
    }
}

/// The one authority of the request.
fn authority(parts: &Parts) -> Result<&str, Problem> {
    let bad = |detail: &'static str| Problem::new(Code::BadHost, detail);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| bad("Host holds illegal bytes"))?,
        (None, _) if parts.version == Version::HTTP_10 => "localhost",
        (None, _) => return Err(bad("there is no Host header")),
        (Some(_), Some(_)) => return Err(bad("there are several Host headers")),
    };
    match parts.uri.authority() {
        Some(target) if target.as_str() != host => Err(bad("the request target names another host than Host")),
        _ => Ok(host),
    }
}

/// Refuses what a browser sends on behalf of another origin. Programs send neither header.
fn same_origin(headers: &HeaderMap, authority: &str) -> Result<(), Problem> {
    let same_site = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    let own = |value: &HeaderValue| {
        let origin = value.to_str().unwrap_or_default();
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(authority))
    };
    let holds =
        headers.get_all("sec-fetch-site").iter().all(same_site) && headers.get_all(header::ORIGIN).iter().all(own);
    if holds {
        return Ok(());
    }
    let detail = "changes are refused when a browser sends them for a page of another origin";
    Err(Problem::new(Code::CrossOrigin, detail))
}

/// Refuses content types that a form or a plain script request can send without asking first.
fn json_only(headers: &HeaderMap) -> Result<(), Problem> {
    let json = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if (types.peek().is_none() && has_body) || !types.all(json) {
        return Err(Problem::new(Code::NotJson, "send Content-Type: application/json"));
    }
    Ok(())
}

fn has_token(query: &str) -> bool {
    let keys = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    keys.into_iter().any(|key| TOKEN_PARAMETERS.iter().any(|name| key.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::Request;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The words below are all that a hostile page or a confused client can vary.
        #[test]
        fn no_mutation_passes_with_a_foreign_host_or_origin(
            host in "(localhost|127\\.0\\.0\\.1|\\[::1\\]|[a-z0-9.:@\\[\\]-]{0,20})(:[0-9]{0,5})?",
            origin in proptest::option::of(
                "(http://|https://|file://|)(localhost|attacker\\.example|null)(:[0-9]{1,5})?"
            ),
            site in proptest::option::of("same-origin|none|same-site|cross-site|[a-z]{0,5}"),
        ) {
            let guard = Guard::new(Access::new((Ipv4Addr::LOCALHOST, 9901).into(), None).unwrap());
            let mut request = Request::post("/api/v1/reload").header("host", &host);
            request = origin.iter().fold(request, |request, origin| request.header("origin", origin));
            request = site.iter().fold(request, |request, site| request.header("sec-fetch-site", site));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            if guard.check(&parts, Ipv4Addr::LOCALHOST.into(), 1).is_ok() {
                let name = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(&*host, |(name, _)| name);
                let local = name == "localhost"
                    || name == "[::1]"
                    || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
                    || name.starts_with('[');
                prop_assert!(local, "{}", host);
                let own = [format!("http://{host}"), format!("https://{host}")];
                prop_assert!(origin.is_none_or(|origin| own.contains(&origin)));
                prop_assert!(site.is_none_or(|site| site == "same-origin" || site == "none"));
            }
        }
    }
}
