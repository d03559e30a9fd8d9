//! An ACME authority (RFC 8555) that a test plays: over HTTPS on loopback, with roots of its own, and with faults on
//! cue. It looks at names as a real one does: by connecting to the listeners that it is told of.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tls::{Authority, Tls};
use super::upstream::own_address;

/// How long it waits until it is told where weir listens, and for an answer there.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it does.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Connections are closed before a word is said, and those that are open at the next request.
    pub down: bool,
    /// So many requests are refused with `badNonce`.
    pub bad_nonces: u32,
    /// New orders are refused with `rateLimited`, and this in `Retry-After`.
    pub rate_limited: Option<u64>,
    /// Names that are looked at and refused.
    pub refused: BTreeSet<String>,
    /// Names are looked at only when this is over.
    pub hesitates: bool,
    /// Orders are being processed for as long as this stands; with seconds, that is in `Retry-After`.
    pub slow: Option<Option<u64>>,
    /// Seconds that a certificate is valid for, and how many of them are past.
    pub lifetime: (u64, u64),
    /// When it would like certificates to be renewed, in seconds from now; none: it does not say.
    pub suggests: Option<(i64, i64)>,
    /// Certificates are issued for another name.
    pub wrong_name: bool,
    /// Accounts are made only with this key id and key.
    pub external: Option<(String, Vec<u8>)>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            down: false,
            bad_nonces: 0,
            rate_limited: None,
            refused: BTreeSet::new(),
            hesitates: false,
            slow: None,
            lifetime: (90 * 86_400, 0),
            suggests: None,
            wrong_name: false,
            external: None,
        }
    }
}

#[derive(Default)]
struct State {
    manners: Manners,
    /// Where names are looked at: plain HTTP, and TLS.
    at: Option<(SocketAddr, SocketAddr)>,
    nonces: BTreeSet<String>,
    serial: u64,
    /// Thumbprints of account keys, by address of the account.
    accounts: BTreeMap<String, String>,
    orders: BTreeMap<u64, Order>,
    asked: Vec<String>,
    looks: Vec<String>,
    /// What orders said that they replace.
    replaced: Vec<String>,
}

struct Order {
    name: String,
    account: String,
    token: String,
    status: &'static str,
    error: Option<Value>,
    chain: Option<String>,
}

/// The authority. Gone on drop.
pub struct AcmeServer {
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    address: SocketAddr,
    root: String,
    thread: Option<JoinHandle<()>>,
}

/// An answer: status, fields, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl AcmeServer {
    /// One that does everything right.
    pub fn start() -> Self {
        let own = Authority::new();
        let listener = TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shown = own.issue_for(&[&address.ip().to_string()]);
        let chain = vec![CertificateDer::from(shown.der.clone())];
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions of the provider");
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair"));
        let issuer = Arc::new(issuer());
        let (state, over) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (its, ends) = (Arc::clone(&state), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (state, config, issuer) = (Arc::clone(&its), Arc::clone(&config), Arc::clone(&issuer));
                std::thread::spawn(move || {
                    if !lock(&state).manners.down {
                        let _ = converse(stream, address, config, &state, &issuer);
                    }
                });
            }
        });
        Self { state, over, address, root: own.pem(), thread: Some(thread) }
    }

    /// Its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/directory", self.address)
    }

    /// What its own certificate is of, PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Names are served there from now on: plain HTTP, and TLS. Until then it waits before it looks.
    pub fn looks_at(&self, http: SocketAddr, tls: SocketAddr) {
        lock(&self.state).at = Some((http, tls));
    }

    /// From now on it does otherwise.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut lock(&self.state).manners);
    }

    /// It forgets every account.
    pub fn forget_accounts(&self) {
        lock(&self.state).accounts.clear();
    }

    /// How many requests of that kind came: `new-order`, `new-account`, `finalize`, ...
    pub fn asked(&self, kind: &str) -> usize {
        lock(&self.state).asked.iter().filter(|own| own.split('/').nth(1) == Some(kind)).count()
    }

    /// What orders said that they replace.
    pub fn replaced(&self) -> Vec<String> {
        lock(&self.state).replaced.clone()
    }

    /// What it saw when it looked at names.
    pub fn looks(&self) -> Vec<String> {
        lock(&self.state).looks.clone()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "an authority panicked");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no helper thread panicked while it held the state")
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "issuer");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// Serves one connection until the client has had enough.
fn converse(
    stream: TcpStream,
    own: SocketAddr,
    config: Arc<ServerConfig>,
    state: &Arc<Mutex<State>>,
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).expect("a server can be configured");
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body)?;
        if lock(state).manners.down {
            return Ok(());
        }
        let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
        assert!(head.contains("user-agent: weir/"), "RFC 8555 §6.1: {head}");
        lock(state).asked.push(path.clone());
        let (status, mut fields, body) = answer(&path, &body, own, state, issuer);
        let nonce = {
            let mut state = lock(state);
            state.serial += 1;
            let nonce = format!("nonce-{}", state.serial);
            state.nonces.insert(nonce.clone());
            nonce
        };
        fields.push(("replay-nonce", nonce));
        let mut text = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
        fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str("\r\n");
        let out = stream.get_mut();
        out.write_all(text.as_bytes())?;
        // Only a HEAD has no body, and this one has none anyhow.
        out.write_all(&body)?;
        out.flush()?;
    }
}

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    (status, vec![("content-type", "application/problem+json".into())], body.to_string().into_bytes())
}

