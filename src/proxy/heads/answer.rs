//! The response head that the client gets: the endpoint's own, without what belongs to its connection, with the
//! affinity cookie when it is new and with redirects mapped back under a direct path.

use std::borrow::Cow;
use std::time::Instant;

use super::outgoing::{Caller, edit};
use crate::model::{AffinityBy, Head, Now, Rewrite};
use crate::proxy::decide::Decision;
use crate::proxy::h1::response::{Fate, Response};
use crate::routing::path;
use crate::switchboard::snapshot::Snapshot;

/// What maps an answer back to the client that asked.
pub(crate) struct Back<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) head: &'a Head,
    pub(crate) decision: &'a Decision,
    pub(crate) caller: &'a Caller,
    pub(crate) authority: &'a str,
    pub(crate) now: Now,
    pub(crate) took: Took,
}

/// Where the time went until the answer's head was there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// When the request's head was there.
    pub(crate) began: Instant,
    /// What of it the endpoint took in the attempt that was answered, µs.
    pub(crate) upstream_us: Option<u64>,
}

impl Back<'_> {
    /// Hands every field that the client gets to `field`: the endpoint's, then ours. Framing is the caller's.
    pub(crate) fn fields(&self, response: &Response, bytes: &[u8], mut field: impl FnMut(&[u8], &[u8])) {
        let prefix = self.prefix();
        for line in &response.lines {
            let (name, value) = (&bytes[line.name.range()], &bytes[line.value.range()]);
            match line.fate {
                Fate::Drop | Fate::Length => {}
                Fate::Copy => field(name, value),
                Fate::Location => field(name, &prefix.map_or(Cow::Borrowed(value), |it| self.location(value, it))),
                // The name is ours: an endpoint's cookie of that name would take the client's bucket away.
                Fate::SetCookie if self.is_ours(value) => {}
                Fate::SetCookie => {
                    let mapped = prefix.and_then(|it| path::map_cookie_path(value, it));
                    field(name, mapped.as_deref().unwrap_or(value));
                }
            }
        }
        if self.decision.issue {
            self.cookie(&mut field);
        }
        if self.snapshot.services[self.decision.service].spec.server_timing {
            field(b"server-timing", self.took.server_timing().as_bytes());
        }
    }

    fn is_ours(&self, set_cookie: &[u8]) -> bool {
        let AffinityBy::Cookie { name, .. } = &self.snapshot.services[self.decision.service].spec.affinity.by else {
            return false;
        };
        let set = set_cookie.split(|&b| b == b'=').next().unwrap_or_default();
        set.trim_ascii() == name.as_bytes()
    }

    /// The prefix that was taken off this request's path and has to come back.
    fn prefix(&self) -> Option<&str> {
        match self.decision.direct {
            Some(_) => edit(self.snapshot, self.decision).map(|(prefix, _)| prefix),
            None => match &self.snapshot.table.routes()[self.decision.route?].spec.rewrite {
                Rewrite::Strip(prefix) => Some(prefix),
                Rewrite::Keep | Rewrite::Replace { .. } => None,
            },
        }
    }

    fn location<'v>(&self, value: &'v [u8], prefix: &str) -> Cow<'v, [u8]> {
        let own = [self.head.authority(), self.authority];
        let mapped = std::str::from_utf8(value).ok().and_then(|text| path::map_back(text, &own, prefix));
        mapped.map_or(Cow::Borrowed(value), |text| Cow::Owned(text.into_bytes()))
    }

    /// The affinity cookie: for every path, out of reach of scripts, not sent by other sites' requests.
    fn cookie(&self, field: &mut impl FnMut(&[u8], &[u8])) {
        use std::fmt::Write;
        let service = &self.snapshot.services[self.decision.service];
        let (AffinityBy::Cookie { name, max_age }, Some(bucket)) = (&service.spec.affinity.by, self.decision.bucket)
        else {
            return;
        };
        let value = self.snapshot.keys.issue(&service.name, bucket, self.now.unix_s);
        let mut text = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax", value.as_str());
        if self.caller.https || service.spec.affinity.secure {
            text.push_str("; Secure");
        }
        if let Some(max_age) = max_age {
            let _ = write!(text, "; Max-Age={}", max_age.as_secs());
        }
        field(b"set-cookie", text.as_bytes());
    }
}

// === impl Took ===

impl Took {
    /// `Server-Timing` (W3C, Server Timing): what weir took and what the endpoint took, in milliseconds.
    #[cold]
    fn server_timing(&self) -> String {
        let all_us = self.began.elapsed().as_micros() as u64;
        let upstream_us = self.upstream_us.unwrap_or_default().min(all_us);
        let ms = |us: u64| us as f64 / 1000.0;
        format!("weir;dur={:.3}, endpoint;dur={:.3}", ms(all_us - upstream_us), ms(upstream_us))
    }
}
