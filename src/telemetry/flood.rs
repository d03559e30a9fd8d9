//! What is counted of HTTP/2 peers whose connection was ended for what they did, per worker.

use super::count::Count;

/// One worker's counts.
#[derive(Debug, Default)]
pub struct FloodShard {
    ended: [[Count; Flood::ALL.len()]; 2],
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client.
    Client,
    /// An endpoint.
    Endpoint,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Too many PING frames.
    Ping,
    /// Too many SETTINGS frames, or entries in them.
    Settings,
    /// Too many PRIORITY frames.
    Priority,
    /// Too many WINDOW_UPDATE frames.
    WindowUpdate,
    /// Too many DATA frames with nothing in them.
    Data,
    /// Too many header blocks in pieces (CONTINUATION).
    Continuation,
    /// Too many streams reset by the peer (CVE-2023-44487).
    Reset,
    /// Too many streams that weir had to reset (CVE-2025-8671).
    Error,
    /// Too many frames of types that mean nothing here.
    Unknown,
    /// A header block that is far over its limits.
    HeadSize,
    /// A header block that took too long.
    SlowHead,
    /// The protocol was broken.
    Protocol,
    /// What came waited too long or was too much, beside what waited elsewhere. It is streams that are counted.
    Buffered,
}

// === impl FloodShard ===

impl FloodShard {
    /// Counts a connection; only the owning thread may call it.
    pub fn ended(&self, side: Side, flood: Flood) {
        self.count(side, flood).add(1);
    }

    /// How many connections were ended so.
    pub fn count(&self, side: Side, flood: Flood) -> &Count {
        &self.ended[side as usize][flood as usize]
    }
}

// === impl Side ===

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Endpoint];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Endpoint => "endpoint",
        }
    }
}

// === impl Flood ===

impl Flood {
    /// All of them, in declaration order.
    pub const ALL: [Self; 13] = [
        Self::Ping,
        Self::Settings,
        Self::Priority,
        Self::WindowUpdate,
        Self::Data,
        Self::Continuation,
        Self::Reset,
        Self::Error,
        Self::Unknown,
        Self::HeadSize,
        Self::SlowHead,
        Self::Protocol,
        Self::Buffered,
    ];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Settings => "settings",
            Self::Priority => "priority",
            Self::WindowUpdate => "window_update",
            Self::Data => "data",
            Self::Continuation => "continuation",
            Self::Reset => "reset",
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::HeadSize => "head_size",
            Self::SlowHead => "slow_head",
            Self::Protocol => "protocol",
            Self::Buffered => "buffered",
        }
    }
}
