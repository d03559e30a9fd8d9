//! Keep-alive load while the weights change: how long the old pool still gets requests, and whether any request fails.
//!
//! A request's time is taken just before it is handed to the kernel, the change's time when the write, the rename or
//! the answer of `PUT` is over. The lag of a change is the time of the last request after it that the old pool
//! answered, minus the time of the change; 0 if there was none. Pools are told apart by the first byte of their bodies.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Progress};
use crate::epoll::Epoll;
use crate::options::Options;

/// First bytes of the bodies of the two upstreams that `benches/compare` starts.
const STABLE: u8 = b's';
const CANARY: u8 = b'c';

/// What the load saw.
#[derive(Default)]
struct Seen {
    answers: Vec<Answered>,
    failed: usize,
    closed: usize,
}

/// One request: when it was sent, when its answer was whole, the first byte of the body.
struct Answered {
    sent: Instant,
    done: Instant,
    mark: u8,
}

/// One change of weights: its begin, its end, the pool that got everything before it.
struct Change {
    begin: Instant,
    end: Instant,
    old: u8,
}

/// How a change is made.
enum Writer {
    InPlace(PathBuf),
    Rename(PathBuf),
    Put(Box<Connection>, Epoll, String),
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let shifts: usize = options.value("shifts")?;
    let gap = Duration::from_millis(options.value("gap-ms")?);
    let service = options.text("service")?;
    let mut writer = Writer::new(options)?;
    writer.set(service, 100, 0)?;
    thread::sleep(Duration::from_secs(2));
    let (seen, changes) = under_load(options, || {
        thread::sleep(Duration::from_millis(500));
        let mut changes = Vec::new();
        for number in 0..shifts {
            let (stable, canary, old) = if number % 2 == 0 { (0, 100, STABLE) } else { (100, 0, CANARY) };
            let begin = Instant::now();
            writer.set(service, stable, canary)?;
            changes.push(Change { begin, end: Instant::now(), old });
            thread::sleep(gap);
        }
        Ok(changes)
    })?;
    Ok(report(&seen, &changes))
}

/// Many rewrites of the weights file, every other one together with a changed timeout in `--config`; then one shift of
/// everything to the canary, which shows that the last rewrite is the one in force.
pub(crate) fn run_reloads(options: &Options) -> io::Result<String> {
    let reloads: usize = options.value("shifts")?;
    let gap = Duration::from_millis(options.value("gap-ms")?);
    let service = options.text("service")?;
    let file = PathBuf::from(options.text("file")?);
    let mut writers = [Writer::InPlace(file.clone()), Writer::Rename(file)];
    let config = PathBuf::from(options.text("config")?);
    let text = fs::read_to_string(&config)?;
    let (seen, changes) = under_load(options, || {
        thread::sleep(Duration::from_millis(500));
        for number in 0..reloads {
            writers[number % 2].set(service, 1000 + number, 500)?;
            if number % 2 == 1 {
                let changed = format!("response_header = \"{}s\"", 30 + number % 30);
                fs::write(&config, text.replace("response_header = \"30s\"", &changed))?;
            }
            thread::sleep(gap);
        }
        let begin = Instant::now();
        writers[0].set(service, 0, 100)?;
        let change = Change { begin, end: Instant::now(), old: STABLE };
        thread::sleep(Duration::from_millis(1500));
        Ok(vec![change])
    })?;
    fs::write(&config, text)?;
    Ok(report(&seen, &changes))
}

/// Runs `change` on this thread while another keeps every connection busy.
fn under_load(options: &Options, change: impl FnOnce() -> io::Result<Vec<Change>>) -> io::Result<(Seen, Vec<Change>)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| closed_loop(options, &stop));
        let changes = change();
        stop.store(true, Ordering::Relaxed);
        let seen = load.join().map_err(|_| io::Error::other("the load thread panicked"))??;
        Ok((seen, changes?))
    })
}

