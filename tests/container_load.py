"""The load of tests/container: keep-alive clients that write down what became of every request.

Raw sockets, because the difference between refused, closed before an answer and cut inside one is the point.
"""
import re
import socket
import threading
import time

CLIENTS = 12            # connections of the steady load: enough for several per worker, few enough for one core of Python


class Load:
    """Clients with one keep-alive connection each; every request leaves a row (sent, done, outcome, reused).

    The outcome is the pool that answered, else what went wrong: `status 502`; `cut`, closed inside an answer; `closed`, closed
    without one byte of it; `refused`, no connection; `silent`, nothing for 10 s; `farewell <pool>`, an answer that ends the
    connection. A client on an idle connection may always meet `closed`, but not while nothing is being stopped.
    """

    def __init__(self, port, path="/", clients=CLIENTS, pause=0.001):
        self.port, self.request, self.pause = port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), pause
        self.rows, self.running = [], True
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self):
        connection, reused = None, False
        while self.running:
            if connection is None:
                try:
                    connection, reused = socket.create_connection(("127.0.0.1", self.port), timeout=10), False
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError:
                    self.rows.append((time.monotonic(), time.monotonic(), "refused", False))
                    time.sleep(0.02)
                    continue
            sent = time.monotonic()
            outcome = self.exchange(connection)
            self.rows.append((sent, time.monotonic(), outcome, reused))
            reused = True
            if " " in outcome or outcome in ("cut", "closed", "silent"):
                connection.close()
                connection = None
            time.sleep(self.pause)

    def exchange(self, connection):
        answer = b""
        try:
            connection.sendall(self.request)
            while True:
                head, end, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head) if end else None
                if length and len(body) >= int(length[1]):
                    break
                more = connection.recv(65536)
                if not more:
                    return "cut" if answer else "closed"
                answer += more
        except TimeoutError:
            return "silent"
        except OSError:
            return "cut" if answer else "closed"
        if not head.startswith(b"HTTP/1.1 200"):
            return f"status {head[9:12].decode()}"
        pool = re.search(rb"(?i)\r\nx-upstream: *(\S+)", head)
        pool = pool[1].decode() if pool else "nobody"
        return f"farewell {pool}" if re.search(rb"(?i)\r\nconnection: *close", head) else pool

    def sent(self, since, before=float("inf")):
        return [row for row in list(self.rows) if since <= row[0] < before]

    def counts(self, since, before=float("inf")):
        counts = {}
        for _, _, outcome, _ in self.sent(since, before):
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join(12)
