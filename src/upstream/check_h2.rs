//! Probes over HTTP/2: a request and its status, or a question to the gRPC health service (grpc.health.v1).
//!
//! Each has a connection of its own, which ends with it.

use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::check::{Answer, CheckError, USER_AGENT};

/// The method that gRPC servers answer about their health.
const CHECK_PATH: &str = "/grpc.health.v1.Health/Check";

/// Longest answer of a health service that is read; one is seven bytes.
const ANSWER_BYTES_MAX: usize = 1024;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Who is asked for.
pub(super) struct Site {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// The authority.
    pub(super) host: String,
}

/// The answer to `GET path`, with so much of its body at most.
pub(super) async fn get<S>(stream: S, site: &Site, path: &str, body_max: usize) -> Result<Answer, CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::get(site.uri(path))
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .body(())
        .map_err(CheckError::Request)?;
    talk(stream, async |sender| {
        let (head, mut incoming) = ask(sender, request, None).await?.into_parts();
        let mut body = Vec::new();
        while body.len() < body_max {
            let Some(piece) = incoming.data().await else { break };
            let piece = piece.map_err(CheckError::Http2)?;
            let _ = incoming.flow_control().release_capacity(piece.len());
            body.extend_from_slice(&piece[..piece.len().min(body_max - body.len())]);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    })
    .await
}

/// Asks the health service about `service`; empty: about the whole server.
pub(super) async fn grpc<S>(stream: S, site: &Site, service: &str) -> Result<(), CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::post(site.uri(CHECK_PATH))
        .header("user-agent", USER_AGENT)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(CheckError::Request)?;
    let (head, message, trailers) = talk(stream, async |sender| {
        let (head, body) = ask(sender, request, Some(question(service))).await?.into_parts();
        let (message, trailers) = read(body).await?;
        Ok((head, message, trailers))
    })
    .await?;
    if head.status != 200 {
        return Err(CheckError::Status { got: head.status.as_u16(), expected: 200..=200 });
    }
    let code = code(&trailers).or_else(|| code(&head.headers));
    match (code, serving(&message)) {
        (Some(0), Some(SERVING)) => Ok(()),
        (Some(0), status) => Err(CheckError::NotServing(status.unwrap_or_default())),
        (code, _) => Err(CheckError::Grpc(code.unwrap_or(2))),
    }
}

// === impl Site ===

impl Site {
    fn uri(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.host)
    }
}

/// Runs `exchange` over a connection.
async fn talk<S, T>(
    stream: S,
    exchange: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<T, CheckError>,
) -> Result<T, CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = h2::client::handshake(stream).await.map_err(CheckError::Http2)?;
    let (mut exchange, connection) = (pin!(exchange(sender)), pin!(connection));
    tokio::select! {
        biased; // An answer that is there counts, also when the connection has ended with it.
        answer = &mut exchange => answer,
        _ended = connection => exchange.await,
    }
}

async fn ask(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
) -> Result<Response<RecvStream>, CheckError> {
    let mut sender = sender.ready().await.map_err(CheckError::Http2)?;
    let (answer, mut stream) = sender.send_request(request, body.is_none()).map_err(CheckError::Http2)?;
    if let Some(body) = body {
        stream.send_data(body, true).map_err(CheckError::Http2)?;
    }
    answer.await.map_err(CheckError::Http2)
}

async fn read(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), CheckError> {
    let mut message = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(CheckError::Http2)?;
        let _ = body.flow_control().release_capacity(piece.len());
        if message.len() + piece.len() > ANSWER_BYTES_MAX {
            break;
        }
        message.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.map_err(CheckError::Http2)?;
    Ok((message, trailers.unwrap_or_default()))
}

fn code(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckRequest { service }` as one gRPC message: a flag, a length, and protobuf field 1.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// `HealthCheckResponse.status` of one gRPC message. None: it is no such message.
fn serving(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || length as usize != message.len() {
        return None;
    }
    match message {
        // protobuf leaves a field of value 0 (UNKNOWN) out.
        [] => Some(0),
        [0x08, status] if *status < 0x80 => Some(u64::from(*status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_grpc_message() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(&question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_is_serving() {
        for (message, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 9, 8, 1], None),
            (&[0, 0, 0, 0, 2, 9, 1], None),
            (&[0, 0], None),
        ] {
            assert_eq!(serving(message), status, "{message:?}");
        }
    }
}
