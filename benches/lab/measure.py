"""How each kind of row is measured: proxies started, loaded in turn, counted, ended. Goals are in `rows.py`."""

import subprocess
import time
from dataclasses import dataclass

from lab import load
from lab.install import say
from lab.load import LoadError
from lab.machine import TICKS_PER_SECOND, Process
from lab.peers import Proxy, Upstream

OPEN_LOOP_RATE = 20_000


@dataclass
class Lab:
    """What every row needs."""

    tools: object
    cores: object
    upstream: object
    room: object
    rounds: int
    seconds: int
    quick: bool

    def start(self, row, name, cores=None, upstream=None, **options):
        room = self.room / row.key / name
        return Proxy(name, self.tools, room, upstream or self.upstream, cores or self.cores.proxy, **options)


def in_turn(lab, row, measure, value, **options):
    """All proxies of the row started once, then measured in turn, weir right before each peer: the speed of a virtual
    machine's kernel changes within seconds, so only neighbours compare. Returns the samples and what failed."""
    proxies, samples, broken = {}, {}, {}

    def sample(name):
        if name not in proxies:
            return None
        try:
            samples[name].append(measure(lab, proxies[name]))
        except (LoadError, OSError, subprocess.TimeoutExpired, AttributeError) as error:
            broken[name] = str(error)
            proxies.pop(name).stop()
            return None
        say(f"  {row.key} {number + 1}/{lab.rounds} {name}: {samples[name][-1][value]:.4g} {value}")
        return samples[name][-1]

    try:
        for name in row.peers:
            try:
                proxies[name] = lab.start(row, name, **options)
                samples[name] = []
            except (RuntimeError, OSError) as error:
                broken[name] = f"did not start: {error}"
        peers = [name for name in row.peers if name != "weir"] or [None]
        for number in range(lab.rounds):
            for name in peers:
                ours = sample("weir")
                theirs = sample(name)
                if ours and theirs:
                    theirs["weir_over_this"] = ours[value] / theirs[value]
                if ours and theirs and theirs.get("cpu_us"):
                    theirs["weir_cpu_over_this"] = ours["cpu_us"] / theirs["cpu_us"]
    finally:
        for proxy in proxies.values():
            proxy.stop()
    return {"value": value, "samples": samples, "broken": broken}


def throughput(lab, row, shape, path="/", **options):
    """Requests per second of a closed loop and CPU time per request."""

    def measure(lab, proxy):
        if not hasattr(proxy, "warm"):
            load.expect_body(proxy.port, path)
            proxy.warm = shape(lab, proxy, 1)
        before = proxy.process.cpu_ticks()
        seen = shape(lab, proxy, lab.seconds)
        user, kernel = (
            (after - before) / TICKS_PER_SECOND * 1e6 / max(seen["requests"], 1)
            for before, after in zip(before, proxy.process.cpu_ticks())
        )
        busy = seen["rate"] * (user + kernel) / 1e6
        return {**seen, "user_us": user, "kernel_us": kernel, "cpu_us": user + kernel, "busy": busy}

    return in_turn(lab, row, measure, "rate", **options)


def closed_loop(lab, proxy, seconds, connections=64, **options):
    return load.wrk(lab.cores.clients, proxy.port, connections, seconds, **options)


def over_tls(lab, proxy, seconds, connections=64, **options):
    return load.wrk(lab.cores.clients, proxy.port_tls, connections, seconds, scheme="https", **options)


def with_cookies(lab, proxy, seconds):
    if not hasattr(proxy, "script"):
        proxy.script = load.cookie_script(proxy.room / "cookies.lua", load.cookies(proxy.port))
    return closed_loop(lab, proxy, seconds, script=proxy.script)


def cleartext_h2(lab, proxy, seconds):
    return load.h2load(lab.cores.clients, proxy.port_h2, 16, 32, seconds)


