#!/usr/bin/env python3
"""A real gRPC client and real gRPC servers (the official Python package) with weir between them.

    tests/grpc_real.py --binary target/quick/weir      needs grpcio and grpcio-health-checking

The last line is `N passed, N failed`. Everything is on loopback and ends with the script.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

UP, DOWN = (getattr(health_pb2.HealthCheckResponse, name) for name in ("SERVING", "NOT_SERVING"))
PATIENCE = 10


class Calls(grpc.GenericRpcHandler):
    """Calls of all kinds over plain bytes, so that no code has to be generated."""

    def __init__(self, name):
        def echo(request, context):
            context.set_trailing_metadata((("x-pool", name),))
            return request

        def fail(_, context):
            context.abort(grpc.StatusCode.UNAVAILABLE, "said the server")

        def slow(request, context):
            threading.Event().wait(5)
            return request

        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(echo),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "Slow": grpc.unary_unary_rpc_method_handler(slow),
            "Repeat": grpc.unary_stream_rpc_method_handler(lambda request, _: (request for _ in range(100))),
            "Join": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, _: iter(requests)),
        }
        self.handlers = {f"/real.Calls/{name}": handler for name, handler in handlers.items()}

    def service(self, details):
        return self.handlers.get(details.method)


class Server:
    """A server with a health service."""

    def __init__(self, name):
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        self.server.add_generic_rpc_handlers((Calls(name),))
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.health.set("", UP)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


class Weir:
    """A running weir before two servers, half of the calls to each."""

    def __init__(self, binary, room, servers):
        pools = "".join(
            f'[services.calls.pools.{name}]\nendpoints = ["h2c://127.0.0.1:{server.port}"]\n'
            for name, server in servers.items()
        )
        listen = 'address = "127.0.0.1:0"\n'
        probes = '[services.calls.health]\nkind = "grpc"\ninterval = "100ms"\n'
        (room / "weir.toml").write_text(f"[listeners.public]\n{listen}[admin]\n{listen}{pools}{probes}")
        (room / "weights.toml").write_text("[calls]\nstable = 50\ncanary = 50\n")
        ports = room / "ports"
        self.process = subprocess.Popen(
            [binary, "run", "--config", room / "weir.toml"],
            env={"WEIR_PORTS_FILE": str(ports), "WEIR_LOG": "error"},
        )
        until("weir listens", ports.exists)
        self.port = int(json.loads(ports.read_text())["listeners"]["public"].rsplit(":", 1)[1])


def until(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.02)


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


class Checks:
    """Each method is a check; they run in this order."""

    def __init__(self, weir, servers):
        self.weir, self.servers = weir, servers
        self.channel = grpc.insecure_channel(f"127.0.0.1:{weir.port}")
        self.echo = self.channel.unary_unary("/real.Calls/Echo")

    def pool(self):
        _, call = self.echo.with_call(b"x", timeout=PATIENCE)
        return dict(call.trailing_metadata())["x-pool"]

    def unary_calls_are_split_by_the_weights(self):
        pools = collections.Counter(self.pool() for _ in range(200))
        assert 80 <= pools["canary"] <= 120, pools

    def a_large_message_goes_both_ways(self):
        message = b"m" * 3_000_000
        assert self.echo(message, timeout=PATIENCE) == message

    def streams_go_in_either_direction_and_both(self):
        messages = [b"%d" % n for n in range(500)]
        call = self.channel.unary_stream("/real.Calls/Repeat")
        assert list(call(b"abc", timeout=PATIENCE)) == [b"abc"] * 100
        call = self.channel.stream_unary("/real.Calls/Join")
        assert call(iter(messages), timeout=PATIENCE) == b"".join(messages)
        call = self.channel.stream_stream("/real.Calls/Chat")
        assert list(call(iter(messages), timeout=PATIENCE)) == messages

    def a_thousand_calls_at_a_time_lose_none(self):
        calls = [self.echo.future(b"%d" % n, timeout=PATIENCE) for n in range(1000)]
        assert [call.result() for call in calls] == [b"%d" % n for n in range(1000)]

    def statuses_of_servers_arrive_as_they_are(self):
        fail = self.channel.unary_unary("/real.Calls/Fail")
        assert code_of(lambda: fail(b"")) == (grpc.StatusCode.UNAVAILABLE, "said the server")
        code, _ = code_of(lambda: self.channel.unary_unary("/real.Calls/None")(b""))
        assert code == grpc.StatusCode.UNIMPLEMENTED, code

    def a_deadline_of_the_client_ends_its_call_alone(self):
        slow = self.channel.unary_unary("/real.Calls/Slow")
        code, _ = code_of(lambda: slow(b"", timeout=0.3))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
        assert self.echo(b"x", timeout=PATIENCE) == b"x"

    def a_server_that_says_not_serving_gets_no_calls(self):
        self.servers["canary"].health.set("", DOWN)
        until("all goes to stable", lambda: {self.pool() for _ in range(10)} == {"stable"})

    def with_no_server_left_weir_says_unavailable(self):
        self.servers["stable"].health.set("", DOWN)
        until("nobody serves", lambda: code_of(lambda: self.echo(b""))[0] == grpc.StatusCode.UNAVAILABLE)
        assert code_of(lambda: self.echo(b""))[1].startswith("weir: "), code_of(lambda: self.echo(b""))

    def weir_ends_well(self):
        self.weir.process.terminate()
        assert self.weir.process.wait(timeout=PATIENCE) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    options = parser.parse_args()
    servers = {name: Server(name) for name in ("stable", "canary")}
    passed = failed = 0
    with tempfile.TemporaryDirectory() as room:
        weir = Weir(options.binary.resolve(), Path(room), servers)
        try:
            checks = Checks(weir, servers)
            for name in [name for name in vars(Checks) if not name.startswith("_") and name != "pool"]:
                try:
                    getattr(checks, name)()
                    passed += 1
                    print(f"pass {name}")
                except Exception as error:
                    failed += 1
                    print(f"FAIL {name}: {type(error).__name__}: {error}")
        finally:
            weir.process.kill()
            for server in servers.values():
                server.server.stop(0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
