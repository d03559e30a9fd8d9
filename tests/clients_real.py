#!/usr/bin/env python3
"""Clients that people use, with weir between them and two servers: Python's websockets, httpx and h2, curl, nghttp, h2load,
and Chromium where there is one.

    tests/clients_real.py --binary target/quick/weir [--chromium PATH] [--python2 PATH DIR]

Needs websockets, httpx[http2] and h2; what is not given is left out by name.

The last line is `N passed, N failed`. Everything is on loopback and ends with the script.
"""

import argparse
import asyncio
import json
import logging
import re
import sys
import tempfile
import time
from pathlib import Path

import clients_frames
import httpx
import websockets
from websockets.asyncio.server import serve

PATIENCE = 15
AUTOBAHN_PATIENCE = 240
FILE = bytes(range(256)) * 4096
PAGE = """<!doctype html><title>weir</title><script>
const seen = {};
const tell = () => fetch("/result", {method: "POST", body: JSON.stringify(seen)});
(async () => {
  seen.fetch = await (await fetch("/echo", {method: "POST", body: "x".repeat(300000)})).text() === "x".repeat(300000);
  seen.range = (await (await fetch("/file", {headers: {range: "bytes=10-19"}})).arrayBuffer()).byteLength;
  seen.events = [];
  const events = new EventSource("/events");
  events.onmessage = (event) => { seen.events.push(event.data); if (seen.events.length % 5 == 0) tell(); };
  const socket = new WebSocket("ws://" + location.host + "/ws", "chat");
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { seen.socket = event.data; tell(); };
  socket.onclose = (event) => { seen.close = event.code; tell(); };
})();
</script>"""


class Origin:
    """A server by hand, so that it says exactly what it should."""

    def __init__(self, name):
        self.name, self.result = name, {}

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
        self.sockets = await serve(self.echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=1 << 25)
        self.echoes = await serve(self.echo, "127.0.0.1", 0, max_size=1 << 25)
        servers = (self.server, self.sockets, self.echoes)
        self.port, self.socket_port, self.echo_port = (it.sockets[0].getsockname()[1] for it in servers)
        return self

    async def echo(self, socket):
        async for message in socket:
            if message == "close":
                return await socket.close(4001, "as asked")
            await socket.send(self.name if message == "who" else message)

    async def serve(self, reader, writer):
        try:
            while await self.answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def body(self, fields, reader, writer):
        if "expect" in fields:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" not in fields.get("transfer-encoding", ""):
            return await reader.readexactly(int(fields.get("content-length", 0)))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        fields = {line.split(":")[0].lower(): line.split(":", 1)[1].strip() for line in head[1:] if ":" in line}

        def say(status, body, more=()):
            lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", f"x-pool: {self.name}", *more, "", ""]
            writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))

        if path == "/early":
            say(413, b"too large\n")
            return False
        if path == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            event = f"retry: 100\ndata: {self.name}\n\n".encode()
            for _ in range(200):
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(0.1)
            return False
        body = await self.body(fields, reader, writer)
        if path == "/hint":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
            say(200, b"hinted\n")
        elif path == "/trailers":
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")
        elif path == "/file" and (wanted := re.match(r"bytes=(\d+)-(\d+)", fields.get("range", ""))):
            first, last = int(wanted[1]), int(wanted[2])
            say(206, FILE[first : last + 1], [f"content-range: bytes {first}-{last}/{len(FILE)}"])
        elif path == "/file":
            say(200, FILE)
        elif path == "/page":
            say(200, PAGE.encode(), ["content-type: text/html"])
        elif path == "/result":
            self.result.update(json.loads(body))
            say(204, b"")
        else:
            say(200, body or self.name.encode())
        return True


