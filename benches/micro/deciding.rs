//! One decision over a whole snapshot: route, pool and endpoint.

use std::hint::black_box;

use criterion::Criterion;
use weir::model::Head;
use weir::proxy::decide::dice::{Rng, Splitters};
use weir::proxy::decide::{Decision, Dice, Question, decide};
use weir::routing::cookie::TicketCache;
use weir::switchboard::snapshot::Snapshot;

use crate::CLIENT;
use crate::stage::{NOW, keys, snapshot};

const POOLS: &str = "\
    [services.engine]\n\
    pools.stable.endpoints = [\"http://127.0.0.1:9001\"]\n\
    pools.canary.endpoints = [\"http://127.0.0.1:9002\"]\n";

const DIRECT: &str = "direct_paths = true\n";

const COOKIE: &str = "affinity = { by = \"cookie\", name = \"weir\" }\n";

/// The routes of the example configuration.
const ROUTES: &str = "\
    [[routes]]\nservice = \"engine\"\npool = \"canary\"\nmatch.headers = { x-beta-user = \"true\" }\n\
    [[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/\"\n";

/// A pool whose name has not resolved: nothing of it serves.
const DOWN: &str = "\
    [services.engine]\n\
    pools.stable.endpoints = [\"http://127.0.0.1:9001\"]\n\
    pools.canary.endpoints = [\"http://nowhere.invalid:9002\"]\n";

/// A worker's chance and memory, and one decision after another.
pub(crate) struct Decider {
    splitters: Splitters,
    tickets: TicketCache,
    rng: Rng,
}

// === impl Decider ===

impl Decider {
    pub(crate) fn new() -> Self {
        Self { splitters: Splitters::default(), tickets: TicketCache::new(), rng: Rng::new(1) }
    }

    pub(crate) fn decide(&mut self, snapshot: &Snapshot, head: &Head) -> Decision {
        let question =
            Question { snapshot, listener: 0, head, client: CLIENT, now: NOW, worker: 0, repeatable: true, at: None };
        let mut dice = Dice { splitters: &mut self.splitters, tickets: &mut self.tickets, rng: &mut self.rng };
        decide(&question, &mut dice).expect("something serves")
    }
}

/// A snapshot at 90/10.
pub(crate) fn ninety_ten(config: &str) -> Snapshot {
    snapshot(config, "[engine]\nstable = 90\ncanary = 10\n")
}

/// What most configurations have on: the example's routes, direct paths and cookie affinity.
pub(crate) fn example() -> Snapshot {
    ninety_ten(&[POOLS, DIRECT, COOKIE, ROUTES].concat())
}

pub(crate) fn all(c: &mut Criterion) {
    let cookies: Vec<Head> = (0..256)
        .map(|i| {
            let cookie =
                format!("session=0123456789abcdef; weir={}", keys().issue("engine", i * 3_000, NOW.unix_s - 60));
            Head::describe(
                "GET",
                "www.example",
                "/items?page=2",
                [("accept", &b"*/*"[..]), ("cookie", cookie.as_bytes())],
            )
        })
        .collect();
    let plain = Head::describe("GET", "www.example", "/items?page=2", [("accept", &b"*/*"[..])]);
    let beta = Head::describe("GET", "www.example", "/items?page=2", [("x-beta-user", &b"true"[..])]);
    let direct = Head::describe("GET", "www.example", "/canary/items?page=2", [("accept", &b"*/*"[..])]);
    let cases: [(&str, Snapshot, &[Head]); 7] = [
        ("90/10, no affinity", ninety_ten(POOLS), std::slice::from_ref(&plain)),
        ("90/10, cookie, 256 clients", ninety_ten(&[POOLS, COOKIE].concat()), &cookies),
        ("90/10, cookie, a new client", ninety_ten(&[POOLS, COOKIE].concat()), std::slice::from_ref(&plain)),
        ("the example, cookie, 256 clients", example(), &cookies),
        ("the example, a header route", example(), std::slice::from_ref(&beta)),
        ("the example, a direct path", example(), std::slice::from_ref(&direct)),
        ("90/10, canary down, failover", ninety_ten(DOWN), std::slice::from_ref(&plain)),
    ];
    for (label, snapshot, heads) in &cases {
        let (mut decider, mut turn) = (Decider::new(), 0);
        c.bench_function(&format!("decide, {label}"), |b| {
            b.iter(|| {
                turn = (turn + 1) % heads.len();
                decider.decide(snapshot, black_box(&heads[turn]))
            });
        });
    }
}
