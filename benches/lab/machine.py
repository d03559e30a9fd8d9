"""The machine: cores, ports, processes with their CPU time and memory. Knows nothing of proxies."""

import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "compare"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)

_running = []


class Cores:
    """Who runs where: proxy, upstream and clients never share a core."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 3:
            raise SystemExit(f"compare needs 3 cores (proxy, upstream, clients); this process may use {len(cores)}")
        self.all = cores
        self.proxy, self.upstream, self.clients = cores[:1], cores[1:2], cores[2:]

    def for_two(self):
        """Cores for a proxy on two: (proxy, upstream, clients, whether nothing but the proxy can be the limit)."""
        if len(self.all) >= 6:
            return self.all[:2], self.all[2:4], self.all[4:], True
        if len(self.all) >= 4:
            return [self.all[0], self.all[2]], [self.all[1]], self.all[3:], False
        return None


def free_port():
    """A loopback port nobody listens on, below the ports that the kernel gives to clients."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A program pinned to cores, in a process group of its own, ended with this script whatever happens."""

    def __init__(self, argv, cores, log, env=None, **pipes):
        self.log = log
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), *map(str, argv)],
                stderr=out,
                stdout=pipes.get("stdout", out),
                stdin=pipes.get("stdin", subprocess.DEVNULL),
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        _running.append(self)

    def stop(self):
        if self in _running:
            _running.remove(self)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, sent)
                self.child.wait(timeout=4)
            except ProcessLookupError:
                self.child.poll()
                return
            except subprocess.TimeoutExpired:
                continue

    def pids(self):
        found, open_pids = [], [self.child.pid]
        while open_pids:
            pid = open_pids.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                open_pids += map(int, children.read_text().split())
        return found

    def cpu_ticks(self):
        """(user, kernel) clock ticks of the process and its children that still live."""
        return tuple(map(sum, zip(*(_ticks(f"/proc/{pid}/stat") for pid in self.pids()))))

    def thread_ticks(self):
        """Clock ticks, user and kernel together, by thread."""
        tasks = [task for pid in self.pids() for task in Path(f"/proc/{pid}/task").iterdir()]
        return {task.name: sum(_ticks(task / "stat")) for task in tasks}

    def resident_bytes(self):
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def last_words(self):
        return Path(self.log).read_text(errors="replace")[-600:].strip()


def _ticks(path):
    fields = Path(path).read_text().rsplit(")", 1)[1].split()
    return int(fields[11]), int(fields[12])


def stop_all():
    while _running:
        _running[-1].stop()


def answers(port, path="/"):
    """The status of one HTTP/1.1 request, or None."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            return int(client.recv(4096).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return None


def wait_until_it_answers(process, port, path="/", seconds=15):
    """Raises RuntimeError with the program's last words if it never answers 200."""
    _wait(process, lambda: answers(port, path) == 200, f"no 200 on port {port}", seconds)


def wait_until_it_listens(process, port, seconds=15):
    """Raises RuntimeError with the program's last words if it never takes connections."""
    _wait(process, lambda: listens(port), f"nobody listens on port {port}", seconds)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(process, is_there, otherwise, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_there():
            return
        code = process.child.poll()
        if code is not None:
            raise RuntimeError(f"exited with {code}: {process.last_words()}")
        time.sleep(0.05)
    raise RuntimeError(f"{otherwise} within {seconds} s: {process.last_words()}")


def describe():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}"
