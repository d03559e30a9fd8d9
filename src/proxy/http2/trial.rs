//! What benches and fuzzers see of the engine: both roles over a pipe, and requests that are answered at once; and one
//! end whose peer says anything. Nothing in the program uses it.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::DuplexStream;
use tokio::task::spawn_local;

use super::client::{self, Sender};
use super::core::{Core, Shared};
use super::error::{Error, Reason};
use super::frame;
use super::handles::Hold;
use super::head::HeadWriter;
use super::purse::Purse;
use super::send::Kind;
use super::server;
use super::settings::Config;

/// What [`feed`] lets wait to be taken before streams are given up.
const FED_BYTES_MAX: usize = 64 * 1024;

/// Unwritten bytes at which nothing more is read, as [`drive`](super::drive) does.
const READS_STOP_AT: usize = 192 * 1024;

/// What most of it runs with.
fn config() -> Config {
    Config {
        stream_window: 256 * 1024,
        connection_window: 1024 * 1024,
        list_max: 32 * 1024,
        streams_max: Some(128),
        enable_connect: false,
        pending_resets_max: 20,
        purse: Rc::default(),
        turns: None,
        excess: Rc::default(),
    }
}

/// A client and a server of the engine on one thread, joined by a pipe.
#[derive(Debug)]
pub(crate) struct Trial {
    sender: Sender,
}

// === impl Trial ===

impl Trial {
    /// Both ends of a pipe, each driven by a task of the thread's `LocalSet`. Each request is answered with `answer`
    /// and `body`.
    pub(crate) async fn begin(
        (near, far): (DuplexStream, DuplexStream),
        answer: &'static [(&'static [u8], &'static [u8])],
        body: &'static [u8],
    ) -> Result<Self, Error> {
        let config = config();
        let (sender, mut connection) = client::handshake(near, &config).await?;
        spawn_local(async move { poll_fn(|cx| connection.poll(cx)).await });
        let mut connection = server::handshake(far, &config).await?;
        spawn_local(async move {
            while let Some(Ok((request, inflow, mut respond))) = poll_fn(|cx| connection.poll_accept(cx)).await {
                spawn_local(async move {
                    let seen: usize = request.fields().map(|(name, value)| name.len() + value.len()).sum();
                    debug_assert!(seen > 0 && inflow.is_end_stream());
                    let _ = respond.send_whole(
                        |head| {
                            head.status(200);
                            answer.iter().for_each(|(name, value)| head.field(name, value));
                        },
                        body,
                    );
                });
            }
        });
        let mut wait = sender.wait();
        poll_fn(|cx| wait.poll(cx)).await?;
        Ok(Self { sender })
    }

    /// One GET with these fields; bytes of the answer's body.
    pub(crate) async fn ask(&self, path: &[u8], fields: &[(&[u8], &[u8])]) -> Result<usize, Error> {
        let (mut answered, _out) = self.sender.send_request(
            |head| {
                head.request(b"GET", b"http", b"shop.example:8080", path);
                fields.iter().for_each(|(name, value)| head.field(name, value));
            },
            true,
        )?;
        let (_, mut inflow) = poll_fn(|cx| answered.poll_head(cx)).await?;
        let mut bytes = 0;
        while let Some(data) = poll_fn(|cx| inflow.poll_data(cx)).await {
            let data = data?;
            inflow.release(data.len());
            bytes += data.len();
        }
        Ok(bytes)
    }
}

/// What was seen of an end whose peer says anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fed {
    /// The most bytes that waited to be written, to be taken, and to become a frame or a block.
    pub unwritten: usize,
    /// See there.
    pub untaken: usize,
    /// See there.
    pub unfinished: usize,
    /// The most streams that were open at once.
    pub streams: usize,
    /// Bytes that were on the account of what is to be taken after all was dropped.
    pub left: usize,
}

/// Feeds an end with `bytes` behind the SETTINGS of its peer, `piece` by `piece`; after each, whoever holds its streams
/// does what the next of `acts` says.
pub(crate) fn feed(is_client: bool, bytes: &[u8], piece: usize, acts: &[u8]) -> Fed {
    let purse = Rc::new(Purse::new(FED_BYTES_MAX, |_| {}));
    let streams_max = (!is_client).then_some(8);
    let config = Config { streams_max, list_max: 2048, purse: Rc::clone(&purse), ..config() };
    let shared = Shared::new(&config, is_client, true);
    let (mut held, mut fed) = (Vec::new(), Fed::default());
    shared.core.borrow_mut().receive(&frame::head(0, frame::SETTINGS, 0, 0));
    for _ in 0..if is_client { 3 } else { 0 } {
        let core = &mut *shared.core.borrow_mut();
        let key = core.begin(core.next_id);
        core.next_id += 2;
        let head = |head: &mut HeadWriter<'_>| head.request(b"POST", b"http", b"a", b"/");
        let _ = core.send_head(key, Kind::Final { end: false }, head);
        held.push(Hold::new(&shared, core, key));
    }
    let mut acts = acts.iter().cycle().copied();
    for bytes in bytes.chunks(piece.max(1)) {
        let core = &mut *shared.core.borrow_mut();
        if core.ended.is_some() {
            break;
        }
        if core.out.len() >= READS_STOP_AT {
            core.out.written(core.out.len());
        }
        let rest = std::mem::take(&mut core.rest);
        core.receive(&[&rest, bytes].concat());
        fed.unwritten = fed.unwritten.max(core.out.len());
        fed.untaken = fed.untaken.max(purse.held());
        fed.unfinished = fed.unfinished.max(core.rest.len() + core.block.bytes.len());
        fed.streams = fed.streams.max(core.streams.linked());
        while let Some(key) = core.next_request() {
            held.push(Hold::new(&shared, core, key));
        }
        act(core, &mut held, acts.next().unwrap_or_default());
    }
    shared.core.borrow_mut().end(Ok(()));
    drop(held);
    drop(shared);
    fed.left = purse.held();
    fed
}

/// What a holder of streams does.
fn act(core: &mut Core, held: &mut [Hold], what: u8) {
    let (which, what) = (usize::from(what >> 3), what & 7);
    let Some(key) = held.get(which % held.len().max(1)).map(|hold| hold.key) else { return };
    let data = Bytes::from(vec![1; which * 1_000]);
    // What cannot be done in its state is refused.
    let _ = match what {
        0 => core.send_head(key, Kind::Final { end: false }, |head| head.status(200)),
        1 => core.send_data(key, data, which.is_multiple_of(2)),
        2 => core.send_trailers(key, [(&b"a"[..], &b"b"[..])]),
        3 => {
            core.send_reset(key, Reason::CANCEL);
            Ok(())
        }
        4 => {
            core.out.written(core.out.len());
            Ok(())
        }
        5 => {
            core.go_on();
            Ok(())
        }
        6 => Ok(()),
        _ => {
            let taken = core.streams[key].data.pop_front().map_or(0, |data| data.len());
            core.config.purse.take(taken);
            core.release(key, taken);
            Ok(())
        }
    };
}
