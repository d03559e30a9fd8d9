"""The upstream and the proxies: how each is configured and started. Every proxy gets the same job: split two pools
90/10, keep upstream connections alive, probe the pools where it can, write no access log, run on the cores it is given.
"""

import json
import os
import subprocess
import time
from types import SimpleNamespace

from lab import machine
from lab.machine import Process, free_port

STABLE_BODY = "stable answers with fifty-four bytes counted exactly.."
CANARY_BODY = "canary answers with fifty-four bytes counted exactly.."
NO_LIMIT = 1_000_000_000
SCHEMES = {"http": "http", "h2": "h2c", "socket": "http"}
AS_ROOT = "user root root;" if os.geteuid() == 0 else ""


class Upstream:
    """One nginx with two ports, `stable` and `canary`, told apart by the first byte of their small answer; and programs
    with two ports of their own, once they are asked for: an echo of WebSocket messages, and one that speaks cleartext
    HTTP/2, where nginx would fill its core before the proxies fill theirs."""

    def __init__(self, room, cores):
        self.stable, self.canary = free_port(), free_port()
        self.room, self.cores, self.programs = room, cores, {}
        files = room / "files"
        files.mkdir(exist_ok=True)
        (files / "10k").write_bytes(b"x" * 10_000)
        (files / "100k").write_bytes(b"x" * 100_000)
        (files / "10m").write_bytes(b"x" * 10_000_000)
        # A body for /upload is read to its end before it is answered, which nginx does for no other than an endpoint.
        server = """server {{ listen 127.0.0.1:{port} backlog=4096; root {files};
            location = / {{ return 200 "{body}"; }} location = /healthz {{ return 200 "ok"; }}
            location = /upload {{ client_max_body_size 0; proxy_pass http://127.0.0.1:{port}/; }} }}"""
        servers = "\n".join(
            server.format(port=port, files=files, body=body)
            for port, body in ((self.stable, STABLE_BODY), (self.canary, CANARY_BODY))
        )
        text = f"""{nginx_main(room, len(cores))}
            http {{ access_log off; default_type text/plain; sendfile on; tcp_nopush on; open_file_cache max=16;
            keepalive_requests {NO_LIMIT}; keepalive_timeout 1h; {nginx_temp(room)}
            {servers} }}"""
        path = write(room / "upstream.conf", text)
        self.process = Process(["nginx", "-c", path, "-e", room / "upstream.err"], cores, room / "upstream.log")
        machine.wait_until_it_answers(self.process, self.stable)

    def pools(self, tools, to):
        """The ports of stable and canary for a proxy that speaks `to` to its endpoints: http, h2 or socket."""
        if to == "http":
            return self.stable, self.canary
        if to not in self.programs:
            ports = free_port(), free_port()
            command = {"h2": "calls", "socket": "echo"}[to]
            argv = [tools.load, command, "--target", f"127.0.0.1:{ports[0]}", "--also", f"127.0.0.1:{ports[1]}"]
            self.programs[to] = Process(argv, self.cores, self.room / f"{command}.log"), ports
            machine.wait_until_it_listens(self.programs[to][0], ports[1])
        return self.programs[to][1]


class Proxy:
    """A running proxy: `port` speaks HTTP/1.1, `port_h2` (often the same) cleartext HTTP/2, and with `tls` `port_tls`
    HTTP/1.1 over TLS, without sessions that could be resumed: every handshake is a full one. `to`: what it speaks to
    its endpoints; `copies`: and to those that get copies, if it copies."""

    def __init__(self, name, tools, room, upstream, cores, cookie=False, tls=False, to="http", copies="http"):
        self.name, self.room, self.to = name, room, to
        self.pools = upstream.pools(tools, to)
        self.shadow = f"{SCHEMES[copies]}://127.0.0.1:{upstream.pools(tools, copies)[1]}"
        self.port = self.port_h2 = free_port()
        self.admin = free_port()
        room.mkdir(parents=True, exist_ok=True)
        self.port_tls, self.certificate = (free_port(), certificate(room)) if tls else (None, None)
        argv, env = PEERS[name](self, tools, len(cores), cookie)
        self.process = Process(argv, cores, room / "log", env)
        try:
            machine.wait_until_it_answers(self.process, self.port)
        except RuntimeError:
            self.process.stop()
            raise
        time.sleep(0.5)

    def stop(self):
        self.process.stop()


