"""The rows of the table: what is measured, on which proxies, against which goal."""

from dataclasses import dataclass, field
from functools import partial

from lab.measure import (
    added_latency,
    calls,
    changes,
    cleartext_h2,
    closed_loop,
    idle_memory,
    messages,
    over_tls,
    throughput,
    two_cores,
    with_cookies,
)

EVERY = ["weir", "haproxy", "nginx", "envoy", "caddy", "pingora"]
WITH_TUNED = ["weir", "haproxy", "nginx", "nginx-tuned", "envoy", "caddy", "pingora"]
SHIFT_GOAL = "median ≤ 2 ms, worst ≤ 10 ms, nothing failed or closed"


@dataclass
class Row:
    """One row. `goals`: peer → ratio weir/peer to reach (for latency: not to exceed), or "weir" → its own value."""

    key: str
    title: str
    run: object
    peers: list = field(default_factory=lambda: list(EVERY))
    goals: dict = field(default_factory=dict)
    wanted: str = ""


ROWS = [
    Row(
        "small",
        "HTTP/1.1 keep-alive, 54-byte answers, 64 connections",
        partial(throughput, shape=closed_loop),
        goals={"haproxy": 1.0, "nginx": 1.15, "envoy": 1.8, "caddy": 2.8, "pingora": 1.5},
    ),
    Row(
        "cookie",
        "the same with cookie affinity, clients that keep their cookie",
        partial(throughput, shape=with_cookies, cookie=True),
        peers=["weir", "haproxy"],
        goals={"haproxy": 1.0},
    ),
    Row(
        "h2c",
        "cleartext HTTP/2 from clients, 16 connections × 32 streams",
        partial(throughput, shape=cleartext_h2),
        goals={"haproxy": 1.1, "nginx": 2.0},
    ),
    Row(
        "h2-to-h2",
        "cleartext HTTP/2 from clients and to endpoints, 16 connections × 32 streams",
        partial(throughput, shape=cleartext_h2, to="h2"),
        peers=["weir", "haproxy"],
        goals={"haproxy": 1.1},
    ),
    Row(
        "grpc",
        "unary gRPC calls, cleartext HTTP/2 on both sides, 16 connections × 32 streams",
        partial(throughput, shape=calls, to="h2"),
        peers=["weir", "haproxy", "nginx"],
        goals={"haproxy": 1.1},
    ),
    Row(
        "websocket",
        "WebSocket messages of 54 bytes and their echo, 64 connections",
        partial(throughput, shape=messages, to="socket"),
        peers=["weir", "haproxy", "nginx"],
        goals={"haproxy": 1.0},
    ),
    Row(
        "100k",
        "100 kB bodies, 16 connections",
        partial(throughput, shape=partial(closed_loop, connections=16, path="/100k"), path="/100k"),
        peers=WITH_TUNED,
        goals={"haproxy": 1.2, "nginx-tuned": 1.2},
    ),
    Row(
        "10m",
        "10 MB bodies, 16 connections",
        partial(throughput, shape=partial(closed_loop, connections=16, path="/10m"), path="/10m"),
        peers=WITH_TUNED,
        goals={"haproxy": 2.0, "nginx": 2.0},
    ),
    Row(
        "connect",
        "a connection per request, 64 at a time",
        partial(throughput, shape=partial(closed_loop, header="Connection: close")),
        goals={"haproxy": 1.0, "nginx": 1.0},
    ),
    Row(
        "tls-10k",
        "10 kB answers over TLS 1.3, keep-alive, 64 connections",
        partial(throughput, shape=partial(over_tls, path="/10k"), path="/10k", tls=True),
        peers=["weir", "haproxy", "nginx"],
        goals={"haproxy": 1.0, "nginx": 1.0},
    ),
    Row(
        "tls-handshakes",
        "full TLS 1.3 handshakes (ECDSA P-256), one request each, 64 at a time",
        partial(throughput, shape=partial(over_tls, header="Connection: close"), tls=True),
        peers=["weir", "haproxy", "nginx"],
        goals={"haproxy": 1.0, "nginx": 1.0},
    ),
    Row(
        "mirror",
        "the same as the first, every request copied to another pool (closed loop: rate falls as CPU time rises)",
        partial(throughput, shape=closed_loop),
        peers=["weir", "weir-mirror"],
        wanted="CPU time ≤ 1.3 times",
    ),
    Row(
        "mirror-10k",
        "10 kB answers, every request copied",
        partial(throughput, shape=partial(closed_loop, path="/10k"), path="/10k"),
        peers=["weir", "weir-mirror"],
        wanted="CPU time ≤ 1.3 times",
    ),
    Row(
        "mirror-h2",
        "54-byte answers over HTTP/1.1, every request copied to a pool that speaks cleartext HTTP/2",
        partial(throughput, shape=closed_loop, copies="h2"),
        peers=["weir", "weir-mirror"],
        wanted="CPU time ≤ 1.3 times",
    ),
    Row("mirror-p99", "added p99 at 20 k req/s, every request copied", added_latency, peers=["weir", "weir-mirror"]),
    Row("p99", "added p99 at 20 k req/s, open loop", added_latency, goals={"haproxy": 1.0, "nginx": 1.0}),
    Row("memory", "memory per idle keep-alive connection", idle_memory, goals={"weir": 4096}, wanted="≤ 4 KiB"),
    Row(
        "two-256",
        "two cores against one, 256 connections",
        partial(two_cores, connections=256),
        peers=["weir", "haproxy"],
        goals={"weir": 1.9},
    ),
    Row(
        "two-8",
        "two cores against one, 8 connections",
        partial(two_cores, connections=8),
        peers=["weir", "haproxy"],
        goals={"weir": 1.6},
    ),
    Row(
        "shift-file",
        "shift by saving in place: until the last request that the old pool gets",
        partial(changes, how="file"),
        peers=["weir"],
        wanted=SHIFT_GOAL,
    ),
    Row(
        "shift-rename",
        "shift by renaming over: until the last request that the old pool gets",
        partial(changes, how="rename"),
        peers=["weir"],
        wanted=SHIFT_GOAL,
    ),
    Row(
        "shift-put",
        "shift by `PUT weights`: requests that the old pool gets after the answer",
        partial(changes, how="put"),
        peers=["weir"],
        wanted="none, nothing failed or closed",
    ),
    Row(
        "reloads",
        "1 000 reloads under load, then one shift",
        partial(changes, how="reload"),
        peers=["weir"],
        wanted="nothing failed or closed",
    ),
]
