//! Traces: continued, begun, told; and what answers say of weir itself: `Proxy-Status`, `Server-Timing`.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Behaviour, Client, Door, Reply, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

const CAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced(stable: &Upstream, lines: &str) -> Setup {
    Setup::single(stable).text(&format!("[tracing]\n{lines}"))
}

/// The `traceparent` and `tracestate` that the endpoint got last.
fn got(stable: &Upstream) -> (Option<String>, Option<String>) {
    let seen = stable.last();
    (seen.field("traceparent").map(str::to_owned), seen.field("tracestate").map(str::to_owned))
}

/// The spans that a collector was posted so far.
fn spans(collector: &Upstream) -> Vec<Value> {
    let posted = collector.seen().into_iter().filter(|seen| seen.method == "POST" && seen.whole);
    let bodies = posted.map(|seen| serde_json::from_slice::<Value>(&seen.body).expect("JSON"));
    let of = |body: Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned().expect("spans");
    bodies.flat_map(of).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let found = span["attributes"].as_array()?.iter().find(|it| it["key"] == key)?;
    found["value"]["stringValue"].as_str().or(found["value"]["intValue"].as_str())
}

#[test]
fn without_tracing_the_fields_of_traces_pass_like_any_other() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    let fields = [("traceparent", "anything at all"), ("tracestate", "a=1")];
    assert_eq!(weir.client().get_with("/", &fields).status, 200);
    assert_eq!(got(&stable), (Some("anything at all".into()), Some("a=1".into())));
    assert_eq!(weir.client().get("/").status, 200);
    assert_eq!(got(&stable), (None, None));
}

#[test]
fn a_trace_is_continued_or_begun_and_the_access_log_names_it() {
    let stable = Upstream::named("stable");
    let weir = traced(&stable, "sample = 1.0").text("[access_log]\nto = \"stdout\"").start();
    let fields = [("traceparent", CAME), ("tracestate", "a=1")];
    assert_eq!(weir.client().get_with("/", &fields).status, 200);
    assert_eq!(got(&stable), (Some(CAME.into()), Some("a=1".into())), "weir has no span in it");
    assert_eq!(weir.h2().get("/").status, 200);
    let (begun, state) = got(&stable);
    let begun = begun.expect("a trace begins");
    assert!(begun.starts_with("00-") && begun.ends_with("-01") && begun.len() == CAME.len(), "{begun}");
    assert_eq!(state, None);
    let broken = [("traceparent", "00-00-00-00"), ("tracestate", "a=1")];
    assert_eq!(weir.client().get_with("/", &broken).status, 200);
    let (again, state) = got(&stable);
    assert!(again.is_some_and(|again| again != begun && again.len() == CAME.len()));
    assert_eq!(state, None, "it belongs to a trace that is not continued");
    for id in [&CAME[3..35], &begun[3..35]] {
        let line = format!("\"trace_id\":\"{id}\"");
        eventually("the line is written", SOON, || weir.access_log().count(&line) == 1);
    }
}

#[test]
fn a_stranger_s_trace_is_not_continued_where_only_proxies_are_believed() {
    let stable = Upstream::named("stable");
    let weir = traced(&stable, "believe = \"trusted\"\nsample = 0.0").start();
    assert_eq!(weir.client().get_with("/", &[("traceparent", CAME)]).status, 200);
    let begun = got(&stable).0.expect("a trace begins");
    assert!(begun[3..35] != CAME[3..35] && begun.ends_with("-00"), "{begun}");
    let trusted = traced(&stable, "believe = \"trusted\"").top("trusted_proxies = [\"127.0.0.0/8\"]").start();
    assert_eq!(trusted.client().get_with("/", &[("traceparent", CAME)]).status, 200);
    assert_eq!(got(&stable).0.as_deref(), Some(CAME));
}

#[test]
fn a_recorded_request_is_a_span_between_the_client_s_and_the_endpoint_s() {
    let (stable, collector) = (Upstream::named("stable"), Upstream::named("collector"));
    let otlp = format!("otlp = \"{}/v1/traces\"\notlp_authorization_file = \"token\"\nsample = 0.0", collector.url());
    let weir = traced(&stable, &otlp).file("token", "Bearer let-me-in\n").start();
    assert_eq!(weir.client().get_with("/buy?card=4111", &[("traceparent", CAME)]).status, 200);
    let sent = got(&stable).0.expect("the trace goes on");
    assert_eq!(weir.h2().get("/silent").status, 200);
    stable.behave(Behaviour::Reply(Reply::status(500)));
    assert_eq!(weir.client().get_with("/", &[("traceparent", CAME)]).status, 500);
    eventually("both recorded requests are told", SOON, || spans(&collector).len() == 2);
    let post = collector.last();
    assert_eq!((post.target.as_str(), post.field("content-type")), ("/v1/traces", Some("application/json")));
    assert_eq!(post.field("authorization"), Some("Bearer let-me-in"));
    let told = spans(&collector);
    let (span, failed) = (&told[0], &told[1]);
    assert_eq!((span["traceId"].as_str(), span["parentSpanId"].as_str()), (Some(&CAME[3..35]), Some(&CAME[36..52])));
    assert_eq!(Some(&sent[36..52]), span["spanId"].as_str(), "the endpoint's parent is weir's span");
    let (pool, path) = (attribute(span, "weir.pool"), attribute(span, "url.path"));
    assert_eq!((pool, path, span["status"]["code"].as_u64()), (Some("stable"), Some("/buy"), None));
    assert_eq!(attribute(span, "http.response.status_code"), Some("200"));
    assert_eq!(
        (failed["status"]["code"].as_u64(), attribute(failed, "error.type")),
        (Some(2), Some("upstream_answer"))
    );
    let time = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds");
    assert!(time("endTimeUnixNano") >= time("startTimeUnixNano"));
    eventually("they are counted", SOON, || weir.metrics().sum("weir_trace_spans_total", &[("result", "sent")]) == 2.0);
}

