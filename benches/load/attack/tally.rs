//! What became of the connections of an attack.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts, and how long connections lasted that the server ended.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) opened: u64,
    /// Could not be opened.
    pub(super) failed: u64,
    /// Handshakes, or answers' beginnings, that the kind was after.
    pub(super) reached: u64,
    pub(super) sent_bytes: u64,
    /// Streams that the server reset.
    pub(super) stream_resets: u64,
    /// By what was said at the end: a status, a code of GOAWAY, an alert; `fin` or `reset` when nothing was.
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) lives: Vec<Duration>,
    /// Open when time was up.
    pub(super) left: u64,
}

// === impl Tally ===

impl Tally {
    pub(super) fn end(&mut self, how: String, life: Duration) {
        *self.ended.entry(how).or_default() += 1;
        self.lives.push(life);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.failed += other.failed;
        self.reached += other.reached;
        self.sent_bytes += other.sent_bytes;
        self.stream_resets += other.stream_resets;
        self.left += other.left;
        self.lives.extend(other.lives);
        for (how, count) in other.ended {
            *self.ended.entry(how).or_default() += count;
        }
    }

    pub(super) fn json(mut self) -> String {
        self.lives.sort_unstable();
        let at = |q: f64| self.lives.get((self.lives.len().saturating_sub(1) as f64 * q) as usize);
        let ms = |q| at(q).map_or(0.0, |life| life.as_secs_f64() * 1e3);
        let ended: Vec<_> = self.ended.iter().map(|(how, count)| format!("\"{how}\":{count}")).collect();
        format!(
            "{{\"opened\":{},\"failed\":{},\"reached\":{},\"sent_bytes\":{},\"stream_resets\":{},\"closed\":{},\
             \"left\":{},\"life_p50_ms\":{:.1},\"life_max_ms\":{:.1},\"ended\":{{{}}}}}",
            self.opened,
            self.failed,
            self.reached,
            self.sent_bytes,
            self.stream_resets,
            self.lives.len(),
            self.left,
            ms(0.5),
            ms(1.0),
            ended.join(","),
        )
    }
}
