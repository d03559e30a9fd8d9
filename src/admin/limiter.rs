//! Slows guessing: failed authentications per client address, with bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Failures a client may make at once. A person who pastes the wrong token tries a handful of times.
const BURST: u64 = 10;

/// Time that forgives one failure.
const FORGIVE_MS: u64 = 1_000;

/// Clients that are remembered; an attacker with more addresses than this gains guesses, never memory.
const CLIENTS_MAX: usize = 1_024;

/// Failed authentications. Each client has the moment at which all its failures are forgiven.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    forgiven_ms: HashMap<IpAddr, u64>,
}

// === impl Limiter ===

impl Limiter {
    /// Whole seconds that the client has to wait; none when it may try.
    pub(super) fn wait_s(&self, client: IpAddr, now_ms: u64) -> Option<u64> {
        let forgiven = *self.forgiven_ms.get(&unit(client))?;
        let over = forgiven.saturating_sub(now_ms).checked_sub((BURST - 1) * FORGIVE_MS)?;
        (over > 0).then(|| over.div_ceil(1_000))
    }

    /// Takes note of a failure.
    pub(super) fn failed(&mut self, client: IpAddr, now_ms: u64) {
        if self.forgiven_ms.len() >= CLIENTS_MAX {
            self.forgiven_ms.retain(|_, forgiven| *forgiven > now_ms);
            if self.forgiven_ms.len() >= CLIENTS_MAX {
                let soonest = self.forgiven_ms.iter().min_by_key(|(_, forgiven)| **forgiven).map(|(ip, _)| *ip);
                soonest.map(|ip| self.forgiven_ms.remove(&ip));
            }
        }
        let forgiven = self.forgiven_ms.entry(unit(client)).or_insert(now_ms);
        *forgiven = (*forgiven).max(now_ms) + FORGIVE_MS;
    }
}

/// An IPv6 client is its /64: it can have any address of it.
fn unit(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_gets_ten_tries_and_then_one_a_second() {
        let (mut limiter, client) = (Limiter::default(), IpAddr::from([192, 0, 2, 1]));
        let tries = |limiter: &mut Limiter, now_ms| {
            let free = (0..100).take_while(|_| {
                limiter.wait_s(client, now_ms).is_none() && {
                    limiter.failed(client, now_ms);
                    true
                }
            });
            free.count()
        };
        assert_eq!(tries(&mut limiter, 1), 10);
        assert_eq!(limiter.wait_s(client, 1), Some(1));
        assert_eq!(tries(&mut limiter, 3_001), 3);
        assert_eq!(limiter.wait_s(IpAddr::from([192, 0, 2, 2]), 1), None);
    }

    #[test]
    fn any_number_of_clients_costs_bounded_memory() {
        let mut limiter = Limiter::default();
        for i in 0..10_000_u32 {
            limiter.failed(IpAddr::from(i.to_be_bytes()), 5);
        }
        assert_eq!(limiter.forgiven_ms.len(), CLIENTS_MAX);
    }
}
