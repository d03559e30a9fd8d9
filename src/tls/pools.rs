//! The TLS side of every pool that has `https` endpoints, by identity: a pool whose settings stay keeps what it has.

use std::sync::Arc;

use super::TlsError;
use super::certificate::Certificate;
use super::pool::PoolTls;
use crate::model::{PoolSpec, Protocol, ServiceSpec};

/// Every pool that needs one has one.
#[derive(Debug, Clone, Default)]
pub struct PoolsTls(Vec<Arc<PoolTls>>);

/// Why a pool cannot speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("services.{service}.pools.{pool}.tls: {why}")]
pub struct PoolProblem {
    service: String,
    pool: String,
    why: TlsError,
}

// === impl PoolsTls ===

impl PoolsTls {
    /// Reads what these services need, but for what is at hand already; every problem at once.
    pub fn open(services: &[ServiceSpec], known: &Self) -> Result<Self, Vec<PoolProblem>> {
        let (mut open, mut problems) = (Vec::new(), Vec::new());
        for service in services {
            for pool in service.pools.iter().filter(|pool| needs_tls(pool)) {
                match known.of(service, pool).filter(|known| known.spec == pool.tls) {
                    Some(known) => open.push(Arc::clone(known)),
                    None => match PoolTls::open(&service.name, &pool.name, &pool.tls) {
                        Ok(tls) => open.push(Arc::new(tls)),
                        Err(errors) => problems.extend(errors.into_iter().map(|why| {
                            let (service, pool) = (service.name.to_string(), pool.name.to_string());
                            PoolProblem { service, pool, why }
                        })),
                    },
                }
            }
        }
        if problems.is_empty() { Ok(Self(open)) } else { Err(problems) }
    }

    /// What a pool has; none where no endpoint of it speaks TLS.
    pub fn of(&self, service: &ServiceSpec, pool: &PoolSpec) -> Option<&Arc<PoolTls>> {
        self.0.iter().find(|tls| tls.service == service.name && tls.pool == pool.name)
    }

    /// What weir shows to endpoints that ask for a certificate.
    pub fn identities(&self) -> Vec<Certificate> {
        self.0.iter().filter_map(|tls| tls.identity()).collect()
    }
}

fn needs_tls(pool: &PoolSpec) -> bool {
    pool.origins.iter().any(|origin| origin.protocol == Protocol::Https)
}
