//! One command: a program with arguments and no shell, in a process group of its own, with a deadline and at most 64
//! KiB of each of its outputs. It gets nothing of weir's environment but where programs lie: secrets may be there.
//!
//! Nothing of it outlives it: whatever is left of its group when it ends, or when its time is over, or when nobody
//! waits for it any more, is killed. Only what left the group by itself (`setsid`) escapes, and what runs while weir
//! itself is killed by a signal that nobody can catch.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Bytes of each output that are kept; the rest is read and thrown away, so that no command waits for a reader.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Between SIGTERM at the deadline and SIGKILL: enough to remove a lock file, too little to matter.
const GRACE: Duration = Duration::from_millis(500);

/// Between two looks whether it ended: far below the time that any check takes.
const LOOK: Duration = Duration::from_millis(10);

/// Time in which what was killed is gone; what hangs in the kernel for longer is waited for by a thread.
const REST: Duration = Duration::from_secs(1);

/// Variables of weir's own environment that every command gets.
const KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Where programs lie when weir itself was not told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to be run.
#[derive(Clone)]
pub struct Run {
    /// Program and arguments.
    pub program: Vec<String>,
    /// Variables; they may be secret and are never shown.
    pub env: Vec<(String, String)>,
    /// Where it runs, and what a program such as `./smoke.sh` is relative to; weir's own directory by default.
    pub directory: Option<PathBuf>,
    /// Time for it.
    pub timeout: Duration,
}

/// How it ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub how: How,
    /// The beginning of its standard output, at most [`OUTPUT_BYTES_MAX`].
    pub out: Vec<u8>,
    /// The same of its standard error.
    pub err: Vec<u8>,
    /// Whether there was more of either.
    pub cut: bool,
    /// Time that it ran.
    pub took: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which was not weir's.
    Signalled(i32),
    /// Its time was over.
    TimedOut,
}

/// Why it did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no program.
    #[error("the command is empty")]
    Empty,
    /// It could not be started.
    #[error("cannot run {program:?}: {cause}")]
    Start {
        /// The program, without its arguments.
        program: String,
        /// Why.
        cause: io::Error,
    },
}

/// The processes of a command; dropped, they are killed.
struct Group {
    id: Pid,
    ended: bool,
}

/// What was read of an output.
#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    cut: bool,
}

/// Runs a command to its end, at most a second longer than its time.
pub async fn run(run: &Run) -> Result<Ended, RunError> {
    let began = Instant::now();
    let program = run.program.first().filter(|program| !program.is_empty()).ok_or(RunError::Empty)?.clone();
    let failed = |cause| RunError::Start { program: program.clone(), cause };
    // Starting a program may wait for a disk, so it is done where that holds nobody up.
    let asked = run.clone();
    let started = tokio::task::spawn_blocking(move || start(&asked)).await;
    let (mut group, outputs) = started.map_err(io::Error::other).and_then(|started| started).map_err(failed)?;
    let mut readers = JoinSet::new();
    let mut captured = Vec::new();
    for output in outputs {
        let reader = Receiver::from_owned_fd(output).map_err(failed)?;
        let kept = Arc::new(Mutex::new(Captured::default()));
        readers.spawn(read(reader, Arc::clone(&kept)));
        captured.push(kept);
    }
    let how = match timeout(run.timeout, group.ended()).await {
        Ok(how) => how,
        Err(_) => {
            group.signal(Signal::TERM);
            let _ = timeout(GRACE, group.ended()).await;
            How::TimedOut
        }
    };
    let took = began.elapsed();
    group.end().await;
    // Whoever left the group may hold an output open: nobody waits for that.
    let _ = timeout(REST, async { while readers.join_next().await.is_some() {} }).await;
    let mut captured =
        captured.iter().map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
    let (out, err) = (captured.next().unwrap_or_default(), captured.next().unwrap_or_default());
    Ok(Ended { how, cut: out.cut || err.cut, out: out.bytes, err: err.bytes, took })
}

fn start(run: &Run) -> io::Result<(Group, [OwnedFd; 2])> {
    let program = Path::new(&run.program[0]);
    let directory = run.directory.as_deref().filter(|directory| !directory.as_os_str().is_empty());
    // A name is looked for where programs lie; a path is one from the directory on.
    let is_path = run.program[0].contains('/') && program.is_relative();
    let program = directory.filter(|_| is_path).map_or_else(|| program.to_owned(), |at| at.join(program));
    let mut command = Command::new(program);
    command.args(&run.program[1..]).env_clear().env("PATH", PATH);
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("it has no id"))?;
    let group = Group { id, ended: false };
    let none = || io::Error::other("an output is missing");
    let out = child.stdout.take().ok_or_else(none)?;
    let err = child.stderr.take().ok_or_else(none)?;
    Ok((group, [out.into(), err.into()]))
}

async fn read(mut output: Receiver, kept: Arc<Mutex<Captured>>) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = read.min(OUTPUT_BYTES_MAX - kept.bytes.len());
        kept.bytes.extend_from_slice(&buffer[..taken]);
        kept.cut |= taken < read;
    }
}

// === impl Run ===

/// Without what may be secret.
impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("program", &self.program.first()).finish_non_exhaustive()
    }
}

// === impl Group ===

impl Group {
    /// Waits for the program itself. It is not waited for in the kernel's sense yet: until then nobody else can get its
    /// number, and a signal to the group meets nobody else.
    async fn ended(&self) -> How {
        loop {
            match waitid(WaitId::Pid(self.id), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT) {
                Ok(Some(status)) => {
                    let exited = status.exit_status().map(How::Exited);
                    return exited.unwrap_or_else(|| How::Signalled(status.terminating_signal().unwrap_or_default()));
                }
                Ok(None) => sleep(LOOK).await,
                // Somebody else waited for it; that it ended is all that is known.
                Err(_) => return How::Signalled(0),
            }
        }
    }

