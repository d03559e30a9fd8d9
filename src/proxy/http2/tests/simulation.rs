//! Two ends of the engine that do what chance has them do, over a pipe that cuts bytes where chance has it cut: what
//! arrives is what was sent, and nothing is left at the end. The seed of a run that fails is printed.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::super::core::Shared;
use super::super::error::Reason;
use super::*;

/// xorshift64*.
#[derive(Clone)]
struct Chance(Rc<Cell<u64>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    fn below(&self, bound: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A pipe that takes and gives as much as chance has it.
struct Choppy<S>(S, Chance);

impl<S: AsyncRead + Unpin> AsyncRead for Choppy<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.1.one_in(5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = if self.1.one_in(3) { 1 + self.1.below(20) } else { 1 + self.1.below(40_000) };
        let mut bytes = vec![0; most.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut part);
        buf.put_slice(part.filled());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Choppy<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.1.one_in(5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = 1 + self.1.below(20_000);
        Pin::new(&mut self.0).poll_write(cx, &bytes[..most.min(bytes.len())])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.1.0.get().is_multiple_of(2)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn random_config(chance: &Chance) -> Config {
    Config {
        stream_window: [400, 900, 5_000, 65_535, 1 << 20][chance.below(5)],
        connection_window: [65_535, 1 << 20][chance.below(2)],
        streams_max: Some([1, 7, 100][chance.below(3)]),
        ..config()
    }
}

/// Bytes of a body that tell whose they are.
fn body(n: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + n * 31) as u8).collect()
}

/// Sends a body in pieces of any size, or gives up within it; whether it was sent whole.
async fn pour_by_chance(out: &mut Outflow, body: &[u8], chance: &Chance, gives_up: bool) -> bool {
    let mut left = body;
    while !left.is_empty() {
        if gives_up && chance.one_in(4) {
            if chance.one_in(2) {
                out.send_reset(Reason::INTERNAL_ERROR);
            }
            return false;
        }
        if chance.one_in(2) && poll_fn(|cx| out.poll_room(cx)).await.is_err() {
            return false;
        }
        let (piece, rest) = left.split_at(1 + chance.below(left.len().min(30_000)));
        if out.send_data(Bytes::copy_from_slice(piece), false).is_err() {
            return false;
        }
        left = rest;
        if chance.one_in(3) {
            tokio::task::yield_now().await;
        }
    }
    match chance.one_in(2) {
        true => out.send_data(Bytes::new(), true).is_ok(),
        false => out.send_trailers([(&b"x-length"[..], body.len().to_string().as_bytes())]).is_ok(),
    }
}

/// Takes a body by chance; none when somebody gave up.
async fn take_by_chance(inflow: &mut Inflow, chance: &Chance, gives_up: bool) -> Option<Vec<u8>> {
    let (mut body, mut owed) = (Vec::new(), 0);
    while let Some(data) = poll_fn(|cx| inflow.poll_data(cx)).await {
        let data = data.ok()?;
        body.extend_from_slice(&data);
        owed += data.len();
        if chance.one_in(2) {
            inflow.release(std::mem::take(&mut owed));
        }
        if gives_up && chance.one_in(4) {
            return None;
        }
        if chance.one_in(3) {
            // What is owed is given before it is waited.
            inflow.release(std::mem::take(&mut owed));
            tokio::task::yield_now().await;
        }
        inflow.release(std::mem::take(&mut owed));
    }
    let trailers = trailers_of(inflow).await.ok()?;
    assert!(trailers.iter().all(|(_, length)| length == body.len().to_string().as_bytes()));
    Some(body)
}

/// Length of a request's body, and of its answer's, by its path.
fn lengths(path: &[u8]) -> (usize, usize, usize) {
    let mut parts =
        std::str::from_utf8(path).expect("text").split('/').skip(1).map(|part| part.parse().expect("a number"));
    let mut next = || parts.next().expect("a part");
    (next(), next(), next())
}

/// Waits for two, or until one of them gives up.
async fn both(one: impl Future<Output = Option<()>>, other: impl Future<Output = Option<()>>) -> Option<()> {
    let (one, other) = (async { one.await.ok_or(()) }, async { other.await.ok_or(()) });
    tokio::try_join!(one, other).ok().map(drop)
}

/// Serves a request as chance has it.
async fn serve_by_chance(taken: Taken, chance: Chance) {
    let Taken { request, mut inflow, mut respond } = taken;
    let (n, up, down) = lengths(request.path().expect("it has one"));
    let gives_up = chance.one_in(6);
    if gives_up && chance.one_in(3) {
        return;
    }
    let early = chance.one_in(4);
    if !early {
        let Some(came) = take_by_chance(&mut inflow, &chance, gives_up).await else { return };
        assert!(came == body(n, up), "{n} up");
    }
    let n_text = n.to_string();
    let write = |head: &mut super::super::head::HeadWriter<'_>| {
        head.status(200);
        head.field(b"x-n", n_text.as_bytes());
    };
    let answer = body(n + 1, down);
    if chance.one_in(3) {
        let _ = respond.send_whole(write, &answer);
        return;
    }
    let Ok(mut out) = respond.send_response(write, false) else { return };
    let taking = async {
        match early && !chance.one_in(3) {
            true => take_by_chance(&mut inflow, &chance, gives_up).await.map(drop),
            false => Some(()),
        }
    };
    let sending = async { pour_by_chance(&mut out, &answer, &chance, gives_up).await.then_some(()) };
    let _ = both(sending, taking).await;
}

/// Asks as chance has it, and counts what came whole.
async fn ask_by_chance(n: usize, sender: Sender, chance: Chance, whole: Rc<Cell<usize>>) {
    let length = |chance: &Chance| [0, 1, 500, 20_000, 100_000][chance.below(5)] / (1 + chance.below(3));
    let (up, down) = (length(&chance), length(&chance));
    let gives_up = chance.one_in(6);
    let (mut answered, mut out) = ask_fairly(&sender, &format!("/{n}/{up}/{down}")).await;
    let sending = async {
        let body = body(n, up);
        // Who has sent all, or is told that no more is wanted, may still be answered.
        let whole = pour_by_chance(&mut out, &body, &chance, gives_up).await;
        if gives_up && !whole { None } else { Some(()) }
    };
    let taking = async {
        let (head, mut inflow) = head_of(&mut answered).await.ok()?;
        assert_eq!(head.get(b"x-n"), Some(n.to_string().as_bytes()));
        let came = take_by_chance(&mut inflow, &chance, gives_up).await?;
        assert!(came == body(n + 1, down), "{n} down");
        whole.set(whole.get() + 1);
        Some(())
    };
    // Who gives up lets go of all.
    let _ = both(sending, taking).await;
}

async fn simulate(seed: u64) {
    let chance = Chance::new(seed);
    let (near, far) = tokio::io::duplex(1 + chance.below(50_000));
    let (own, other) = (random_config(&chance), random_config(&chance));
    let serving = chance.clone();
    let mut connection = {
        let (chance, far) = (chance.clone(), Choppy(far, chance.clone()));
        let other = other.clone();
        spawn_local(async move { (server::handshake(far, &other).await, chance) })
    };
    let (sender, driver) = open(Choppy(near, chance.clone()), &Config { streams_max: None, ..own }).await;
    let (connected, _) = (&mut connection).await.expect("no panic");
    let mut connection = connected.expect("a client");
    let shared: [Rc<Shared>; 2] = [Rc::clone(&sender.0), Rc::clone(&connection.0.shared)];
    let server = spawn_local(async move {
        while let Some(next) = poll_fn(|cx| connection.poll_accept(cx)).await {
            let (request, inflow, respond) = next?;
            spawn_local(serve_by_chance(Taken { request, inflow, respond }, serving.clone()));
        }
        Ok::<(), Error>(())
    });
    let whole = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let whole = Rc::clone(&whole);
            spawn_local(ask_by_chance(n, sender.clone(), chance.clone(), whole))
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(whole.get() >= 8, "{} of 40 came whole", whole.get());
    for _ in 0..100 {
        settle().await;
    }
    for shared in &shared {
        let core = shared.core.borrow();
        assert_eq!((core.streams.linked(), core.ready.len(), core.waiting.len(), core.accept.len()), (0, 0, 0, 0));
        assert!(core.streams.is_at_rest(), "a place is held by nobody");
        assert_eq!(core.intake.unreleased(), 0, "a window is not given back");
        assert_eq!(core.ended, None);
    }
    drop(sender);
    assert_eq!(driver.await.expect("no panic"), Ok(()));
    assert_eq!(server.await.expect("no panic"), Ok(()));
}

/// Begins a request once there is room; others may have been faster.
async fn ask_fairly(sender: &Sender, path: &str) -> (Answered, Outflow) {
    loop {
        match ask(sender, "POST", path, false).await {
            Ok(begun) => return begun,
            Err(Error::User) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_arrives_is_what_was_sent_whatever_chance_does() {
    for seed in 0..40 {
        println!("seed {seed}");
        run(simulate(seed));
    }
}
