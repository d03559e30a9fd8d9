"""The load generators, run once each: wrk, h2load and `benches/load`. Each returns what it counted as a dictionary."""

import http.client
import json
import re
import subprocess

# What the upstream in peers.py serves.
BODY_BYTES = {"/": 54, "/10k": 10_000, "/100k": 100_000, "/10m": 10_000_000}


class LoadError(Exception):
    """A generator failed or saw failed requests."""


def pinned(cores, argv, seconds, **options):
    command = ["taskset", "-c", ",".join(map(str, cores)), *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, **options)
    if done.returncode != 0:
        raise LoadError(f"{argv[0]}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def wrk(cores, port, connections, seconds, path="/", script=None, header=None, scheme="http"):
    extra = (["-s", script] if script else []) + (["-H", header] if header else [])
    threads = min(len(cores), connections)
    flags = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    text = pinned(cores, ["wrk", *flags, *extra, f"{scheme}://127.0.0.1:{port}{path}"], seconds)
    requests, length = re.search(r"(\d+) requests in ([\d.]+)(?:s|m)", text).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if int(requests) == 0:
        raise LoadError(f"wrk: no answer: {text.strip()[-300:]}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, errors.groups())) if errors else 0
    failed += int(refused.group(1)) if refused else 0
    return {"rate": rate, "requests": int(requests), "failed": failed}


def h2load(cores, port, connections, streams, seconds, path="/", extra=()):
    threads = min(len(cores), connections)
    flags = [f"-c{connections}", f"-m{streams}", f"-t{threads}", f"-D{seconds}", "--warm-up-time=0", *extra]
    text = pinned(cores, ["h2load", *flags, f"http://127.0.0.1:{port}{path}"], seconds)
    rate = float(re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text).group(1))
    counts = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    good, *bad = map(int, counts.groups())
    if not good:
        raise LoadError(f"h2load: no answer: {text.strip()[-300:]}")
    return {"rate": rate, "requests": good, "failed": sum(bad)}


def own(tools, cores, command, port, limit=30, path="/", **named):
    argv = [tools.load, command, "--target", f"127.0.0.1:{port}", "--path", path]
    for name, value in named.items():
        argv += [f"--{name.replace('_', '-')}", value]
    return json.loads(pinned(cores, argv, limit))


def expect_body(port, path):
    """Refuses a proxy that answers quickly because it answers something else."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.request("GET", path)
    length = len(client.getresponse().read())
    client.close()
    if length != BODY_BYTES[path]:
        raise LoadError(f"{path} has {length} bytes instead of {BODY_BYTES[path]}")


def cookies(port, count=64):
    """What `count` clients without a cookie are given, as `name=value`; and that it is not given again."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    given = []
    for _ in range(count):
        client.request("GET", "/")
        answer = client.getresponse()
        answer.read()
        cookie = answer.getheader("set-cookie")
        if not cookie:
            raise LoadError("no Set-Cookie for a client without a cookie")
        given.append(cookie.split(";")[0])
    client.request("GET", "/", headers={"Cookie": given[0]})
    answer = client.getresponse()
    answer.read()
    if answer.getheader("set-cookie"):
        raise LoadError("a client that keeps its cookie is given another one")
    client.close()
    return given


def cookie_script(path, cookies):
    """A wrk script that walks through prepared requests, one for each cookie."""
    listed = ", ".join(json.dumps(cookie) for cookie in cookies)
    path.write_text(
        f"""local cookies = {{ {listed} }}
local requests, at = {{}}, 0
init = function(args)
  for i, cookie in ipairs(cookies) do
    requests[i] = wrk.format("GET", nil, {{ ["Host"] = "127.0.0.1", ["Cookie"] = cookie }})
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""
    )
    return path
