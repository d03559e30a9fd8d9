//! Who has how many connections open, and who had some ended for what it did: by address (IPv6: its /64), one table of
//! fixed size for all workers. It is asked once per connection and never per request.
//!
//! An address is **crowded** when it has as many connections as it may, and **rests** when those that it opened were
//! ended too often: for a second the first time, twice as long each further time, up to [`REST_MAX_MS`]. A minute of
//! good behaviour forgets it all. It reads no clock and closes nothing.
//!
//! **When there is no room** for a new address, what is forgotten first is an address with nothing open that does not
//! rest; if its set holds no such, the newcomer is let in without being counted. The number of connections in all is
//! bounded elsewhere.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses that are known at once: as many as there are connections by default, 3 MB of them.
pub const ADDRESSES_MAX: usize = 65_536;

/// Addresses of one set, which share a lock.
const WAYS: usize = 8;

/// The first rest; each further one is twice as long.
const REST_FIRST_MS: u64 = 1000;

/// The longest rest: long enough that an attacker gets nowhere, short enough for whoever has its address next.
pub const REST_MAX_MS: u64 = 64_000;

/// The time in which all of an account is forgiven.
const FORGIVEN_MS: u64 = 60_000;

/// What an address may do; each 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Connections that it may have open at once.
    pub connections: u32,
    /// Points that it may collect at once, and as many again every minute.
    pub offences: u32,
}

/// What a connection was ended for, and what that costs its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// A flood over HTTP/2, or a break of its rules.
    Flood,
    /// A head that did not come in time, was too large or malformed; a handshake that failed.
    Garbage,
    /// It asked for nothing.
    Nothing,
}

/// Why an address is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It has as many connections as it may.
    Crowded,
    /// It rests.
    Resting,
}

/// The addresses.
#[derive(Debug)]
pub struct Visitors {
    sets: Box<[Mutex<[Slot; WAYS]>]>,
    secret: RandomState,
    uncounted: AtomicU64,
}

/// Visitors within a snapshot.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// Live state.
    pub visitors: Arc<Visitors>,
    /// What they may.
    pub rules: Rules,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    visitors: Arc<Visitors>,
    who: Who,
}

/// An address, as far as it tells clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Who(IpAddr);

#[derive(Debug, Default)]
struct Slot {
    who: Option<Who>,
    open: u32,
    /// What it has collected, as of `at_ms`.
    points: u32,
    at_ms: u64,
    /// Until when it rests.
    until_ms: u64,
    /// How often it rested since it last behaved.
    rests: u32,
}

// === impl Guarded ===

impl Guarded {
    /// Lets a connection in, or says why not.
    pub fn enter(&self, address: IpAddr, now_ms: u64) -> Result<Option<Visit>, Turned> {
        let who = Who::new(address);
        let mut set = self.visitors.set(who);
        let Some(slot) = set.iter_mut().find(|slot| slot.who == Some(who)) else {
            // Who is not known has done nothing; only its connections are counted from here on.
            let Some(slot) = forgettable(&mut set, self.rules, now_ms) else {
                self.visitors.uncounted.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            };
            *slot = Slot { who: Some(who), open: 1, at_ms: now_ms, ..Slot::default() };
            return Ok(Some(Visit { visitors: Arc::clone(&self.visitors), who }));
        };
        if self.rules.offences > 0 && now_ms < slot.until_ms {
            return Err(Turned::Resting);
        }
        if self.rules.connections > 0 && slot.open >= self.rules.connections {
            return Err(Turned::Crowded);
        }
        slot.open += 1;
        Ok(Some(Visit { visitors: Arc::clone(&self.visitors), who }))
    }

    /// A connection of that address was ended for what it did; true when the address rests from now on.
    pub fn offend(&self, address: IpAddr, offence: Offence, now_ms: u64) -> bool {
        if self.rules.offences == 0 {
            return false;
        }
        let who = Who::new(address);
        let mut set = self.visitors.set(who);
        // An address without an entry had no room; its connections are nobody's.
        set.iter_mut().find(|slot| slot.who == Some(who)).is_some_and(|slot| slot.offend(offence, self.rules, now_ms))
    }
}

// === impl Visitors ===

impl Visitors {
    /// Nobody, with room for [`ADDRESSES_MAX`].
    pub fn new() -> Self {
        Self::with_room(ADDRESSES_MAX)
    }

