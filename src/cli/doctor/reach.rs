//! Connects to every endpoint from here, as weir's own probe does: the name, the connection, TLS, the probe's answer.
//! What cannot be reached from here may be reached from where weir runs; so the finding says from where.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use super::finding::{Finding, Severity};
use crate::config::Config;
use crate::model::{Address, Health, Origin, PoolSpec, ProbeKind, ServiceSpec};
use crate::switchboard::status::Status;
use crate::tls::pool::PoolTls;
use crate::tls::pools::PoolsTls;
use crate::upstream::check::{self, CheckError, Whom};

/// Endpoints that are connected to; a few minutes of probes are no help.
const ENDPOINTS_MAX: usize = 256;

/// Addresses of one name that are connected to.
const ADDRESSES_MAX: usize = 16;

/// Connections at once.
const AT_ONCE: usize = 16;

/// Longest wait for a name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to what the file names. With a status, only addresses that weir knows of names count, so that a name that
/// means something else here misleads nobody.
pub(super) fn look(config: &Config, status: Option<&Status>) -> Vec<Finding> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let pools = PoolsTls::open(&config.plan.services, &PoolsTls::default()).unwrap_or_default();
    let mut jobs = Vec::new();
    for service in &config.plan.services {
        for pool in &service.pools {
            for origin in pool.origins.iter().filter(|origin| origin.labelled().is_none()) {
                jobs.push((service, pool, origin, known(status, service, pool, origin)));
            }
        }
    }
    runtime.block_on(async {
        let mut findings = Vec::new();
        let mut left = ENDPOINTS_MAX;
        for (service, pool, origin, known) in jobs {
            let place = format!("{origin} ({} of {})", pool.name, service.name);
            let addresses = match known {
                Some(known) => known,
                None => match resolve(origin).await {
                    Ok(addresses) => addresses,
                    Err(why) => {
                        let found = format!("DNS from here: {why}");
                        let right = "a name that resolves where weir runs; [dns] servers names other name servers";
                        let next = format!("getent hosts {}", origin.host);
                        findings.push(Severity::Error.of(place, found).right(right).next(next));
                        continue;
                    }
                },
            };
            let addresses: Vec<Address> = addresses.into_iter().take(ADDRESSES_MAX.min(left)).collect();
            left -= addresses.len();
            let tls = pools.of(service, pool).cloned();
            for batch in addresses.chunks(AT_ONCE) {
                let mut probes = JoinSet::new();
                for address in batch {
                    let (service, pool, origin) = (service.clone(), pool.clone(), origin.clone());
                    let (address, tls) = (address.clone(), tls.clone());
                    probes.spawn(async move { probe(&service, &pool, &origin, &address, tls.as_deref()).await });
                }
                findings.extend(probes.join_all().await.into_iter().flatten());
            }
        }
        findings.sort_by(|a, b| a.place.cmp(&b.place));
        findings
    })
}

/// The addresses that weir found for an origin; none when it does not run or found none.
fn known(status: Option<&Status>, service: &ServiceSpec, pool: &PoolSpec, origin: &Origin) -> Option<Vec<Address>> {
    let service = status?.services.iter().find(|it| it.name == service.name.as_str())?;
    let pool = service.pools.iter().find(|it| it.name == pool.name.as_str())?;
    let own = pool.endpoints.iter().filter(|endpoint| endpoint.origin == origin.to_string());
    let found: Vec<Address> = own.filter_map(|it| it.address.parse().map(Address::Ip).ok()).collect();
    (!found.is_empty()).then_some(found)
}

async fn resolve(origin: &Origin) -> Result<Vec<Address>, String> {
    if let Some(address) = origin.literal() {
        return Ok(vec![address]);
    }
    let lookup = tokio::net::lookup_host((origin.host.as_str(), origin.port));
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Ok(Ok(found)) => Ok(found.map(Address::Ip).collect()),
        Ok(Err(error)) => Err(format!("{} does not resolve ({error})", origin.host)),
        Err(_) => Err(format!("no answer for {} within {LOOKUP_TIMEOUT:?}", origin.host)),
    }
}

async fn probe(
    service: &ServiceSpec,
    pool: &PoolSpec,
    origin: &Origin,
    address: &Address,
    tls: Option<&PoolTls>,
) -> Option<Finding> {
    let off = Health { kind: ProbeKind::Tcp, timeout: service.timeouts.connect, ..Health::default() };
    let health = service.health.as_ref().unwrap_or(&off);
    let authority = origin.authority();
    let (protocol, proxy) = (origin.protocol, pool.proxy_protocol);
    let whom =
        Whom { pool: &pool.name, addr: address, protocol, host: &origin.host, authority: &authority, tls, proxy };
    let error = check::check(&whom, health).await.err()?;
    let place = format!("{address} ({} of {})", pool.name, service.name);
    let (found, right) = words(&error, place_of(address));
    let next = match (&health.kind, address) {
        (ProbeKind::Http { path, .. }, Address::Ip(address)) if !matches!(error, CheckError::Connect(_)) => {
            let scheme = if tls.is_some() { "https" } else { "http" };
            format!("curl -v {scheme}://{address}{path}")
        }
        (_, Address::Ip(address)) => format!("nc -vz {} {}", address.ip(), address.port()),
        (_, Address::Unix(path)) => format!("ls -l {}", path.display()),
    };
    Some(Severity::Warning.of(place, format!("from here: {found}")).right(right).next(next))
}

fn place_of(address: &Address) -> &'static str {
    match address {
        Address::Ip(address) if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) => {
            "a program that listens there; inside a container 127.0.0.1 is the container itself"
        }
        Address::Ip(_) => "a program that listens there, on an address that others reach (0.0.0.0)",
        Address::Unix(_) => "a program that listens at that path, and a directory that weir's user may enter",
    }
}

/// What went wrong in a word, and what would be right.
fn words(error: &CheckError, listens: &'static str) -> (String, &'static str) {
    match error {
        CheckError::Connect(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            ("connection refused".into(), listens)
        }
        CheckError::Connect(io) => (format!("no connection: {io}"), listens),
        CheckError::Timeout(time) => {
            (format!("timed out after {time:?}"), "an answer in time: a firewall drops what is not answered at all")
        }
        CheckError::Tls { .. } => (format!("TLS: {error}"), "a certificate for that name from an authority in roots"),
        CheckError::Status { .. } => {
            (format!("the probe got {error}"), "a path that answers so: health.path, health.expect")
        }
        CheckError::Stranger { .. } => {
            (format!("the probe passed, but {error}"), "the program that was meant; another one has this address now")
        }
        CheckError::Ours(_) => (error.to_string(), "more descriptors or ports for this command"),
        _ => (format!("the probe got {error}"), "what [services.NAME.health] expects"),
    }
}
