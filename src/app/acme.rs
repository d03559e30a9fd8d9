//! Automatic certificates as part of the process: who keeps them, who answers for them, who shows them. What an order
//! is stands in the room `acme`, which a build may lack.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::config::{Config, Problem};
use crate::model::AcmeSpec;
use crate::tls::challenges::Challenges;
use crate::tls::issuance::Issuance;

/// What `[acme]` asks for.
pub(super) struct Automatic {
    pub(super) challenges: Arc<Challenges>,
    pub(super) issuance: Arc<Issuance>,
    spec: AcmeSpec,
}

// === impl Automatic ===

impl Automatic {
    /// None where no name asks for a certificate.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let spec = config.acme.clone().filter(|spec| !spec.names.is_empty())?;
        Some(Self { challenges: Arc::default(), issuance: Arc::default(), spec })
    }

    /// Begins to order; only one process at a time may.
    pub(super) fn start(&self) -> JoinHandle<()> {
        self.challenges.come_and_go();
        let (spec, challenges, issuance) = (self.spec.clone(), self.challenges.clone(), self.issuance.clone());
        tokio::spawn(keep(spec, challenges, issuance))
    }

    /// Ends what was started, for another process. What an authority may be about to look at is answered as long as
    /// anybody connects here: a look that finds nothing would end the order that the other process goes on with.
    pub(super) async fn rest(&self, keeper: JoinHandle<()>) {
        self.challenges.stay();
        keeper.abort();
        let _ = keeper.await;
    }
}

#[cfg(feature = "acme")]
use crate::acme::keeper::keep;

/// A configuration that needs it has been refused.
#[cfg(not(feature = "acme"))]
async fn keep(_: AcmeSpec, _: Arc<Challenges>, _: Arc<Issuance>) {}

/// What is legal and worth a line: a state that cannot be written, and names without a certificate.
#[cfg(feature = "acme")]
pub(crate) fn notes(config: &Config) -> Vec<Problem> {
    use crate::acme::keeper::{missing, obstacle};
    let Some(spec) = config.acme.as_ref().filter(|spec| !spec.names.is_empty()) else { return Vec::new() };
    let file = config.path.display().to_string();
    let obstacle = obstacle(spec).map(|obstacle| {
        let help = "give weir's user the right to write there; until then nothing is ordered";
        Problem::without_place(&file, format!("acme.state_dir: {obstacle}"), help)
    });
    let missing = missing(spec);
    let found = format!("there is no certificate yet for {}", missing.join(", "));
    let missing = (!missing.is_empty()).then(|| Problem::without_place(&file, found, "it is ordered once weir serves"));
    obstacle.into_iter().chain(missing).collect()
}

/// There is nothing to say.
#[cfg(not(feature = "acme"))]
pub(crate) fn notes(_: &Config) -> Vec<Problem> {
    Vec::new()
}
