"""WebSocket conversations frame by frame, in the families of the Autobahn test suite: what a client sends is fixed, so what
the server says must be the same byte by byte, whether it is asked directly or through weir.
"""

import asyncio
import base64
import hashlib
import zlib

import h2.config
import h2.connection
import h2.events
import h2.settings

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
MASK = b"\x37\xfa\x21\x3d"
PATIENCE = 20


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def bye(code=1000, reason=b""):
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def fragments(opcode, payload, size):
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    kinds = [opcode] + [MORE] * (len(parts) - 1)
    return b"".join(frame(kind, part, fin=i == len(parts) - 1) for i, (kind, part) in enumerate(zip(kinds, parts)))


def deflated(messages):
    """Messages compressed with a window that outlives them (RFC 7692)."""
    squeeze = zlib.compressobj(wbits=-15)
    for message in messages:
        data = squeeze.compress(message) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        yield frame(TEXT, data[:-4], rsv=4)


UTF8 = "κόσμε ö 𐍈 ﬁ".encode()
BROKEN = [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe", b"\x80", b"\xe2\x82", b"a\xf8\x88\x80\x80\x80b"]


def cases():
    """(name, bytes, size of the pieces that they are sent in)"""
    for size in (0, 125, 126, 127, 128, 65535, 65536):
        for opcode in (TEXT, BINARY):
            for chop in (None, 997):
                yield f"1 length {size} {opcode} {chop}", frame(opcode, b"*" * size) + bye(), chop
    for size in (0, 5, 125, 126):
        yield f"2 ping {size}", frame(PING, b"\xfe" * size) + bye(), None
    yield "2 pings byte by byte", frame(PING, b"x" * 125) * 3 + bye(), 1
    yield "2 pongs unasked", frame(PONG, b"a") + frame(PING, b"b") + bye(), None
    yield "2 ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)) + bye(), None
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            yield f"3 reserved bits {rsv} {opcode}", frame(TEXT, b"a") + frame(opcode, b"", rsv=rsv) + bye(), None
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"payload"):
            yield f"4 opcode {opcode} {payload}", frame(TEXT, b"a") + frame(opcode, payload) + frame(PING) + bye(), None
    for opcode in (PING, PONG):
        yield f"5 control in pieces {opcode}", frame(opcode, b"a", fin=False) + frame(MORE, b"b") + bye(), None
    for size in (1, 2, 5):
        yield f"5 text in pieces {size}", fragments(TEXT, b"fragmented", size) + bye(), None
    between = frame(TEXT, b"one", fin=False) + frame(PING, b"p") + frame(MORE, b"two")
    for chop in (None, 1):
        yield f"5 a ping between pieces {chop}", between + bye(), chop
    for start in (True, False):
        yield f"5 continued from nothing {start}", frame(MORE, b"x", fin=start) + frame(TEXT, b"y") + bye(), None
    yield "5 text within text", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b") + bye(), None
    yield "5 unmasked", frame(TEXT, b"a", masked=False) + bye(), None
    for chop in (None, 1):
        yield f"6 utf-8 {chop}", frame(TEXT, UTF8) + fragments(TEXT, UTF8, 1) + bye(), chop
    for broken in BROKEN:
        yield f"6 broken utf-8 {broken}", frame(TEXT, b"good" + broken) + bye(), None
        yield f"6 the same in pieces {broken}", fragments(TEXT, b"good" + broken + b"good", 3) + bye(), None
    for payload in (b"", b"\x03", b"\x03\xe8" + b"r" * 123, b"\x03\xe8" + b"r" * 124, b"\x03\xe8\xff"):
        yield f"7 close with {len(payload)} {payload[:3]}", frame(CLOSE, payload), None
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield f"7 close {code}", bye(code, b"why"), None
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7 close {code}, which nobody may say", bye(code), None
    yield "7 a message behind the close", bye() + frame(TEXT, b"late") + frame(PING), None
    yield "7 a close within a message", frame(TEXT, b"a", fin=False) + bye(), None
    yield "7 two closes", bye() + bye(1001), None
    yield "7 no close", frame(TEXT, b"a") + frame(PING, b"b"), None
    for size in (65536, 262144, 1048576, 4194304):
        for opcode in (TEXT, BINARY):
            yield f"9 large {size} {opcode}", frame(opcode, b"*" * size) + bye(), None
        for part in (4096, 65536):
            yield f"9 large {size} in pieces of {part}", fragments(TEXT, b"*" * size, part) + bye(), None
    yield "9 a thousand messages", b"".join(frame(TEXT, b"%d" % n) for n in range(1000)) + bye(), None
    yield "10 in pieces of 1300", fragments(TEXT, b"*" * 65536, 1300) + bye(), 1300
    for size in (16, 256, 4096, 65536):
        messages = [bytes(97 + (n * i) % 26 for i in range(size)) for n in range(20)]
        yield f"12 deflated {size}", b"".join(deflated(messages)) + bye(), None
    yield "12 deflated badly", frame(TEXT, b"\xff\xff\xff", rsv=4) + bye(), None


