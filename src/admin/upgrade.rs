//! `/api/v1/upgrade`: asks for a new process of weir to take over, and tells how that went. The answer to the question
//! comes at once; whoever asked looks until another process answers, or this one says why not. It starts nothing
//! itself; the composition root does.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::body;
use super::changes::by;
use super::problem::{Code, Problem};
use super::routes::Admin;
use crate::telemetry::names;

/// What is known of upgrades, and the way to ask for one.
#[derive(Debug)]
pub struct Upgrades {
    wanted: mpsc::Sender<Wanted>,
    state: Mutex<Progress>,
    /// When this process began.
    since: String,
}

/// An upgrade that is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The program to start; none: the one that this process was started from.
    pub binary: Option<PathBuf>,
    /// Who asks.
    pub who: String,
}

/// How far the last upgrade is. One that came to its end is told by the next process, as a fresh start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Progress {
    /// None was asked for.
    #[default]
    None,
    /// A new process is on its way.
    Running,
    /// It did not come to serve.
    Failed(String),
}

// === impl Upgrades ===

impl Upgrades {
    /// One that was not asked for anything yet, and where questions arrive.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Wanted>) {
        let (wanted, asked) = mpsc::channel(1);
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        (Arc::new(Self { wanted, state: Mutex::default(), since }), asked)
    }

    /// Says how far it is.
    pub fn show(&self, progress: Progress) {
        *self.state() = progress;
    }

    /// Asks for one; false when one is under way.
    fn ask(&self, wanted: Wanted) -> bool {
        let mut state = self.state();
        let taken = *state != Progress::Running && self.wanted.try_send(wanted).is_ok();
        if taken {
            *state = Progress::Running;
        }
        taken
    }

    fn state(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn document(&self) -> Value {
        let (word, why) = match &*self.state() {
            Progress::None => ("none", None),
            Progress::Running => ("running", None),
            Progress::Failed(why) => ("failed", Some(why.clone())),
        };
        json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "since": self.since,
            "upgrade": word,
            "why": why,
        })
    }
}

/// `GET /api/v1/upgrade`.
pub(super) async fn look(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.board.upgrades.document()).into_response()
}

/// `POST /api/v1/upgrade`.
pub(super) async fn ask(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, Problem> {
    let by = by(&request);
    let mut fields = body::read(request.into_body()).await?;
    let binary = fields.text("binary")?.map(PathBuf::from);
    fields.finish("binary")?;
    if let Some(path) = &binary {
        let own = path.clone();
        let checked = tokio::task::spawn_blocking(move || check(&own)).await;
        let checked = checked.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        checked.map_err(|why| Problem::new(Code::Invalid, format!("{}: {why}", path.display())))?;
    }
    let shown = binary.as_ref().map(|path| path.display().to_string());
    if !admin.board.upgrades.ask(Wanted { binary, who: by.who.clone() }) {
        return Err(Problem::new(Code::Conflict, "an upgrade is under way"));
    }
    metrics::counter!(names::ADMIN_CHANGES.name, "action" => "upgrade").increment(1);
    let before = json!({ "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION") });
    admin.board.desk.note(&by, "upgrade", "", before, json!({ "binary": shown }));
    Ok((StatusCode::ACCEPTED, Json(admin.board.upgrades.document())).into_response())
}

/// Whether a program may be started because somebody with a token names it: a token must not be a way to run what its
/// holder put there. So the file and its directory must belong to root or to weir's user, and nobody else may write
/// them.
fn check(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err("name it by its absolute path".into());
    }
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    let found = real.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err("it is no program".into());
    }
    let own = rustix::process::geteuid().as_raw();
    for place in [Some(real.as_path()), real.parent()].into_iter().flatten() {
        let found = place.metadata().map_err(|error| error.to_string())?;
        let sticky_root = found.is_dir() && found.uid() == 0 && found.mode() & 0o1000 != 0;
        if (found.uid() != 0 && found.uid() != own) || (found.mode() & 0o022 != 0 && !sticky_root) {
            let what = if place == real { "it".into() } else { format!("its directory {}", place.display()) };
            return Err(format!("{what} can be written by others than root and weir's user"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_that_others_may_write_is_not_started() {
        let directory = std::env::temp_dir().join(format!("weir-upgrade-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("its own");
        let program = directory.join("weir");
        std::fs::write(&program, "").expect("written");
        let mode = |mode| std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).expect("its own");
        mode(0o644);
        assert!(check(&program).is_err_and(|why| why.contains("no program")));
        mode(0o755);
        assert_eq!(check(&program), Ok(()));
        mode(0o775);
        assert!(check(&program).is_err_and(|why| why.contains("others")));
        mode(0o755);
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).expect("its own");
        assert!(check(&program).is_err_and(|why| why.contains("others")));
        assert!(check(Path::new("weir")).is_err() && check(&directory).is_err());
        assert!(check(&directory.join("missing")).is_err());
        let _ = std::fs::remove_dir_all(&directory);
    }

    #[test]
    fn one_upgrade_at_a_time() {
        let (upgrades, mut asked) = Upgrades::new();
        let wanted = || Wanted { binary: None, who: String::new() };
        assert!(upgrades.ask(wanted()) && !upgrades.ask(wanted()));
        assert!(asked.try_recv().is_ok());
        upgrades.show(Progress::Failed("it ended".into()));
        assert_eq!(upgrades.document()["why"], "it ended");
        assert!(upgrades.ask(wanted()));
    }
}