    fn with_room(addresses_max: usize) -> Self {
        let sets = (0..(addresses_max / WAYS).max(1)).map(|_| Mutex::default()).collect();
        Self { sets, secret: RandomState::new(), uncounted: AtomicU64::new(0) }
    }

    /// Who rests now, with the milliseconds that are left: `most` of them, those who rest longest first, and how many
    /// there are in all. Looks at the whole table; for people, not for requests.
    pub fn resting(&self, now_ms: u64, most: usize) -> (Vec<(IpAddr, u64)>, u64) {
        let mut resting: Vec<(IpAddr, u64)> = Vec::new();
        for set in &self.sets {
            let set = lock(set);
            let left = |slot: &Slot| slot.who.map(|who| (who.0, slot.until_ms.saturating_sub(now_ms)));
            resting.extend(set.iter().filter_map(left).filter(|(_, left)| *left > 0));
        }
        resting.sort_by_key(|(address, left)| (std::cmp::Reverse(*left), *address));
        let all = resting.len() as u64;
        resting.truncate(most);
        (resting, all)
    }

    /// Connections that were let in without being counted, because there was no room for their address.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    fn set(&self, who: Who) -> MutexGuard<'_, [Slot; WAYS]> {
        let hash = self.secret.hash_one(who);
        lock(&self.sets[((u128::from(hash) * self.sets.len() as u128) >> 64) as usize])
    }
}

impl Default for Visitors {
    fn default() -> Self {
        Self::new()
    }
}

fn lock(set: &Mutex<[Slot; WAYS]>) -> MutexGuard<'_, [Slot; WAYS]> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot for a new address: one that nobody has, else that of whom least is to be remembered.
fn forgettable(set: &mut [Slot; WAYS], rules: Rules, now_ms: u64) -> Option<&mut Slot> {
    let free = set.iter_mut().filter(|slot| slot.open == 0 && slot.until_ms <= now_ms);
    free.min_by_key(|slot| (slot.who.is_some(), slot.owes(rules, now_ms)))
}

// === impl Who ===

impl Who {
    fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            // Whoever has one address of a /64 has all of it (RFC 6177 §2).
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

// === impl Offence ===

impl Offence {
    /// What it costs. Browsers open connections that they do not use, and a client with the wrong certificate fails
    /// now and then; nobody floods by accident.
    fn points(self) -> u32 {
        match self {
            Self::Flood => 10,
            Self::Garbage => 2,
            Self::Nothing => 1,
        }
    }
}

// === impl Turned ===

impl Turned {
    /// All of them, in declaration order.
    pub const ALL: [Self; 2] = [Self::Crowded, Self::Resting];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Resting => "resting",
        }
    }
}

// === impl Slot ===

impl Slot {
    /// What it has collected and is not forgiven yet.
    fn owes(&self, rules: Rules, now_ms: u64) -> u32 {
        let passed = now_ms.saturating_sub(self.at_ms).min(FORGIVEN_MS);
        self.points.saturating_sub((passed * u64::from(rules.offences) / FORGIVEN_MS) as u32)
    }

