//! What benches see of the engine: both roles over a pipe, and requests that are answered at once. Nothing in the
//! program uses it.

use std::future::poll_fn;
use std::rc::Rc;

use tokio::io::DuplexStream;
use tokio::task::spawn_local;

use super::client::{self, Sender};
use super::error::Error;
use super::server;
use super::settings::Config;

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
        let config = Config {
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            list_max: 32 * 1024,
            streams_max: Some(128),
            enable_connect: false,
            pending_resets_max: 20,
            purse: Rc::default(),
        };
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
        poll_fn(|cx| sender.poll_ready(cx)).await?;
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
