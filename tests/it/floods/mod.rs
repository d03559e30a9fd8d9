//! Peers that have weir work for nothing over HTTP/2: each is ended within a bound, memory stays under a bound, and
//! whoever is beside them notices nothing.

mod clients;
mod endpoints;
mod windows;

use std::time::Duration;

use crate::harness::frames::Raw;
use crate::harness::{Issued, Setup, Tls, Upstream, Weir, eventually};

/// Growth of memory that one attacking connection may cause.
const GROWTH_MAX: u64 = 10 << 20;

/// ENHANCE_YOUR_CALM (RFC 9113 §7).
const CALM: u32 = 11;

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Cleartext,
    Tls,
}

/// A program with a cleartext listener and one with TLS.
struct House {
    stable: Upstream,
    weir: Weir,
    tls: Tls,
}

impl House {
    fn new(lines: &str) -> Self {
        let stable = Upstream::named("stable");
        let site = Issued::for_names(&["test"]);
        let setup = Setup::single(&stable)
            .workers(1)
            .table("health", "kind = \"off\"")
            .listener("secure", "")
            .text("[listeners.secure.tls]\ncertificates = [{ cert = \"site.crt\", key = \"site.key\" }]")
            .text(&format!("[access_log]\nto = \"stdout\"\n[limits]\n{lines}"))
            .file("site.crt", &site.cert)
            .file("site.key", &site.key);
        Self { weir: setup.start(), stable, tls: Tls::of("test") }
    }

    fn client(&self, way: Way) -> Raw {
        match way {
            Way::Cleartext => Raw::to(self.weir.address()),
            Way::Tls => Raw::over(self.weir.listener("secure"), &self.tls),
        }
    }

    /// Connections ended so far for that.
    fn ended(&self, side: &str, kind: &str) -> u64 {
        self.weir.metrics().sum("weir_http2_ended_total", &[("side", side), ("kind", kind)]) as u64
    }

    /// Waits until so many are counted: that is, until the linger after the last word is over.
    #[track_caller]
    fn counts(&self, side: &str, kind: &str, count: u64, what: &str) {
        eventually(&format!("{count} {side}s ended for {kind}: {what}"), SOON, || self.ended(side, kind) == count);
    }

    #[track_caller]
    fn serves(&self, what: &str) {
        assert_eq!(self.weir.h2().get("/second").status, 200, "the next client after {what}");
    }
}

const SOON: Duration = Duration::from_secs(5);