class Checks:
    """Each method is a check; they run in this order."""

    def __init__(self, frames, room, origins, options):
        self.port, self.frames, self.room, self.origins = 0, frames, room, origins
        self.url, self.chromium, self.python2 = "", options.chromium, options.python2

    def _weights(self, stable, canary):
        text = "".join(f"[{service}]\nstable = {stable}\ncanary = {canary}\n" for service in ("web", "chat"))
        (self.room / "weights.toml").write_text(text + "[frames]\nstable = 1\n[echo]\nstable = 1\n")

    async def _run(self, *command):
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, out, err.decode(errors="replace")

    async def websocket_conversations_are_the_same_byte_by_byte_directly_and_through_weir(self):
        tried, different = await clients_frames.differences(self.frames, self.port)
        print(f"     {tried} conversations, over HTTP/1 and HTTP/2")
        assert tried > 150 and not different, "\n".join(different[:10])

    async def reports_of_autobahn_are_the_same_directly_and_through_weir(self):
        await self._autobahn("frames", [f"{family}.*" for family in (1, 2, 3, 4, 5, 6, 7, 10)], 240)

    async def and_so_are_those_of_large_and_compressed_messages(self):
        # Of the 216 compressed ones those that a machine with other work does within a minute.
        compressed = [f"12.{kind}.{case}" for kind in range(1, 6) for case in (1, 3, 5, 7)]
        compressed += [f"13.{kind}.{case}" for kind in range(1, 8) for case in (1, 4, 7)]
        await self._autobahn("compressed", ["9.*", *compressed], 85)

    async def _autobahn(self, name, cases, at_least):
        if not self.python2:
            return print("     LEFT OUT: no Python 2.7 with autobahntestsuite here")
        ports = {"direct": self.origins["stable"].echo_port, "weir": self.port}
        urls = {agent: f"ws://127.0.0.1:{port}/echoes" for agent, port in ports.items()}
        # The server takes no message of so many fragments.
        beyond = [f"9.{kind}.{case}" for kind in (3, 4) for case in (1, 2, 3)]
        room = self.room / name
        room.mkdir()

        async def report(agent, url):
            """Both at once, since what takes long is mostly waiting for each other."""
            spec = {"outdir": str(room / agent), "servers": [{"agent": agent, "url": url}], "cases": cases}
            (room / f"{agent}.json").write_text(json.dumps(spec | {"exclude-cases": beyond, "exclude-agent-cases": {}}))
            code = "import sys; sys.argv = ['wstest', '-m', 'fuzzingclient', '-s', sys.argv[1]]\n"
            code += "from autobahntestsuite.wstest import run; run()"
            python, modules = self.python2
            arguments = ("-c", code, str(room / f"{agent}.json"))
            quiet = {"stdin": -3, "stdout": -3, "stderr": -3, "env": {"PYTHONPATH": modules}}
            suite = await asyncio.create_subprocess_exec(python, *arguments, **quiet)
            try:
                await asyncio.wait_for(suite.wait(), AUTOBAHN_PATIENCE)
            finally:
                if suite.returncode is None:
                    suite.kill()
            said = json.loads((room / agent / "index.json").read_text())[agent]
            # Whether what came before a broken frame is echoed first is the server's haste: strict or not is chance.
            words = ("behavior", "behaviorClose", "remoteCloseCode")
            lax = {"NON-STRICT": "OK"}
            return {case: [lax.get(it[word], it[word]) for word in words] for case, it in said.items()}

        began = time.monotonic()
        direct, weir = await asyncio.gather(*(report(*it) for it in urls.items()))
        print(f"     {len(direct)} cases in {time.monotonic() - began:.0f} s")
        different = [(case, said, weir.get(case)) for case, said in direct.items() if said != weir.get(case)]
        assert len(direct) > at_least and not different, different[:10]
        # A server that fails proves nothing of what stands in front of it.
        failed = [case for case, said in direct.items() if "FAILED" in said]
        assert len(failed) < 3, failed[:10]

    async def websockets_talks_with_compression_subprotocol_pings_and_large_messages(self):
        async with websockets.connect(f"ws://127.0.0.1:{self.port}/ws", subprotocols=["chat"], max_size=1 << 25) as one:
            assert one.subprotocol == "chat"
            for message in ("hello", "ö" * 100_000, b"\x00\xff" * 2_000_000, ["in", " ", "pieces"]):
                await one.send(message)
                assert await one.recv() == ("".join(message) if isinstance(message, list) else message)
            await asyncio.wait_for(await one.ping(), PATIENCE)
            await one.send("close")
            await one.wait_closed()
            assert (one.close_code, one.close_reason) == (4001, "as asked")

    async def websockets_is_told_to_go_when_its_pool_goes_to_zero_and_comes_back_elsewhere(self):
        self._weights(0, 1)
        await until(lambda: self._who("canary"))
        pools = []
        async for socket in websockets.connect(f"ws://127.0.0.1:{self.port}/ws", subprotocols=["chat"]):
            try:
                await socket.send("who")
                pools.append(await socket.recv())
                if pools[-1] == "stable":
                    break
                self._weights(1, 0)
                await asyncio.wait_for(socket.recv(), PATIENCE)
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd.code == 1001, closed
        assert pools[0] == "canary" and pools[-1] == "stable", pools

    async def _who(self, pool):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.url}/")).text == pool

    async def _httpx(self, **protocol):
        async with httpx.AsyncClient(base_url=self.url, **protocol) as client:

            async def pieces():
                for _ in range(50):
                    yield b"p" * 50_000

            assert (await client.post("/echo", content=pieces())).content == b"p" * 2_500_000
            assert (await client.get("/file")).content == FILE
            part = await client.get("/file", headers={"range": "bytes=100-199"})
            assert (part.status_code, part.content) == (206, FILE[100:200])
            head = await client.head("/file")
            assert (head.headers["content-length"], head.content) == (str(len(FILE)), b"")
            began = time.monotonic()
            async with client.stream("GET", "/events") as events:
                async for line in events.aiter_lines():
                    if line.startswith("data:"):
                        break
            assert time.monotonic() - began < 1, "an event is flushed at once"
            return head.http_version

    async def httpx_over_http_1(self):
        assert await self._httpx() == "HTTP/1.1"

    async def httpx_over_http_2(self):
        assert await self._httpx(http1=False, http2=True) == "HTTP/2"

    async def curl_over_both_protocols(self):
        upload = self.room / "upload"
        upload.write_bytes(b"u" * 3_000_000)
        for flag in ("--http1.1", "--http2-prior-knowledge"):
            curl = ("curl", "-sv", "--max-time", "10", flag)
            _, out, err = await self._run(*curl, f"{self.url}/hint")
            assert out == b"hinted\n" and " 103" in err and "style.css" in err, (flag, err)
            _, out, err = await self._run(*curl, "-T", upload, "-H", "expect: 100-continue", f"{self.url}/echo")
            assert out == b"u" * 3_000_000, (flag, len(out), err)
            _, out, _ = await self._run(*curl, "-r", "5-9", f"{self.url}/file")
            assert out == FILE[5:10], (flag, out)
            _, out, err = await self._run(*curl, "-D", "-", "-H", "te: trailers", f"{self.url}/trailers")
            assert b"abc" in out and b"x-sum: 7" in out, (flag, out)
        # nghttp and not curl over HTTP/2: curl 7.88 drops an answer that a RST_STREAM(NO_ERROR) follows at once.
        _, out, _ = await self._run("nghttp", "-d", upload, f"{self.url}/early")
        assert out == b"too large\n", out
        # A connection that an early answer ended is not used for the next request.
        both = ("curl", "-s", "--max-time", "10", "-T", upload, f"{self.url}/early", "--next", "-s", f"{self.url}/")
        assert (await self._run(*both))[1] in (b"too large\nstable", b"too large\ncanary")

    async def curl_tunnels_to_what_is_listed_and_to_nothing_else(self):
        self._weights(1, 1)
        upload = self.room / "upload"
        upload.write_bytes(b"u" * 3_000_000)
        for proxy in ("--proxy", "--proxy1.0"):
            curl = ("curl", "-sv", "--max-time", "10", "--proxytunnel", proxy, f"127.0.0.1:{self.port}")
            pools = set()
            for _ in range(12):
                code, out, err = await self._run(*curl, "http://web.internal/")
                assert code == 0 and "x-weir" not in err and "via:" not in err.lower(), err
                pools.add(out)
            assert pools == {b"stable", b"canary"}, pools
            _, out, err = await self._run(*curl, "-T", upload, "-H", "expect: 100-continue", "http://web.internal/echo")
            assert out == b"u" * 3_000_000, (proxy, len(out), err)
            for wrong in ("http://web.internal:81/", f"http://127.0.0.1:{self.origins['stable'].port}/"):
                code, out, err = await self._run(*curl, wrong)
                assert code == 56 and b"web" not in out and "HTTP/1.1 403 " in err, (wrong, code, err)

    async def nghttp_sees_trailers_and_h2load_loses_nothing(self):
        _, out, _ = await self._run("nghttp", "-v", f"{self.url}/trailers")
        assert b"x-sum: 7" in out, out
        _, out, _ = await self._run("h2load", "-n", "3000", "-c", "6", "-m", "50", f"{self.url}/")
        assert b"3000 succeeded, 0 failed, 0 errored" in out, out

    async def chromium_fetches_listens_to_events_and_comes_back_from_a_pool_at_zero(self):
        if not self.chromium:
            return print("     LEFT OUT: no Chromium here")
        self._weights(0, 1)
        await until(lambda: self._who("canary"))
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.room}/chromium")
        command = (self.chromium, *flags, "--remote-debugging-port=0", f"{self.url}/page")
        browser = await asyncio.create_subprocess_exec(*command, stdout=-3, stderr=-3)
        try:
            canary, stable = self.origins["canary"].result, self.origins["stable"].result

            async def ready():
                return len(canary.get("events", [])) >= 5 and canary.get("socket") == "hello"

            await until(ready, 40)
            assert canary["fetch"] is True and canary["range"] == 10, canary
            self._weights(1, 0)

            async def back():
                return stable.get("close") == 1001 and "stable" in stable.get("events", [])

            await until(back, 20)
        finally:
            browser.kill()
            await browser.wait()


