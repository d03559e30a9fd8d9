//! A pair in the making: the request, and both answers as they come. It is handed over when both sides are done with
//! it; where one of them got no answer at all there is nothing to compare, and it is forgotten.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use crate::proxy::h1::response::{Fate, Response};
use crate::proxy::worker::Worker;
use crate::switchboard::snapshot::{Mirror, Service};
use crate::telemetry::pair::{Asked, Gathered, Pair, Told, field};

/// A pair in the making.
pub(crate) struct Scene {
    worker: Rc<Worker>,
    service: String,
    to: String,
    from: RefCell<String>,
    request: RefCell<Asked>,
    told: [RefCell<Option<Told>>; 2],
}

/// Whose answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    /// The one that the client gets.
    Primary,
    /// The one to the copy.
    Copy,
}

/// Keeps one answer as it passes.
pub(crate) struct Witness {
    scene: Rc<Scene>,
    side: Side,
    began: Instant,
    told: Told,
    body: Gathered,
}

// === impl Scene ===

impl Scene {
    pub(super) fn new(worker: &Rc<Worker>, service: &Service, mirror: &Mirror) -> Self {
        Self {
            worker: Rc::clone(worker),
            service: service.name.to_string(),
            to: service.pools[mirror.to].name.to_string(),
            from: RefCell::default(),
            request: RefCell::default(),
            told: Default::default(),
        }
    }

    /// The request as it is sent: its head for HTTP/1.1, and its body.
    pub(super) fn asked(&self, head: &[u8], body: &[u8]) {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut next = || first.next().unwrap_or_default().to_owned();
        let (method, target) = (next(), next());
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let fields = pairs.map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect();
        let mut gathered = Gathered::default();
        gathered.push(body);
        *self.request.borrow_mut() = Asked { method, target, fields, body: gathered.finish() };
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let [primary, copy] = &self.told;
        if let (Some(primary), Some(copy)) = (primary.take(), copy.take()) {
            let (service, to) = (std::mem::take(&mut self.service), std::mem::take(&mut self.to));
            let pair = Pair { service, from: self.from.take(), to, request: self.request.take(), primary, copy };
            self.worker.pairs.offer(Box::new(pair));
        }
    }
}

// === impl Witness ===

impl Witness {
    pub(super) fn new(scene: &Rc<Scene>, side: Side) -> Self {
        let (told, body) = (Told::default(), Gathered::default());
        Self { scene: Rc::clone(scene), side, began: Instant::now(), told, body }
    }

    /// The head came, from that pool. `bytes` are what the spans of `response` point into.
    pub(crate) fn head(&mut self, response: &Response, bytes: &[u8], pool: &str) {
        self.told.status = response.status;
        self.told.head_after = self.began.elapsed();
        let kept = response.lines.iter().filter(|line| !matches!(line.fate, Fate::Drop));
        self.told.fields = kept.map(|line| field(&bytes[line.name.range()], &bytes[line.value.range()])).collect();
        if matches!(self.side, Side::Primary) {
            pool.clone_into(&mut self.scene.from.borrow_mut());
        }
    }

    /// More of the body, without its framing.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.body.push(bytes);
    }

    /// It came to its end.
    pub(crate) fn end(&mut self) {
        self.told.whole = true;
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.told.status > 0 {
            let mut told = std::mem::take(&mut self.told);
            told.end_after = self.began.elapsed();
            told.body = std::mem::take(&mut self.body).finish();
            *self.scene.told[self.side as usize].borrow_mut() = Some(told);
        }
    }
}