def calls(lab, proxy, seconds):
    """Unary calls of gRPC, of one message each."""
    message = proxy.room / "message"
    message.write_bytes(b"\0\0\0\0\x05hello")
    extra = ["-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    return load.h2load(lab.cores.clients, proxy.port_h2, 16, 32, seconds, "/bench.Calls/Echo", extra)


def messages(lab, proxy, seconds):
    """WebSocket messages that come back, one in flight on each connection."""
    return load.own(lab.tools, lab.cores.clients, "socket", proxy.port, seconds + 10, connections=64, seconds=seconds)


def added_latency(lab, row):
    """p99 at a fixed rate minus the p99 of the same client straight to the upstream, taken before each proxy."""

    def at_fixed_rate(port):
        named = {"rate": OPEN_LOOP_RATE, "connections": 64, "seconds": lab.seconds, "warm_up": 1}
        seen = load.own(lab.tools, lab.cores.clients, "rate", port, lab.seconds + 10, **named)
        if seen["failed"]:
            raise LoadError(f"{seen['failed']} failed requests")
        return seen

    def measure(lab, proxy):
        direct = at_fixed_rate(lab.upstream.stable)
        before = proxy.process.cpu_ticks()
        seen = at_fixed_rate(proxy.port)
        cpu = (sum(proxy.process.cpu_ticks()) - sum(before)) / TICKS_PER_SECOND * 1e6 / max(seen["requests"], 1)
        added = max(seen["p99_us"] - direct["p99_us"], 1.0)
        return {**seen, "direct_p99_us": direct["p99_us"], "added_p99_us": added, "cpu_us": cpu}

    return in_turn(lab, row, measure, "added_p99_us")


def idle_memory(lab, row):
    """Growth of resident memory for each of many connections that made one request and then wait."""
    connections = 500 if lab.quick else 3000
    samples, broken = {}, {}
    for name in row.peers:
        for _ in range(min(lab.rounds, 3)):
            try:
                proxy = lab.start(row, name)
            except (RuntimeError, OSError) as error:
                broken[name] = f"did not start: {error}"
                break
            try:
                samples.setdefault(name, []).append(hold(lab, proxy, connections))
                say(f"  {row.key} {name}: {samples[name][-1]['bytes']:.0f} bytes")
            except (LoadError, OSError) as error:
                broken[name] = str(error)
                break
            finally:
                proxy.stop()
    return {"value": "bytes", "samples": samples, "broken": broken}


def hold(lab, proxy, connections):
    load.own(lab.tools, lab.cores.clients, "fetch", proxy.port, requests=500)
    time.sleep(1)
    before = proxy.process.resident_bytes()
    argv = [lab.tools.load, "hold", "--target", f"127.0.0.1:{proxy.port}", "--connections", connections]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = Process(argv, lab.cores.clients, proxy.room / "hold.log", **pipes)
    try:
        if holder.child.stdout.readline().strip() != b"held":
            raise LoadError(holder.last_words())
        time.sleep(5)
        grown = proxy.process.resident_bytes() - before
        out, _ = holder.child.communicate(timeout=30)
        return {"bytes": grown / connections, "before": before, "holder": out.decode().strip()}
    finally:
        holder.stop()


def changes(lab, row, how):
    """Weights change under load; weir only: the peers have no file that is live at once."""
    shifts = 20 if lab.quick else 200
    command, named = "shift", {"how": how, "gap_ms": 100}
    if how == "reload":
        command, shifts, named = "reload", shifts * 5, {"gap_ms": 10}

    def measure(lab, proxy):
        named.update(connections=32, shifts=shifts, service="engine", file=proxy.weights)
        named.update({"admin": f"127.0.0.1:{proxy.admin}"} if how == "put" else {})
        named.update({"config": proxy.room / "weir.toml"} if how == "reload" else {})
        return load.own(lab.tools, lab.cores.clients, command, proxy.port, 180, **named)

    once = Lab(**{**vars(lab), "rounds": 1})
    return in_turn(once, row, measure, "worst_ms")


def two_cores(lab, row, connections):
    """One worker against two. Where other cores are too few to keep two busy, the ratio is also projected: from the
    CPU time per request of one worker to that of the busier of the two, which is the limit once nothing else is."""
    placed = lab.cores.for_two()
    if not placed:
        return {"value": "ratio", "samples": {}, "broken": {name: "too few cores" for name in row.peers}}
    cores, upstream_cores, clients, enough = placed
    upstream = lab.upstream
    samples, broken = {}, {}
    try:
        if enough:
            (lab.room / row.key).mkdir(exist_ok=True)
            upstream = Upstream(lab.room / row.key, upstream_cores)
        for name in row.peers:
            pair = []
            try:
                for count in (1, 2):
                    pair.append(lab.start(row, name, cores[:count], upstream))
                samples[name] = []
                for number in range(lab.rounds):
                    one, two = (busiest_thread(lab, proxy, clients, connections) for proxy in pair)
                    ratio = two["rate"] / one["rate"]
                    projected = one["thread_us"] / two["thread_us"]
                    say(f"  {row.key} {number + 1}/{lab.rounds} {name}: {ratio:.2f}, projected {projected:.2f}")
                    sample = {"ratio": ratio, "projected": projected, "enough": enough, "one": one, "two": two}
                    samples[name].append(sample)
            except (RuntimeError, OSError, LoadError) as error:
                broken[name] = str(error)
            finally:
                for proxy in pair:
                    proxy.stop()
    finally:
        if upstream is not lab.upstream:
            upstream.process.stop()
    return {"value": "ratio", "samples": samples, "broken": broken}


def busiest_thread(lab, proxy, clients, connections):
    load.wrk(clients, proxy.port, connections, 1)
    before = proxy.process.thread_ticks()
    seen = load.wrk(clients, proxy.port, connections, lab.seconds)
    after = proxy.process.thread_ticks()
    spent = [ticks - before.get(thread, 0) for thread, ticks in after.items()]
    seen["threads_us"] = sorted((t / TICKS_PER_SECOND * 1e6 / seen["requests"] for t in spent), reverse=True)[:4]
    seen["thread_us"] = max(seen["threads_us"][0], 0.01)
    return seen
