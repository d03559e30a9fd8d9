//! TLS in front of the servers of this stage: an endpoint that speaks `https`, and misbehaves in its handshakes on cue.
//! What comes over a connection goes on, decrypted, to the server of the protocol that was agreed on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::h2_upstream::H2Upstream;
use super::tls::Issued;
use super::upstream::{Upstream, own_address};

/// What it does with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It shakes hands.
    Serve,
    /// It reads and says nothing.
    Stall,
    /// It closes after the client's first words.
    Close,
    /// It answers in plain HTTP.
    Plain,
}

/// A handshake that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaken {
    /// The name that was asked for (SNI).
    pub name: Option<String>,
    /// The protocol that was agreed on (ALPN).
    pub alpn: Option<String>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The certificate that the client showed, DER.
    pub certificate: Option<Vec<u8>>,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    config: Arc<ServerConfig>,
    shaken: Vec<Shaken>,
    accepted: u64,
}

/// The front. Gone on drop.
#[derive(Debug)]
pub struct TlsFront {
    state: Arc<Mutex<State>>,
    over: Arc<Notify>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// Where decrypted bytes go.
#[derive(Debug, Clone, Copy)]
struct Behind {
    http1: Option<SocketAddr>,
    http2: Option<SocketAddr>,
}

impl TlsFront {
    /// In front of a server of HTTP/1, which is the only version that it agrees on.
    pub fn http1(upstream: &Upstream, own: &Issued) -> Self {
        Self::start(Behind { http1: Some(upstream.address()), http2: None }, own, &["http/1.1"])
    }

    /// In front of a server of HTTP/2, which is the only version that it agrees on.
    pub fn http2(upstream: &H2Upstream, own: &Issued) -> Self {
        Self::start(Behind { http1: None, http2: Some(upstream.address()) }, own, &["h2"])
    }

    /// In front of both.
    pub fn both(http1: &Upstream, http2: &H2Upstream, own: &Issued) -> Self {
        let behind = Behind { http1: Some(http1.address()), http2: Some(http2.address()) };
        Self::start(behind, own, &["h2", "http/1.1"])
    }

    fn start(behind: Behind, own: &Issued, alpn: &[&str]) -> Self {
        let state = State { manner: Manner::Serve, config: config(own, None, alpn), shaken: Vec::new(), accepted: 0 };
        let (state, over) = (Arc::new(Mutex::new(state)), Arc::new(Notify::new()));
        let listener = std::net::TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (its, ends) = (Arc::clone(&state), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let accepting = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream, Arc::clone(&its), behind));
                    }
                };
                tokio::select! {
                    biased;
                    () = ends.notified() => {}
                    () = accepting => {}
                }
            });
        });
        Self { state, over, address, thread: Some(thread) }
    }

    /// Its address as an endpoint of a pool.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections are treated so.
    pub fn behave(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// From now on it shows this certificate, agrees on these protocols (ALPN), and wants a certificate of this
    /// authority (PEM). Sessions from before cannot be resumed.
    pub fn become_(&self, own: &Issued, alpn: &[&str], client_ca: Option<&str>) {
        self.lock().config = config(own, client_ca, alpn);
    }

    /// Every handshake that came to its end.
    pub fn shaken(&self) -> Vec<Shaken> {
        self.lock().shaken.clone()
    }

    /// How many connections were taken.
    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no helper thread panicked while it held the state")
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.over.notify_one();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a front panicked");
        }
    }
}

fn config(own: &Issued, client_ca: Option<&str>, alpn: &[&str]) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions of the provider");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
            roots.add(root).expect("it can be an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    let chain = vec![CertificateDer::from(own.der.clone())];
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, behind: Behind) {
    let (manner, config) = {
        let mut state = state.lock().expect("nobody panicked");
        state.accepted += 1;
        (state.manner, state.config.clone())
    };
    let _ = stream.set_nodelay(true);
    let mut waste = [0; 4096];
    match manner {
        Manner::Serve => {}
        Manner::Stall => {
            while stream.read(&mut waste).await.is_ok_and(|n| n > 0) {}
            return;
        }
        Manner::Close => {
            let _ = stream.read(&mut waste).await;
            return;
        }
        Manner::Plain => {
            let _ = stream.read(&mut waste).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
    }
    // A client that does not like what it is shown has ended it.
    let Ok(mut tls) = TlsAcceptor::from(config).accept(stream).await else { return };
    let shaken = {
        let tls = tls.get_ref().1;
        Shaken {
            name: tls.server_name().map(str::to_owned),
            alpn: tls.alpn_protocol().map(|it| String::from_utf8_lossy(it).into_owned()),
            resumed: tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            certificate: tls.peer_certificates().map(|chain| chain[0].to_vec()),
        }
    };
    let to = if shaken.alpn.as_deref() == Some("h2") { behind.http2 } else { behind.http1 };
    state.lock().expect("nobody panicked").shaken.push(shaken);
    let Some(to) = to else { return };
    let Ok(mut upstream) = TcpStream::connect(to).await else { return };
    let _ = upstream.set_nodelay(true);
    // Either side may go at any time.
    let _ = copy_bidirectional(&mut tls, &mut upstream).await;
}
