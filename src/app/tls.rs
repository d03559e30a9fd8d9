//! The certificates of all listeners, and what pools speak TLS to endpoints with: opened when the process starts
//! (and by `weir check`), kept fresh while it runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, Problem, Problems};
use crate::model::{Name, TlsSpec};
use crate::switchboard::reload;
use crate::switchboard::writer::Switchboard;
use crate::tls::certificate::Certificate;
use crate::tls::pools::PoolsTls;
use crate::tls::site::Site;

/// What each listener speaks TLS from, in the order of the configuration; none: plain HTTP.
pub(crate) type Sites = Arc<[Option<Arc<Site>>]>;

/// How often the files are looked at: two stat(2) for each certificate.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate that is valid for less than this is worth a line: ACME clients renew 30 days before.
const SOON: i64 = 14 * 86_400;

/// How the admin API is named among the listeners.
const ADMIN: &str = "admin";

/// Reads everything that the listeners and the admin API serve TLS from; every problem at once.
pub(crate) fn open(config: &Config) -> Result<(Sites, Option<Arc<Site>>), Problems> {
    let file = config.path.display().to_string();
    let (mut sites, mut problems) = (Vec::new(), Vec::new());
    let mut site = |table: &str, name: &Name, spec: Option<&TlsSpec>| {
        let opened = spec.map(|spec| Site::open(name, spec)).transpose();
        opened.map(|site| site.map(Arc::new)).unwrap_or_else(|errors| {
            problems.extend(errors.into_iter().map(|error| {
                let help = "mend the file, or name another one";
                Problem::without_place(&file, format!("{table}.tls: {error}"), help)
            }));
            None
        })
    };
    for listener in &config.listeners {
        sites.push(site(&format!("listeners.{}", listener.name), &listener.name, listener.tls.as_ref()));
    }
    let admin = Name::new(ADMIN).ok().and_then(|name| site(ADMIN, &name, config.admin.tls.as_ref()));
    Problems::new(problems).map_or(Ok((sites.into(), admin)), Err)
}

/// Reads what pools speak TLS to endpoints with; every problem at once.
pub(crate) fn open_pools(config: &Config) -> Result<PoolsTls, Problems> {
    reload::open_tls(config, &PoolsTls::default())
}

/// What is legal and perhaps not meant: certificates that are not valid now, or soon are not. `own` are those that weir
/// shows to endpoints.
pub(crate) fn notes<'a>(
    config: &Config,
    sites: impl Iterator<Item = &'a Arc<Site>>,
    own: Vec<Certificate>,
    now: Timestamp,
) -> Vec<Problem> {
    let (file, now) = (config.path.display().to_string(), now.as_second());
    let served = sites.flat_map(|site| site.view().certificates.clone());
    let note = |certificate: Certificate| {
        let day = |unix_s: i64| Timestamp::from_second(unix_s).map_or_else(|_| "never".into(), |at| at.to_string());
        let (from, until) = (certificate.not_before_unix_s, certificate.not_after_unix_s);
        let found = match () {
            () if now > until => format!("expired at {}", day(until)),
            () if now < from => format!("is not valid before {}", day(from)),
            () if until - now < SOON => format!("expires at {}", day(until)),
            () => return None,
        };
        let place = certificate.files.cert.display().to_string();
        Some(Problem::without_place(&file, format!("{place} ({}) {found}", certificate.label()), "renew it"))
    };
    served.filter_map(|shown| shown.certificate).chain(own).filter_map(note).collect()
}

/// Looks at the files for ever, on a thread that may wait for a disk.
pub(super) async fn keep_fresh(sites: Vec<Arc<Site>>, switchboard: Arc<Switchboard>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (sites, snapshot) = (sites.clone(), switchboard.snapshot().load_full());
        if sites.is_empty() && snapshot.pools_tls().next().is_none() {
            continue;
        }
        let look = move || {
            sites.iter().for_each(|site| site.look());
            snapshot.pools_tls().for_each(|tls| tls.look());
        };
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(%error, "the look at the certificates failed inside weir");
        }
    }
}
