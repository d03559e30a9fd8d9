//! Puts a [`Status`] together from what is live, what is remembered and what was counted. Changes nothing.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::desk::Shown;
use super::history::Record;
use super::sample::{Sampler, Window};
use super::snapshot::{Pool, Service, Snapshot};
use super::status::{
    AcmeStatus, CertificateStatus, DrainStatus, EndpointStatus, KillStatus, MaintenanceStatus, Minute, PoolStatus,
    RestingAddress, RestingStatus, ServiceStatus, Status, StreamStatus, TlsStatus, UpstreamTlsStatus,
};
use super::writer::{Mode, Switchboard};
use crate::model::{Closed, Maintenance, Now, StreamKind};
use crate::telemetry::clock;
use crate::telemetry::histogram::Summary;
use crate::throttle::visitors::Guarded;
use crate::tls::certificate::Certificate;
use crate::tls::issuance::Standing;
use crate::tls::pool::PoolTls;
use crate::tls::site::Site;

/// The window of `status`, in seconds.
const WINDOW_S: u64 = 60;

// === impl Switchboard ===

impl Switchboard {
    /// Everything that an operator may know. Takes no lock that a writer holds while it waits for a disk.
    pub fn status(&self) -> Status {
        let (shown, snapshot, now) = (self.shown(), self.snapshot().load_full(), clock::now());
        let sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: self.birth.at.clone(),
            uptime_s: now.mono_ms.saturating_sub(self.birth.mono_ms) / 1000,
            workers: self.birth.workers,
            generation: snapshot.generation,
            revision: snapshot.revision,
            safe_mode: shown.mode == Mode::Safe,
            config_file: whole(&shown.config.path),
            weights_file: whole(&shown.config.weights_path),
            stale: shown.stale.clone(),
            // The engine of the rollouts knows; whoever answers asks it.
            journal: None,
            last_reload: shown.reload.clone(),
            services: snapshot.services.iter().map(|service| service_status(service, &shown, &sampler, now)).collect(),
            history: shown.history.iter().cloned().collect(),
            tls: self.sites.get().into_iter().flatten().map(|site| tls_status(site)).collect(),
            acme: self.issuance.get().map(|it| it.view().iter().map(acme_status).collect()).unwrap_or_default(),
            upstream_tls: snapshot.pools_tls().map(upstream_tls_status).collect(),
            resting: snapshot.guarded.as_ref().and_then(|guarded| resting_status(guarded, now)),
        }
    }

    /// The part of its service's requests that each pool got over about the last `seconds` (at most 60), by service and
    /// pool of `snapshot`; none without requests.
    pub fn effective_shares(&self, snapshot: &Snapshot, seconds: u64) -> Vec<Vec<Option<f64>>> {
        let now = clock::now();
        let sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |service: &Service| {
            let windows = windows(service, &sampler, seconds, now);
            windows.iter().map(|window| share(window.as_ref(), &windows)).collect()
        };
        snapshot.services.iter().map(of).collect()
    }
}

/// A path that says the same to who asks from another directory.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn tls_status(site: &Site) -> TlsStatus {
    let view = site.view();
    let certificates = view.certificates.iter().filter_map(|shown| shown.certificate.as_ref());
    let failed = view.certificates.iter().filter_map(|shown| shown.failed.as_ref()).chain(&view.problems);
    TlsStatus {
        listener: site.name.to_string(),
        certificates: certificates.map(certificate_status).collect(),
        failed: failed.map(ToString::to_string).collect(),
    }
}

