"""The engine and the compose project that tests/container tries weir in: put up, edited, asked, taken down.

What is checked, and what counts as passed, is in tests/container.
"""
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USER = 65532            # the number in docker/Dockerfile


def say(text):
    print(f"\n{text}", flush=True)


def sh(*command, timeout=120, env=None, ok=True):
    """Runs a command to its end; its output is shown only if it fails."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, env=env and {**os.environ, **env}, cwd=ROOT)
    if ok and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done


def sh_missing(*command):
    try:
        return sh(*command, ok=False).returncode != 0
    except FileNotFoundError:
        return True


def until(seconds, condition, every=0.1):
    """Waits for a condition, at most so long; the answer is whether it came."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(every)
    return value


class Engine:
    """Docker's engine: the one that runs, else one started here, with its own directory, and stopped here."""

    def __init__(self, work):
        self.work, self.process, self.firewall, self.compose_program = work, None, None, None

    def prepare(self):
        self.install()
        if sh("docker", "info", ok=False).returncode != 0:
            self.start()
        v1 = shutil.which("docker-compose")
        self.compose_program = ["docker-compose"] if v1 else ["docker", "compose"]

    def install(self):
        wanted = {"docker": "docker.io", "dockerd": "docker.io", "iptables": "iptables"}
        packages = {package for program, package in wanted.items() if not shutil.which(program)}
        if not shutil.which("docker-compose") and sh_missing("docker", "compose", "version"):
            packages.add("docker-compose")
        if packages:
            say(f"installing {' '.join(sorted(packages))}")
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            sh("apt-get", "update", timeout=300, env=quiet)
            sh("apt-get", "install", "-y", "--no-install-recommends", *sorted(packages), timeout=600, env=quiet)

    def start(self):
        """Tries the storage drivers and the two iptables in turn: inside containers not all of them work."""
        if os.geteuid() != 0:
            raise RuntimeError("no Docker engine answers, and starting one needs root")
        saved = sh("iptables-save", ok=False)
        self.firewall = saved.stdout if saved.returncode == 0 else None
        legacy = self.work / "legacy"
        legacy.mkdir()
        for name in ("iptables", "ip6tables"):
            if found := shutil.which(f"{name}-legacy"):
                (legacy / name).symlink_to(found)
        os.environ["DOCKER_HOST"] = f"unix://{self.work}/docker.sock"
        for path in (os.environ["PATH"], f"{legacy}:{os.environ['PATH']}"):
            for driver in ("overlay2", "vfs"):
                log = open(self.work / "dockerd.log", "w")
                # No userland proxy: it accepts connections that nobody serves, and a refused one would look cut.
                self.process = subprocess.Popen(
                    ["dockerd", "--host", os.environ["DOCKER_HOST"], "--data-root", f"{self.work}/data",
                     "--exec-root", f"{self.work}/exec", "--pidfile", f"{self.work}/dockerd.pid",
                     "--storage-driver", driver, "--bridge", "none", "--userland-proxy=false"],
                    stdout=log, stderr=log, env={**os.environ, "PATH": path}, start_new_session=True)
                ready = lambda: self.process.poll() is not None or not sh_missing("docker", "info")
                if until(30, ready) and self.process.poll() is None:
                    return say(f"started an engine ({driver})")
                self.stop()
        raise RuntimeError("dockerd does not start:\n" + (self.work / "dockerd.log").read_text()[-3000:])

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
        if self.firewall is not None:
            subprocess.run(["iptables-restore"], input=self.firewall, text=True, stderr=subprocess.DEVNULL)


class Stack:
    """The compose project under test, and the engine's own API where a moment must be known exactly."""

    def __init__(self, engine, work, binary, folder="docker"):
        self.engine, self.work, self.folder = engine, work, ROOT / folder
        self.name = f"weirtest{os.getpid()}{self.folder.name}"
        self.image = f"weirtest{os.getpid()}:test"
        self.ports = free_ports(3)
        self.config = work / f"config-{self.folder.name}"
        shutil.copytree(self.folder / "config", self.config)
        for path in (self.config, *self.config.rglob("*")):
            os.chown(path, USER, USER)
        self.env = {"COMPOSE_PROJECT_NAME": self.name, "WEIR_IMAGE": self.image, "WEIR_CONFIG_DIR": str(self.config),
                    "WEIR_BIND": "127.0.0.1", "CANARY_DELAY": "0ms"}
        self.env |= dict(zip(("WEIR_PORT", "WEIR_STABLE_PORT", "WEIR_CANARY_PORT"), map(str, self.ports)))
        self.binary = binary

    def build(self):
        context = self.work / "image"
        context.mkdir()
        shutil.copy2(self.binary, context / "weir")
        shutil.copy(ROOT / "docker/Dockerfile.scratch", context)
        sh("docker", "build", "-t", self.image, "-f", context / "Dockerfile.scratch", context, env={"DOCKER_BUILDKIT": "0"})

    def forget_image(self):
        sh("docker", "rmi", "-f", self.image, ok=False)

    def compose(self, *arguments, ok=True):
        return sh(*self.engine.compose_program, "-f", self.folder / "compose.yaml", *arguments, env=self.env, ok=ok)

    def container(self, service):
        return self.compose("ps", "-q", service).stdout.split()[-1]

    def inspect(self, container, template):
        return sh("docker", "inspect", "-f", template, container).stdout.strip()

    def address(self, service):
        return self.inspect(self.container(service), "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    def weir(self, *arguments):
        """A verb in the container, as an operator types it."""
        return self.compose("exec", "-T", "weir", "/weir", *arguments, ok=False)

    def post(self, path):
        """One call of the engine's API; it acts at once, which the command line does not."""
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        api = http.client.HTTPConnection("engine", timeout=60)
        api.sock = socket.socket(socket.AF_UNIX)
        api.sock.connect(host)
        api.request("POST", path)
        return api.getresponse().status

    def edit(self, stable, canary, by):
        """Saves the weights file as editors do, keeping its owner; the answer is when the save was done."""
        path = self.config / "weights.toml"
        text = re.sub(r"(?m)^stable = \S+", f"stable = {stable}", path.read_text())
        text = re.sub(r"(?m)^canary = \S+", f"canary = {canary}", text)
        if by == "rename":
            other = path.with_suffix(".new")
            other.write_text(text)
            os.chown(other, USER, USER)
            os.replace(other, path)
        else:
            path.write_text(text)
        return time.monotonic()

    def logs(self):
        return self.compose("logs", "--no-color", "--tail", "60", ok=False).stdout

    def down(self):
        squatters = sh("docker", "ps", "-aq", "--filter", f"label={self.name}", ok=False).stdout.split()
        if squatters:
            sh("docker", "rm", "-f", *squatters, ok=False)
        self.compose("down", "-v", "--remove-orphans", "-t", "2", ok=False)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