def write(path, text):
    path.write_text(text)
    return path


def certificate(room):
    """An ECDSA certificate for localhost; `both` is certificate and key in one file."""
    cert, key, both = room / "tls.crt", room / "tls.key", room / "tls.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509"]
    argv = ["openssl", "req", *kind, *subject, "-keyout", key, "-out", cert]
    subprocess.run(list(map(str, argv)), check=True, capture_output=True)
    both.write_text(cert.read_text() + key.read_text())
    return SimpleNamespace(cert=cert, key=key, both=both)


def weir(proxy, tools, workers, cookie):
    scheme = SCHEMES[proxy.to]
    tls = f"""
[listeners.secure]
address = "127.0.0.1:{proxy.port_tls}"

[listeners.secure.tls]
certificates = [{{ cert = "tls.crt", key = "tls.key" }}]
session_tickets = false
""" if proxy.port_tls else ""
    # A pool of its own, so that every request is copied whichever pool it goes to.
    mirror = f"""
[services.engine.pools.shadow]
endpoints = ["{proxy.shadow}"]

[[services.engine.mirrors]]
to = "shadow"
percent = 100
""" if getattr(proxy, "name", "") == "weir-mirror" else ""
    affinity = '[services.engine.affinity]\nby = "cookie"\nname = "weir"\n' if cookie else ""
    text = f"""weights = "weights.toml"

[listeners.public]
address = "127.0.0.1:{proxy.port}"
{tls}
[admin]
address = "127.0.0.1:{proxy.admin}"
{tools.weir_extra}
[services.engine]
stable = "stable"

[services.engine.pools.stable]
endpoints = ["{scheme}://127.0.0.1:{proxy.pools[0]}"]

[services.engine.pools.canary]
endpoints = ["{scheme}://127.0.0.1:{proxy.pools[1]}"]
{mirror}{affinity}
[services.engine.health]
path = "/healthz"
interval = "2s"

[services.engine.timeouts]
response_header = "30s"
{getattr(tools, "weir_timeouts", "")}
"""
    config = write(proxy.room / "weir.toml", text)
    proxy.weights = write(proxy.room / "weights.toml", "[engine]\nstable = 90\ncanary = 10\n")
    return [tools.weir, "run", "--config", config], {"WEIR_WORKERS": str(workers)}


def haproxy(proxy, tools, threads, cookie):
    proxy.port_h2 = free_port()
    tls = f"bind 127.0.0.1:{proxy.port_tls} ssl crt {proxy.certificate.both}" if proxy.port_tls else ""
    sticky = "cookie weir insert indirect nocache" if cookie else ""
    speaks = "proto h2 check-proto h2" if proxy.to == "h2" else ""
    text = f"""global
    nbthread {threads}
    maxconn 8000
    tune.ssl.cachesize 0
    ssl-default-bind-options no-tls-tickets
defaults
    mode http
    http-reuse always
    timeout connect 1s
    timeout client 5m
    timeout server 30s
    timeout tunnel 1h
frontend public
    bind 127.0.0.1:{proxy.port} backlog 4096
    bind 127.0.0.1:{proxy.port_h2} proto h2
    {tls}
    default_backend engine
backend engine
    option httpchk
    http-check send meth GET uri /healthz ver {'HTTP/2' if proxy.to == 'h2' else 'HTTP/1.1'} hdr host localhost
    {sticky}
    server stable 127.0.0.1:{proxy.pools[0]} weight 90 check inter 2s {speaks} {'cookie stable' if cookie else ''}
    server canary 127.0.0.1:{proxy.pools[1]} weight 10 check inter 2s {speaks} {'cookie canary' if cookie else ''}
"""
    return ["haproxy", "-db", "-f", write(proxy.room / "haproxy.cfg", text)], None


