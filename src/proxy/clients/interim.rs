//! Interim answers (1xx) on their way down. 101 is none of them: it ends HTTP on its connection.
//!
//! RFC 9110 §15.2: a proxy forwards what it did not ask for itself. What they mean (`100`: send the body, `103`: fetch
//! these meanwhile) is between endpoint and client.

use std::time::Duration;

use crate::proxy::h1::response::{self, Fate, Response};
use crate::proxy::http2::error::Error;
use crate::proxy::http2::server::Respond;

/// How long an endpoint may keep a client waiting for `100 Continue` before weir says it: curl's own patience. An
/// endpoint may know nothing of expectations, and a client may wait for ever.
pub(crate) const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The `100 Continue` that weir says itself.
pub(crate) fn own_continue() -> Option<(Response, &'static [u8])> {
    let parsed = response::parse(CONTINUE, false, Vec::new()).ok()?;
    parsed.ok().map(|interim| (interim, CONTINUE))
}

/// Whether a field of an interim answer passes. Cookies are for final answers, and a body there is none.
fn passes(fate: Fate) -> bool {
    matches!(fate, Fate::Copy | Fate::Location)
}

/// Appends it as HTTP/1.1.
pub(crate) fn push_interim(interim: &Response, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&bytes[interim.status_line.range()]);
    out.extend_from_slice(b"\r\n");
    for line in interim.lines.iter().filter(|line| passes(line.fate)) {
        out.extend_from_slice(&bytes[line.name.range()]);
        out.extend_from_slice(b": ");
        out.extend_from_slice(&bytes[line.value.range()]);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Sends it on a stream of HTTP/2.
pub(crate) fn send_interim(interim: &Response, bytes: &[u8], respond: &mut Respond) -> Result<(), Error> {
    let passing = interim.lines.iter().filter(|line| passes(line.fate));
    let named: Vec<(Vec<u8>, &[u8])> =
        passing.map(|line| (bytes[line.name.range()].to_ascii_lowercase(), &bytes[line.value.range()])).collect();
    respond.send_informational(interim.status, named.iter().map(|(name, value)| (&name[..], *value)))
}
