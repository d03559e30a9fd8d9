//! Webhooks and commands that do something outside: actions, and the jobs of sweeps. They are checks whose answer says
//! whether it was done; `{target}` in the job of a sweep stands for its target.

use super::{Context, command, http};
use crate::model::rollout::{Act, CommandCheck, HttpCheck};
use crate::rollout::verdict::Outcome;

/// Methods whose request has a body: the rollout as JSON, unless the plan says another.
const WITH_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];

/// Does it, with its further tries: what came of it, in words; `Err` when it is not done.
pub(in crate::rollout) async fn act(act: &Act, context: &Context) -> Result<String, String> {
    let outcome = match act {
        Act::Webhook(check) => http::check(&with_body(check, context), context).await,
        Act::Command(check) => command::check(check, context).await,
        Act::StopNewTraffic | Act::DrainConnections => return Err("that is no call outside".into()),
    };
    match outcome {
        Outcome::Passed { detail, .. } => Ok(detail),
        Outcome::Failed { detail, .. } | Outcome::Unavailable { detail } | Outcome::Waiting { detail } => Err(detail),
    }
}

/// The same job for one target.
pub(in crate::rollout) fn for_target(act: &Act, target: &str) -> Act {
    let put = |text: &String| text.replace("{target}", target);
    // In an address a target is a part of it and never more than that.
    let put_url = |text: &String| text.replace("{target}", &super::prometheus::encoded(target));
    match act {
        Act::Webhook(check) => Act::Webhook(HttpCheck {
            url: put_url(&check.url),
            body: check.body.as_ref().map(put),
            headers: check.headers.iter().map(|(name, value)| (name.clone(), put(value))).collect(),
            contains: check.contains.as_ref().map(put),
            ..check.clone()
        }),
        Act::Command(check) => Act::Command(CommandCheck {
            command: check.command.iter().map(put).collect(),
            env: check.env.iter().map(|(name, value)| (name.clone(), put(value))).collect(),
            ..check.clone()
        }),
        Act::StopNewTraffic | Act::DrainConnections => act.clone(),
    }
}

fn with_body(check: &HttpCheck, context: &Context) -> HttpCheck {
    let mut check = check.clone();
    if check.body.is_none() && WITH_BODY.contains(&check.method.as_str()) {
        check.body = Some(context.json().to_string());
        if !check.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
            check.headers.insert("content-type".into(), "application/json".into());
        }
    }
    check
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::model::rollout::When;

    #[test]
    fn a_target_stands_where_it_is_named_and_does_not_get_out_of_its_place() {
        let command = Act::Command(CommandCheck {
            command: vec!["./verify.sh".into(), "--tenant={target}".into()],
            env: BTreeMap::from([("TENANT".to_owned(), "{target}".to_owned())]),
            timeout: Duration::from_secs(1),
            retries: 0,
            interval: Duration::ZERO,
            when: When::Start,
        });
        let Act::Command(made) = for_target(&command, "acme; rm -rf /") else { panic!("another act") };
        assert_eq!(made.command, ["./verify.sh", "--tenant=acme; rm -rf /"]);
        assert_eq!(made.env["TENANT"], "acme; rm -rf /");
        let webhook = Act::Webhook(HttpCheck {
            url: "http://ci.test/run/{target}?ref=main".into(),
            method: "POST".into(),
            headers: BTreeMap::new(),
            body: None,
            expect: (200, 299),
            contains: None,
            timeout: Duration::from_secs(1),
            retries: 0,
            interval: Duration::ZERO,
            when: When::Start,
        });
        let Act::Webhook(made) = for_target(&webhook, "a/b?c") else { panic!("another act") };
        assert_eq!(made.url, "http://ci.test/run/a%2Fb%3Fc?ref=main");
        let sent = with_body(&made, &Context { service: "engine".into(), ..Context::default() });
        assert!(sent.body.is_some_and(|body| body.contains("\"service\":\"engine\"")));
        assert_eq!(sent.headers["content-type"], "application/json");
    }
}
