//! `weir verify-split SERVICE`: sends requests through a listener and tests whether they fell on the pools as the
//! weights say. What went where is read from weir's own counters before and after, so that clients see nothing of it;
//! other traffic of the service in that time counts as well, because it is split by the same weights.

mod exact;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Client, Question};
use super::failure::Failure;
use super::figures::{count, ratio};
use super::screen::{Paint, printable};
use super::{Globals, change, near, place, screen};
use crate::model::{ListenerSpec, Name};

/// Connections that send.
const CONNECTIONS: u64 = 8;

/// Most requests: enough for a share of one in a thousand, and no load test.
const REQUESTS_MAX: u64 = 100_000;

/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reasons for a pool that the weights decided; all else (routes, paths, overrides, retries) says nothing of them.
const BY_WEIGHTS: [&str; 2] = ["weight", "bucket"];

/// Reasons by which one client is one unit: all its requests go to one pool, which tests nothing.
const STICKY: [&str; 2] = ["header", "client_ip"];

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing but GET or HEAD is sent, to one path, over at most eight connections.
Exit codes: 0 the split fits, 1 it does not (or could not be measured), 2 wrong usage.

Examples:
  weir verify-split engine
  weir verify-split engine -n 5000 --url http://127.0.0.1:8080/healthz --method head
  weir verify-split engine -H 'x-user: verify-{number}'   affinity by header: each a new unit")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name)]
    service: Name,
    /// How many requests are sent
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    requests: u64,
    /// Where they are sent; the first listener of the configuration by default
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// What is sent
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = Kind::Get)]
    method: Kind,
    /// A header; {number} stands for the number of the request
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = super::explain::header)]
    headers: Vec<(String, String)>,
    /// The split does not fit when its p-value is below this
    #[arg(long, value_name = "P", default_value_t = 0.001)]
    alpha: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Get,
    Head,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Outcome {
    service: String,
    generation: u64,
    sent: u64,
    failed: u64,
    requests: u64,
    p_value: f64,
    alpha: f64,
    fits: bool,
    pools: Vec<PoolOutcome>,
}

#[derive(Debug, Serialize)]
struct PoolOutcome {
    pool: String,
    expected_share: f64,
    expected: f64,
    seen: u64,
    seen_share: f64,
}

/// What the weights say, and the counters, at one moment.
#[derive(Debug)]
struct Look {
    generation: u64,
    shares: Vec<(String, f64)>,
    decisions: BTreeMap<(String, String), u64>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let before = look(&client, &arguments.service)?;
    let target = match &arguments.url {
        Some(url) => url.clone(),
        None => listener(globals)?,
    };
    let (sent, failed) = send(arguments, &target)?;
    let after = look(&client, &arguments.service)?;
    if after.generation != before.generation {
        return Err(Failure::failed("the weights changed while it was measured; try again"));
    }
    let outcome = judge(arguments, &before, &after, sent, failed)?;
    if globals.json() {
        screen::print_json(&outcome)?;
    } else {
        screen::print(&render(&outcome, &target, Paint::stdout()))?;
    }
    if outcome.fits { Ok(()) } else { Err(Failure::Said(1)) }
}

/// The first listener over plain HTTP that takes all pools, by loopback when it listens everywhere.
fn listener(globals: &Globals) -> Result<Uri, Failure> {
    let config = place::config(globals)?;
    let takes_all = |listener: &ListenerSpec| {
        let plain = listener.tls.is_none() && listener.redirect.is_none() && listener.proxy_protocol.is_none();
        if plain && listener.pin.is_none() { listener.address.tcp() } else { None }
    };
    let free = config.listeners.iter().find_map(takes_all);
    let mut address: SocketAddr =
        free.ok_or_else(|| Failure::wrong("no listener takes all pools over plain HTTP; name a --url"))?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    if address.port() == 0 {
        return Err(Failure::wrong("the listener takes any port; say which with --url"));
    }
    format!("http://{address}/").parse().map_err(|_| Failure::wrong("the listener's address makes no URL"))
}