fn said(status: u16, value: &Value) -> Answer {
    (status, vec![("content-type", "application/json".into())], value.to_string().into_bytes())
}

/// What is asked for without a signature.
fn unsigned(path: &str, own: SocketAddr, state: &Mutex<State>) -> Option<Answer> {
    let url = |path: &str| format!("https://{own}{path}");
    match path {
        "/directory" => {
            let mut all = json!({
                "newNonce": url("/new-nonce"), "newAccount": url("/new-account"), "newOrder": url("/new-order"),
                "revokeCert": url("/revoke"), "keyChange": url("/key-change"), "meta": {},
            });
            if lock(state).manners.suggests.is_some() {
                all["renewalInfo"] = url("/renewal-info").into();
            }
            Some(said(200, &all))
        }
        path if path.starts_with("/renewal-info/") => {
            let (start, end) = lock(state).manners.suggests.expect("it says so");
            let at = |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
            let window = json!({ "suggestedWindow": { "start": at(start), "end": at(end) } });
            let (status, mut fields, body) = said(200, &window);
            fields.push(("retry-after", "21600".into()));
            Some((status, fields, body))
        }
        "/new-nonce" => Some((200, Vec::new(), Vec::new())),
        _ => None,
    }
}

fn answer(
    path: &str,
    body: &[u8],
    own: SocketAddr,
    state: &Arc<Mutex<State>>,
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> Answer {
    if let Some(answer) = unsigned(path, own, state) {
        return answer;
    }
    let url = |path: &str| format!("https://{own}{path}");
    let jws: Value = serde_json::from_slice(body).expect("a POST is a JWS");
    let part = |name: &str| {
        let text = jws[name].as_str().expect("a JWS has three parts");
        BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let protected: Value = serde_json::from_slice(&part("protected")).expect("JSON");
    assert_eq!(protected["url"].as_str(), Some(&*url(path)), "RFC 8555 §6.4");
    let payload: Value = serde_json::from_slice(&part("payload")).unwrap_or(Value::Null);
    let mut locked = lock(state);
    let fresh = locked.nonces.remove(protected["nonce"].as_str().unwrap_or_default());
    if !fresh || locked.manners.bad_nonces > 0 {
        locked.manners.bad_nonces = locked.manners.bad_nonces.saturating_sub(1);
        return problem(400, "badNonce", "another one, please");
    }
    if path == "/new-account" {
        return new_account(&mut locked, &protected["jwk"], &payload, own);
    }
    let account = protected["kid"].as_str().unwrap_or_default().to_owned();
    if !locked.accounts.contains_key(&account) {
        return problem(400, "accountDoesNotExist", "who are you?");
    }
    if path == "/new-order" {
        return new_order(&mut locked, account, &payload, own);
    }
    let mut parts = path[1..].split('/');
    let (kind, id) = (parts.next().unwrap_or_default(), parts.next().and_then(|id| id.parse().ok()).unwrap_or(0));
    if !locked.orders.contains_key(&id) {
        return problem(404, "malformed", "no such thing");
    }
    match kind {
        "challenge" => {
            drop(locked);
            let (state, tls) = (Arc::clone(state), parts.next() == Some("tls"));
            std::thread::spawn(move || look(&state, id, tls));
            said(200, &json!({ "type": "http-01", "url": url(path), "status": "processing", "token": "t" }))
        }
        "finalize" => {
            let csr = BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().expect("a CSR")).expect("base64url");
            let chain = issue(&csr, &locked, id, issuer);
            let order = locked.orders.get_mut(&id).expect("it is there");
            assert_eq!(order.status, "ready");
            (order.status, order.chain) = ("processing", Some(chain));
            processed(&mut locked, id, own)
        }
        "order" => processed(&mut locked, id, own),
        "authorization" => said(200, &authorization(&locked.orders[&id], id, own)),
        "certificate" => {
            let chain = locked.orders[&id].chain.clone().expect("it is valid");
            (200, vec![("content-type", "application/pem-certificate-chain".into())], chain.into_bytes())
        }
        other => panic!("nobody asks for {other}"),
    }
}

/// An order as it is now; one that was being processed is done unless it is to take longer.
fn processed(state: &mut State, id: u64, own: SocketAddr) -> Answer {
    let slow = state.manners.slow;
    let order = state.orders.get_mut(&id).expect("it is there");
    if order.status == "processing" && slow.is_none() {
        order.status = "valid";
    }
    let (status, mut fields, body) = said(200, &shown(order, id, own));
    if let Some(seconds) = slow.flatten().filter(|_| order.status == "processing") {
        fields.push(("retry-after", seconds.to_string()));
    }
    (status, fields, body)
}

fn new_account(state: &mut State, jwk: &Value, payload: &Value, own: SocketAddr) -> Answer {
    assert_eq!(payload["termsOfServiceAgreed"], true);
    if let Some((key_id, key)) = &state.manners.external {
        let binding = &payload["externalAccountBinding"];
        let text = |part: &str| binding[part].as_str().unwrap_or_default().to_owned();
        let protected = BASE64_URL_SAFE_NO_PAD.decode(text("protected")).unwrap_or_default();
        let protected: Value = serde_json::from_slice(&protected).unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(format!("{}.{}", text("protected"), text("payload")).as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(text("signature")).unwrap_or_default();
        if protected["kid"] != **key_id || mac.verify_slice(&signature).is_err() {
            return problem(403, "externalAccountRequired", "bind it");
        }
    }
    // RFC 7638 §3: the members in this order.
    let member = |name: &str| jwk[name].as_str().expect("a key");
    let thumb = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{}\",\"y\":\"{}\"}}", member("x"), member("y"));
    let thumb = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(thumb.as_bytes()));
    state.serial += 1;
    let account = format!("https://{own}/account/{}", state.serial);
    state.accounts.insert(account.clone(), thumb);
    let (status, mut fields, body) = said(201, &json!({ "status": "valid", "contact": payload["contact"] }));
    fields.push(("location", account));
    (status, fields, body)
}

