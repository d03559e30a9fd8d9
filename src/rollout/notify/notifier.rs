//! Hands each channel what it is to be told. It does nothing that takes time itself; who listens is `listen`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::event::Event;
use super::super::runner::locked;
use super::super::runner::office::now_ms;
use super::Message;
use super::cooldown::Cooldowns;
use super::incidents::{Incident, Incidents};
use super::memory::{Memory, REPLAYED_AGE_MS};
use super::outbox::Outbox;
use super::post::Post;
use super::send::send;
use super::wants;
use crate::model::Name;
use crate::model::notify::{Channel, Notifications};
use crate::telemetry::clock;

/// Time beyond its own that a test of a channel gets.
const GRACE: Duration = Duration::from_secs(1);

/// Who is told what.
#[derive(Debug)]
pub(in crate::rollout) struct Notifier {
    runtime: Handle,
    /// What the clock of the process is behind the Unix time, in ms. Times are of the Unix epoch, so that they survive
    /// a restart, and a clock that is set neither hastens nor delays anything.
    epoch_ms: u64,
    room: Mutex<Room>,
    /// Something is due at another time than before.
    bell: Notify,
    /// The number of the newest event that was heard.
    heard: AtomicU64,
    /// Events that were gone before they could be heard.
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Room {
    rules: Arc<Notifications>,
    posts: BTreeMap<Name, Post>,
    cooldowns: Cooldowns,
    incidents: Incidents,
}

/// How a channel is.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct ChannelState {
    pub(in crate::rollout) channel: Arc<Channel>,
    pub(in crate::rollout) waiting: usize,
    pub(in crate::rollout) sent: u64,
    pub(in crate::rollout) failed: u64,
    pub(in crate::rollout) dropped: u64,
    pub(in crate::rollout) held_back: u64,
    pub(in crate::rollout) retried: u64,
    pub(in crate::rollout) holding: u64,
    pub(in crate::rollout) sent_at_ms: Option<u64>,
    pub(in crate::rollout) error: Option<(u64, String)>,
}

/// What nobody looked at yet.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Open {
    pub(in crate::rollout) event: Arc<Event>,
    pub(in crate::rollout) since_ms: u64,
    pub(in crate::rollout) events: u64,
    /// Who is told and in how many ms from now.
    pub(in crate::rollout) next: Vec<(Name, u64)>,
}

/// How a try went.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Tried {
    pub(in crate::rollout) channel: Name,
    pub(in crate::rollout) took: Duration,
    pub(in crate::rollout) error: Option<String>,
}

// === impl Notifier ===

impl Notifier {
    /// Tells nobody yet.
    pub(in crate::rollout) fn new(runtime: Handle) -> Self {
        let (heard, missed) = (AtomicU64::new(0), AtomicU64::new(0));
        let epoch_ms = now_ms().saturating_sub(clock::now().mono_ms);
        Self { runtime, epoch_ms, room: Mutex::default(), bell: Notify::new(), heard, missed }
    }

    /// Goes by other rules from now on. What waits for a channel that stays is told by the new ones; what was open goes
    /// on by the old.
    pub(in crate::rollout) fn set(&self, rules: Notifications) {
        let mut room = locked(&self.room);
        if *room.rules == rules {
            return;
        }
        let mut before = std::mem::take(&mut room.posts);
        for channel in &rules.channels {
            let outbox = match before.remove(&channel.name) {
                Some(post) if *post.channel == *channel => {
                    room.posts.insert(channel.name.clone(), post);
                    continue;
                }
                Some(post) => Arc::clone(&post.outbox),
                None => Arc::new(Outbox::default()),
            };
            room.posts.insert(channel.name.clone(), Post::start(&self.runtime, channel.clone(), outbox));
        }
        room.cooldowns.keep(|name| rules.channel(name).is_some());
        let (channels, escalations) = (rules.channels.len(), rules.escalations.len());
        tracing::info!(channels, escalations, "notifications");
        room.rules = Arc::new(rules);
        drop(room);
        self.bell.notify_one();
    }