#[test]
fn a_collector_that_hangs_or_is_gone_costs_spans_and_no_request() {
    let (stable, mut collector) = (Upstream::named("stable"), Upstream::named("collector"));
    collector.door(Door::Silent);
    let otlp = format!("otlp = \"{}/v1/traces\"\nsample = 1.0", collector.url());
    let weir = traced(&stable, &otlp).start();
    let mut client = weir.client();
    let flood = |client: &mut Client| (0..3_000).for_each(|_| assert_eq!(client.get("/").status, 200));
    flood(&mut client);
    let dropped = |weir: &Weir| weir.metrics().sum("weir_trace_spans_total", &[("result", "dropped")]);
    assert!(dropped(&weir) > 0.0, "what does not fit the queue is dropped");
    collector.kill();
    flood(&mut client);
}

#[test]
fn the_collector_and_the_sample_change_while_weir_runs_and_mistakes_are_told() {
    let (stable, collector) = (Upstream::named("stable"), Upstream::named("collector"));
    let setup = Setup::single(&stable);
    let weir = setup.start();
    assert_eq!(weir.client().get("/").status, 200);
    let otlp = format!("otlp = \"{}/v1/traces\"\nsample = 1.0", collector.url());
    weir.save_config(&setup.clone().text(&format!("[tracing]\n{otlp}")).config_text());
    eventually("spans are told", SOON, || weir.client().get("/").status == 200 && !spans(&collector).is_empty());
    for (wrong, said) in [
        ("otlp = \"localhost:4317\"", "is not the address of a collector"),
        ("sample = 2", "sample"),
        ("otlp_authorization_file = \"token\"", "has no collector to go to"),
    ] {
        weir.save_config(&setup.clone().text(&format!("[tracing]\n{wrong}")).config_text());
        eventually(wrong, SOON, || weir.log().text().contains(said));
    }
}

#[test]
fn what_weir_answers_itself_says_so_and_why() {
    let (stable, hung) = (Upstream::named("stable"), Upstream::named("hung"));
    hung.behave(Behaviour::StallBeforeHead);
    let gone = Upstream::down("gone");
    let services = format!(
        "[services.hung]\ntimeouts = {{ response_header = \"200ms\" }}\nretry = {{ attempts = 1 }}\n\
         [services.hung.pools.stable]\nendpoints = [\"{}\"]\n\
         [services.gone.pools.stable]\nendpoints = [\"{}\"]\n\
         [[routes]]\nservice = \"engine\"\nmatch = {{ path = \"/ok\" }}\n\
         [[routes]]\nservice = \"hung\"\nmatch = {{ path = \"/hung\" }}\n\
         [[routes]]\nservice = \"gone\"\nmatch = {{ path = \"/gone\" }}\n",
        hung.url(),
        gone.url()
    );
    let weir = Setup::single(&stable).text(&services).start();
    let said = |path: &str, status: u16, error: &str, answer: (u16, Option<&str>)| {
        let field = answer.1.unwrap_or_default();
        assert_eq!(answer.0, status, "{path}");
        assert!(field.starts_with(&format!("weir; error={error}; details=\"")), "{path}: {field}");
    };
    for (path, status, error) in [
        ("/nobody", 404, "destination_not_found"),
        ("/gone", 503, "destination_unavailable"),
        ("/hung", 504, "http_response_timeout"),
    ] {
        let answer = weir.client().get(path);
        said(path, status, error, (answer.status, answer.field("proxy-status")));
    }
    let answer = weir.h2().get("/nobody");
    said("/nobody", 404, "destination_not_found", (answer.status, answer.field("proxy-status")));
    assert_eq!(weir.client().get("/ok").field("proxy-status"), None, "that is the endpoint's answer");
    let mut client = weir.client().lenient();
    client.send(b"GET / HTTP/1.1\r\n\r\n").expect("it is sent");
    let refused = client.answer().expect("an answer");
    assert!(refused.field("proxy-status").is_some_and(|said| said.starts_with("weir; error=http_request_error")));
}

#[test]
fn server_timing_says_where_the_time_went_if_asked_to() {
    let stable = Upstream::named("stable");
    stable.behave_on("/slow", Behaviour::Late(Duration::from_millis(60)));
    let weir = Setup::single(&stable).service("server_timing = true").start();
    for timing in [
        weir.client().get("/slow").field("server-timing").map(str::to_owned),
        weir.h2().get("/slow").field("server-timing").map(str::to_owned),
    ] {
        let timing = timing.expect("it is there");
        let part = |name: &str| {
            let found = timing.split(", ").find_map(|part| part.strip_prefix(&format!("{name};dur=")));
            found.and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} in {timing}"))
        };
        assert!(part("endpoint") >= 60.0 && part("weir") < part("endpoint"), "{timing}");
    }
    let silent = Setup::single(&stable).start();
    assert_eq!(silent.client().get("/").field("server-timing"), None);
}
