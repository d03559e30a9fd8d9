//! What ACME authorities are answered that look whether a name is served from here: files over plain HTTP, and
//! certificates in handshakes. Only what is pending is answered; who orders (room `acme`) puts it in and takes it out.
//!
//! Most of the time nothing is pending, and a look costs one load.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::server::ClientHello;

/// What paths of http-01 begin with (RFC 8555 §8.3); the token follows.
pub const HTTP_PREFIX: &str = "/.well-known/acme-challenge/";

/// The protocol of tls-alpn-01 (RFC 8737 §4).
pub const TLS_PROTOCOL: &[u8] = b"acme-tls/1";

/// Most that may be pending; orders go one after the other, with one name each.
const PENDING_MAX: usize = 16;

/// What is pending in this process.
#[derive(Debug, Default)]
pub struct Challenges {
    http: ArcSwapOption<Vec<(String, Arc<str>)>>,
    tls: ArcSwapOption<Vec<(String, Arc<ServerConfig>)>>,
    /// One writer at a time; nobody that answers takes it. Whether what is pending stays when it is dropped.
    stays: Mutex<bool>,
}

/// A challenge that is pending until this is dropped, or until nobody connects here: see [`Challenges::stay`].
#[derive(Debug)]
pub struct Pending {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Http(String),
    Tls(String),
}

// === impl Challenges ===

impl Challenges {
    /// Has `token` answered with that text; none when too much is pending.
    pub fn answer_http(self: &Arc<Self>, token: &str, text: &str) -> Option<Pending> {
        let added = self.add(&self.http, token, Arc::from(text));
        added.then(|| Pending { challenges: self.clone(), key: Key::Http(token.to_owned()) })
    }

    /// Has handshakes of tls-alpn-01 for `name` (lower case) end by that configuration; none when too much is pending.
    pub fn answer_tls(self: &Arc<Self>, name: &str, config: Arc<ServerConfig>) -> Option<Pending> {
        let added = self.add(&self.tls, name, config);
        added.then(|| Pending { challenges: self.clone(), key: Key::Tls(name.to_owned()) })
    }

    /// What is answered at a path; none when nothing is pending there.
    pub fn http(&self, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(HTTP_PREFIX)?;
        let pending = self.http.load();
        pending.as_ref()?.iter().find(|(own, _)| own == token).map(|(_, text)| text.clone())
    }

    /// Whether a handshake may be one of tls-alpn-01.
    #[inline]
    pub fn wants_hellos(&self) -> bool {
        self.tls.load().is_some()
    }

    /// By what a handshake of tls-alpn-01 ends: one that offers its protocol, nothing else, and asks for a name that is
    /// pending (RFC 8737 §3).
    pub fn tls(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(TLS_PROTOCOL) || protocols.next().is_some() {
            return None;
        }
        let name = hello.server_name()?;
        let pending = self.tls.load();
        pending.as_ref()?.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, config)| config.clone())
    }

    /// From now on what is pending stays so when who ordered it ends: another process goes on with the order, and this
    /// one is asked until that one serves.
    pub fn stay(&self) {
        *self.write() = true;
    }

    /// From now on what is pending is again taken out when it is dropped. What stayed is there until it is answered
    /// anew or [`Self::clear`]ed, so that there is no moment in between.
    pub fn come_and_go(&self) {
        *self.write() = false;
    }

    /// No order is under way: nothing is pending.
    pub fn clear(&self) {
        let _one = self.write();
        self.http.store(None);
        self.tls.store(None);
    }

    fn write(&self) -> MutexGuard<'_, bool> {
        self.stays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<T: Clone>(&self, list: &ArcSwapOption<Vec<(String, T)>>, key: &str, value: T) -> bool {
        let _one = self.write();
        let mut new = without(list, key);
        let fits = new.len() < PENDING_MAX;
        if fits {
            new.push((key.to_owned(), value));
            list.store(Some(Arc::new(new)));
        }
        fits
    }

    fn remove<T: Clone>(&self, list: &ArcSwapOption<Vec<(String, T)>>, key: &str) {
        let stays = self.write();
        if *stays {
            return;
        }
        let new = without(list, key);
        list.store((!new.is_empty()).then(|| Arc::new(new)));
    }
}

fn without<T: Clone>(list: &ArcSwapOption<Vec<(String, T)>>, key: &str) -> Vec<(String, T)> {
    let pending = list.load();
    let all = pending.as_ref().map(|all| all.as_slice()).unwrap_or_default();
    all.iter().filter(|(own, _)| own != key).cloned().collect()
}

impl Drop for Pending {
    fn drop(&mut self) {
        match &self.key {
            Key::Http(token) => self.challenges.remove(&self.challenges.http, token),
            Key::Tls(name) => self.challenges.remove(&self.challenges.tls, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_pending_is_answered_and_only_as_long() {
        let challenges = Arc::new(Challenges::default());
        let at = |token: &str| challenges.http(&format!("{HTTP_PREFIX}{token}"));
        assert!(at("a").is_none());
        let first = challenges.answer_http("a", "a.key").expect("there is room");
        let second = challenges.answer_http("b", "b.key").expect("there is room");
        assert_eq!((at("a").as_deref(), at("b").as_deref()), (Some("a.key"), Some("b.key")));
        assert!(at("").is_none() && at("c").is_none() && at("a/").is_none() && challenges.http("/a").is_none());
        drop(first);
        assert_eq!((at("a"), at("b").as_deref()), (None, Some("b.key")));
        drop(second);
        assert!(at("b").is_none() && challenges.http.load().is_none() && !challenges.wants_hellos());
    }

    #[test]
    fn what_stays_is_answered_until_it_is_taken_up_or_no_order_is_under_way() {
        let challenges = Arc::new(Challenges::default());
        let at = |token: &str| challenges.http(&format!("{HTTP_PREFIX}{token}"));
        let pending = [challenges.answer_http("a", "1"), challenges.answer_http("b", "2")];
        challenges.stay();
        drop(pending);
        challenges.come_and_go();
        assert_eq!((at("a").as_deref(), at("b").as_deref()), (Some("1"), Some("2")));
        let again = challenges.answer_http("a", "3").expect("there is room");
        assert_eq!(at("a").as_deref(), Some("3"));
        drop(again);
        assert_eq!((at("a"), at("b").as_deref()), (None, Some("2")));
        challenges.clear();
        assert!(at("b").is_none() && challenges.http.load().is_none());
    }

    #[test]
    fn what_is_pending_is_bounded() {
        let challenges = Arc::new(Challenges::default());
        let held: Vec<_> = (0..PENDING_MAX).map(|n| challenges.answer_http(&n.to_string(), "")).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(challenges.answer_http("more", "").is_none());
        drop(held);
        assert!(challenges.answer_http("more", "").is_some());
    }
}
