//! A server of the engine, and a client that speaks frames by hand.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::error::{By, Reason};
use super::peer::*;
use super::*;

/// A server whose requests are put aside, and a client that has said hello.
pub(super) struct Scene {
    pub(super) raw: Raw,
    pub(super) taken: Rc<RefCell<Vec<Taken>>>,
    pub(super) server: JoinHandle<Result<(), Error>>,
}

impl Scene {
    pub(super) async fn new(config: Config) -> Self {
        Self::with(config, &[]).await
    }

    pub(super) async fn with(config: Config, settings: &[(u16, u32)]) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let taken = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&taken);
        let server = serve(far, config, move |it| {
            list.borrow_mut().push(it);
            async {}
        });
        let raw = Raw::client(near, settings).await;
        Self { raw, taken, server }
    }

    /// Sends frames, and takes the request that comes of them.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Taken {
        self.raw.send(bytes).await;
        settle().await;
        self.taken.borrow_mut().pop().expect("a request")
    }

    /// Sends frames that end the connection; how.
    pub(super) async fn breaks(mut self, bytes: &[u8]) -> (u32, String) {
        self.raw.send(bytes).await;
        let said = self.raw.end().await;
        let ended = self.server.await.expect("no panic");
        assert_eq!(ended, Err(Error::GoAway(Reason(said.0), By::Us)));
        said
    }
}

pub(super) fn all(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}
