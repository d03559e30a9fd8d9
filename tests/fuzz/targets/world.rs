//! One snapshot with every kind of route, for the targets that decide.

use std::net::IpAddr;
use std::sync::LazyLock;

use weir::model::Head;
use weir::proxy::decide::dice::{Rng, Splitters};
use weir::proxy::decide::{Decision, Dice, Question, decide};
use weir::proxy::refusal::Refusal;
use weir::proxy::seam;
use weir::routing::cookie::TicketCache;
use weir::switchboard::snapshot::Snapshot;

use crate::stage::{NOW, snapshot};

/// The token that lets a request choose its pool.
pub(crate) const TOKEN: &str = "letmein";

/// Every kind of match and of rewrite, one host at most per route, but for authorities of a CONNECT.
const CONFIG: &str = r#"
trusted_proxies = ["10.0.0.0/8"]
[listeners.public]
address = "127.0.0.1:8080"
[services.engine]
direct_paths = true
forwarded = true
pools.stable.endpoints = ["http://127.0.0.1:9001"]
pools.canary.endpoints = ["http://127.0.0.1:9002", "http://[::1]:9002"]
pools.dark.endpoints = ["http://127.0.0.1:9003"]
affinity = { by = "cookie", name = "weir" }
override = { token = "letmein", networks = ["198.51.100.0/24"] }
health.kind = "off"
[services.shop]
preserve_host = false
pools.stable.endpoints = ["http://127.0.0.1:9004"]
affinity = { by = "header", name = "x-user" }
health.kind = "off"
[[routes]]
service = "engine"
pool = "canary"
match.headers = { x-beta-user = "true", x-agent = { regex = "a+b?" } }
[[routes]]
service = "engine"
match = { cookies = { group = { exact = "Beta", case_sensitive = false } }, path_prefix = "/c" }
[[routes]]
service = "shop"
match = { query = { "a b" = "é" }, method = ["GET", "POST"] }
[[routes]]
service = "engine"
match.path_regex = "/r/[a-z]+|/q"
[[routes]]
service = "shop"
match.host = "*.shop.example"
[[routes]]
service = "shop"
strip_prefix = true
match = { host = "shop.example", path_prefix = "/s/t" }
[[routes]]
service = "engine"
rewrite_prefix = "/new"
match.path_prefix = "/old"
[[routes]]
service = "shop"
match = { path = "/exact", client_networks = ["198.51.100.0/24", "192.0.2.7"] }
[[routes]]
service = "shop"
match.connect = ["db.internal:5432", "*.shop.example:443"]
[[routes]]
service = "engine"
match.path_prefix = "/"
"#;

/// The snapshot.
pub(crate) static SNAPSHOT: LazyLock<Snapshot> =
    LazyLock::new(|| snapshot(CONFIG, "[engine]\nstable = 90\ncanary = 10\ndark = 0\n[shop]\nstable = 1\n"));

/// Where a request from `peer` goes; the same every time.
pub(crate) fn decided(head: &Head, peer: IpAddr) -> Result<Decision, Refusal> {
    let (mut splitters, mut tickets, mut rng) = (Splitters::default(), TicketCache::new(), Rng::new(1));
    let mut dice = Dice { splitters: &mut splitters, tickets: &mut tickets, rng: &mut rng };
    let client = seam::client(head, peer, &SNAPSHOT.trusted_proxies);
    let snapshot = &SNAPSHOT;
    let question = Question { snapshot, listener: 0, head, client, now: NOW, worker: 0, repeatable: true, at: None };
    decide(&question, &mut dice)
}