fn new_order(state: &mut State, account: String, payload: &Value, own: SocketAddr) -> Answer {
    if let Some(seconds) = state.manners.rate_limited {
        let (status, mut fields, body) = problem(429, "rateLimited", "too many certificates already issued");
        fields.push(("retry-after", seconds.to_string()));
        return (status, fields, body);
    }
    let names = payload["identifiers"].as_array().expect("names");
    assert_eq!(names.len(), 1, "a certificate for each name");
    state.serial += 1;
    let id = state.serial;
    let (name, token) = (names[0]["value"].as_str().expect("a name").to_owned(), format!("token-{id}"));
    if let Some(replaced) = payload["replaces"].as_str() {
        state.replaced.push(replaced.to_owned());
    }
    let order = Order { name, account, token, status: "pending", error: None, chain: None };
    let mut body = shown(&order, id, own);
    if payload.get("replaces").is_some() {
        body["replaces"] = payload["replaces"].clone();
    }
    let (status, mut fields, body) = said(201, &body);
    state.orders.insert(id, order);
    fields.push(("location", format!("https://{own}/order/{id}")));
    (status, fields, body)
}

fn shown(order: &Order, id: u64, own: SocketAddr) -> Value {
    let mut shown = json!({
        "status": order.status,
        "identifiers": [{ "type": "dns", "value": order.name }],
        "authorizations": [format!("https://{own}/authorization/{id}")],
        "finalize": format!("https://{own}/finalize/{id}"),
    });
    if order.status == "valid" {
        shown["certificate"] = format!("https://{own}/certificate/{id}").into();
    }
    shown
}

