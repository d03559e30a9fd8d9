//! The composition root: from a configuration to a running process. It alone knows every room.
//!
//! [`App::build`] takes everything from the system that may be refused (files, keys, addresses), and starts nothing;
//! [`App::run`] starts everything and comes back when the process should end. The control thread is the caller's: it
//! runs the admin API, names, probes and signals. Workers are threads of their own (`workers`); files are watched by
//! another, which applies what it reads itself, so that a busy control thread delays no shift.

pub(crate) mod acme;
mod activation;
mod control;
mod handover;
pub mod inherited;
pub mod log;
mod otlp;
mod plane;
mod run;
mod sockets;
mod stop;
mod supervisor;
mod tasks;
pub(crate) mod tls;
mod unix;
mod upgrade;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::runtime::Runtime;

use self::acme::Automatic;
use self::activation::ActivationError;
use self::handover::{HandoverError, Heir, Memory};
use self::inherited::Inherited;
use self::log::LogLevelSwitch;
use self::sockets::Bound;
use self::supervisor::Supervisor;
use self::tls::Sites;
use crate::admin::access::{Access, AccessError, Grant, Role, Token};
use crate::config::{Config, Problems, TokenRole, TokenSpec, read_weights};
use crate::model::Bind;
use crate::switchboard::writer::{Mode, StartError, Switchboard};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::control::install as install_metrics;
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::WorkerShard;
use crate::telemetry::pair::Tap;
use crate::telemetry::spans::Spans;
use crate::tls::site::Site;
use crate::upstream::names::Lookups;
use crate::upstream::upstreams::Upstreams;

/// The variable that names the file which the ports are written to once the process listens.
pub const PORTS_ENV: &str = "WEIR_PORTS_FILE";

/// A process that could serve: everything is bound and checked, nothing runs.
pub struct App {
    runtime: Runtime,
    parts: Parts,
}

/// What the process is made of.
struct Parts {
    upstreams: Arc<Upstreams>,
    switchboard: Arc<Switchboard>,
    access_log: Arc<AccessLog>,
    spans: Arc<Spans>,
    meter: Arc<Sharded<WorkerShard>>,
    sites: Sites,
    pairs: Arc<Tap>,
    /// What the admin API speaks TLS from.
    admin_site: Option<Arc<Site>>,
    /// Automatic certificates; none without `[acme]`.
    automatic: Option<Automatic>,
    listeners: Vec<Bound>,
    admin: (SocketAddr, Socket),
    access: Access,
    log_level: LogLevelSwitch,
    ports_file: Option<PathBuf>,
    supervisor: Supervisor,
    /// The process before this one, which waits until this one serves.
    heir: Option<Heir>,
    /// What it remembers.
    handed: Memory,
    workers: usize,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight finished, or had its time.
    Gracefully,
    /// A second signal cut it short.
    ByForce,
}

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The files do not hold.
    #[error("{0}")]
    Problems(Problems),
    /// The admin API would be open to strangers, or its token cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Keys, or weights that do not fit.
    #[error(transparent)]
    Start(StartError),
    /// Somebody else listens on an address.
    #[error("cannot listen on {address} ({what}): another process listens there; stop it or name another port")]
    Taken {
        /// `listeners.NAME` or `admin`.
        what: String,
        /// The address.
        address: Bind,
    },
    /// An address cannot be bound for another reason.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// `listeners.NAME` or `admin`.
        what: String,
        /// The address.
        address: Bind,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A socket from systemd belongs to nothing.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The process before this one does not let this one take over.
    #[error("cannot take over from the process before this one")]
    Handover(#[from] HandoverError),
    /// A worker thread ended although nobody asked it to.
    #[error("worker {0} ended by itself")]
    WorkerLost(usize),
}

// === impl App ===

