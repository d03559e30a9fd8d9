//! The door: text in, and out comes a [`Config`] that can be served, or every [`Problem`] with file, line and column.
//!
//! - [`Config::parse`]: `weir.toml`, walked by hand over a spanned tree (`cursor`, `value`, `read/`, with `keys` as the
//!   one table of what may be written)
//! - [`WeightsFile`]: `weights.toml`, read whole or refused whole, and edited in place
//! - [`write_weights`]: puts an edited weights file on disk so that no reader ever sees half of it
//! - [`watch`]: says at once when one of the files changed
//! - [`schema()`], [`diff()`]: for editors and for `weir diff`
//!
//! It does not apply anything: the switchboard does. Nothing here can panic on any text.

mod acme_keys;
mod channels;
mod cursor;
mod diff;
mod edit;
mod keys;
mod limit_keys;
mod lines;
mod listener_keys;
mod maintenance;
mod mirror_keys;
mod origin;
mod plain;
mod policy_keys;
mod pool_keys;
mod problem;
mod read;
pub mod rollouts;
mod schema;
mod switch_json;
mod switch_keys;
mod syntax;
mod told;
mod value;
pub mod watch;
mod weights;
mod write;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use cursor::Env;
pub use diff::{diff, restart_needed};
pub use edit::{NotEditable, edit, edit_kill, edit_maintenance, fresh, has_table};
pub use lines::{NoLines, edit_lines};
pub use problem::{Problem, Problems};
pub use schema::{rollout_schema, schema, weights_schema};
pub use switch_json::switch_text;
pub use weights::{WeightsFile, read_weights};
pub use write::{WriteError, Written, write_weights};

pub(crate) use self::syntax::{Parsed, Values, parse_toml};
use crate::model::notify::Notifications;
use crate::model::rollout::Share;
pub(crate) use crate::model::time::parse_duration;
use crate::model::{AcmeSpec, DockerSpec, KillSwitch, ListenerSpec, Plan, PolicySpec, TlsSpec};

/// Largest configuration file that is read; it holds tens of thousands of routes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;

/// The variable that names the file with the admin token; it wins over the file.
pub const TOKEN_FILE_ENV: &str = "WEIR_ADMIN_TOKEN_FILE";

/// The variable that sets the number of workers; it wins over the file.
pub const WORKERS_ENV: &str = "WEIR_WORKERS";

/// Everything that `weir.toml` says, checked: a `Config` in hand can be served.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The weights file.
    pub weights_path: PathBuf,
    /// The file with the admin token that the command line names: it wins over the environment and the file, also when
    /// the file is read again.
    pub given_token_file: Option<PathBuf>,
    /// Where clients connect; changes need a restart. May be empty only if the file has an empty `[listeners]`.
    pub listeners: Vec<ListenerSpec>,
    /// The control surface.
    pub admin: AdminSpec,
    /// Further tokens of the API, each with a name and a role; changes need a restart.
    pub tokens: Vec<TokenSpec>,
    /// The engine of the rollouts; changes need a restart.
    pub rollouts: EngineSpec,
    /// What kills by itself, and what people may pull by name.
    pub kill_switches: Arc<[KillSwitch]>,
    /// Who is told what happens.
    pub notifications: Notifications,
    /// Worker threads; none: one per usable core. Changes need a restart.
    pub workers: Option<usize>,
    /// Name lookups; changes of the servers need a restart.
    pub dns: DnsSpec,
    /// Containers that are found by their labels; changes need a restart.
    pub docker: DockerSpec,
    /// Automatic certificates; changes need a restart.
    pub acme: Option<AcmeSpec>,
    /// The program's own log.
    pub log: LogSpec,
    /// The key of the affinity cookies; none: made and kept beside the weights file.
    pub key_file: Option<PathBuf>,
    /// The file with the process id; changes need a restart.
    pub pid_file: Option<PathBuf>,
    /// What the file must keep to; it does, or there would be no `Config`.
    pub policy: PolicySpec,
    /// Everything of the data plane that a reload may change.
    pub plan: Arc<Plan>,
    /// What is legal and perhaps not meant.
    pub notes: Vec<Problem>,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSpec {
    /// Where it listens. Default 127.0.0.1:9901; when it is not loopback, a token or a client certificate is needed.
    pub address: SocketAddr,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// TLS; none: plain HTTP.
    pub tls: Option<TlsSpec>,
}

/// `[rollouts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSpec {
    /// Whether there are rollouts at all. Default true; the environment wins.
    pub enabled: bool,
    /// Time between two looks at a rollout. Default 1 s.
    pub tick: Duration,
    /// Where the journal is. Default `.weir` beside the weights file.
    pub state_dir: PathBuf,
    /// The most that any plan may give its candidate. Default everything.
    pub max_percent: Share,
    /// The longest time that any plan may take for a rollback; none: any.
    pub max_rollback: Option<Duration>,
    /// How long rollouts that ended and their events are kept; none: the bounds by number alone.
    pub retention: Option<Duration>,
}