fn look(client: &Client, service: &Name) -> Result<Look, Failure> {
    let status = client.ask(Question::get("/api/v1/status"))?;
    let services = status["services"].as_array();
    let found = services.and_then(|list| list.iter().find(|it| it["name"] == service.as_str()));
    let found = found.ok_or_else(|| {
        let names = near::names(&status["services"]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Failure::wrong(format!("there is no service \"{service}\"{}", near::advice(service.as_str(), &names)))
    })?;
    let share = |pool: &Value| Some((pool["name"].as_str()?.to_owned(), pool["configured_share"].as_f64()?));
    let shares = found["pools"].as_array().into_iter().flatten().filter_map(share).collect();
    let answer = client.send(Question::get("/metrics"))?;
    let decisions = decisions(&String::from_utf8_lossy(&answer.body), service.as_str());
    Ok(Look { generation: status["generation"].as_u64().unwrap_or_default(), shares, decisions })
}

/// `weir_decisions_total` of a service, by pool and reason.
fn decisions(metrics: &str, service: &str) -> BTreeMap<(String, String), u64> {
    let mut found = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("weir_decisions_total{")) {
        let Some((labels, value)) = line.split_once("} ") else { continue };
        // Names hold neither quotes nor commas.
        let label = |name: &str| {
            let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned())
        };
        if label("service").as_deref() != Some(service) {
            continue;
        }
        if let (Some(pool), Some(why), Ok(value)) = (label("pool"), label("why"), value.trim().parse::<f64>()) {
            found.insert((pool, why), value as u64);
        }
    }
    found
}

fn judge(arguments: &Arguments, before: &Look, after: &Look, sent: u64, failed: u64) -> Result<Outcome, Failure> {
    let counted = |pool: &str, reasons: &[&str]| {
        let of = |look: &Look, why: &str| look.decisions.get(&(pool.to_owned(), why.to_owned())).copied().unwrap_or(0);
        reasons.iter().map(|why| of(after, why).saturating_sub(of(before, why))).sum::<u64>()
    };
    let varied = arguments.headers.iter().any(|(_, value)| value.contains("{number}") || value.contains("{n}"));
    let reasons: Vec<&str> = BY_WEIGHTS.iter().chain(STICKY.iter().filter(|_| varied)).copied().collect();
    let seen: Vec<u64> = before.shares.iter().map(|(pool, _)| counted(pool, &reasons)).collect();
    let total: u64 = seen.iter().sum();
    if total == 0 {
        let stuck = before.shares.iter().any(|(pool, _)| counted(pool, &STICKY) > 0);
        let service = &arguments.service;
        return Err(match (failed, stuck) {
            (_, true) => Failure::wrong(format!(
                "{service} keeps a client at one pool; vary what it goes by, such as -H 'NAME: verify-{{number}}'"
            )),
            (failed, _) if failed == sent => Failure::failed(format!("none of {sent} requests was answered")),
            (..) => Failure::failed(format!("no request reached {service} by its weights; name another --url or path")),
        });
    }
    let shares: Vec<f64> = before.shares.iter().map(|(_, share)| *share).collect();
    let p_value = exact::p_value(&seen, &shares);
    let pool = |((pool, share), seen): (&(String, f64), &u64)| PoolOutcome {
        pool: pool.clone(),
        expected_share: *share,
        expected: share * total as f64,
        seen: *seen,
        seen_share: *seen as f64 / total as f64,
    };
    Ok(Outcome {
        service: arguments.service.to_string(),
        generation: before.generation,
        sent,
        failed,
        requests: total,
        p_value,
        alpha: arguments.alpha,
        fits: p_value >= arguments.alpha,
        pools: before.shares.iter().zip(&seen).map(pool).collect(),
    })
}

