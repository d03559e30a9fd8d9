//! One copy while it is gathered: the head as it stands, the body as it passes on its way up.

use std::rc::Rc;
use std::sync::Arc;

use super::scene::{Scene, Side, Witness};
use super::send;
use crate::model::ProxyVersion;
use crate::proxy::attempt::forward::{Attempt, Job};
use crate::proxy::attempt::reach;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::Response;
use crate::proxy::worker::{Lease, Worker};
use crate::switchboard::snapshot::{Mirror, Pool, Service};
use crate::telemetry::mirror::{Dropped, MirrorShard};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::preface::Ends;

/// What stands beside a request that is copied; a request that is not has none.
pub(crate) struct Aside {
    copying: Option<Box<Copying>>,
    witness: Option<Witness>,
}

/// A copy that is gathered or sent; counts as in flight until it is dropped.
pub(crate) struct Copying {
    pub(super) worker: Rc<Worker>,
    snapshot: Rc<Lease>,
    service: usize,
    mirror: usize,
    pub(super) endpoint: Arc<Endpoint>,
    /// Head and body, framed for HTTP/1.1.
    pub(super) message: Vec<u8>,
    pub(super) head_bytes: usize,
    pub(super) framing: Framing,
    pub(super) to_head: bool,
    /// Whose connection it goes over, where the endpoints of the pool are told.
    pub(super) named: Option<(ProxyVersion, Ends)>,
    pub(super) scene: Option<Rc<Scene>>,
    /// Why it will not be sent, unless it is.
    fate: Option<Dropped>,
}

// === impl Aside ===

impl Aside {
    /// A copy for the endpoint at `endpoint` by the mirror at `index`; none for a request that cannot be forwarded.
    pub(super) fn begin(job: &Job<'_>, index: usize, endpoint: usize) -> Option<Box<Self>> {
        let (worker, decision) = (job.worker, job.decision);
        let service = &job.snapshot.services[decision.service];
        let mirror = &service.mirrors[index];
        let endpoint = &service.pools[mirror.to].endpoints[endpoint];
        let mut message = worker.buffers.borrow_mut().take();
        job.outgoing.write_copy(&endpoint.authority, &service.pools[decision.pool].name, &mut message).ok()?;
        let scene = worker.pairs.is_taken().then(|| Rc::new(Scene::new(worker, service, mirror)));
        let witness = scene.as_ref().map(|scene| Witness::new(scene, Side::Primary));
        mirror.meter.of(worker.index).in_flight.add(1);
        let copying = Copying {
            worker: Rc::clone(worker),
            snapshot: Rc::clone(job.snapshot),
            service: decision.service,
            mirror: index,
            endpoint: Arc::clone(endpoint),
            head_bytes: message.len(),
            message,
            framing: job.outgoing.framing,
            to_head: job.question.head.method() == "HEAD",
            named: reach::named(job, &service.pools[mirror.to]),
            scene,
            fate: Some(Dropped::Client),
        };
        Some(Box::new(Self { copying: Some(Box::new(copying)), witness }))
    }

    /// Takes note of a piece of the body, framed for HTTP/1.1, and whether it was the last. A whole copy is sent, by a
    /// task of its own.
    pub(crate) fn tee(&mut self, piece: &[u8], complete: bool) {
        let Some(copying) = &mut self.copying else { return };
        if !copying.push(piece) {
            copying.fate = Some(Dropped::Body);
            self.copying = None;
        } else if complete && let Some(mut copying) = self.copying.take() {
            copying.fate = None;
            tokio::task::spawn_local(Box::pin(send::run(copying)));
        }
    }

    /// Takes note of the head of the answer that the client gets. `bytes` are what the spans of `response` point into.
    #[inline]
    pub(crate) fn note(aside: &mut Option<Box<Self>>, response: &Response, bytes: &[u8], attempt: &Attempt) {
        if let Some(witness) = Self::witness(aside) {
            witness.head(response, bytes, &attempt.pool().name);
        }
    }

    /// Who keeps the answer that the client gets, where the request was copied and somebody wants pairs.
    #[inline]
    pub(crate) fn witness(aside: &mut Option<Box<Self>>) -> Option<&mut Witness> {
        aside.as_mut()?.witness.as_mut()
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { copying, witness } = self;
        f.debug_struct("Aside").field("copying", &copying.is_some()).field("witness", &witness.is_some()).finish()
    }
}

// === impl Copying ===

impl Copying {
    pub(super) fn service(&self) -> &Service {
        &self.snapshot.services[self.service]
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.service().pools[self.mirror().to]
    }

    pub(super) fn mirror(&self) -> &Mirror {
        &self.service().mirrors[self.mirror]
    }

    pub(super) fn snapshot(&self) -> &Rc<Lease> {
        &self.snapshot
    }

    pub(super) fn shard(&self) -> &MirrorShard {
        self.mirror().meter.of(self.worker.index)
    }

    /// Keeps a piece; false when that makes it too large. Its memory never exceeds what it may hold.
    fn push(&mut self, piece: &[u8]) -> bool {
        let bytes_max = self.head_bytes + self.mirror().spec.body_bytes_max;
        let wanted = self.message.len() + piece.len();
        if wanted > bytes_max {
            return false;
        }
        if wanted > self.message.capacity() {
            let room = (2 * self.message.capacity()).clamp(wanted, bytes_max);
            self.message.reserve_exact(room - self.message.len());
        }
        self.message.extend_from_slice(piece);
        true
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let shard = self.shard();
        shard.in_flight.sub(1);
        if let Some(why) = self.fate {
            shard.drop_for(why);
        }
        let message = std::mem::take(&mut self.message);
        self.worker.buffers.borrow_mut().put(message);
    }
}
