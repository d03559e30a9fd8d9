//! `weir explain PATH`: a request is described, weir says which rule, bucket, pool and endpoint, and why. Nothing is
//! sent to any endpoint.

use std::fmt::Write as _;
use std::net::IpAddr;

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, screen};
use crate::model::BUCKETS;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir explain /pay
  weir explain --host shop.example -H 'x-beta-user: true' --client-ip 10.1.2.3 '/pay?step=2'
  weir explain --cookie 'weir=1.AbC…' http://shop.example/pay
  weir explain -X CONNECT db.internal:5432")]
pub(super) struct Arguments {
    /// The path with its query, or a whole http:// URL; of a CONNECT its HOST:PORT
    path: String,
    /// The method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// The host that is asked for
    #[arg(long)]
    host: Option<String>,
    /// A header
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// A cookie
    #[arg(long = "cookie", value_name = "NAME=VALUE", value_parser = cookie)]
    cookies: Vec<(String, String)>,
    /// The listener that it comes in by
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let answer = Client::new(globals)?.ask(Question::post("/api/v1/explain", described(arguments)?))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    let answer: Explanation = serde_json::from_value(answer)?;
    screen::print(&render(&answer, Paint::stdout()))
}

/// The body of the question.
fn described(arguments: &Arguments) -> Result<Value, Failure> {
    let (host, path) = match arguments.path.split_once("://") {
        _ if arguments.method == "CONNECT" => (Some(arguments.path.clone()), None),
        Some(("http" | "https", rest)) => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            (
                Some(rest[..at].to_owned()),
                Some(format!("{}{}", if rest[at..].starts_with('/') { "" } else { "/" }, &rest[at..])),
            )
        }
        Some(_) if !arguments.path.starts_with('/') => {
            return Err(Failure::wrong("write a path such as /pay, or a URL that begins with http://"));
        }
        _ => (None, Some(arguments.path.clone())),
    };
    let mut body = json!({ "method": arguments.method });
    if let Some(path) = path {
        body["path"] = path.into();
    }
    if let Some(host) = arguments.host.clone().or(host) {
        body["host"] = host.into();
    }
    if let Some(address) = arguments.client_ip {
        body["client_ip"] = address.to_string().into();
    }
    if let Some(listener) = &arguments.listener {
        body["listener"] = listener.clone().into();
    }
    for (key, pairs) in [("headers", &arguments.headers), ("cookies", &arguments.cookies)] {
        if !pairs.is_empty() {
            body[key] = grouped(pairs);
        }
    }
    Ok(body)
}

/// An object of texts, and of lists where a name is there more than once.
fn grouped(pairs: &[(String, String)]) -> Value {
    let mut object = Map::new();
    for (name, value) in pairs {
        let list = object.entry(name.clone()).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(value.clone().into());
        }
    }
    object.into()
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE, such as 'x-beta-user: true'")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn cookie(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What the admin API tells; members that it does not know are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Explanation {
    generation: u64,
    routes: Vec<RouteTried>,
    service: Option<String>,
    pool: Option<String>,
    why: Option<String>,
    reason: String,
    bucket: Option<u32>,
    shares: Vec<PoolShare>,
    endpoint: Option<String>,
    forwarded_path: Option<String>,
    status: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct RouteTried {
    name: String,
    matched: bool,
}

#[derive(Debug, Deserialize)]
struct PoolShare {
    pool: String,
    weight: u32,
    share: f64,
}

/// The decision for people: first where it goes, then what led to it.
fn render(answer: &Explanation, paint: Paint) -> String {
    let shown = |text: &Option<String>| text.as_deref().map(printable).unwrap_or_default();
    let mut text = match (&answer.pool, answer.status) {
        (Some(_), _) => {
            let pool = paint.bold(&format!("pool {}", shown(&answer.pool)));
            format!("{pool} of {}, endpoint {}\n", shown(&answer.service), shown(&answer.endpoint))
        }
        (None, Some(status)) => format!("{}\n", paint.red(&format!("weir answers {status} itself"))),
        (None, None) => "nothing is decided\n".to_owned(),
    };
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {}  {value}", paint.dim(&format!("{label:10}")));
        }
    };
    let why = answer.why.as_deref().map(|why| format!("{}: ", printable(why))).unwrap_or_default();
    line("why", why + &printable(&answer.reason));
    let route = |route: &RouteTried| {
        let name = printable(&route.name);
        if route.matched { paint.bold(&format!("{name} matches")) } else { format!("{name} does not match") }
    };
    line("routes", answer.routes.iter().map(route).collect::<Vec<_>>().join(", "));
    line("bucket", answer.bucket.map(|bucket| format!("{bucket} of {BUCKETS}")).unwrap_or_default());
    let share = |pool: &PoolShare| format!("{} {} ({:.1}%)", printable(&pool.pool), pool.weight, pool.share * 100.0);
    line("weights", answer.shares.iter().map(share).collect::<Vec<_>>().join(", "));
    let path = shown(&answer.forwarded_path);
    line("path", if path.is_empty() { path } else { format!("{path} is what the endpoint sees") });
    line("generation", answer.generation.to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn arguments(line: &[&str]) -> Arguments {
        let cli = Cli::try_parse_from([&["weir", "explain"], line].concat()).expect("right usage");
        let Verb::Explain(arguments) = cli.verb else { panic!("another verb") };
        arguments
    }

    #[test]
    fn a_request_is_described_as_curl_would_be_told() {
        let line = ["-X", "POST", "-H", "X-Beta-User: true", "-H", "x-beta-user: 2", "--cookie", "a=b=c", "/pay?x=1"];
        assert_eq!(
            described(&arguments(&line)).expect("described"),
            json!({
                "method": "POST", "path": "/pay?x=1",
                "headers": { "x-beta-user": ["true", "2"] }, "cookies": { "a": ["b=c"] },
            })
        );
    }

    #[test]
    fn a_url_gives_host_and_path() {
        for (url, host, path) in [
            ("http://shop.example/pay?to=http://x", "shop.example", "/pay?to=http://x"),
            ("https://shop.example:8443", "shop.example:8443", "/"),
            ("http://shop.example?x=1", "shop.example", "/?x=1"),
        ] {
            let body = described(&arguments(&[url])).expect("described");
            assert_eq!((body["host"].as_str(), body["path"].as_str()), (Some(host), Some(path)), "{url}");
        }
        assert!(described(&arguments(&["ftp://shop.example/"])).is_err());
        assert_eq!(described(&arguments(&["/to?u=http://x"])).expect("described")["path"], "/to?u=http://x");
    }
}
