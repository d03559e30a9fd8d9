//! What HTTP/2 demands of a peer, and what weir says to one that does otherwise: tables of frames, of compressed heads,
//! and of requests, over cleartext and over TLS.

mod compression;
mod endpoints;
mod framing;
mod requests;

use std::time::Duration;

use crate::harness::frames::{PREFACE, Raw, SETTINGS, frame, get};
use crate::harness::{Behaviour, Issued, Setup, Tls, Upstream, Weir};

/// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// An error of the connection: GOAWAY with this code, and the end.
    Connection(u32),
    /// An error of stream 1: it is reset with this code, and the connection goes on.
    Stream(u32),
    /// Stream 1 gets an answer with this status, and the connection goes on.
    Answer(u16),
    /// Nothing: the connection goes on.
    Nothing,
    /// The end without a word.
    Closed,
}

use Fate::{Answer, Closed, Connection, Nothing, Stream};

/// Why weir says something else than the RFC names, where it does.
#[derive(Debug, Clone, Copy)]
enum Unlike {
    /// "An endpoint MAY choose to treat a stream error as a connection error" (RFC 9113 §5.4.1): weir does, where a
    /// frame is of no length that it may have, or a field holds bytes that none may hold.
    Stricter(Fate),
    /// weir explains itself rather than resetting the stream: §8.1.1 allows an answer before the stream is closed.
    Explained(u16),
    /// weir leaves out what should not be there before anything else sees it, so that it is matched and forwarded
    /// without.
    Dropped(u16),
}

use Unlike::{Dropped, Explained, Stricter};

/// A row: the section, what a client does, what it sends, and what the RFC names; and what weir does, if that differs.
struct Row {
    section: &'static str,
    what: &'static str,
    send: Vec<u8>,
    named: Fate,
    unlike: Option<Unlike>,
}

fn row(section: &'static str, what: &'static str, send: Vec<u8>, named: Fate) -> Row {
    Row { section, what, send, named, unlike: None }
}

impl Row {
    fn but(self, unlike: Unlike) -> Self {
        Self { unlike: Some(unlike), ..self }
    }

    fn fate(&self) -> Fate {
        match self.unlike {
            None => self.named,
            Some(Stricter(fate)) => fate,
            Some(Explained(status) | Dropped(status)) => Answer(status),
        }
    }
}

/// Where rows are tried.
struct House {
    stable: Upstream,
    weir: Weir,
    tls: Tls,
}

impl House {
    fn new() -> Self {
        let stable = Upstream::named("stable");
        // Answers come late, so that streams are open meanwhile.
        stable.behave_on("/late", Behaviour::Late(Duration::from_millis(400)));
        let site = Issued::for_names(&["test"]);
        let setup = Setup::single(&stable)
            .table("health", "kind = \"off\"")
            .listener("secure", "")
            .text("[listeners.secure.tls]\ncertificates = [{ cert = \"site.crt\", key = \"site.key\" }]")
            .text("[limits]\nstreams_max = 10")
            .file("site.crt", &site.cert)
            .file("site.key", &site.key);
        Self { weir: setup.start(), stable, tls: Tls::of("test") }
    }

    fn strangers(&self) -> [Raw; 2] {
        [Raw::stranger(self.weir.address()), Raw::stranger_over(self.weir.listener("secure"), &self.tls)]
    }

    /// Tries every row both ways, and names all that come out otherwise.
    #[track_caller]
    fn run(&self, rows: &[Row]) {
        let mut wrong = Vec::new();
        for row in rows {
            for (client, way) in self.strangers().into_iter().zip(["cleartext", "TLS"]) {
                let mut client = client.greet(b"");
                let _ = client.send(&row.send);
                if let Err(found) = judge(&mut client, row.fate()) {
                    wrong.push(format!("{} {} ({way}): wanted {:?}, {found}", row.section, row.what, row.fate()));
                }
            }
            let next = self.weir.client().get("/next");
            assert_eq!((next.status, next.upstream()), (200, "stable"), "the next client after {}", row.what);
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * rows.len(), wrong.join("\n"));
        assert_eq!(self.stable.complaints(), Vec::<String>::new());
    }
}

/// Whether that became of it; what else, if not.
fn judge(client: &mut Raw, fate: Fate) -> Result<(), String> {
    const SOON: Duration = Duration::from_secs(5);
    let mine = |resets: &[(u32, u32)]| resets.iter().find(|(stream, _)| *stream == 1).map(|(_, code)| *code);
    let sound = match fate {
        Connection(code) => {
            client.listen(SOON, |_| false);
            client.reaction.closed && client.reaction.goaway.as_ref().map(|(it, _)| *it) == Some(code)
        }
        Closed => client.listen(SOON, |_| false).closed && client.reaction.goaway.is_none(),
        Stream(code) => {
            client.listen(SOON, |reaction| mine(&reaction.resets).is_some());
            mine(&client.reaction.resets) == Some(code) && client.is_alive(SOON)
        }
        Answer(status) => {
            client.listen(SOON, |reaction| reaction.answers.iter().any(|(stream, _)| *stream == 1));
            client.reaction.answers.contains(&(1, status)) && client.is_alive(SOON)
        }
        Nothing => {
            let alive = client.is_alive(SOON) && client.reaction.resets.is_empty();
            let _ = client.send(&get(1_001, "/"));
            client.listen(SOON, |reaction| !reaction.answers.is_empty());
            alive && client.reaction.answers.contains(&(1_001, 200))
        }
    };
    if sound { Ok(()) } else { Err(format!("{:?}", client.reaction)) }
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let house = House::new();
    let hello = |rest: &[u8]| [PREFACE, rest].concat();
    let almost = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec();
    for (what, send, fate) in [
        ("another frame than SETTINGS", hello(&get(1, "/")), Connection(PROTOCOL_ERROR)),
        ("SETTINGS that acknowledge", hello(&frame(SETTINGS, 1, 0, b"")), Connection(PROTOCOL_ERROR)),
        // "A GOAWAY frame MAY be omitted in this case, since an invalid preface indicates that the peer is not using
        // HTTP/2" (§3.4); over cleartext the answer is HTTP/1's.
        ("a preface that is none", almost, Closed),
    ] {
        for (mut client, way) in house.strangers().into_iter().zip(["cleartext", "TLS"]) {
            if fate == Closed && way == "cleartext" {
                continue;
            }
            let _ = client.send(&send);
            let judged = judge(&mut client, fate);
            assert!(judged.is_ok(), "§3.4 {what} ({way}): wanted {fate:?}, {judged:?}");
        }
    }
}