/// An entry of `[[tokens]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpec {
    /// Whose it is, for the audit log.
    pub name: String,
    /// What it allows.
    pub role: TokenRole,
    /// The file that holds it.
    pub file: PathBuf,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRole {
    /// Look.
    Viewer,
    /// Also change, but neither stop everything nor force a rollout.
    Operator,
    /// Anything.
    Admin,
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSpec {
    /// Name servers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// An answer is used at least this long. Default 1 s.
    pub min_ttl: Duration,
    /// An answer is used at most this long. Default 30 s.
    pub max_ttl: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSpec {
    /// Least important level that is shown.
    pub level: LogLevel,
    /// Form of a line.
    pub format: AppLogFormat,
}

/// Levels of the program's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something did not work.
    Error,
    /// Something needs a look.
    Warn,
    /// What an operator wants to know (default).
    Info,
    /// For a developer.
    Debug,
    /// Everything.
    Trace,
}

/// Forms of the program's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppLogFormat {
    /// Text on a terminal, else JSON (default).
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

// === impl AdminSpec ===

impl AdminSpec {
    /// Whether nobody comes in without a certificate of the authorities that it names.
    pub fn asks_certificates(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).is_some_and(|auth| !auth.optional)
    }
}

// === impl EngineSpec ===

impl EngineSpec {
    /// What plans must keep to.
    pub fn constraints(&self) -> rollouts::Constraints {
        rollouts::Constraints { max_percent: self.max_percent.percent(), max_rollback: self.max_rollback }
    }
}

impl Default for DnsSpec {
    fn default() -> Self {
        Self { servers: Vec::new(), min_ttl: Duration::from_secs(1), max_ttl: Duration::from_secs(30) }
    }
}

// === impl Config ===

impl Config {
    /// Reads and checks a file, with the environment of the process.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Problems> {
        Self::load_with(path, None)
    }

    /// The same, and with the file of the admin token that the command line names.
    pub fn load_with(path: impl AsRef<Path>, token_file: Option<&Path>) -> Result<Self, Problems> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = read_text(path).map_err(|problem| Problems::one(problem.for_file(&name)))?;
        Self::parse_with(&text, path, token_file)
    }

    /// Checks a text with the environment of the process, and with the token file that the command line names.
    pub(crate) fn parse_with(text: &str, path: impl AsRef<Path>, token_file: Option<&Path>) -> Result<Self, Problems> {
        let given = token_file.map(|file| file.display().to_string());
        let env = |name: &str| match (name, &given) {
            (TOKEN_FILE_ENV, Some(file)) => Some(file.clone()),
            _ => std::env::var(name).ok(),
        };
        let config = Self::parse(text, path, &env)?;
        Ok(Self { given_token_file: token_file.map(Path::to_owned), ..config })
    }

    /// Checks a text as if it stood in `path`: relative paths start in its directory, problems are named with it.
    /// The only files that are read are those that hold a secret: of `[services.NAME.override] token_file`, and of the
    /// channels of `[notifications]`.
    pub fn parse(text: &str, path: impl AsRef<Path>, env: Env<'_>) -> Result<Self, Problems> {
        let path = path.as_ref();
        let name = path.display().to_string();
        if is_blank(text) {
            return Err(Problems::not_finished(&name, "configuration"));
        }
        let parsed = parse_toml(&name, text, Values::Any);
        let sink = cursor::Sink::new(&name, text, env);
        let mut config = read::root(&cursor::Fields::root(&sink, parsed.tree.get_ref()), path);
        let (problems, notes) = sink.finish(parsed);
        config.notes = notes;
        Problems::new(problems).map_or(Ok(config), Err)
    }

    /// The directory that relative paths start in.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Why a file gave no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is a directory, a device or a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// It is larger than 4 MiB.
    #[error("is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// A byte is not UTF-8.
    #[error("is not UTF-8 at line {line}, byte {byte} of the file")]
    NotUtf8 {
        /// Line from 1.
        line: usize,
        /// Offset from 0.
        byte: usize,
    },
}

// === impl ReadError ===

impl ReadError {
    fn for_file(&self, file: &str) -> Problem {
        let help = match self {
            Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "name another with --config or WEIR_CONFIG"
            }
            Self::Io(_) => "check the permissions of the file and of its directory",
            Self::NotAFile | Self::TooLarge => "name a TOML file",
            Self::NotUtf8 { .. } => "save it as UTF-8",
        };
        Problem::without_place(file, self.to_string(), help)
    }
}

/// Reads a whole file as text, with the limits that hold for all configuration files.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    use std::io::Read;
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(FILE_BYTES_MAX) as usize + 1);
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    text_of(bytes)
}

/// The text that these bytes of a file are.
pub(crate) fn text_of(bytes: Vec<u8>) -> Result<String, ReadError> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..byte].iter().filter(|&&b| b == b'\n').count() + 1;
        ReadError::NotUtf8 { line, byte }
    })
}

/// Whether a text holds nothing but blanks and comments.
pub(crate) fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}