async def serve_echo(reader, writer):
    """A server whose words follow from what it reads alone, whatever the pieces: every frame back at once, as it is."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict((line.split(": ")[0].lower(), line.split(": ", 1)[1]) for line in head[1:] if ": " in line)
    accept = hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "connection: Upgrade", "upgrade: websocket"]
    lines.append("sec-websocket-accept: " + base64.b64encode(accept).decode())
    lines.append("sec-websocket-extensions: permessage-deflate")
    writer.write("\r\n".join(lines + ["", ""]).encode())
    try:
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
            payload = await reader.readexactly(size)
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
            opcode, fin, rsv = first & 0x0F, bool(first & 0x80), first >> 4 & 7
            if opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15) or not second & 0x80:
                writer.write(frame(CLOSE, b"\x03\xeano such frame", masked=False))
                break
            writer.write(frame(PONG if opcode == PING else opcode, payload, fin, rsv, masked=False))
            await writer.drain()
            if opcode == CLOSE:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    if writer.can_write_eof():
        writer.write_eof()
    # What the client still says is read, so that no reset takes away what it has been told.
    while await reader.read(65536):
        pass
    writer.close()


FIELDS = {"sec-websocket-version": "13", "sec-websocket-extensions": "permessage-deflate"}


async def over_http1(port, sent, chop):
    """What comes back: the fields of the answer that matter, the bytes, and how they end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = FIELDS | {"host": "test", "connection": "Upgrade", "upgrade": "websocket"}
    fields["sec-websocket-key"] = base64.b64encode(b"sixteen bytes...").decode()
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"GET /frames HTTP/1.1\r\n{head}\r\n".encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    agreed = sorted(line for line in answer if line.startswith("sec-websocket"))

    async def send():
        for at in range(0, len(sent), chop or len(sent) or 1):
            writer.write(sent[at : at + (chop or len(sent))])
            await writer.drain()
            if chop:
                await asyncio.sleep(0)
        if not sent.endswith(bye()) and writer.can_write_eof():
            # So that a conversation that nobody closes ends too.
            writer.write_eof()

    sending = asyncio.ensure_future(send())
    back = b""
    try:
        while more := await reader.read(65536):
            back += more
    except ConnectionError:
        pass
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    return answer[0].split()[1], agreed, back


async def over_http2(port, sent, chop):
    """The same by an extended CONNECT."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    peer.initiate_connection()
    writer.write(peer.data_to_send())
    allowed = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
    head, back, left, stream, over = {}, b"", sent, None, False
    while not over:
        data = await reader.read(65536)
        if not data:
            break
        for event in peer.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                head = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                back += event.data
                peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                over = True
        if stream is None and peer.remote_settings.get(allowed) == 1:
            stream = peer.get_next_available_stream_id()
            pseudo = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/frames"}
            peer.send_headers(stream, list((pseudo | {":authority": "test"} | FIELDS).items()))
        while head.get(":status") == "200" and left is not None and not over:
            room = min(peer.local_flow_control_window(stream), peer.max_outbound_frame_size, chop or 1 << 20)
            if left and not room:
                break
            peer.send_data(stream, left[:room])
            left = left[room:] or None
            if left is None and not sent.endswith(bye()):
                peer.end_stream(stream)
        writer.write(peer.data_to_send())
        await writer.drain()
    writer.close()
    agreed = sorted(f"{name}: {value}" for name, value in head.items() if name.startswith("sec-websocket"))
    return head.get(":status"), agreed, back


async def differences(direct, through):
    """The cases that were tried, and what differs: asked directly, through weir, and through weir over HTTP/2."""
    gate = asyncio.Semaphore(8)

    async def one(name, sent, chop):
        async with gate:
            ways = (over_http1(direct, sent, chop), over_http1(through, sent, chop), over_http2(through, sent, chop))
            asked = [asyncio.wait_for(way, PATIENCE) for way in ways]
            straight, proxied, streamed = await asyncio.gather(*asked)
        if straight != proxied:
            return f"{name}: {straight[:2]} {straight[2][:80]!r} and {proxied[:2]} {proxied[2][:80]!r}"
        agreed = [line for line in straight[1] if "-accept" not in line]
        if (streamed[0], streamed[1], streamed[2]) != ("200", agreed, straight[2]):
            return f"{name} over HTTP/2: {straight[2][:80]!r} and {streamed[:2]} {streamed[2][:80]!r}"
        return None

    tried = list(cases())
    found = await asyncio.gather(*(one(*case) for case in tried))
    return len(tried), [difference for difference in found if difference]