async def until(holds, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s")
        await asyncio.sleep(0.05)


def configuration(origins, frames):
    listen = 'address = "127.0.0.1:0"\n'
    text = f"[listeners.public]\n{listen}[admin]\n{listen}"
    for service, ports in (
        ("web", {name: origin.port for name, origin in origins.items()}),
        ("chat", {name: origin.socket_port for name, origin in origins.items()}),
        ("frames", {"stable": frames}),
        ("echo", {"stable": origins["stable"].echo_port}),
    ):
        text += f'[services.{service}]\nstreams_drain = "500ms"\n'
        for pool, port in ports.items():
            text += f'[services.{service}.pools.{pool}]\nendpoints = ["http://127.0.0.1:{port}"]\n'
    for service, path in (("frames", "/frames"), ("chat", "/ws"), ("echo", "/echoes")):
        text += f'[[routes]]\nservice = "{service}"\nmatch.path = "{path}"\n'
    text += '[[routes]]\nservice = "web"\nmatch.connect = "web.internal:80"\n'
    return text + '[[routes]]\nservice = "web"\nmatch.path_prefix = "/"\n'


async def run(options, room):
    origins = {name: await Origin(name).start() for name in ("stable", "canary")}
    frames = await asyncio.start_server(clients_frames.serve_echo, "127.0.0.1", 0)
    frames_port = frames.sockets[0].getsockname()[1]
    (room / "weir.toml").write_text(configuration(origins, frames_port))
    checks = Checks(frames_port, room, origins, options)
    checks._weights(1, 1)
    ports = room / "ports"
    environment = {"WEIR_PORTS_FILE": str(ports), "WEIR_LOG": "error"}
    arguments = ("run", "--config", room / "weir.toml")
    weir = await asyncio.create_subprocess_exec(options.binary.resolve(), *arguments, env=environment)
    passed = failed = 0
    try:

        async def listens():
            return ports.exists()

        await until(listens)
        port = int(json.loads(ports.read_text())["listeners"]["public"].rsplit(":", 1)[1])
        checks.port, checks.url = port, f"http://127.0.0.1:{port}"
        for name in [name for name in vars(Checks) if not name.startswith("_")]:
            try:
                await asyncio.wait_for(getattr(checks, name)(), AUTOBAHN_PATIENCE + PATIENCE)
                passed += 1
                print(f"pass {name}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
    finally:
        weir.kill()
        await weir.wait()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--chromium")
    parser.add_argument("--python2", nargs=2, metavar=("PYTHON", "MODULES"), help="a Python 2.7 and its autobahntestsuite")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
        # Servers that wait for a client that is gone are not waited for.
        loop = asyncio.new_event_loop()
        sys.exit(loop.run_until_complete(run(options, Path(room))))


if __name__ == "__main__":
    main()