    /// Kills what is left, and waits for the program and for those that fell to weir because it is the first process.
    async fn end(&mut self) {
        self.signal(Signal::KILL);
        let gone = timeout(REST, async {
            loop {
                match waitid(WaitId::Pgid(Some(self.id)), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => sleep(LOOK).await,
                    Err(_) => return,
                }
            }
        });
        self.ended = gone.await.is_ok();
    }

    fn signal(&self, signal: Signal) {
        // That nobody is left to get it is what is wanted.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.signal(Signal::KILL);
        let id = self.id;
        let wait = move || while let Ok(Some(_)) = waitid(WaitId::Pgid(Some(id)), WaitIdOptions::EXITED) {};
        // Without a thread it stays in the process table until weir ends: it is dead all the same.
        let _ = std::thread::Builder::new().name("weir-reaper".into()).spawn(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Run {
        let program = ["sh", "-c", script].map(str::to_owned).to_vec();
        Run { program, env: Vec::new(), directory: None, timeout }
    }

    /// Processes that have this in their environment.
    fn alive(mark: &str) -> usize {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
        environments.filter(|environment| String::from_utf8_lossy(environment).contains(mark)).count()
    }

    /// The same, once nothing changes any more.
    async fn left(mark: &str) -> usize {
        for _ in 0..200 {
            if alive(mark) == 0 {
                return 0;
            }
            sleep(LOOK).await;
        }
        alive(mark)
    }

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn its_code_its_outputs_and_the_signal_that_ended_it_are_told() {
        let ended = run(&shell("echo out; echo err >&2; exit 3", SOON)).await.unwrap();
        assert_eq!((ended.how, &*ended.out, &*ended.err), (How::Exited(3), &b"out\n"[..], &b"err\n"[..]));
        assert_eq!(run(&shell("kill -HUP $$", SOON)).await.unwrap().how, How::Signalled(1));
        assert_eq!(run(&shell("true", SOON)).await.unwrap().how, How::Exited(0));
    }

    #[tokio::test]
    async fn what_ignores_sigterm_and_has_children_is_gone_after_its_deadline() {
        let mark = format!("WEIR_GONE={}", std::process::id());
        let script = "trap '' TERM; (trap '' TERM; sleep 600 & sleep 600) & echo here; while :; do sleep 600; done";
        let env = mark.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let asked = Run { env: env.into_iter().collect(), ..shell(script, Duration::from_millis(300)) };
        let began = Instant::now();
        let ended = run(&asked).await.unwrap();
        assert_eq!((ended.how, &*ended.out), (How::TimedOut, &b"here\n"[..]));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(left(&mark).await, 0);
    }

    #[tokio::test]
    async fn what_it_leaves_behind_ends_with_it_and_so_does_what_nobody_waits_for() {
        let mark = format!("WEIR_LEFT={}", std::process::id());
        let env: Vec<_> =
            mark.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let ended = run(&Run { env: env.clone(), ..shell("sleep 600 & echo done", SOON) }).await.unwrap();
        assert_eq!((ended.how, &*ended.out), (How::Exited(0), &b"done\n"[..]));
        assert_eq!(left(&mark).await, 0);
        let asked = Run { env, ..shell("sleep 600", SOON) };
        let task = tokio::spawn(async move { run(&asked).await });
        for _ in 0..500 {
            if alive(&mark) > 0 {
                break;
            }
            sleep(LOOK).await;
        }
        assert!(alive(&mark) > 0, "it never ran");
        task.abort();
        assert_eq!(left(&mark).await, 0);
    }

    #[tokio::test]
    async fn an_output_without_end_is_cut_and_holds_nothing_up() {
        let ended = run(&shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", SOON)).await.unwrap();
        assert_eq!((ended.how, ended.out.len(), ended.err.len()), (How::Exited(0), OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX));
        assert!(ended.cut);
    }

    #[tokio::test]
    async fn its_environment_is_clean_and_a_path_is_one_from_its_directory_on() {
        let env = vec![("WEIR_PERCENT".to_owned(), "5".to_owned())];
        let ended = run(&Run { env, ..shell("env", SOON) }).await.unwrap();
        let out = String::from_utf8(ended.out).unwrap();
        let names: Vec<&str> = out.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        // The shell itself adds PWD, and some shells more.
        let shells = ["PWD", "OLDPWD", "SHLVL", "_", "WEIR_PERCENT"];
        assert!(names.iter().all(|name| KEPT.contains(name) || shells.contains(name)), "{out}");
        assert!(out.contains("WEIR_PERCENT=5\n"), "{out}");
        let directory = std::env::temp_dir().join(format!("weir-command-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink("/bin/pwd", directory.join("where")).unwrap();
        let program = vec!["./where".to_owned()];
        let asked = Run { program, env: Vec::new(), directory: Some(directory.clone()), timeout: SOON };
        let out = String::from_utf8(run(&asked).await.unwrap().out).unwrap();
        assert_eq!(Path::new(out.trim()), std::fs::canonicalize(&directory).unwrap());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named_and_nothing_else() {
        let program = ["/nowhere/smoke", "--token=hunter2"].map(str::to_owned).to_vec();
        let env = vec![("TOKEN".to_owned(), "hunter2".to_owned())];
        let asked = Run { program, env, directory: None, timeout: SOON };
        let error = run(&asked).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot run \"/nowhere/smoke\": No such file"), "{error}");
        assert!(!format!("{asked:?}{error:?}").contains("hunter2"));
    }
}
