//! One lookup of one name: the hosts file first, then the name servers; both families, no cache, a deadline.
//!
//! It does not keep answers ([`super::book`]) and does not decide when to ask again ([`super::names`]). The system's
//! files are read again when they change; hickory does not do that by itself (hickory-dns/hickory-dns#1132).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name as DnsName, Record, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver, system_conf};

use super::book::Reply;

/// Longest time of one lookup, whatever the system's configuration says: two tries of a second and the way back.
const LOOKUP_MAX: Duration = Duration::from_millis(2_500);

/// Longest time of one try at one server.
const TRY_MAX: Duration = Duration::from_secs(1);

/// Docker's name server; its times to live are not to be believed.
const DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Where lookups go.
#[derive(Debug)]
pub(crate) struct Dns {
    servers: Vec<SocketAddr>,
    resolv_conf: PathBuf,
    hosts: PathBuf,
    system: Mutex<System>,
}

/// What was last read from the files.
#[derive(Default)]
struct System {
    stamp: Option<[Stamp; 2]>,
    resolver: Option<Arc<TokioResolver>>,
    hosts: Arc<Hosts>,
    docker: bool,
    problem: String,
}

/// When a file last changed, and its length; none when it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

/// What a lookup said about both families.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) v4: Reply,
    pub(crate) v6: Reply,
    /// Whether it came from Docker's name server.
    pub(crate) docker: bool,
}

// === impl Dns ===

impl Dns {
    /// Asks `servers`, or those of the system when there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self::with_files(servers, Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"))
    }

    /// With other files than the system's.
    pub(crate) fn with_files(servers: Vec<SocketAddr>, resolv_conf: &Path, hosts: &Path) -> Self {
        Self { servers, resolv_conf: resolv_conf.into(), hosts: hosts.into(), system: Mutex::default() }
    }

    /// Looks a name up. It always ends, within [`LOOKUP_MAX`].
    pub(crate) async fn lookup(&self, host: &str) -> Answer {
        let (resolver, hosts, docker, problem) = self.refreshed();
        // Relaxed: compose names containers with underscores, which no strict host name has.
        let Ok(name) = DnsName::from_str_relaxed(host) else {
            let reply = Reply::Failed("not a host name".into());
            return Answer { v4: reply.clone(), v6: reply, docker: false };
        };
        let listed = |kind| {
            let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind));
            match lookup.map_or(Reply::Absent, |lookup| found(lookup.answers())) {
                // The file has no times to live and costs nothing to ask again.
                Reply::Found { addrs, .. } => Reply::Found { addrs, ttl: 0 },
                reply => reply,
            }
        };
        let (v4, v6) = (listed(RecordType::A), listed(RecordType::AAAA));
        if v4 != Reply::Absent || v6 != Reply::Absent {
            return Answer { v4, v6, docker: false };
        }
        if host == "localhost" || host.ends_with(".localhost") {
            // RFC 6761 6.3: never asked of a server. IPv4 only, as most servers on a loopback listen.
            let v4 = Reply::Found { addrs: vec![Ipv4Addr::LOCALHOST.into()], ttl: 0 };
            return Answer { v4, v6: Reply::Absent, docker: false };
        }
        let Some(resolver) = resolver else {
            return Answer { v4: Reply::Failed(problem.clone()), v6: Reply::Failed(problem), docker: false };
        };
        let (v4, v6) = tokio::join!(ask(&resolver, &name, RecordType::A), ask(&resolver, &name, RecordType::AAAA));
        Answer { v4, v6, docker }
    }

    /// The resolver and the hosts, read again when a file changed.
    fn refreshed(&self) -> (Option<Arc<TokioResolver>>, Arc<Hosts>, bool, String) {
        let stamp = [Stamp::of(&self.resolv_conf), Stamp::of(&self.hosts)];
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if system.stamp != Some(stamp) {
            *system = self.read(stamp);
        }
        (system.resolver.clone(), Arc::clone(&system.hosts), system.docker, system.problem.clone())
    }

    fn read(&self, stamp: [Stamp; 2]) -> System {
        let mut hosts = Hosts::default();
        if let Ok(file) = std::fs::File::open(&self.hosts)
            && let Err(error) = hosts.read_hosts_conf(file)
        {
            tracing::warn!(%error, file = %self.hosts.display(), "the hosts file cannot be read");
        }
        let mut system = System { stamp: Some(stamp), hosts: Arc::new(hosts), ..System::default() };
        match self.resolver() {
            Ok((resolver, docker)) => {
                system.resolver = Some(Arc::new(resolver));
                system.docker = docker;
            }
            Err(error) => system.problem = format!("no name server: {error}"),
        }
        system
    }

    fn resolver(&self) -> Result<(TokioResolver, bool), NetError> {
        let (config, mut options) = if self.servers.is_empty() {
            system_conf::parse_resolv_conf(std::fs::read(&self.resolv_conf)?)?
        } else {
            let servers = self.servers.iter().map(explicit).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        let docker = config.name_servers().iter().any(|server| server.ip == DOCKER);
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = options.timeout.min(TRY_MAX);
        options.attempts = options.attempts.clamp(1, 2);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok((builder.build()?, docker))
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("stamp", &self.stamp).field("docker", &self.docker).finish_non_exhaustive()
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len()))))
    }
}

/// A server by address and port, over UDP and, for long answers, TCP.
fn explicit(server: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

async fn ask(resolver: &TokioResolver, name: &DnsName, kind: RecordType) -> Reply {
    match tokio::time::timeout(LOOKUP_MAX, resolver.lookup(name.clone(), kind)).await {
        Err(_) => Reply::Failed("timed out".into()),
        Ok(Ok(lookup)) => found(lookup.answers()),
        Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none))))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Reply::Absent
        }
        Ok(Err(error)) => Reply::Failed(error.to_string()),
    }
}

/// The addresses among records (aliases may stand between them) and the shortest time to live of all.
fn found(records: &[Record]) -> Reply {
    let addrs: Vec<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    match records.iter().map(|record| record.ttl).min() {
        Some(ttl) if !addrs.is_empty() => Reply::Found { addrs, ttl },
        _ => Reply::Absent,
    }
}