    /// Tells nobody any more: another process goes on with what was kept.
    pub(in crate::rollout) fn rest(&self) {
        locked(&self.room).posts.clear();
    }

    /// Somebody looks at what is open of a service, or of all; how much it was.
    pub(in crate::rollout) fn acknowledge(&self, which: impl Fn(&Event) -> bool) -> usize {
        let ended = locked(&self.room).incidents.end(|incident| which(&incident.event));
        self.bell.notify_one();
        ended
    }

    /// Unix time, in ms.
    fn now_ms(&self) -> u64 {
        self.epoch_ms.saturating_add(clock::now().mono_ms)
    }

    /// The number of the newest event that was heard.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Hears an event; those between it and the one before are gone.
    pub(super) fn hear(&self, event: &Arc<Event>) {
        let before = self.heard.swap(event.id, Ordering::Relaxed);
        self.missed.fetch_add(event.id.saturating_sub(before + 1), Ordering::Relaxed);
        let now_ms = self.now_ms();
        let mut room = locked(&self.room);
        room.tell_due(now_ms);
        room.tell_channels(event, now_ms, |_| true);
        let rules = Arc::clone(&room.rules);
        room.incidents.hear(&rules.escalations, event, now_ms);
    }

    /// Goes on after a restart: tells what waited, and what happened up to the event `last`.
    pub(super) fn go_on(&self, mut memory: Memory, events: Vec<Event>, last: u64) {
        self.heard.store(last, Ordering::Relaxed);
        let mut room = locked(&self.room);
        let now_ms = self.now_ms();
        let rules = Arc::clone(&room.rules);
        let waiting = memory.waiting_for(&rules);
        let wanted = last.saturating_sub(memory.heard) + waiting.len() as u64;
        let of_use = |event: &Event| event.id > memory.heard || waiting.contains(&event.id);
        let (news, old): (Vec<Event>, Vec<Event>) =
            events.into_iter().filter(of_use).partition(|event| event.at_ms.saturating_add(REPLAYED_AGE_MS) >= now_ms);
        self.missed.fetch_add(wanted.saturating_sub(news.len() as u64), Ordering::Relaxed);
        for (channel, message) in memory.escalated() {
            room.tell(&channel, message);
        }
        let news: Vec<Arc<Event>> = news.into_iter().map(Arc::new).collect();
        for event in &news {
            room.tell_channels(event, now_ms, |channel| memory.wants(channel, event.id));
        }
        let heard = memory.heard;
        room.incidents = memory.incidents(&rules.escalations);
        for event in old.into_iter().map(Arc::new).chain(news).filter(|event| event.id > heard) {
            room.incidents.hear(&rules.escalations, &event, event.at_ms.min(now_ms));
        }
    }

    /// What is to be kept now.
    pub(super) fn memory(&self) -> Memory {
        let room = locked(&self.room);
        let mut memory = Memory::of(self.heard(), &room.incidents);
        room.posts.values().for_each(|post| post.outbox.keep(&post.channel.name, &mut memory));
        room.cooldowns.waiting().for_each(|(channel, message)| memory.waits(channel, [message].iter()));
        memory
    }

    /// Waits until something is due at another time than before.
    pub(super) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Tells what was held back or not looked at for long enough.
    pub(super) fn tell_due(&self) {
        locked(&self.room).tell_due(self.now_ms());
    }

    /// Time until something is due; none when nothing will be.
    pub(super) fn next_in(&self) -> Option<Duration> {
        let now_ms = self.now_ms();
        let room = locked(&self.room);
        let next = room.cooldowns.next_ms().into_iter().chain(room.incidents.next_ms()).min();
        next.map(|at| Duration::from_millis(at.saturating_sub(now_ms)))
    }

    /// Somebody who empties a queue fell over: another one takes the place.
    pub(super) fn look_after_posts(&self) {
        let mut room = locked(&self.room);
        for post in room.posts.values_mut().filter(|post| post.has_ended()) {
            tracing::error!(channel = post.channel.name.as_str(), "notifications of a channel failed inside weir");
            let (channel, outbox) = (Channel::clone(&post.channel), Arc::clone(&post.outbox));
            *post = Post::start(&self.runtime, channel, outbox);
        }
    }