fn render(outcome: &Outcome, target: &Uri, paint: Paint) -> String {
    let mut text = format!("{} requests to {target}", count(outcome.sent));
    if outcome.failed > 0 {
        text += &format!(", {} not answered", count(outcome.failed));
    }
    if outcome.requests > outcome.sent {
        text += &format!("; {} with other clients' in that time", count(outcome.requests));
    }
    text += "\n";
    let width = outcome.pools.iter().map(|pool| pool.pool.chars().count()).max().unwrap_or(0).max(4);
    let title = format!("{:width$}  {:>9}  {:>9}  {:>8}  {:>8}", "POOL", "EXPECTED", "SEEN", "SHARE", "SEEN");
    text += &format!("  {}\n", paint.dim(&title));
    for pool in &outcome.pools {
        text += &format!(
            "  {:width$}  {:>9.1}  {:>9}  {:>8}  {:>8}\n",
            printable(&pool.pool),
            pool.expected,
            pool.seen,
            ratio(pool.expected_share),
            ratio(pool.seen_share),
        );
    }
    let p = if outcome.p_value > 0.0 && outcome.p_value < 1e-4 {
        format!("{:.1e}", outcome.p_value)
    } else {
        format!("{:.4}", outcome.p_value)
    };
    let verdict = if outcome.fits {
        paint.green("the split fits its weights")
    } else {
        paint.red("the split does not fit its weights")
    };
    text + &format!("{verdict}: p = {p}, exact test, limit {}\n", outcome.alpha)
}

// === sending ===

/// Sends what was asked for; how many were sent, and how many were not answered.
fn send(arguments: &Arguments, target: &Uri) -> Result<(u64, u64), Failure> {
    if target.scheme_str().is_some_and(|scheme| scheme != "http") || target.authority().is_none() {
        return Err(Failure::wrong(format!("\"{target}\" is no address to send to; write http://127.0.0.1:8080/")));
    }
    let plan = Arc::new(Plan {
        target: target.clone(),
        method: if arguments.method == Kind::Get { Method::GET } else { Method::HEAD },
        headers: arguments.headers.clone(),
        left: AtomicU64::new(arguments.requests),
        failed: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let senders = CONNECTIONS.min(arguments.requests);
        let tasks: Vec<_> = (0..senders).map(|_| tokio::spawn(sender(plan.clone()))).collect();
        for task in tasks {
            let _ = task.await;
        }
    });
    Ok((arguments.requests, plan.failed.load(Ordering::Relaxed)))
}

/// What the connections share.
#[derive(Debug)]
struct Plan {
    target: Uri,
    method: Method,
    headers: Vec<(String, String)>,
    left: AtomicU64,
    failed: AtomicU64,
}

async fn sender(plan: Arc<Plan>) {
    let take = || plan.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok();
    let mut kept = None;
    while let Some(number) = take() {
        if !matches!(timeout(PATIENCE, one(&plan, number, &mut kept)).await, Ok(Some(()))) {
            plan.failed.fetch_add(1, Ordering::Relaxed);
            kept = None;
        }
    }
}

async fn one(plan: &Plan, number: u64, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Option<()> {
    let mut sender = match ready(kept.take()).await {
        Some(sender) => sender,
        None => connect(&plan.target).await?,
    };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = plan.method.clone();
    let path = plan.target.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(plan.target.authority()?.as_str()).ok()?);
    for (name, value) in &plan.headers {
        let value = value.replace("{number}", &number.to_string()).replace("{n}", &number.to_string());
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(&value).ok()?);
    }
    let response = sender.send_request(request).await.ok()?;
    // Whatever the answer is, it was split.
    response.into_body().collect().await.ok()?;
    *kept = Some(sender);
    Some(())
}

/// The connection, unless the other side closed it meanwhile.
async fn ready(kept: Option<SendRequest<Empty<Bytes>>>) -> Option<SendRequest<Empty<Bytes>>> {
    let mut sender = kept?;
    sender.ready().await.ok().map(|()| sender)
}

async fn connect(target: &Uri) -> Option<SendRequest<Empty<Bytes>>> {
    let host = target.host()?.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, target.port_u16().unwrap_or(80))).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_by_pool_and_reason() {
        let text = "# TYPE weir_decisions_total counter\n\
            weir_decisions_total{service=\"engine\",pool=\"canary\",why=\"weight\"} 12\n\
            weir_decisions_total{service=\"shop\",pool=\"canary\",why=\"weight\"} 7\n\
            weir_decisions_total{why=\"path\",service=\"engine\",pool=\"canary\"} 3\n";
        let found = decisions(text, "engine");
        assert_eq!(found.len(), 2);
        assert_eq!(found[&("canary".to_owned(), "weight".to_owned())], 12);
    }
}
