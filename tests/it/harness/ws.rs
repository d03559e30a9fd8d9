//! WebSockets as far as tests need them: frames by hand, and a server that echoes them and remembers how each ended.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use sha1::{Digest, Sha1};

use super::upstream::own_address;
use super::wire::{Head, Wire};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A last frame; masked as clients do.
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..=125 => frame.push(mask | n as u8),
        n @ 126..=0xffff => frame.extend([&[mask | 126][..], &(n as u16).to_be_bytes()].concat()),
        n => frame.extend([&[mask | 127][..], &(n as u64).to_be_bytes()].concat()),
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    if masked {
        frame.extend(key);
    }
    frame.extend(payload.iter().enumerate().map(|(i, byte)| if masked { byte ^ key[i % 4] } else { *byte }));
    frame
}

/// The next frame: opcode and unmasked payload. It has to be masked or not, as said.
pub fn read_frame(wire: &mut Wire, masked: bool) -> io::Result<(u8, Vec<u8>)> {
    let mut read = |count: u64| {
        let mut bytes = Vec::new();
        wire.exactly(count, &mut bytes).map(|()| bytes)
    };
    let head = read(2)?;
    if (head[1] & 0x80 != 0) != masked {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the mask is not as it should be"));
    }
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let length = match head[1] & 0x7f {
        126 => number(read(2)?),
        127 => number(read(8)?),
        short => u64::from(short),
    };
    let key = if masked { read(4)? } else { vec![0; 4] };
    let payload = read(length)?;
    Ok((head[0] & 0x0f, payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()))
}

/// What a server answers a key with (RFC 6455 §4.2.2).
pub fn accept(key: &str) -> String {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// A server. Its threads end with their connections.
#[derive(Debug)]
pub struct WsUpstream {
    name: String,
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    heads: Vec<Head>,
    open: usize,
    /// How each connection ended: the code of a Close frame, or what went wrong.
    ended: Vec<Result<u16, String>>,
    wrong: bool,
}

impl WsUpstream {
    pub fn named(name: &str) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (its, its_name) = (Arc::clone(&shared), name.to_owned());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (shared, name) = (Arc::clone(&its), its_name.clone());
                std::thread::spawn(move || serve(stream, &name, &shared));
            }
        });
        Self { name: name.to_owned(), address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on what it accepts a key with is wrong.
    pub fn answer_wrongly(&self) {
        self.shared.lock().expect("no panic").wrong = true;
    }

    /// Requests to become a WebSocket that it got.
    pub fn heads(&self) -> Vec<Head> {
        self.shared.lock().expect("no panic").heads.clone()
    }

    /// Sockets that are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().expect("no panic").open
    }

    /// How those that ended did.
    pub fn ended(&self) -> Vec<Result<u16, String>> {
        self.shared.lock().expect("no panic").ended.clone()
    }
}

fn serve(stream: TcpStream, name: &str, shared: &Mutex<Shared>) {
    let mut wire = Wire::new(stream);
    wire.patience(Duration::from_secs(60));
    let Ok(Some(head)) = wire.head() else { return };
    let key = head.field("sec-websocket-key").unwrap_or_default().to_owned();
    let refused = head.start.contains("/refused") || head.field("upgrade").is_none();
    let protocol = head.field("sec-websocket-protocol").map(|it| format!("sec-websocket-protocol: {it}\r\n"));
    let wrong = {
        let mut shared = shared.lock().expect("no panic");
        shared.heads.push(head);
        shared.open += usize::from(!refused);
        shared.wrong
    };
    if refused {
        let text = format!("HTTP/1.1 403 Forbidden\r\nx-upstream: {name}\r\nContent-Length: 4\r\n\r\nno!\n");
        let _ = wire.write(text.as_bytes());
        return;
    }
    let accept = if wrong { accept("another") } else { accept(&key) };
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nx-upstream: {name}\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
        protocol.unwrap_or_default()
    );
    let ended = wire.write(switch.as_bytes()).and_then(|()| echo(&mut wire)).map_err(|error| error.to_string());
    let mut shared = shared.lock().expect("no panic");
    shared.open -= 1;
    shared.ended.push(ended);
}

/// Sends messages back, answers pings and a Close frame, whose code it is.
fn echo(wire: &mut Wire) -> io::Result<u16> {
    loop {
        match read_frame(wire, true)? {
            (CLOSE, payload) => {
                wire.write(&frame(CLOSE, &payload, false))?;
                return Ok(payload.first_chunk().map_or(1005, |&code| u16::from_be_bytes(code)));
            }
            (PING, payload) => wire.write(&frame(PONG, &payload, false))?,
            (opcode, payload) => wire.write(&frame(opcode, &payload, false))?,
        }
    }
}
