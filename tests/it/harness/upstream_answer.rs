//! How a test upstream acts out a [`Behaviour`] once the request has been read in full.

use std::io;
use std::net::Shutdown;

use super::behaviour::{Behaviour, Reply, Then};
use super::wire::Wire;

/// Writes what the behaviour says and returns what happens to the connection.
pub fn answer(wire: &mut Wire, name: &str, behaviour: &Behaviour, method: &str, body: Vec<u8>) -> io::Result<Then> {
    match behaviour {
        // A choice was made when the request came.
        Behaviour::Answer | Behaviour::Chosen(_) => reply(wire, name, &Reply::status(200), method),
        Behaviour::Reply(shape) => reply(wire, name, shape, method),
        Behaviour::Echo | Behaviour::NoContinue => {
            write_head(wire, name, &format!("content-length: {}\r\n", body.len()))?;
            wire.write(&body)?;
            Ok(Then::Keep)
        }
        Behaviour::Late(time) => {
            std::thread::sleep(*time);
            reply(wire, name, &Reply::status(200), method)
        }
        Behaviour::Raw(bytes, then) | Behaviour::Early(bytes, then) => {
            wire.write(bytes)?;
            Ok(*then)
        }
        Behaviour::ResetAfterHead => Ok(Then::Reset),
        Behaviour::ResetInsideHead => {
            wire.write(b"HTTP/1.1 200 OK\r\nx-upst")?;
            Ok(Then::Reset)
        }
        Behaviour::StallBeforeHead => Ok(Then::Hold),
        Behaviour::StallMidBody { sent, of } => {
            part(wire, name, *sent, *of)?;
            Ok(Then::Hold)
        }
        Behaviour::ResetMidBody { sent, of } => {
            part(wire, name, *sent, *of)?;
            // The reset discards what the peer has not read yet, so the part is given a moment to arrive.
            std::thread::sleep(std::time::Duration::from_millis(30));
            Ok(Then::Reset)
        }
        Behaviour::CutChunk => {
            write_head(wire, name, "transfer-encoding: chunked\r\n")?;
            wire.write(b"400\r\nonly the beginning of a kilobyte")?;
            Ok(Then::Close)
        }
        Behaviour::HalfClose => {
            wire.stream().shutdown(Shutdown::Write)?;
            Ok(Then::Hold)
        }
        Behaviour::SlowBody { pieces, piece, pause } => {
            write_head(wire, name, &format!("content-length: {}\r\n", pieces * piece))?;
            for _ in 0..*pieces {
                wire.write(&vec![b's'; *piece])?;
                std::thread::sleep(*pause);
            }
            Ok(Then::Keep)
        }
        Behaviour::Large(bytes) => {
            write_head(wire, name, &format!("content-length: {bytes}\r\n"))?;
            let block = vec![b'l'; 64 * 1024];
            let mut left = *bytes;
            while left > 0 {
                let now = left.min(block.len() as u64);
                wire.write(&block[..now as usize])?;
                left -= now;
            }
            Ok(Then::Keep)
        }
    }
}

/// An ordinary answer with the upstream's name in a field and, unless a body is given, in the body.
pub fn reply(wire: &mut Wire, name: &str, shape: &Reply, method: &str) -> io::Result<Then> {
    let body = match (shape.body.is_empty(), shape.status) {
        (true, 204 | 304) => Vec::new(),
        (true, _) => format!("{name}\n").into_bytes(),
        (false, _) => shape.body.clone(),
    };
    let mut head = format!("HTTP/1.1 {} Said\r\nx-upstream: {name}\r\n", shape.status);
    for (field, value) in &shape.fields {
        head.push_str(&format!("{field}: {value}\r\n"));
    }
    if !matches!(shape.status, 204 | 304) {
        head.push_str(&format!("content-type: text/plain\r\ncontent-length: {}\r\n", body.len()));
    }
    let mut bytes = format!("{head}\r\n").into_bytes();
    if method != "HEAD" {
        bytes.extend_from_slice(&body);
    }
    wire.write(&bytes)?;
    Ok(Then::Keep)
}

fn write_head(wire: &mut Wire, name: &str, framing: &str) -> io::Result<()> {
    wire.write(format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\n{framing}\r\n").as_bytes())
}

fn part(wire: &mut Wire, name: &str, sent: usize, of: usize) -> io::Result<()> {
    write_head(wire, name, &format!("content-length: {of}\r\n"))?;
    wire.write(&vec![b'p'; sent])
}
