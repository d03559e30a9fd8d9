//! The threads of a test upstream: accept, read requests strictly, remember them, act out the behaviour.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::behaviour::{Behaviour, Door, Health, Reply, Then};
use super::upstream::{Seen, Shared};
use super::upstream_answer::{answer, reply};
use super::wire::{Framing, Head, Wire, declared};

/// Accepts until the listener is shut down; one thread for each connection.
pub fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let id = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let door = {
            let mut state = shared.lock();
            state.accepted += 1;
            if let Ok(copy) = stream.try_clone() {
                state.open.insert(id, copy);
            }
            state.door
        };
        let shared = Arc::clone(shared);
        let serve = move || {
            let mut wire = Wire::new(stream);
            match door {
                Door::Open => serve(&mut wire, &shared, id),
                Door::Reset => reset(&wire),
                Door::Close => {}
                Door::Silent => hold(&mut wire),
            }
            let mut state = shared.lock();
            state.open.remove(&id);
            state.left.push((id, Instant::now()));
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(serve).expect("a thread can be started");
    }
}

fn reset(wire: &Wire) {
    let _ = socket2::SockRef::from(wire.stream()).set_linger(Some(Duration::ZERO));
}

/// Reads and forgets until the peer leaves.
fn hold(wire: &mut Wire) {
    while matches!(wire.fill(), Ok(count) if count > 0) {}
}

/// Sends every byte back until the peer leaves.
fn echo(wire: &mut Wire) {
    loop {
        let bytes = wire.take_ahead();
        if !bytes.is_empty() && wire.write(&bytes).is_err() {
            return;
        }
        if !matches!(wire.fill(), Ok(count) if count > 0) {
            return;
        }
    }
}

/// Waits until the peer leaves, without reading a byte.
fn freeze(wire: &Wire) {
    let mut poll = libc::pollfd { fd: wire.stream().as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one live element, and the descriptor stays open while `wire` is borrowed. Bounded by a minute.
    unsafe { libc::poll(&raw mut poll, 1, 60_000) };
}

fn serve(wire: &mut Wire, shared: &Arc<Shared>, connection: u64) {
    loop {
        let head = match wire.head() {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => {
                if error.kind() == ErrorKind::InvalidData && wire.ahead().len() > 4 {
                    let raw = String::from_utf8_lossy(wire.ahead()).into_owned();
                    shared.lock().complaints.push(format!("{error}: {raw:?}"));
                }
                return;
            }
        };
        match one(wire, shared, connection, head) {
            Ok(Next::Keep) => {}
            Ok(Next::Close) => return,
            Ok(Next::Reset) => return reset(wire),
            Ok(Next::Hold) => return hold(wire),
            Ok(Next::Freeze) => return freeze(wire),
            Ok(Next::Echo) => return echo(wire),
            Err(_) => return,
        }
    }
}

enum Next {
    Keep,
    Close,
    Reset,
    Hold,
    Freeze,
    Echo,
}

impl From<Then> for Next {
    fn from(then: Then) -> Self {
        match then {
            Then::Keep => Self::Keep,
            Then::Close => Self::Close,
            Then::Reset => Self::Reset,
            Then::Hold => Self::Hold,
            Then::Freeze => Self::Freeze,
            Then::Echo => Self::Echo,
        }
    }
}

fn one(wire: &mut Wire, shared: &Arc<Shared>, connection: u64, head: Head) -> io::Result<Next> {
    let mut parts = head.start.split(' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (method, target, version, parts.next()) else {
        shared.lock().complaints.push(format!("request line {:?}", head.start));
        return Ok(Next::Close);
    };
    let framing = match declared(&head) {
        Ok(framing) => framing.unwrap_or(Framing::None),
        Err(error) => {
            shared.lock().complaints.push(format!("{error}: {:?}", String::from_utf8_lossy(&head.raw)));
            return Ok(Next::Close);
        }
    };
    if head.all("host").len() != 1 {
        shared.lock().complaints.push(format!("not one Host: {:?}", String::from_utf8_lossy(&head.raw)));
    }
    if target == "/healthz" {
        return probe(wire, shared);
    }
    let (method, target) = (method.to_owned(), target.to_owned());
    let expects = head.field("expect").is_some();
    let keep = !head.all("connection").iter().any(|v| v.eq_ignore_ascii_case("close"));
    let (index, behaviour) = {
        let mut state = shared.lock();
        let by_path = state.on_path.iter().find(|(prefix, _)| target.starts_with(prefix)).map(|(_, b)| b.clone());
        let queued = state.queue.pop_front();
        let behaviour = queued.or(by_path).unwrap_or_else(|| state.default.clone());
        state.asked += 1;
        let behaviour = match behaviour {
            Behaviour::Chosen(choice) => (choice.0)(&head, state.asked),
            plain => plain,
        };
        if state.remembers {
            let (m, t, at) = (method.clone(), target, Instant::now());
            let (body, trailers) = (Vec::new(), Vec::new());
            let seen = Seen { connection, method: m, target: t, head, body, trailers, whole: false, at };
            state.seen.push(seen);
        }
        (state.seen.len().wrapping_sub(1), behaviour)
    };
    if let Behaviour::Early(bytes, then) = behaviour {
        wire.write(&bytes)?;
        return Ok(then.into());
    }
    if matches!(behaviour, Behaviour::ResetAfterHead) {
        return Ok(Next::Reset);
    }
    if expects && !matches!(behaviour, Behaviour::NoContinue) {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    let ended = wire.body(framing, &mut body);
    if let Err(error) = &ended
        && error.kind() == ErrorKind::InvalidData
    {
        shared.lock().complaints.push(format!("{error} in a body"));
    }
    if let Some(seen) = shared.lock().seen.get_mut(index) {
        (seen.body, seen.whole) = (body.clone(), ended.is_ok());
        seen.trailers = ended.as_ref().map(Vec::clone).unwrap_or_default();
    }
    ended?;
    let next = answer(wire, &shared.name, &behaviour, &method, body)?;
    Ok(match (next, keep) {
        (Then::Keep, false) => Next::Close,
        (then, _) => then.into(),
    })
}

fn probe(wire: &mut Wire, shared: &Arc<Shared>) -> io::Result<Next> {
    let health = {
        let mut state = shared.lock();
        state.probes += 1;
        state.health
    };
    let status = match health {
        Health::Pass => 200,
        Health::Fail => 503,
        Health::Hang => return Ok(Next::Hold),
    };
    let then = reply(wire, &shared.name, &Reply::status(status), "GET")?;
    Ok(then.into())
}
