//! The configuration of the soak, in a directory of its own, and what changes in it while weir runs: weights,
//! endpoints, certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::link::NAME;
use super::origin::{Origin, Speaks};
use super::{Error, Stage};

/// Time between two changes.
const WEIGHTS_EVERY: Duration = Duration::from_secs(2);
const CONFIG_EVERY: Duration = Duration::from_secs(5);
const CERTIFICATE_EVERY: Duration = Duration::from_secs(20);

/// A directory that goes with its owner.
#[derive(Debug)]
pub(crate) struct Room(PathBuf);

impl Room {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-soak-{}", std::process::id()));
        std::fs::create_dir_all(path.join("certs"))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file in the place of another at once.
    fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        let draft = self.0.join("draft");
        std::fs::write(&draft, text)?;
        std::fs::rename(draft, self.0.join(name))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How often what was changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) weights: AtomicU64,
    pub(crate) config: AtomicU64,
    pub(crate) certificates: AtomicU64,
}

/// Endpoints, files, and how clients verify certificates.
pub(crate) struct Site {
    pub(crate) room: Room,
    pub(crate) origins: Vec<Origin>,
    pub(crate) changes: Changes,
    pub(crate) client_tls: Arc<rustls::ClientConfig>,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Site {
    pub(crate) async fn build() -> Result<Self, Error> {
        let kinds = [Speaks::Http1, Speaks::Http1, Speaks::Http1, Speaks::H2c, Speaks::H2c, Speaks::H2c, Speaks::H2c];
        let mut origins = Vec::new();
        for (number, kind) in (1..).zip(kinds) {
            origins.push(Origin::start(number, kind).await?);
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client_tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (room, changes, client_tls) = (Room::new()?, Changes::default(), Arc::new(client_tls));
        let site = Self { room, origins, changes, client_tls, authority };
        site.save_certificate()?;
        site.save_weights(0)?;
        site.save_config(0)?;
        Ok(site)
    }

    fn save_certificate(&self) -> Result<(), Error> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &self.authority)?;
        self.room.write("certs/site.key", &key.serialize_pem())?;
        Ok(self.room.write("certs/site.crt", &certificate.pem())?)
    }

    /// Both pools of both services keep a part: what lasts is not ended by a change here.
    fn save_weights(&self, turn: u64) -> std::io::Result<()> {
        let (stable, canary) = (1 + turn * 7 % 13, 1 + turn * 5 % 11);
        let pools = format!("stable = {stable}\ncanary = {canary}\n");
        self.room.write("weights.toml", &format!("# {turn}\n[web]\n{pools}[calls]\n{pools}"))
    }

    /// One endpoint comes and goes, and a limit changes.
    fn save_config(&self, turn: u64) -> std::io::Result<()> {
        let urls = |range: std::ops::Range<usize>| {
            let urls: Vec<_> = self.origins[range].iter().map(|origin| format!("\"{}\"", origin.url())).collect();
            urls.join(", ")
        };
        let (web, calls) =
            (urls(if turn.is_multiple_of(2) { 0..2 } else { 0..1 }), urls(if turn % 4 < 2 { 4..6 } else { 4..5 }));
        let (web_canary, calls_canary) = (urls(2..4), urls(6..7));
        let service = |name: &str, stable: &str, canary: &str| {
            format!(
                "[services.{name}]\npools.stable.endpoints = [{stable}]\npools.canary.endpoints = [{canary}]\n\
                 timeouts.response_header = \"2s\"\n"
            )
        };
        self.room.write(
            "weir.toml",
            &format!(
                "weights = \"weights.toml\"\npid_file = \"weir.pid\"\nworkers = 2\n\
                 [listeners.plain]\naddress = \"127.0.0.1:0\"\n\
                 [listeners.secure]\naddress = \"127.0.0.1:0\"\ntls.certs_dir = \"certs\"\n\
                 [admin]\naddress = \"127.0.0.1:0\"\n[limits]\nfields_max = {}\n{}{}\
                 [[routes]]\nservice = \"calls\"\nmatch.path_prefix = \"/soak.Calls\"\n[[routes]]\nservice = \"web\"\n",
                100 + turn % 10,
                service("web", &web, &web_canary),
                service("calls", &calls, &calls_canary),
            ),
        )
    }
}

async fn every(time: Duration, stage: &Stage, mut change: impl FnMut() -> Result<(), Error>) {
    let mut stop = stage.stop.clone();
    while tokio::time::timeout(time, stop.wait_for(|over| *over)).await.is_err() {
        if let Err(error) = change() {
            eprintln!("soak: a file could not be changed: {error}");
        }
    }
}

pub(crate) async fn change_weights(stage: Arc<Stage>) {
    let site = &stage.site;
    every(WEIGHTS_EVERY, &stage, || Ok(site.save_weights(site.changes.weights.fetch_add(1, Relaxed) + 1)?)).await;
}

pub(crate) async fn change_config(stage: Arc<Stage>) {
    let site = &stage.site;
    every(CONFIG_EVERY, &stage, || Ok(site.save_config(site.changes.config.fetch_add(1, Relaxed) + 1)?)).await;
}

pub(crate) async fn renew_certificates(stage: Arc<Stage>) {
    let site = &stage.site;
    every(CERTIFICATE_EVERY, &stage, || {
        site.changes.certificates.fetch_add(1, Relaxed);
        site.save_certificate()
    })
    .await;
}