def nginx(proxy, tools, workers, cookie, tuning=""):
    proxy.port_h2 = free_port()
    tls = f"""listen 127.0.0.1:{proxy.port_tls} ssl backlog=4096; ssl_certificate {proxy.certificate.cert};
        ssl_certificate_key {proxy.certificate.key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets off;
        ssl_session_cache off;""" if proxy.port_tls else ""
    # It speaks HTTP/2 to endpoints for gRPC only, with a connection for each request in flight; now and then it takes
    # what nginx sends to a stream that is over for a failure, and would leave the endpoint alone for ten seconds.
    fails = "max_fails=0" if proxy.to == "h2" else ""
    passes = {
        "http": 'proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";',
        "h2": "grpc_pass grpc://engine;",
        "socket": """proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection; proxy_read_timeout 1h;""",
    }[proxy.to]
    text = f"""{nginx_main(proxy.room, workers)}
http {{ access_log off; keepalive_requests {NO_LIMIT}; keepalive_timeout 1h; {nginx_temp(proxy.room)} {tuning}
    upstream engine {{ server 127.0.0.1:{proxy.pools[0]} weight=9 {fails}; server 127.0.0.1:{proxy.pools[1]} {fails};
        keepalive {1024 if proxy.to == 'h2' else 256}; keepalive_requests {NO_LIMIT}; }}
    server {{ listen 127.0.0.1:{proxy.port} backlog=4096; listen 127.0.0.1:{proxy.port_h2} http2; {tls}
        location / {{ {passes} }} }} }}"""
    path = write(proxy.room / "nginx.conf", text)
    return ["nginx", "-c", path, "-e", proxy.room / "error.log"], None


def nginx_tuned(proxy, tools, workers, cookie):
    tuning = "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;"
    return nginx(proxy, tools, workers, cookie, tuning)


def nginx_main(room, workers):
    return f"""daemon off; worker_processes {workers}; {AS_ROOT} pid {room}/nginx.pid; error_log stderr crit;
        worker_rlimit_nofile 65536; events {{ worker_connections 16384; }}"""


def nginx_temp(room):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {room}/temp-{kind};" for kind in kinds)


def envoy(proxy, tools, threads, cookie):
    def cluster(name, port):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        limits = {name: 20000 for name in ("max_connections", "max_pending_requests", "max_requests")}
        check = {"timeout": "1s", "interval": "2s", "unhealthy_threshold": 3, "healthy_threshold": 2}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [limits]},
            "health_checks": [{**check, "http_health_check": {"path": "/healthz"}}],
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    weights = [{"name": "stable", "weight": 90}, {"name": "canary", "weight": 10}]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}, "timeout": "0s"}}
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "engine", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
        ],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": proxy.port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [cluster("stable", proxy.pools[0]), cluster("canary", proxy.pools[1])]
    text = json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
    path = write(proxy.room / "envoy.json", text)
    flags = ["--concurrency", threads, "--disable-hot-restart", "--log-level", "error"]
    return [tools.envoy, "-c", path, *flags], None


def caddy(proxy, tools, threads, cookie):
    text = f"""{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2 h2c
    }}
}}
http://127.0.0.1:{proxy.port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{proxy.pools[0]} 127.0.0.1:{proxy.pools[1]} {{
        lb_policy random
        health_uri /healthz
        health_interval 2s
        transport http {{
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
"""
    path = write(proxy.room / "Caddyfile", text)
    env = {"GOMAXPROCS": str(threads), "HOME": str(proxy.room), "XDG_CONFIG_HOME": str(proxy.room)}
    return ["caddy", "run", "--config", path, "--adapter", "caddyfile"], env


def pingora(proxy, tools, threads, cookie):
    address = "127.0.0.1:{}".format
    return [tools.pingora, address(proxy.port), *map(address, proxy.pools)], None


PEERS = {
    "weir": weir,
    "weir-mirror": weir,
    "haproxy": haproxy,
    "nginx": nginx,
    "nginx-tuned": nginx_tuned,
    "envoy": envoy,
    "caddy": caddy,
    "pingora": pingora,
}