fn authorization(order: &Order, id: u64, own: SocketAddr) -> Value {
    let status = match order.status {
        "ready" | "processing" => "valid",
        other => other,
    };
    let challenge = |kind: &str, end: &str| {
        let url = format!("https://{own}/challenge/{id}/{end}");
        let mut shown = json!({ "type": kind, "url": url, "status": status, "token": order.token });
        if let Some(error) = &order.error {
            shown["error"] = error.clone();
        }
        shown
    };
    json!({
        "status": status,
        "identifier": { "type": "dns", "value": order.name },
        "challenges": [challenge("http-01", "http"), challenge("tls-alpn-01", "tls")],
    })
}

/// Looks whether the name of an order is served where it should be.
fn look(state: &Mutex<State>, id: u64, tls: bool) {
    let began = std::time::Instant::now();
    let ((http_at, tls_at), name, token, thumb, refused) = loop {
        assert!(began.elapsed() < PATIENCE, "it was not told where to look");
        let state = lock(state);
        if let Some(at) = state.at.filter(|_| !state.manners.hesitates) {
            let order = &state.orders[&id];
            let Some(thumb) = state.accounts.get(&order.account).cloned() else { return };
            let refused = state.manners.refused.contains(&order.name);
            break (at, order.name.clone(), order.token.clone(), thumb, refused);
        }
        drop(state);
        std::thread::sleep(Duration::from_millis(3));
    };
    let proof = format!("{token}.{thumb}");
    let seen = match tls {
        true => look_by_tls(tls_at, &name, &proof),
        false => look_by_http(http_at, &name, &token, &proof),
    };
    let seen = if refused { Err("this name is refused".to_owned()) } else { seen };
    let mut state = lock(state);
    state.looks.push(format!("{name}: {seen:?}"));
    let order = state.orders.get_mut(&id).expect("it is there");
    match seen {
        Ok(()) => order.status = "ready",
        Err(why) => {
            order.status = "invalid";
            order.error = Some(json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": why }));
        }
    }
}

fn look_by_http(at: SocketAddr, name: &str, token: &str, proof: &str) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let path = format!("/.well-known/acme-challenge/{token}");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| error.to_string())?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && body == proof => Ok(()),
        _ => Err(format!("what was found is {text:?}")),
    }
}

fn look_by_tls(at: SocketAddr, name: &str, proof: &str) -> Result<(), String> {
    let mut tls = Tls::challenging(name).connection();
    let mut stream = TcpStream::connect(at).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket can be given a timeout");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    if tls.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("another protocol was agreed on".into());
    }
    // RFC 8737 §3: id-pe-acmeIdentifier, critical, an octet string of the digest in one.
    let mut extension = vec![0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff];
    extension.extend([0x04, 0x22, 0x04, 0x20]);
    extension.extend(Sha256::digest(proof.as_bytes()));
    let shown = &tls.peer_certificates().ok_or("no certificate")?[0];
    let found = shown.windows(extension.len()).any(|window| window == extension);
    // Nothing is said on such a connection.
    let mut rest = Vec::new();
    let _ = rustls::Stream::new(&mut tls, &mut stream).read_to_end(&mut rest);
    if found && rest.is_empty() { Ok(()) } else { Err(format!("no proof in the certificate; {} bytes", rest.len())) }
}

fn issue(csr: &[u8], state: &State, id: u64, issuer: &CertifiedIssuer<'static, KeyPair>) -> String {
    let csr = CertificateSigningRequestParams::from_der(&csr.into());
    let mut csr = csr.expect("a request that is signed by its key");
    let name = &state.orders[&id].name;
    assert_eq!(csr.params.subject_alt_names, CertificateParams::new([name.clone()]).expect("a name").subject_alt_names);
    if state.manners.wrong_name {
        csr.params.subject_alt_names =
            CertificateParams::new(["other.example".to_owned()]).expect("a name").subject_alt_names;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (lifetime, past) = state.manners.lifetime;
    csr.params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(now - past);
    csr.params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now - past + lifetime);
    csr.params.use_authority_key_identifier_extension = true;
    let certificate = csr.signed_by(issuer).expect("a certificate");
    format!("{}{}", certificate.pem(), issuer.pem())
}