    fn offend(&mut self, offence: Offence, rules: Rules, now_ms: u64) -> bool {
        if now_ms < self.until_ms {
            // It had them before it was sent to rest.
            return false;
        }
        let owed = self.owes(rules, now_ms);
        if owed == 0 {
            self.rests = 0;
        }
        if owed != self.points || owed == 0 {
            // Until a whole point is forgiven the moment stays where it is, so that none of it is lost.
            self.at_ms = now_ms;
        }
        self.points = owed.saturating_add(offence.points());
        if self.points <= rules.offences {
            return false;
        }
        let rest_ms = (REST_FIRST_MS << self.rests.min(16)).min(REST_MAX_MS);
        self.rests += 1;
        self.points = rules.offences;
        // It is forgiven nothing while it rests, or the longest rest would make it as good as new.
        self.until_ms = now_ms + rest_ms;
        self.at_ms = self.until_ms;
        true
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut set = self.visitors.set(self.who);
        // It is there still: nobody with something open is forgotten.
        if let Some(slot) = set.iter_mut().find(|slot| slot.who == Some(self.who)) {
            slot.open = slot.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guarded(connections: u32, offences: u32) -> Guarded {
        Guarded { visitors: Arc::new(Visitors::with_room(64)), rules: Rules { connections, offences } }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_others_have_theirs() {
        let guarded = guarded(2, 0);
        let enter = |address: &str| guarded.enter(ip(address), 0);
        let (one, _two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert_eq!(enter("192.0.2.1").err(), Some(Turned::Crowded));
        assert!(enter("192.0.2.2").is_ok());
        drop(one);
        assert!(enter("192.0.2.1").is_ok());
        let _six = (enter("2001:db8::1"), enter("2001:db8::ffff"));
        assert_eq!(enter("2001:db8::2").err(), Some(Turned::Crowded), "a /64 is one client");
        assert!(enter("2001:db8:0:1::2").is_ok());
    }

    #[test]
    fn rests_grow_to_their_bound_and_a_good_minute_forgets_them() {
        let guarded = guarded(0, 100);
        let address = ip("192.0.2.1");
        let mut now = 1_000;
        let mut rests = Vec::new();
        for _ in 0..12 {
            while guarded.enter(address, now).is_ok() {
                guarded.offend(address, Offence::Flood, now);
            }
            let (resting, all) = guarded.visitors.resting(now, 8);
            assert_eq!((resting[0].0, all), (address, 1));
            rests.push(resting[0].1);
            now += resting[0].1;
        }
        assert_eq!(&rests[..8], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000]);
        now += FORGIVEN_MS;
        assert!((0..10).all(|_| !guarded.offend(address, Offence::Flood, now)), "it is as good as new");
        assert!(guarded.offend(address, Offence::Nothing, now));
        assert_eq!(guarded.visitors.resting(now, 8).0[0].1, 1_000);
    }

    #[test]
    fn what_ends_while_an_address_rests_does_not_prolong_it() {
        let guarded = guarded(0, 10);
        let address = ip("192.0.2.1");
        let _open = guarded.enter(address, 0);
        assert!((0..50).filter(|_| guarded.offend(address, Offence::Flood, 5)).count() == 1);
        assert_eq!(guarded.visitors.resting(5, 1), (vec![(address, 1_000)], 1));
    }

    #[test]
    fn a_little_now_and_then_is_forgiven() {
        let guarded = guarded(0, 100);
        let address = ip("192.0.2.1");
        let _open = guarded.enter(address, 0);
        let rests = (0..10_000_u64).filter(|i| guarded.offend(address, Offence::Nothing, i * 601)).count();
        assert_eq!(rests, 0, "a hundred a minute is what is forgiven");
    }

    proptest! {
        /// Whoever comes, leaves and offends: counts come out even, and nobody who rests or is here is forgotten.
        #[test]
        fn the_table_never_loses_a_connection_nor_a_rest(
            steps in proptest::collection::vec((0_u8..200, 0_u8..4, 0_u64..3_000), 1..600),
        ) {
            let guarded = guarded(3, 20);
            let mut open: Vec<(u8, Visit)> = Vec::new();
            let mut rests = std::collections::HashMap::new();
            let mut now = 0;
            for (who, what, passes) in steps {
                now += passes;
                let address = IpAddr::from([10, 0, 0, who]);
                let had = open.iter().filter(|(other, _)| *other == who).count();
                match what {
                    0 | 1 => match guarded.enter(address, now) {
                        Ok(Some(visit)) => {
                            prop_assert!(had < 3);
                            prop_assert!(rests.get(&who).is_none_or(|until| *until <= now));
                            open.push((who, visit));
                        }
                        Ok(None) => prop_assert_eq!(had, 0),
                        Err(Turned::Crowded) => prop_assert_eq!(had, 3),
                        Err(Turned::Resting) => prop_assert!(rests[&who] > now),
                    },
                    2 => if guarded.offend(address, Offence::Flood, now) {
                        let (all, _) = guarded.visitors.resting(now, usize::MAX);
                        let left = all.iter().find(|(it, _)| *it == address).map(|(_, left)| *left);
                        prop_assert!(left.is_some_and(|left| (1_000..=REST_MAX_MS).contains(&left)));
                        rests.insert(who, now + left.unwrap_or(0));
                    },
                    _ => if let Some(at) = open.iter().position(|(other, _)| *other == who) {
                        open.swap_remove(at);
                    },
                }
            }
            open.clear();
            let left = guarded.visitors.sets.iter().map(|set| lock(set).iter().map(|it| it.open).sum::<u32>());
            prop_assert_eq!(left.sum::<u32>(), 0);
        }
    }
}
