//! What the two sides of a connection say of themselves (RFC 9113 §6.5).

/// What weir says of its side, and bears from the other.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// SETTINGS_INITIAL_WINDOW_SIZE: bytes of a stream that may come before they are taken; at most 2^31-1.
    pub(crate) stream_window: u32,
    /// The same of all streams together; not below 65,535, with which a connection begins.
    pub(crate) connection_window: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes by RFC 9113 §6.5.2. A larger head of a request is answered by 431.
    pub(crate) list_max: u32,
    /// SETTINGS_MAX_CONCURRENT_STREAMS; streams above are refused. None: nothing is said, as by clients.
    pub(crate) streams_max: Option<u32>,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    pub(crate) enable_connect: bool,
    /// Streams reset by the peer before they were taken that end the connection.
    pub(crate) pending_resets_max: usize,
}
