//! Every metric that weir shows: name, kind, labels and help. One word per idea, base units, `_total` on counters
//! (prometheus.io/docs/practices/naming). A tidy test compares [`ALL`] with the README.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Durations by bucket.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, comma-separated.
    pub labels: &'static str,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident [$labels:literal] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help };)*
        /// Every metric, in the order of this file.
        pub const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    REQUESTS = "weir_requests_total" Counter ["service,pool,endpoint,code"]
        "Answers received from endpoints, by status code.";
    REQUEST_DURATION = "weir_request_duration_seconds" Histogram ["service,pool"]
        "Time from a request's head to the end of its response.";
    ATTEMPTS = "weir_attempts_total" Counter ["service,pool"]
        "Attempts sent to a pool, retries included.";
    UPSTREAM_ERRORS = "weir_upstream_errors_total" Counter ["service,pool,endpoint,kind"]
        "Failed attempts that an endpoint is to blame for: upstream_connect, upstream_answer or upstream_timeout.";
    POOL_FAULTS = "weir_pool_faults_total" Counter ["service,pool,kind"]
        "Attempts of a pool that failed, by whose fault it was.";
    LANE_ATTEMPTS = "weir_lane_attempts_total" Counter ["service,pool,lane"]
        "Attempts that ended, by lane: a and b are halves of what the weights placed, named is the rest.";
    LANE_ERRORS = "weir_lane_errors_total" Counter ["service,pool,lane"]
        "Of these, attempts in which the pool failed, a status of 500 or above included.";
    RETRIES = "weir_retries_total" Counter ["service,pool"]
        "Retries that left the pool for another endpoint or pool.";
    HEDGES = "weir_hedges_total" Counter ["service,pool,outcome"]
        "Requests sent a second time because their answer took long, by outcome: won (its answer was used) or lost.";
    CACHE_ANSWERS = "weir_cache_answers_total" Counter ["service,pool,result"]
        "Answers that said what a cache on their way did, by result: hit or miss; of services with count_cache.";
    DECISIONS = "weir_decisions_total" Counter ["service,pool,why"]
        "Requests sent to a pool, by why they went there.";
    REQUESTS_IN_FLIGHT = "weir_requests_in_flight" Gauge ["service,pool"]
        "Requests between their head and the end of their response.";
    LONG_STREAMS = "weir_long_streams" Gauge ["service,pool,kind"]
        "Long streams that run, by kind: websocket, connect, events, grpc or other (of unknown length, 5 s or more).";
    LONG_STREAMS_DRAINING = "weir_long_streams_draining" Gauge ["service,pool,kind"]
        "Long streams that are about to be closed because the weight of their pool went to 0.";
    LONG_STREAMS_CLOSED = "weir_long_streams_closed_total" Counter ["service,pool"]
        "Long streams that were closed because the weight of their pool went to 0.";
    REFUSED = "weir_refused_total" Counter ["kind"]
        "Requests that weir answered itself, by whose fault it was.";
    RATE_LIMITED = "weir_rate_limited_total" Counter ["limit,outcome"]
        "Requests that a rate limit counted, by outcome: allowed, refused, or shadow (it would have been refused).";
    RATE_LIMIT_KEYS = "weir_rate_limit_keys" Gauge ["limit"]
        "Keys of a rate limit whose bucket is not full.";
    RATE_LIMIT_FORGOTTEN = "weir_rate_limit_forgotten_total" Counter ["limit"]
        "Buckets of a rate limit that were forgotten before they were full again: its keys_max is too low.";
    OVERFLOW = "weir_overflow_total" Counter ["service,pool,outcome"]
        "Requests that found a pool (or, without pool, the service) full, by outcome: spill, wait or refused.";
    IN_FLIGHT_LIMIT = "weir_in_flight_limit" Gauge ["service,pool"]
        "Most requests that may be in flight now in a pool (or, without pool, the service) that is capped.";
    QUEUE_LENGTH = "weir_queue_length" Gauge ["service,pool"]
        "Requests that wait for a place in a pool or service that is capped.";
    MIRROR_SENT = "weir_mirror_sent_total" Counter ["service,pool"]
        "Copies of requests that were begun to be sent to a pool; they count in no other family.";
    MIRROR_IN_FLIGHT = "weir_mirror_in_flight" Gauge ["service,pool"]
        "Copies in hand: gathered, sent or waited for.";
    MIRROR_ANSWERS = "weir_mirror_answers_total" Counter ["service,pool,class"]
        "Answers to copies, by class of their status.";
    MIRROR_LOST = "weir_mirror_lost_total" Counter ["service,pool,kind"]
        "Copies that got no whole answer: connect, answer or timeout.";
    MIRROR_DROPPED = "weir_mirror_dropped_total" Counter ["service,pool,reason"]
        "Copies that were not sent: full (max_in_flight), body (max_body), client (it left), unserved (no endpoint).";
    MIRROR_DURATION = "weir_mirror_duration_seconds" Histogram ["service,pool"]
        "Time from the begin of a copy's sending to the end of its answer.";
    MIRROR_PAIRS = "weir_mirror_pairs_total" Counter ["outcome"]
        "Captured pairs of answers: given to whoever compares them, or dropped because that was slow.";
    SPLIT_CONFIGURED = "weir_split_configured_ratio" Gauge ["service,pool"]
        "Share of new requests that the weights give the pool, 0 to 1.";
    SPLIT_EFFECTIVE = "weir_split_effective_ratio" Gauge ["service,pool"]
        "Share of the service's requests that the pool got over the last 10 seconds; absent without requests.";
    POOL_WEIGHT = "weir_pool_weight" Gauge ["service,pool"]
        "Weight of the pool as the weights file has it.";
    POOL_ADMITTED = "weir_pool_admitted_ratio" Gauge ["service,pool"]
        "Part of its share that the pool's breaker lets through: 1 serving, 0 resting, between while it recovers.";
    ENDPOINT_UP = "weir_endpoint_up" Gauge ["service,pool,endpoint"]
        "Whether the endpoint takes requests: 1 serving, 0 down, ejected or not probed yet.";
    ENDPOINT_EJECTIONS = "weir_endpoint_ejections_total" Counter ["service,pool,endpoint"]
        "How often the endpoint was ejected for consecutive failures.";
    UPSTREAM_CONNECTIONS = "weir_upstream_connections_total" Counter ["service,pool,endpoint"]
        "Connections opened to the endpoint.";
    CONNECTIONS_OPEN = "weir_connections_open" Gauge [""]
        "Client connections open now.";
    CONNECTIONS = "weir_connections_total" Counter [""]
        "Client connections accepted.";
    EVENT_LOOP_DELAY = "weir_event_loop_delay_seconds" Histogram ["worker"]
        "How much later than it was due a worker's event loop looked at its clock, which is what all else waits too.";
    SHED_RATIO = "weir_shed_ratio" Gauge ["worker"]
        "Part of its requests that a worker answers 503 because its event loop is late, 0 to 1.";
    SHED = "weir_shed_total" Counter [""]
        "Requests that were answered 503 because the event loop of their worker was late.";
    TURNED_AWAY = "weir_connections_turned_away_total" Counter ["reason"]
        "Connections closed at once for the sake of others: their address is crowded, or resting.";
    ADDRESS_RESTS = "weir_address_rests_total" Counter [""]
        "How often an address was sent to rest for what its connections were ended for.";
    ADDRESSES_RESTING = "weir_addresses_resting" Gauge [""]
        "Addresses that are turned away now for what their connections were ended for.";
    ADDRESSES_UNCOUNTED = "weir_addresses_uncounted_total" Counter [""]
        "Connections let in without being counted for their address, because more are known already than are kept.";
    PROXY_PROTOCOL_FAILURES = "weir_proxy_protocol_failures_total" Counter ["kind"]
        "Connections closed because they did not begin with the PROXY protocol header that they must have, by kind.";
    HTTP2_ENDED = "weir_http2_ended_total" Counter ["side,kind"]
        "HTTP/2 connections that weir ended for what the peer did, by side (client or endpoint) and kind.";
    TLS_HANDSHAKES = "weir_tls_handshakes_total" Counter ["listener,version,resumed"]
        "TLS handshakes with clients that came to their end.";
    TLS_HANDSHAKE_FAILURES = "weir_tls_handshake_failures_total" Counter ["listener,kind"]
        "TLS handshakes with clients that failed, by kind.";
    UPSTREAM_TLS_HANDSHAKES = "weir_upstream_tls_handshakes_total" Counter ["service,pool,endpoint,result"]
        "TLS handshakes with endpoints, by result: full, resumed, or why they failed.";
    UPSTREAM_TLS_FILES_FAILED = "weir_upstream_tls_files_failed" Gauge ["service,pool"]
        "Files for TLS to endpoints that do not hold as they are now, so that what was in use before is in use still.";
    UPSTREAM_TLS_UNVERIFIED = "weir_upstream_tls_unverified" Gauge ["service,pool"]
        "Whether nobody checks who the endpoints are: 1 with insecure_skip_verify, 0 without.";
    TLS_CERTIFICATE_EXPIRY = "weir_tls_certificate_expiry_timestamp_seconds" Gauge ["listener,name"]
        "When a certificate that is served expires, in Unix time.";
    ACME_ORDERS = "weir_acme_orders_total" Counter ["name,result"]
        "Orders of automatic certificates, by whether one was issued.";
    ACME_FAILURES = "weir_acme_failures_in_a_row" Gauge ["name"]
        "Orders of automatic certificates that failed since the last that did not.";
    ACME_NEXT_ORDER = "weir_acme_next_order_timestamp_seconds" Gauge ["name"]
        "When the next order of an automatic certificate is due.";
    TLS_FILES_FAILED = "weir_tls_files_failed" Gauge ["listener"]
        "Files of certificates that do not hold as they are now, so that what was served before is served still.";
    BODY_BYTES = "weir_body_bytes_total" Counter ["service,pool,direction"]
        "Body bytes received from clients (in) and sent to them (out).";
    CONFIG_LAST_RELOAD_SUCCESSFUL = "weir_config_last_reload_successful" Gauge [""]
        "Whether the files as they are now are what is served: 1 yes, 0 the last reload failed.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP = "weir_config_last_reload_success_timestamp_seconds" Gauge [""]
        "When files were last taken over, in Unix time.";
    CONFIG_RELOADS = "weir_config_reloads_total" Counter ["result"]
        "Reloads, by result: success, unchanged or failure.";
    CONFIG_GENERATION = "weir_config_generation" Gauge [""]
        "Generation that is served.";
    CONFIG_SOURCE_STALE = "weir_config_source_stale" Gauge [""]
        "1 when a file seems to be a single-file mount that no longer follows the host's file.";
    KILLED = "weir_killed" Gauge ["service"]
        "Whether the service is killed: 1 everything goes to stable (or is answered 503), 0 not.";
    MAINTENANCE = "weir_maintenance" Gauge ["service,pool"]
        "Whether the pool is under maintenance: 1 it answers 503 and is sent nothing, 0 not.";
    ROLLBACK_PENDING = "weir_rollback_pending" Gauge ["service"]
        "1 while a rollback or a kill moved the traffic but could not be written to the weights file.";
    ACCESS_LOG_DROPPED = "weir_access_log_dropped_total" Counter [""]
        "Access log lines dropped because the reader was slow or writing failed.";
    TRACE_SPANS = "weir_trace_spans_total" Counter ["result"]
        "Spans of recorded traces: sent to the collector, failed to be sent, or dropped because too many waited.";
    METRICS_LEFT_OUT = "weir_metrics_samples_left_out" Gauge [""]
        "Samples that the limit on one exposition left out.";
    BUILD_INFO = "weir_build_info" Gauge ["version"]
        "The version of weir that runs; always 1.";
    WORKERS = "weir_workers" Gauge [""]
        "Worker threads.";
    ADMIN_REFUSED = "weir_admin_refused_total" Counter ["code"]
        "Admin requests refused, by problem code.";
    ADMIN_CHANGES = "weir_admin_changes_total" Counter ["action"]
        "Changes made over the admin API: weights, rollback, undo, reload or log_level.";
    ROLLOUT_STATE = "weir_rollout_state" Gauge ["service,state"]
        "1 for the state of the rollout that holds the service; absent without one.";
    ROLLOUT_PERCENT = "weir_rollout_percent" Gauge ["service"]
        "Percent of the service's traffic that the candidate of its rollout has, 0 to 100.";
    ROLLOUT_PHASE = "weir_rollout_phase" Gauge ["service"]
        "Phase of the rollout, counted from 1.";
    ROLLOUT_E_VALUE = "weir_rollout_e_value" Gauge ["service,gate"]
        "Evidence of a gate against the candidate; it fails at the gate's limit.";
    ROLLOUT_LIMIT = "weir_rollout_limit" Gauge ["service,gate"]
        "Evidence at which the gate fails.";
    ROLLOUT_BOUND = "weir_rollout_bound" Gauge ["service,gate"]
        "Smallest ratio of candidate to control that the gate excludes by now.";
    ROLLBACKS = "weir_rollout_rollbacks_total" Counter ["cause"]
        "Rollbacks of rollouts, by cause: automatic or manual.";
    ROLLOUT_TICKS = "weir_rollout_ticks_total" Counter [""]
        "Looks at rollouts.";
    ROLLOUT_JUDGE = "weir_rollout_judge_seconds_total" Counter [""]
        "Time that judging took, on the control thread.";
    ROLLOUT_JUDGE_LONGEST = "weir_rollout_judge_longest_seconds" Gauge [""]
        "Longest time that one look took to judge.";
    ROLLOUT_FALLS = "weir_rollout_runner_falls_total" Counter [""]
        "Runners of rollouts that fell over and were replaced.";
    KILL_SWITCH_STATE = "weir_kill_switch_state" Gauge ["switch,state"]
        "1 for the state that a kill switch is in, 0 for the others.";
    KILL_SWITCH_LEFT = "weir_kill_switch_left_seconds" Gauge ["switch"]
        "Time left of the grace, of the delay before an attempt or of the probation; 0 without one.";
    KILL_SWITCH_ATTEMPTS = "weir_kill_switch_attempts" Gauge ["switch"]
        "Attempts of a kill switch to come back since it was last let go or quiet.";
    KILL_SWITCH_TRIPS = "weir_kill_switch_trips_total" Counter ["switch"]
        "How often a kill switch killed, by itself or pulled by name.";
    NOTIFICATIONS = "weir_notifications_total" Counter ["channel,outcome"]
        "Notifications by channel: sent, failed, dropped for want of room, held_back by a cooldown; and tries retried.";
    NOTIFICATIONS_WAITING = "weir_notifications_waiting" Gauge ["channel"]
        "Notifications that wait for the channel.";
    ROLLOUT_ENGINE_UP = "weir_rollout_engine_up" Gauge [""]
        "Whether the engine of the rollouts runs.";
    PROCESS_CPU = "process_cpu_seconds_total" Counter [""]
        "User and system time of the process.";
    PROCESS_MEMORY = "process_resident_memory_bytes" Gauge [""]
        "Resident memory of the process.";
    PROCESS_OPEN_FDS = "process_open_fds" Gauge [""]
        "File descriptors open now.";
    PROCESS_MAX_FDS = "process_max_fds" Gauge [""]
        "File descriptors that the process may open.";
    PROCESS_START_TIME = "process_start_time_seconds" Gauge [""]
        "When the process began, in Unix time.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        for (i, metric) in ALL.iter().enumerate() {
            assert!(!ALL[..i].iter().any(|other| other.name == metric.name), "{} twice", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.name.starts_with("weir_") || metric.name.starts_with("process_"), "{}", metric.name);
            assert!(
                metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
