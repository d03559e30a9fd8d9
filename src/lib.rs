//! weir, a traffic splitter: save the weights file and live traffic moves at once.
//!
//! This file is the map of the house as it stands. For what weir does and how it is run, read `README.md`; for what the
//! words mean, [`model`].
//!
//! # The idea
//!
//! A request is **decided** synchronously over one immutable snapshot, and then **done** asynchronously. Whoever wants
//! anything changed (a saved file, the API, a signal, another answer of a name server) hands a
//! [`Change`](switchboard::change::Change) to the [`switchboard`] and gets an answer; only the switchboard publishes a
//! snapshot. **The weights file is the one truth about the split**: whoever changes the split changes that file, so who
//! opens it sees what is live. If the control side is stopped, slow or wrong, traffic keeps flowing at the weights that
//! were published last.
//!
//! # Rooms, in reading order
//!
//! A room imports only rooms on lower floors, never upwards and never sideways; [`proxy`] does not import [`config`]
//! either, since what it needs of a file stands in the snapshot. `tests/tidy.rs` holds this table as data.
//!
//! | floor | room | what it is |
//! |---|---|---|
//! | 0 | [`model`] | the nouns: names, weights, policies, the canonical request head; no I/O, no clock |
//! | 1 | [`config`] | the door: text in, [`Config`](config::Config) or every problem with its place out; file watching |
//! | 1 | [`routing`] | which route, which pool: table, matchers, bucket, splitter; pure, synchronous |
//! | 1 | [`tls`] | certificates: read, checked, chosen by name, kept fresh; no socket |
//! | 1 | [`telemetry`] | what happened: counters by worker, histograms, Prometheus text, access log |
//! | 1 | [`outside`] | calls that leave the house: HTTP, commands, mail; deadlines and bounds |
//! | 2 | [`acme`] | automatic certificates: when one is ordered, how, and what is kept; a feature of the build |
//! | 2 | [`throttle`] | how much may come: rate limits by key, caps on requests in flight; shared by all workers |
//! | 2 | [`upstream`] | the other side: endpoints by identity, names, probes, ejection, the pool breaker |
//! | 3 | [`switchboard`] | the one writer: change, reconcile (pure), publish; history, keys, status |
//! | 4 | [`proxy`] | the data plane, files in the order in which a request meets them |
//! | 4 | [`rollout`] | weights moved by phases and gates, as far as the evidence allows; knows nothing of HTTP |
//! | 5 | [`admin`] | the control surface: listener, guard, API, metrics |
//! | 6 | [`app`] | the composition root: alone knows every room; binds, spawns, drains |
//! | 7 | [`cli`] | one file per verb |
//! | 8 | `main` | arguments, verb, exit code |
//!
//! # The way of a request
//!
//! ```text
//! proxy/worker       porter accepts, hands the connection to the worker with the fewest, where listen begins it
//! proxy/arrival      connection waits for a head, holding next to nothing, and tells HTTP/1 from HTTP/2; before it
//!                    proxy/announce: whom a balancer speaks for; handshake, secure: TLS (link)
//! proxy/frames       watches the frames of HTTP/2 on their way to proxy/http2 (hpack), which takes them apart: floods
//! proxy/h1, http2    parse it into the one canonical model::Head, or refuse           400 405 414 417 431 505
//! proxy/clients      serve: HTTP/1; stream: the same for a stream of HTTP/2, in a task of hands
//!                    (what an ACME authority looks at: arrival/challenge):
//!   1 snapshot       one load, from the worker's own cache
//!   2 proxy/decide   kill, listener pin, direct path, route, rate limits, override,
//!                    cohort, bucket, splitter                                         403 404 429
//!                    then an endpoint (balance), or another pool if none serves       503
//!     decide/admit   a place among those in flight, where pool or service is capped;
//!                    a full pool spills to stable, else it waits                      503
//!     proxy/mirror   begins a copy for another pool, where there are mirrors; nobody waits for it
//!   3 proxy/heads    outgoing writes the head that the endpoint gets                   508
//!   4 proxy/attempt  forward: a pooled connection (conns) or a new one, safe retries (again, budget), hedges (hedge);
//!                    what goes out while a worker is busy goes in bursts (worker/turn)
//!     http1, dial    one attempt over HTTP/1; those that are not plain TCP (wire): TLS, sockets
//!     exchange       one attempt up to the head of its answer                         502 504
//!     proxy/h2up     the same over HTTP/2, down to the end of the answer
//!   5 heads/answer   maps the head back; clients/relay (HTTP/2: streamed) streams the body down, bodies/splice long
//!                    ones without a copy, proxy/tunnel what follows a 101 (socket, duplex: over HTTP/2);
//!                    tunnel/streams ends what lasts when its pool goes to 0
//!     tunnel/connect instead of 3 to 5, what a CONNECT asks for: a connection, and a tunnel through it
//!   6 proxy/record   counts and logs, in one place
//! ```
//!
//! [`proxy::decide::decide`] is pure: a snapshot, a head, a moment and dice in, a decision out; no socket, no clock. An
//! error becomes a response in one place, [`proxy::refusal`].
//!
//! # The way of a change
//!
//! ```text
//! a file is saved     config/watch ── app/tasks ───────────────┐
//! API, command line   admin/changes ───────────────────────────┤
//! SIGHUP              app/run ─────────────────────────────────┤→ Switchboard::apply, one at a time
//! addresses change    upstream/names ── app/tasks ─────────────┘
//!
//!   1 expected generation?   2 write the weights file (API, command line)   3 reconcile   4 build
//!   5 one store: from here on every request goes by it   6 tell subscribers   7 answer
//! ```
//!
//! Files are read and checked whole in [`config`]; a bad one changes nothing and stays visible as *last reload failed*.
//! [`switchboard::reconcile`] works out what is live next from what is live now; [`switchboard::publish`] looks live
//! state up by identity and builds the [`Snapshot`](switchboard::snapshot::Snapshot). A rollback turns steps 2 to 5
//! round: the traffic moves first, the file follows or is noted as pending.
//!
//! # Threads
//!
//! - One **worker** per core: a current-thread runtime with its own accepting sockets, endpoint connections, splitters,
//!   buffers and shard of every counter, so that the request path has no lock and no shared cache line that is written
//!   per request ([`proxy::worker`], [`telemetry::count`]). A connection is handed to another worker once, when it is
//!   accepted; it never moves again.
//! - One **control** thread: admin API, names, probes, breakers, signals ([`app`]). Work that may wait for a disk runs
//!   on its blocking threads.
//! - One **watcher** thread, which applies what it reads itself, so that a busy control thread delays no shift
//!   ([`config::watch`]).
//! - One **writer** of the access log ([`telemetry::access_log`]).
//!
//! # One process after another
//!
//! An upgrade of the binary (`app/upgrade`, `app/handover`) has two processes accept on the same sockets for a moment.
//! What only one may write (history, journal, audit log, orders of certificates) is let go of by the old one before the
//! new one opens it, and taken up again when that one does not come to serve.
//!
//! # Invariants
//!
//! What must stay true, where it is held, and a test that fails when it is not.
//!
//! 1. **The data plane never waits for the control plane.** Workers load a snapshot and that is all; lookups in a hurry
//!    and log lines go through bounded queues that drop. `a_reader_that_does_not_read_slows_no_request`.
//! 2. **One request, one snapshot.** It is loaded once and lent to everything after it
//!    ([`Question`](proxy::decide::Question)). `a_request_in_flight_finishes_where_it_began`.
//! 3. **Only [`switchboard`] publishes; the weights file says what is published.** The one store is in
//!    [`switchboard::writer`]. `after_the_answer_of_a_put_no_request_goes_by_the_old_weights`.
//! 4. **A [`Config`](config::Config) in hand can be served.** There is no other way to get one than through its checks.
//!    `all_problems_of_a_file_are_told_at_once_and_none_of_it_applies`.
//! 5. **Weight 0 receives no new request by weight; all-zero cannot be represented** ([`model::Weights::new`],
//!    [`routing::split`]). `a_pool_at_zero_gets_no_request_at_all`.
//! 6. **Raising a pool's share never moves a sticky unit off it** ([`routing::split`], properties beside it).
//!    `a_raised_share_moves_nobody_off_the_canary_and_a_lowered_one_moves_exactly_the_same_back`.
//! 7. **What decides is pure**: [`model`], [`routing`], [`proxy::decide`], [`switchboard::reconcile`], and `gate` and
//!    `book` of [`upstream`] read no clock, no randomness and no socket. `what_decides_is_pure` in `tests/tidy.rs`.
//! 8. **Nothing that arrives from a network or a file can panic, or grow memory without a bound that has a name.**
//!    Parsers have properties beside them; limits are [`model::Limits`] and constants named `…_MAX`.
//!    `a_head_over_its_limits_is_431_or_414_and_costs_no_memory`, `tests/corpus.rs`.
//! 9. **Live state belongs to identity, not to a snapshot** ([`upstream::registry`]).
//!    `a_server_that_was_down_before_a_reload_gets_no_request_after_it`.
//! 10. **Every failed attempt counts against the pool that failed, whatever the client saw; what the client causes
//!     counts against none** ([`model::Fault`]). `what_the_client_causes_never_counts_against_a_pool`.
//! 11. **Moving traffic to stable is never blocked**: not by a generation, a broken or read-only file, a full disk.
//!     `a_file_that_may_not_be_written_is_a_clear_conflict_but_a_rollback_moves_the_traffic`.
//! 12. **A killed service sends nothing anywhere but to stable**, by whatever way a request comes, and says so in the
//!     weights file ([`proxy::decide`], [`model::Kills`]).
//!     `a_killed_service_gets_nothing_at_its_canary_by_any_way_and_unkilling_restores`.
//! 13. **Only what the weights placed is evidence**: one attempt of each such request, where it failed; retries,
//!     failover and what names a pool count aside ([`telemetry::lane`]).
//!     `a_failed_canary_attempt_counts_there_and_its_retry_is_no_evidence_for_stable`.
//! 14. **What a person killed, only a person lets go**, whatever triggers, attempts and restarts say
//!     ([`rollout::kill`]). `only_a_person_ends_what_a_person_or_the_last_attempt_killed`.
//!
//! `whatever_happens_weight_zero_gets_nothing_and_no_client_notices` drives reloads, failures and requests together
//! over sockets; a seeded simulation beside [`switchboard`] does the same to the writer alone.

pub mod model;

pub mod config;
pub mod outside;
pub mod routing;
pub mod telemetry;
pub mod tls;

pub mod acme;
pub mod throttle;
pub mod upstream;

pub mod switchboard;

pub mod proxy;
pub mod rollout;

pub mod admin;

pub mod app;

pub mod cli;
