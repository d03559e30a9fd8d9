"""The attacks of `benches/floods`: what each is, how much of it, what must become of it, and how one is measured."""

import json
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from lab.machine import TICKS_PER_SECOND
from lab.peers import Proxy

KIB, MIB = 1024, 1024 * 1024

# The client beside: connections that it keeps, requests a second on them, and each on a new one.
KEPT_CONNECTIONS, KEPT, FRESH = 64, 2_000, 100
# Growth of memory that no attack may exceed, whatever its connections hold: buffers, tables and what the allocator
# keeps.
SLACK = 64 * MIB
# The promise for p99; and what is a failure also on a machine that does other things.
GOAL, ABSURD, ABSURD_US = 2.0, 50.0, 100_000
# Seconds of the client beside before it is measured, and from its start to that of the attack.
WARM_UP, HEAD_START = 1.0, 0.3
# Connections a second of those that open them by the thousand.
OPENED = 25_000
# Descriptors that an attacking process needs for itself.
OWN = 500


@dataclass
class Attack:
    """`holds`: bytes that one connection may make weir hold. `closed`: "all" of its connections are ended by weir
    within its time; "each" is, and comes back; its "streams" are; "none" has to be, for it is a client like
    others, or not within its time. `lines`: other settings."""

    key: str
    title: str
    connections: int
    holds: int
    closed: str
    seconds: int = 10
    tls: bool = False
    lines: str = ""


# A head that is not whole: a buffer of the size of the largest one. A body: what is read ahead of it on its way to
# the endpoint. An answer that is not taken: README, "Floods over HTTP/2". A connection that gets as far as TLS: its
# state.
HEAD, BODY, ANSWER, TLS = 36 * KIB, 80 * KIB, 80 * KIB, 40 * KIB
ROOM = "[limits]\nconnections_max = 200000\n"

ATTACKS = [
    Attack("silent", "connections that say nothing", 100_000, 4 * KIB, "all", 30),
    Attack("idle", "connections kept after a request, `connections_max` raised", 100_000, 4 * KIB, "none", 14,
           lines=ROOM),
    Attack("churn", "a connection for each request", 64, 64 * KIB, "none"),
    Attack("tls-full", "full TLS handshakes, then gone", 128, TLS, "none", tls=True),
    Attack("tls-hello", "TLS handshakes that are left at the answer", 512, TLS, "none", tls=True),
    Attack("tls-half", "half a ClientHello, then silence", 10_000, TLS, "all", 16, tls=True),
    Attack("tls-stall", "TLS handshakes that stop in the middle", 10_000, TLS, "all", 16, tls=True),
    Attack("slow-heads", "a header line each second", 10_000, HEAD, "all", 16),
    Attack("slow-bodies", "a byte of a body each second", 4_000, BODY, "all", 16),
    Attack("slow-readers", "answers of 10 MB, 16 bytes taken each second", 1_000, ANSWER, "all", 16),
    Attack("large-heads", "heads of 30 kB in 99 fields, one after the other", 64, 64 * KIB, "none"),
    Attack("many-fields", "heads of 8 000 fields", 64, 64 * KIB, "each"),
    Attack("h2-reset", "rapid reset (CVE-2023-44487)", 16, 256 * KIB, "each"),
    Attack("h2-made-reset", "made you reset (CVE-2025-8671)", 16, 256 * KIB, "each"),
    Attack("h2-continuation", "CONTINUATION without end", 16, 256 * KIB, "each"),
    Attack("h2-ping", "PING", 16, 256 * KIB, "each"),
    Attack("h2-settings", "SETTINGS that flip windows", 16, 256 * KIB, "each"),
    Attack("h2-bomb", "a field named 16 000 times in each head", 16, 4 * MIB, "each"),
    Attack("h2-fields", "heads of 30 kB in 200 bytes, as many as the connection takes", 16, 4 * MIB, "each"),
    Attack("h2-windows", "100 answers of 10 MB behind shut windows", 50, 100 * ANSWER, "streams", 16),
]

# By which metrics weir says whom it ended.
TOLD = ("weir_http2_ended_total", "weir_tls_handshake_failures_total", "weir_connections_turned_away_total")