impl App {
    /// Reads the rest of what `config` names and binds every address that was not handed to this process. One that
    /// takes over waits here until it is its turn: only then it reads what the process before it may still write.
    pub fn build(
        config: Config,
        mode: Mode,
        log_level: LogLevelSwitch,
        mut inherited: Inherited,
    ) -> Result<Self, AppError> {
        install_metrics();
        let workers = workers::count(config.workers);
        let grants = config.tokens.iter().map(grant).collect::<Result<_, _>>()?;
        let access = Access::with_grants(
            config.admin.address,
            config.admin.token_file.as_deref(),
            config.admin.asks_certificates(),
            grants,
        )?;
        match sockets::raise_descriptor_limit() {
            Ok(limit) => tracing::debug!(limit, "descriptors"),
            Err(error) => tracing::warn!(%error, "the limit of open descriptors stays as it was"),
        }
        let (sites, admin_site) = tls::open(&config).map_err(AppError::Problems)?;
        let own = tls::open_pools(&config).map_err(AppError::Problems)?.identities();
        for note in tls::notes(&config, sites.iter().flatten().chain(&admin_site), own, jiff::Timestamp::now()) {
            tracing::warn!("{}", note.headline());
        }
        let automatic = Automatic::of(&config);
        for note in acme::notes(&config) {
            tracing::warn!("{}", note.headline());
        }
        let (listeners, admin) = open_sockets(&config, workers, &mut inherited)?;
        let heir = inherited.heir().cloned();
        let handed = heir.as_ref().map(Heir::wait_for_turn).transpose()?.unwrap_or_default();
        // What nobody takes closes: listeners that are no longer named.
        drop(inherited);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("weir-control").build();
        let runtime =
            runtime.map_err(|source| AppError::System { what: "no runtime for the control thread", source })?;
        let within = runtime.enter();
        let lookups = Lookups { servers: config.dns.servers.clone(), ttl: config.dns.min_ttl..=config.dns.max_ttl };
        let upstreams = Upstreams::start(workers, lookups);
        let access_log = Arc::new(AccessLog::start(&config.plan.access_log));
        let supervisor = Supervisor::find(config.pid_file.clone());
        if heir.is_some() {
            // The process before this one serves by what is right: it goes on rather than this one guess.
            let weights = read_weights(&config.weights_path, &config.plan);
            weights.err().filter(|problems| !problems.unfinished()).map_or(Ok(()), Err).map_err(AppError::Problems)?;
        }
        let switchboard = Switchboard::open(config, mode, workers, upstreams.clone()).map_err(AppError::from)?;
        switchboard.show_sites(sites.iter().flatten().chain(&admin_site).cloned().collect());
        if let Some(automatic) = &automatic {
            switchboard.show_issuance(automatic.issuance.clone());
        }
        drop(within);
        let parts = Parts {
            upstreams,
            switchboard: Arc::new(switchboard),
            access_log,
            spans: Arc::default(),
            meter: Arc::new(Sharded::of_each(workers, || WorkerShard::for_listeners(listeners.len()))),
            sites,
            pairs: Arc::default(),
            admin_site,
            automatic,
            listeners,
            admin,
            access,
            log_level,
            ports_file: std::env::var_os(PORTS_ENV).map(PathBuf::from),
            supervisor,
            heir,
            handed,
            workers,
        };
        Ok(Self { runtime, parts })
    }

    /// Serves until a signal ends it. The calling thread is the control thread from here on.
    pub fn run(self) -> Result<Ended, AppError> {
        let Self { runtime, parts } = self;
        let ended = runtime.block_on(parts.run());
        // A write that hangs on a dead disk must not keep the process from ending.
        runtime.shutdown_timeout(Duration::from_millis(200));
        ended
    }
}

/// The sockets of every listener and of the admin API: handed to this process, or opened here.
fn open_sockets(
    config: &Config,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<(Vec<Bound>, (SocketAddr, Socket)), AppError> {
    let admin = Bind::Tcp(config.admin.address);
    let named = config.listeners.iter().map(|spec| (format!("listeners.{}", spec.name), spec.address.to_string()));
    let known: Vec<_> = named.chain([("admin".to_owned(), admin.to_string())]).collect();
    inherited.name_by_address(&known);
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for spec in &config.listeners {
        let (what, asked) = (format!("listeners.{}", spec.name), &spec.address);
        let bound = match inherited.take(&what, &asked.to_string()) {
            Some(sockets) => Bound::taken_over(&spec.name, asked, sockets),
            None => Bound::new(&spec.name, asked, workers),
        };
        listeners.push(bound.map_err(|source| AppError::bind(what, asked.clone(), source))?);
    }
    let bound = match inherited.take("admin", &admin.to_string()) {
        Some(sockets) => sockets::take_admin(sockets),
        None => sockets::bind_admin(config.admin.address),
    };
    let bound = bound.map_err(|source| AppError::bind("admin".into(), admin, source))?;
    inherited.refuse_rest()?;
    Ok((listeners, bound))
}

/// A token of the configuration, read.
fn grant(spec: &TokenSpec) -> Result<Grant, AccessError> {
    let role = match spec.role {
        TokenRole::Viewer => Role::Viewer,
        TokenRole::Operator => Role::Operator,
        TokenRole::Admin => Role::Admin,
    };
    Ok(Grant { name: spec.name.clone(), role, token: Token::read(&spec.file)? })
}

impl From<StartError> for AppError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Problems(problems) => AppError::Problems(problems),
            other @ (StartError::Key(_) | StartError::Refused(_)) => AppError::Start(other),
        }
    }
}

impl AppError {
    /// What the system said to binding or listening.
    fn bind(what: String, address: Bind, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => AppError::Taken { what, address },
            _ => AppError::Bind { what, address, source },
        }
    }

    /// Whether the configuration is to blame rather than the system.
    pub fn blames_config(&self) -> bool {
        match self {
            AppError::Problems(_) | AppError::Access(_) | AppError::Start(_) => true,
            AppError::Activation(_) => true,
            AppError::Taken { .. } | AppError::Bind { .. } | AppError::System { .. } => false,
            AppError::Handover(_) | AppError::WorkerLost(_) => false,
        }
    }
}