fn closed_loop(options: &Options, stop: &AtomicBool) -> io::Result<Seen> {
    let target = options.target()?;
    let request = options.request()?;
    let mut epoll = Epoll::new()?;
    let mut seen = Seen::default();
    let mut connections = Vec::new();
    for token in 0..options.value("connections")? {
        connections.push(Connection::open(target)?);
        epoll.add(&connections[token], token)?;
        connections[token].send(&request, Instant::now())?;
    }
    while !stop.load(Ordering::Relaxed) {
        let ready: Vec<usize> = epoll.ready(100)?.collect();
        for token in ready {
            let keep = match connections[token].receive() {
                Ok(Progress::Waiting) => continue,
                Ok(Progress::Done(answer)) => {
                    if answer.status != 200 {
                        seen.failed += 1;
                    } else if let Some(sent) = connections[token].sent {
                        seen.answers.push(Answered { sent, done: Instant::now(), mark: answer.mark });
                    }
                    !answer.last
                }
                // A request was in flight: it failed with its connection.
                Ok(Progress::Closed) | Err(_) => {
                    seen.failed += 1;
                    false
                }
            };
            if !keep {
                seen.closed += 1;
                connections[token] = Connection::open(target)?;
                epoll.add(&connections[token], token)?;
            }
            connections[token].send(&request, Instant::now())?;
        }
    }
    Ok(seen)
}

// === impl Writer ===

impl Writer {
    fn new(options: &Options) -> io::Result<Self> {
        Ok(match options.text("how")? {
            "file" => Self::InPlace(options.value("file")?),
            "rename" => Self::Rename(options.value("file")?),
            "put" => {
                let connection = Box::new(Connection::open(options.value("admin")?)?);
                let epoll = Epoll::new()?;
                epoll.add(&*connection, 0)?;
                Self::Put(connection, epoll, options.text("admin")?.to_owned())
            }
            other => return Err(io::Error::other(format!("--how cannot be {other}"))),
        })
    }

    /// Changes the weights and returns when that is over: file closed, renamed, or `PUT` answered.
    fn set(&mut self, service: &str, stable: usize, canary: usize) -> io::Result<()> {
        let text = format!("[{service}]\nstable = {stable}\ncanary = {canary}\n");
        match self {
            Self::InPlace(path) => fs::write(path, text),
            Self::Rename(path) => {
                let beside = path.with_extension("toml.new");
                fs::write(&beside, text)?;
                fs::rename(&beside, path)
            }
            Self::Put(connection, epoll, admin) => {
                let body = format!("{{\"stable\":{stable},\"canary\":{canary}}}");
                let request = format!(
                    "PUT /api/v1/services/{service}/weights HTTP/1.1\r\nHost: {admin}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                connection.send(request.as_bytes(), Instant::now())?;
                loop {
                    let woken = epoll.ready(5_000)?.count();
                    match connection.receive()? {
                        Progress::Done(answer) if answer.status < 300 => return Ok(()),
                        Progress::Done(answer) => return Err(io::Error::other(format!("PUT got {}", answer.status))),
                        Progress::Closed => return Err(io::ErrorKind::ConnectionReset.into()),
                        Progress::Waiting if woken == 0 => return Err(io::ErrorKind::TimedOut.into()),
                        Progress::Waiting => {}
                    }
                }
            }
        }
    }
}

fn report(seen: &Seen, changes: &[Change]) -> String {
    let mut lags_ms = Vec::new();
    let mut old_after = 0;
    let mut without_effect = 0;
    for (number, change) in changes.iter().enumerate() {
        let next = changes.get(number + 1).map(|next| next.begin);
        // A request still in flight when the next change begins may go by either weights.
        let within = |one: &&Answered| one.sent > change.end && next.is_none_or(|next| one.done < next);
        let after: Vec<&Answered> = seen.answers.iter().filter(within).collect();
        let old = after.iter().filter(|one| one.mark == change.old);
        old_after += old.clone().count();
        let last = old.map(|one| one.sent.duration_since(change.end)).max().unwrap_or_default();
        lags_ms.push(last.as_secs_f64() * 1e3);
        without_effect += usize::from(after.iter().all(|one| one.mark == change.old));
    }
    lags_ms.sort_by(f64::total_cmp);
    let at = |q: f64| lags_ms.get(((lags_ms.len() - 1) as f64 * q) as usize).copied().unwrap_or_default();
    format!(
        "{{\"requests\":{},\"failed\":{},\"closed\":{},\"changes\":{},\
         \"old_after\":{old_after},\"without_effect\":{without_effect},\
         \"median_ms\":{:.3},\"p90_ms\":{:.3},\"p99_ms\":{:.3},\"worst_ms\":{:.3}}}",
        seen.answers.len(),
        seen.failed,
        seen.closed,
        changes.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    )
}
