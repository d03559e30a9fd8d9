//! Time as the request path sees it: read once per request by the worker, handed to everything that decides.

/// A moment: milliseconds on the monotonic clock since the process began, and seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the process began; starts at 1 so that 0 can mean "never".
    pub mono_ms: u64,
    /// Seconds since the Unix epoch, for cookies and logs.
    pub unix_s: u64,
}
