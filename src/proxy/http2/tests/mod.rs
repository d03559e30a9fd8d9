//! Two ends of the engine against each other, each against h2, and against peers that speak frames by hand, over a pipe
//! in memory.

mod peer;
mod scene;

mod ends;
mod purse;
mod raw_server;
mod rules;
mod turns;
mod windows;

mod both;
mod foreign;

mod anything;
mod bounds;
mod simulation;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::client::{self, Answered, Sender};
use super::error::Error;
use super::handles::{Inflow, Outflow};
use super::head::{Head, Request};
use super::server::{self, Respond};
use super::settings::Config;

/// What most tests run with.
fn config() -> Config {
    Config {
        stream_window: 256 * 1024,
        connection_window: 1024 * 1024,
        list_max: 32 * 1024,
        streams_max: Some(100),
        enable_connect: true,
        pending_resets_max: 20,
        purse: Rc::default(),
        turns: None,
        excess: Rc::default(),
    }
}

/// Runs a test to its end, in bounded time.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("it ends in time") };
    LocalSet::new().block_on(&runtime, bounded)
}

/// Lets every task run that has something to do.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A client over `io`, and the task that drives its connection.
async fn open<S>(io: S, config: &Config) -> (Sender, JoinHandle<Result<(), Error>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, mut connection) = client::handshake(io, config).await.expect("it says hello");
    let driver = spawn_local(async move { poll_fn(|cx| connection.poll(cx)).await });
    (sender, driver)
}

/// A request that a server has taken.
struct Taken {
    request: Request,
    inflow: Inflow,
    respond: Respond,
}

/// Serves `io`, each request by a task.
fn serve<S, F>(io: S, config: Config, each: impl Fn(Taken) -> F + 'static) -> JoinHandle<Result<(), Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = ()> + 'static,
{
    spawn_local(async move {
        let mut connection = server::handshake(io, &config).await?;
        loop {
            match poll_fn(|cx| connection.poll_accept(cx)).await {
                Some(Ok((request, inflow, respond))) => {
                    spawn_local(each(Taken { request, inflow, respond }));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    })
}

/// Both ends of the engine: a client, and a server that has each request handled by `each`.
async fn pair<F: Future<Output = ()> + 'static>(
    own: Config,
    other: Config,
    each: impl Fn(Taken) -> F + 'static,
) -> (Sender, JoinHandle<Result<(), Error>>, JoinHandle<Result<(), Error>>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = serve(far, other, each);
    let (sender, driver) = open(near, &own).await;
    (sender, driver, server)
}

/// Waits until one more stream may begin.
async fn ready(sender: &Sender) -> Result<(), Error> {
    let mut wait = sender.wait();
    poll_fn(|cx| wait.poll(cx)).await
}

/// Begins a request once there is room for it.
async fn ask(sender: &Sender, method: &str, path: &str, end: bool) -> Result<(Answered, Outflow), Error> {
    ready(sender).await?;
    sender.send_request(|head| head.request(method.as_bytes(), b"http", b"test", path.as_bytes()), end)
}

async fn head_of(answered: &mut Answered) -> Result<(Head, Inflow), Error> {
    poll_fn(|cx| answered.poll_head(cx)).await
}

/// All of a body, given back as it is taken.
async fn body_of(inflow: &mut Inflow) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(data) = poll_fn(|cx| inflow.poll_data(cx)).await {
        let data = data?;
        assert!(!data.is_empty());
        inflow.release(data.len());
        body.extend_from_slice(&data);
    }
    Ok(body)
}

async fn trailers_of(inflow: &mut Inflow) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let fields = poll_fn(|cx| inflow.poll_trailers(cx)).await?;
    Ok(fields.iter().flat_map(|all| all.iter().map(|(name, value)| (name.to_vec(), value.to_vec()))).collect())
}

/// Sends a body piece by piece as there is room.
async fn pour(out: &mut Outflow, body: &[u8], piece: usize, end: bool) -> Result<(), Error> {
    for chunk in body.chunks(piece) {
        poll_fn(|cx| out.poll_room(cx)).await?;
        out.send_data(Bytes::copy_from_slice(chunk), false)?;
    }
    if end { out.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// Bytes that tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}