    /// Tries channels now, once, beside what waits for them.
    pub(in crate::rollout) async fn test(&self, only: Option<&str>, event: &Arc<Event>) -> Vec<Tried> {
        let channels: Vec<Arc<Channel>> = {
            let room = locked(&self.room);
            let posts = room.posts.values().filter(|post| only.is_none_or(|name| post.channel.name.as_str() == name));
            posts.map(|post| Arc::clone(&post.channel)).collect()
        };
        let mut tries = JoinSet::new();
        for channel in channels {
            let message = Message::of(event);
            tries.spawn(async move {
                let began = Instant::now();
                let tried = timeout(channel.timeout + GRACE, send(&channel, &message)).await;
                let error = match tried {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("it took too long".into()),
                };
                Tried { channel: channel.name.clone(), took: began.elapsed(), error }
            });
        }
        let mut tried = tries.join_all().await;
        tried.sort_by(|a, b| a.channel.cmp(&b.channel));
        tried
    }

    /// What it goes by.
    pub(in crate::rollout) fn rules(&self) -> Arc<Notifications> {
        Arc::clone(&locked(&self.room).rules)
    }

    /// How each channel is, in the order of the configuration.
    pub(in crate::rollout) fn channels(&self) -> Vec<ChannelState> {
        let room = locked(&self.room);
        let posts = room.rules.channels.iter().filter_map(|channel| room.posts.get(&channel.name));
        posts.map(|post| state(post, room.cooldowns.held(&post.channel.name))).collect()
    }

    /// What nobody looked at yet, oldest first.
    pub(in crate::rollout) fn open(&self) -> Vec<Open> {
        let now_ms = self.now_ms();
        let open = |incident: &Incident| Open {
            event: Arc::clone(&incident.event),
            since_ms: incident.since_ms,
            events: incident.events,
            next: incident.next(now_ms),
        };
        locked(&self.room).incidents.open().iter().map(open).collect()
    }

    /// Events that were gone before they could be heard.
    pub(in crate::rollout) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

fn state(post: &Post, holding: u64) -> ChannelState {
    let (counts, last) = (&post.outbox.counts, post.outbox.last());
    let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
    ChannelState {
        channel: Arc::clone(&post.channel),
        waiting: post.outbox.waiting(),
        sent: value(&counts.sent),
        failed: value(&counts.failed),
        dropped: value(&counts.dropped),
        held_back: value(&counts.held_back),
        retried: value(&counts.retried),
        holding,
        sent_at_ms: last.sent_at_ms,
        error: last.error,
    }
}

// === impl Room ===

impl Room {
    fn tell_channels(&mut self, event: &Arc<Event>, now_ms: u64, whom: impl Fn(&str) -> bool) {
        for (channel, message) in self.cooldowns.turn(event) {
            self.tell(&channel, message);
        }
        let rules = Arc::clone(&self.rules);
        let hears = |channel: &&Channel| wants::hears(channel, event) && whom(&channel.name);
        for channel in rules.channels.iter().filter(hears) {
            match self.cooldowns.hear(channel, event, now_ms) {
                Some(message) => self.tell(&channel.name, message),
                None => self.count_held(&channel.name),
            }
        }
    }

    fn tell(&self, channel: &str, message: Message) {
        if let Some(post) = self.posts.get(channel) {
            post.outbox.put(message);
        }
    }

    fn count_held(&self, channel: &str) {
        if let Some(post) = self.posts.get(channel) {
            post.outbox.counts.held_back.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was held back or not looked at for long enough.
    fn tell_due(&mut self, now_ms: u64) {
        for (channel, message) in self.cooldowns.due(now_ms) {
            self.tell(&channel, message);
        }
        for (channel, message) in self.incidents.due(now_ms) {
            let (service, event) = (&message.event.service, message.event.id);
            tracing::warn!(channel = channel.as_str(), service, event, "nobody looked: it is escalated");
            self.tell(&channel, message);
        }
    }
}
