//! An HTTP request that must be answered as expected. A path goes to an endpoint of the candidate: that it does not
//! answer is the candidate's failure. Elsewhere, no answer only means that it could not be asked.

use super::{Context, again, excerpt, failed, passed, unavailable};
use crate::model::Protocol;
use crate::model::rollout::HttpCheck;
use crate::outside::http::{Answer, BODY_BYTES_MAX, Call, CallError, call};
use crate::rollout::verdict::Outcome;

/// A check with its further tries.
pub(super) async fn check(check: &HttpCheck, context: &Context) -> Outcome {
    let mut round = 0;
    loop {
        let outcome = once(check, context, round).await;
        if !again(&outcome, round, check.retries, check.interval).await {
            return outcome;
        }
        round += 1;
    }
}

/// One try.
async fn once(check: &HttpCheck, context: &Context, round: u32) -> Outcome {
    let is_path = check.url.starts_with('/');
    let place = context.place(round).filter(|_| is_path);
    if is_path && place.is_none() {
        return Outcome::Waiting { detail: "the pool has no endpoint yet".into() };
    }
    if let Some(place) = place.filter(|place| matches!(place.protocol, Protocol::Https | Protocol::Unix)) {
        let why = "only endpoints over plain HTTP are asked by a path; write the whole URL";
        return unavailable(format!("{}: {why}", place.addr));
    }
    let url = place.map_or_else(|| check.url.clone(), |place| format!("http://{}{}", place.addr, check.url));
    let mut fields: Vec<(String, String)> =
        check.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(place) = place
        && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        fields.push(("host".into(), place.authority.clone()));
    }
    let body = check.body.clone().unwrap_or_default().into_bytes();
    let asked = Call { method: check.method.clone(), url, fields, body, timeout: check.timeout };
    let shown = place.map(|place| format!("{} {} of {}: ", check.method, shown(&check.url), place.addr));
    let shown = shown.unwrap_or_default();
    match call(&asked).await {
        Ok(answer) => judge(check, &answer, &shown),
        Err(error) => match error {
            CallError::Connect { .. } | CallError::Broken { .. } | CallError::Timeout { .. }
                if is_path || is_candidate(&check.url, context) =>
            {
                failed(format!("{shown}{error}"), None)
            }
            _ => unavailable(format!("{shown}{error}")),
        },
    }
}

fn judge(check: &HttpCheck, answer: &Answer, shown: &str) -> Outcome {
    let (status, (low, high)) = (answer.status, check.expect);
    let ms = answer.took.as_secs_f64() * 1000.0;
    if !(low..=high).contains(&status) {
        let said = excerpt(&answer.body);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let wanted = if low == high { low.to_string() } else { format!("{low} to {high}") };
        return failed(format!("{shown}status {status}, expected {wanted}{said}"), Some(ms));
    }
    let body = String::from_utf8_lossy(&answer.body);
    if let Some(text) = check.contains.as_ref().filter(|text| !body.contains(text.as_str())) {
        let within = if answer.cut { format!("the first {} KiB of ", BODY_BYTES_MAX >> 10) } else { String::new() };
        return failed(format!("{shown}status {status}, but {within}the answer does not contain {text:?}"), Some(ms));
    }
    passed(format!("{shown}{status} in {ms:.0} ms"), Some(ms))
}

/// A path without its query, which may be secret.
fn shown(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// Whether a URL is that of an endpoint of the candidate: then, too, no answer is its failure.
fn is_candidate(url: &str, context: &Context) -> bool {
    let Some(("http", rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:80"),
    };
    let is = |place: &super::Place| {
        place.addr.to_string() == with_port || place.authority == with_port || place.authority == authority
    };
    context.endpoints.iter().any(is)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Place;
    use super::*;

    fn wanted(expect: (u16, u16), contains: Option<&str>) -> HttpCheck {
        HttpCheck {
            url: "/healthz?token=x".into(),
            method: "GET".into(),
            headers: Default::default(),
            body: None,
            expect,
            contains: contains.map(str::to_owned),
            timeout: Duration::from_secs(1),
            retries: 0,
            interval: Duration::ZERO,
            when: crate::model::rollout::When::Start,
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), cut: false, took: Duration::from_millis(12) }
    }

    #[test]
    fn a_status_within_the_expected_ones_and_the_wanted_text_pass() {
        let said = |expect, contains, got: &Answer| match judge(&wanted(expect, contains), got, "") {
            Outcome::Passed { detail, .. } => format!("passed: {detail}"),
            Outcome::Failed { detail, .. } => format!("failed: {detail}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(said((200, 299), None, &answer(204, "")), "passed: 204 in 12 ms");
        let down = answer(503, "no database\n");
        assert_eq!(said((200, 299), None, &down), "failed: status 503, expected 200 to 299: no database");
        assert_eq!(said((503, 503), Some("database"), &down), "passed: 503 in 12 ms");
        let detail = "failed: status 200, but the answer does not contain \"ok\"";
        assert_eq!(said((200, 200), Some("ok"), &answer(200, "starting")), detail);
    }

    #[tokio::test]
    async fn no_answer_is_a_failure_of_the_candidate_and_of_nobody_else() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = closed.local_addr().unwrap();
        drop(closed);
        let endpoints = vec![Place {
            addr: addr.into(),
            protocol: Protocol::Http1,
            authority: format!("canary.test:{}", addr.port()),
        }];
        let context = Context { endpoints, ..Context::default() };
        let asked = async |url: String| once(&HttpCheck { url, ..wanted((200, 299), None) }, &context, 0).await;
        let Outcome::Failed { detail, .. } = asked("/healthz?token=hunter2".into()).await else { panic!("no failure") };
        assert!(detail.starts_with(&format!("GET /healthz of {addr}: no connection to http://{addr}: ")), "{detail}");
        assert!(matches!(asked(format!("http://{addr}/deep?x")).await, Outcome::Failed { .. }));
        let elsewhere = Context::default();
        let check = HttpCheck { url: format!("http://{addr}/"), ..wanted((200, 299), None) };
        assert!(matches!(once(&check, &elsewhere, 0).await, Outcome::Unavailable { .. }));
        let check = wanted((200, 299), None);
        assert!(matches!(once(&check, &elsewhere, 0).await, Outcome::Waiting { .. }));
    }
}