def resident(process, field="VmRSS"):
    """Resident memory in bytes, or with VmHWM the most there ever was."""
    for line in Path(f"/proc/{process.child.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * KIB
    raise RuntimeError(f"weir has ended: {process.last_words()}")


def metrics(proxy):
    """Values by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/metrics", timeout=10) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def begin(lab, cores, command, port, **named):
    """A client under way, which prints JSON at its end."""
    argv = [lab.tools.load, command, "--target", f"127.0.0.1:{port}"]
    argv += [word for name, value in named.items() for word in (f"--{name.replace('_', '-')}", value)]
    argv = ["taskset", "-c", ",".join(map(str, cores)), *argv]
    child = subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, text=True)
    lab.running.append(child)
    return child


def ended(child):
    told, _ = child.communicate(timeout=120)
    if child.returncode:
        raise RuntimeError(f"a client failed with {child.returncode}")
    return json.loads(told)


def beside(lab, proxy, seconds, warm_up):
    """The client that means well, over plain HTTP/1.1."""
    named = {"rate": KEPT, "fresh_rate": FRESH, "connections": KEPT_CONNECTIONS}
    return begin(lab, lab.cores.polite, "polite", proxy.port, seconds=seconds, warm_up=warm_up, **named)


def attackers(lab, attack, proxy, connections, seconds):
    """As many processes as the limit of descriptors asks for."""
    count = -(-connections // (lab.descriptors - OWN))
    rate = OPENED // count if connections >= 1_000 else 1_000_000
    named = {"kind": attack.key, "connections": connections // count, "rate": rate, "seconds": seconds}
    named["threads"] = len(lab.cores.attackers)
    port = proxy.port_tls if attack.tls else proxy.port
    return [begin(lab, lab.cores.attackers, "attack", port, network=1 + n, **named) for n in range(count)]


def start(lab, attack):
    """A weir for this attack."""
    lab.tools.weir_extra = "\n".join(filter(None, [attack.lines or lab.limits, lab.tools.extra]))
    lab.tools.weir_timeouts = lab.timeouts
    (lab.room / attack.key).mkdir()
    return Proxy("weir", lab.tools, lab.room / attack.key, lab.upstream, lab.cores.proxy, tls=True)


def measure(lab, attack):
    """Quiet, beside the attack, quiet again; in the short form one weir and one quiet moment serve for all."""
    proxy = lab.proxy or start(lab, attack)
    try:
        before = lab.before or ended(beside(lab, proxy, lab.quiet, 0.5))
        if lab.quick:
            lab.proxy, lab.before = proxy, before
            settle(proxy)
        base, counts = resident(proxy.process), metrics(proxy)
        seconds = min(attack.seconds, lab.longest)
        connections = attack.connections // lab.divisor if attack.connections >= 1_000 else attack.connections
        others = beside(lab, proxy, seconds - WARM_UP - 0.5, WARM_UP)
        time.sleep(HEAD_START)
        ticks = proxy.process.cpu_ticks()
        hostile = attackers(lab, attack, proxy, connections, seconds)
        at_end = {}
        look = threading.Timer(seconds - 0.4, lambda: at_end.update(metrics(proxy)))
        look.start()
        seen = ended(others)
        tallies = [ended(child) for child in hostile]
        look.join()
        busy = (sum(proxy.process.cpu_ticks()) - sum(ticks)) / TICKS_PER_SECOND / seconds
        peak = resident(proxy.process, "VmHWM")
        after = before if lab.quick else ended(beside(lab, proxy, lab.quiet, 0.5))
        grown = {name: value - counts.get(name, 0) for name, value in metrics(proxy).items()}
    finally:
        if not lab.quick:
            proxy.stop()
    return {
        "before": before, "beside": seen, "after": after, "tally": added(tallies), "busy": busy,
        "told": {name: count for name, count in grown.items() if name.startswith(TOLD) and count},
        "open": at_end.get("weir_connections_open", 0), "connections": connections, "seconds": seconds,
        "grown": peak - base, "bound": SLACK + connections * attack.holds,
    }


def settle(proxy):
    """Waits until nobody is left of the attack before, and forgets how much memory that took."""
    end = time.monotonic() + 5
    while metrics(proxy)["weir_connections_open"] > 0 and time.monotonic() < end:
        time.sleep(0.02)
    # See proc(5); the most there ever was is what there is.
    Path(f"/proc/{proxy.process.child.pid}/clear_refs").write_text("5")


def added(tallies):
    """Those of all processes in one."""
    total = {**tallies[0], "ended": {}}
    for name in total:
        if name.startswith("life"):
            total[name] = max(tally[name] for tally in tallies)
        elif name != "ended":
            total[name] = sum(tally[name] for tally in tallies)
    for tally in tallies:
        for how, count in tally["ended"].items():
            total["ended"][how] = total["ended"].get(how, 0) + count
    return total


def judge(attack, seen):
    """What has to hold, by name, and whether it does."""
    tally, kept = seen["tally"], seen["beside"]["kept"]
    closed = {
        # Whoever does not read is told nothing, and counted at weir. Whoever waited for a place had less time to be
        # ended: there are more of those than one in ten nowhere.
        "all": seen["open"] <= KEPT_CONNECTIONS + 32
        or (tally["closed"] >= 0.9 * tally["opened"] and tally["life_max_ms"] < 900 * seen["seconds"]),
        "each": tally["closed"] > 0 and tally["life_max_ms"] < 900 * seen["seconds"],
        "streams": tally["stream_resets"] >= 100 * seen["connections"],
        "none": True,
    }[attack.closed]
    absurd = ratio(seen, "kept") > ABSURD and kept["p99_us"] > ABSURD_US
    return {
        "memory": seen["grown"] <= seen["bound"], "closed": closed, "served": kept["failed"] == 0, "p99": not absurd,
    }


def ratio(seen, side):
    """p99 beside the attack over the mean of those in quiet."""
    quiet = (seen["before"][side]["p99_us"] + seen["after"][side]["p99_us"]) / 2
    return seen["beside"][side]["p99_us"] / max(quiet, 1)


def tick(held):
    return " ✓" if held else " ✗"


def line(attack, seen):
    """Its line of the table."""
    held, tally = judge(attack, seen), seen["tally"]
    memory = f"{seen['grown'] / MIB:.0f} of {seen['bound'] / MIB:.0f} MiB{tick(held['memory'])}"
    p99 = f"{latency(seen, 'kept')}{tick(ratio(seen, 'kept') <= GOAL)}"
    closed = closing(attack, seen) + ("" if attack.closed == "none" else tick(held["closed"]))
    fresh, busy = latency(seen, "fresh"), f"{seen['busy'] * 100:.0f} %"
    return f"| {attack.title} | {tally['opened']} | {memory} | {closed} | {p99} | {fresh} | {busy} |"


def closing(attack, seen):
    """Who was closed, and by what word."""
    tally = seen["tally"]
    said = sorted(tally["ended"].items(), key=lambda it: -it[1])[:2]
    words = [f"{count} {how}" for how, count in said]
    words += [f"{kind(name)}: {count:.0f}" for name, count in seen["told"].items()]
    if attack.closed == "all":
        words.append(f"{max(seen['open'] - KEPT_CONNECTIONS, 0):.0f} open at the end")
    if attack.closed == "streams":
        words.append(f"{tally['stream_resets']} streams reset")
    if tally["closed"] and attack.closed != "none":
        words.append(f"after {tally['life_p50_ms'] / 1e3:.3g} s, at most {tally['life_max_ms'] / 1e3:.3g} s")
    return ", ".join(words)


def kind(name):
    """The last label's value."""
    return name.rsplit("=", 1)[1].strip('"}')


def latency(seen, side):
    quiet = (seen["before"][side]["p99_us"] + seen["after"][side]["p99_us"]) / 2e3
    failed = seen["beside"][side]["failed"]
    lost = f", {failed} failed" if failed else ""
    return f"{quiet:.2f} → {seen['beside'][side]['p99_us'] / 1e3:.2f} ms, **{ratio(seen, side):.1f}**{lost}"