fn acme_status(standing: &Standing) -> AcmeStatus {
    let next = i64::try_from(standing.next_unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    AcmeStatus {
        name: standing.name.clone(),
        state: standing.state.as_str().to_owned(),
        failures: standing.failures,
        error: standing.error.clone(),
        next: next.unwrap_or_default().to_string(),
        next_unix_s: standing.next_unix_ms / 1000,
    }
}

fn certificate_status(certificate: &Certificate) -> CertificateStatus {
    CertificateStatus {
        name: certificate.label(),
        names: certificate.names.clone(),
        file: certificate.files.cert.display().to_string(),
        expires: jiff::Timestamp::from_second(certificate.not_after_unix_s).unwrap_or_default().to_string(),
        expires_unix_s: certificate.not_after_unix_s,
    }
}

fn upstream_tls_status(tls: &Arc<PoolTls>) -> UpstreamTlsStatus {
    UpstreamTlsStatus {
        service: tls.service.to_string(),
        pool: tls.pool.to_string(),
        verified: !tls.spec.insecure_skip_verify,
        certificate: tls.identity().as_ref().map(certificate_status),
        failed: tls.failed().iter().map(ToString::to_string).collect(),
    }
}

/// Addresses that are shown; all of them are counted.
const RESTING_SHOWN: usize = 20;

fn resting_status(guarded: &Guarded, now: Now) -> Option<RestingStatus> {
    let (longest, addresses) = guarded.visitors.resting(now.mono_ms, RESTING_SHOWN);
    let shown = |(address, left_ms): (std::net::IpAddr, u64)| RestingAddress {
        address: address.to_string(),
        seconds_left: left_ms.div_ceil(1000),
    };
    (addresses > 0).then(|| RestingStatus { addresses, longest: longest.into_iter().map(shown).collect() })
}

fn service_status(service: &Service, shown: &Shown, sampler: &Sampler, now: Now) -> ServiceStatus {
    let windows = windows(service, sampler, WINDOW_S, now);
    let pools = service.pools.iter().zip(&windows);
    let draining = service.draining.as_ref().filter(|drain| drain.until_ms > now.mono_ms).map(|drain| {
        let names = service.pools.iter().zip(&drain.pools).filter(|(_, drains)| **drains);
        DrainStatus {
            pools: names.map(|(pool, _)| pool.name.to_string()).collect(),
            seconds_left: (drain.until_ms - now.mono_ms).div_ceil(1000),
        }
    });
    let held = shown.history.held().iter().find(|held| held.service == service.name.as_str());
    let kill = shown.history.held_kills().iter().find(|it| it.service.as_ref().is_none_or(|it| *it == service.name));
    ServiceStatus {
        name: service.name.to_string(),
        stable: service.spec.stable.to_string(),
        weights: Record(service.weights.clone()),
        killed: service.killed.as_ref().map(|killed| KillStatus {
            scope: if killed.system { "system" } else { "service" }.into(),
            reason: killed.reason.clone(),
        }),
        maintenance: service.closed.as_ref().map(maintenance),
        pending: kill.map(|held| held.note.clone()).or_else(|| held.map(|held| held.note.clone())),
        undo: shown.history.before(&service.name).cloned().map(Record),
        draining,
        pools: pools
            .map(|(pool, window)| PoolStatus {
                last_minute: window.as_ref().map(|own| minute(own, share(Some(own), &windows))),
                ..pool_status(pool, service, now)
            })
            .collect(),
    }
}

fn maintenance(closed: &Closed) -> MaintenanceStatus {
    let Maintenance { reason, pools, retry_after_s, .. } = &closed.maintenance;
    let scope = match (closed.system, pools.is_empty()) {
        (true, _) => "system",
        (false, true) => "service",
        (false, false) => "pools",
    };
    MaintenanceStatus {
        scope: scope.into(),
        pools: pools.iter().map(ToString::to_string).collect(),
        reason: reason.clone(),
        retry_after_s: *retry_after_s,
    }
}

fn pool_status(pool: &Pool, service: &Service, now: Now) -> PoolStatus {
    let endpoints = pool.endpoints.iter().map(|endpoint| {
        let state = endpoint.state();
        EndpointStatus {
            address: endpoint.id.addr.to_string(),
            origin: endpoint.id.origin.to_string(),
            state: state.kind.as_str().into(),
            state_for_s: (state.since_ms > 0).then(|| now.mono_ms.saturating_sub(state.since_ms) / 1000),
            last_error: state.last_error,
            in_flight: endpoint.in_flight(),
            ejections: endpoint.ejections(),
        }
    });
    PoolStatus {
        name: pool.name.to_string(),
        weight: pool.weight,
        configured_share: service.weights.share(&pool.name),
        state: pool.state.phase().as_str().into(),
        in_flight: pool.state.meter.sum(|shard| shard.in_flight.value()),
        last_minute: None,
        streams: streams(pool, now),
        endpoints: endpoints.collect(),
    }
}

fn streams(pool: &Pool, now: Now) -> Vec<StreamStatus> {
    let of = |kind: StreamKind| {
        let shards = || pool.state.meter.iter().map(move |shard| &shard.streams[kind.index()]);
        let oldest_ms = shards().map(|gauge| gauge.oldest_ms.value()).filter(|&ms| ms > 0).min()?;
        Some(StreamStatus {
            kind: kind.as_str().into(),
            running: shards().map(|gauge| gauge.running.value()).sum(),
            draining: shards().map(|gauge| gauge.draining.value()).sum(),
            oldest_s: now.mono_ms.saturating_sub(oldest_ms) / 1000,
        })
    };
    StreamKind::ALL.into_iter().filter_map(of).collect()
}

fn windows(service: &Service, sampler: &Sampler, seconds: u64, now: Now) -> Vec<Option<Window>> {
    let of = |pool: &Pool| sampler.window(&service.name, &pool.name, &pool.state.meter, seconds, now.mono_ms);
    service.pools.iter().map(of).collect()
}

fn share(own: Option<&Window>, all: &[Option<Window>]) -> Option<f64> {
    let total: u64 = all.iter().flatten().map(|window| window.requests).sum();
    own.filter(|_| total > 0).map(|own| own.requests as f64 / total as f64)
}

fn minute(window: &Window, effective_share: Option<f64>) -> Minute {
    let [hits, misses] = window.cache;
    let quantile = |q| Summary::quantile_us(&window.latency, q).map(|us| us as f64 / 1000.0);
    Minute {
        seconds: window.seconds,
        requests: window.requests,
        requests_per_s: if window.seconds > 0.0 { window.requests as f64 / window.seconds } else { 0.0 },
        effective_share,
        failed: window.errors,
        // An attempt that began before the window may have failed within it.
        failed_ratio: (window.attempts > 0).then(|| (window.errors as f64 / window.attempts as f64).min(1.0)),
        error_ratio: (window.attempts > 0).then(|| window.failed as f64 / window.attempts as f64),
        cache_hit_ratio: (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
    }
}
