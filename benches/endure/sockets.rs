//! Clients of WebSockets, over HTTP/1.1 and HTTP/2 (RFC 8441): each message comes back, and then both sides close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::Stage;
use super::faults::Kind;
use super::ledger::Failure;
use super::link::{Addresses, Body, Link, NAME, Way};

/// Messages of one socket.
const MESSAGES: usize = 40;

/// Time from one to the next.
const BETWEEN: Duration = Duration::from_millis(25);

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What no mask leaves as it is.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

const CLIENTS: [(&str, Way, usize); 4] = [
    ("WebSocket, HTTP/1.1", Way::Http1, 4),
    ("WebSocket, HTTP/1.1 over TLS", Way::Http1Tls, 4),
    ("WebSocket, h2c", Way::Http2, 4),
    ("WebSocket, HTTP/2 over TLS", Way::Http2Tls, 4),
];

pub(crate) fn start(stage: &Arc<Stage>, to: Addresses) -> Vec<JoinHandle<()>> {
    let all = CLIENTS.into_iter().flat_map(|(key, way, count)| (0..count).map(move |_| (key, way)));
    all.map(|(key, way)| tokio::spawn(run(Arc::clone(stage), key, way, to))).collect()
}

async fn run(stage: Arc<Stage>, key: &'static str, way: Way, to: Addresses) {
    while !stage.is_over() {
        let began = Instant::now();
        if let Some(how) = one(&stage, way, to).await {
            stage.ledger.book(key, Kind::Once, &stage.faults, began, how);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn one(stage: &Stage, way: Way, to: Addresses) -> Option<Result<(), Failure>> {
    let mut link = match Link::open(way, to, &stage.site.client_tls).await {
        Ok(link) => link,
        Err(failure) => return Some(Err(failure)),
    };
    let request = Request::builder().uri(format!("http://{NAME}/ws")).header("sec-websocket-version", "13");
    let (request, granted) = match way {
        Way::Http1 | Way::Http1Tls => {
            let request = request.header("host", NAME).header("connection", "upgrade").header("upgrade", "websocket");
            (request.header("sec-websocket-key", KEY), 101)
        }
        Way::Http2 | Way::Http2Tls => {
            // Whether the peer takes it stands in its SETTINGS, which come with its first answer at the latest.
            if let Err(failure) = settled(&mut link).await? {
                return Some(Err(failure));
            }
            (request.method(Method::CONNECT).extension(Protocol::from_static("websocket")), 200)
        }
    };
    let answer = match link.send(request.body(Body::empty()).expect("a request")).await? {
        Ok(answer) => answer,
        Err(failure) => return Some(Err(failure)),
    };
    let status = answer.status().as_u16();
    if status != granted {
        return Some(Err(Failure::status(status)));
    }
    Some(match hyper::upgrade::on(answer).await {
        Ok(stream) => talk(TokioIo::new(stream)).await,
        Err(error) => Err(error.into()),
    })
}

/// Asks for a short answer first.
async fn settled(link: &mut Link) -> Option<Result<(), Failure>> {
    let request = Request::get(format!("http://{NAME}/small")).body(Body::empty()).expect("a request");
    Some(link.send(request).await?.map(drop))
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    for number in 0..MESSAGES {
        let text = format!("message {number:03}");
        stream.write_all(&frame(0x81, text.as_bytes(), true)).await?;
        stream.flush().await?;
        let (opcode, heard) = hear(&mut stream, false).await?;
        if (opcode, &heard[..]) != (0x81, text.as_bytes()) {
            let code = heard.first_chunk().map(|&code| u16::from_be_bytes(code));
            return Err(Failure { status: None, what: format!("frame {opcode:#x}, {code:?} instead of {text}") });
        }
        tokio::time::sleep(BETWEEN).await;
    }
    stream.write_all(&frame(0x88, &1000_u16.to_be_bytes(), true)).await?;
    stream.flush().await?;
    let (opcode, heard) = hear(&mut stream, false).await?;
    match (opcode, &heard[..]) {
        (0x88, [3, 0xe8]) => Ok(()),
        other => Err(Failure { status: None, what: format!("not a Close: {other:?}") }),
    }
}

/// A frame with a payload of at most 125 bytes.
pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut frame = vec![first, payload.len() as u8 | if masked { 0x80 } else { 0 }];
    match masked {
        true => {
            frame.extend(MASK);
            frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
        false => frame.extend(payload),
    }
    frame
}

/// The next frame, of at most 125 bytes: its first byte and its payload, unmasked.
pub(crate) async fn hear(stream: &mut (impl AsyncRead + Unpin), masked: bool) -> Result<(u8, Vec<u8>), Failure> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut mask = [0; 4];
    if masked {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0], payload))
}
