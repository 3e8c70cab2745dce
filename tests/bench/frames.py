"""As much of HTTP/2 and gRPC as a load generator needs: one unary call over and over, on one connection.

What it is not: a client. It sends headers without compression, gives the server unlimited room to answer, keeps its own requests below
what every server takes unasked (64 KiB under way), and reads nothing but whether each call was answered with a message and a good end.

    request     HEADERS (path, te, content-type), DATA (0, length, message; end of stream)
    answer      HEADERS, DATA, HEADERS (end of stream): counted. HEADERS at once with end of stream: the call failed

Read next: `dialects.py`.
"""

from __future__ import annotations

import struct

from tests.bench.dialects import BadReply, Dialect, Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONTENT, HEADERS, RESET, SETTINGS, PING, AWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(len(body) << 8 | kind) + bytes((flags,)) + HEADER.pack(stream) + body


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is never indexed."""
    return b"\x10" + bytes((len(name),)) + name + bytes((len(value),)) + value


def headers_of(path: str) -> bytes:
    """The header block of a call."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "bench",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(literal(name.encode(), value.encode()) for name, value in fields.items())


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    size = len(value)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((number << 3 | 2,)) + bytes(length) + value


class Call(Dialect):
    """Unary calls. A subclass says which, and makes the message."""

    path = ""

    def __init__(self, number: int, text_bytes: int, *, shows: bool = False) -> None:
        self.stream = -1
        self.started = set[int]()  # streams whose message has come
        self.back = b""  # answers to the server's own questions
        self.fields = headers_of(self.path)
        super().__init__(number, text_bytes, shows=shows)

    async def enter(self, wire: Wire) -> None:
        room = struct.pack(">HIHI", 4, (1 << 31) - 1, 2, 0)  # initial window; no pushes
        wire.write(
            PREFACE + frame(SETTINGS, 0, 0, room) + frame(8, 0, 0, HEADER.pack((1 << 31) - 1 - 65535)) + frame(SETTINGS, ACK, 0, b"")
        )

    def message(self, whom: bytes, text: bytes) -> bytes:
        """The call's message, as protobuf."""
        raise NotImplementedError

    def request(self, whom: bytes, text: bytes) -> bytes:
        message = self.message(whom, text)
        return b"\0" + HEADER.pack(len(message)) + message

    def one(self) -> bytes:
        back, self.back = self.back, b""
        return back + self.call(super().one())

    def lines(self, count: int) -> list[bytes]:
        back, self.back = self.back, b""
        return [back, *map(self.call, super().lines(count))]

    def call(self, message: bytes) -> bytes:
        """A stream of its own for it."""
        self.stream += 2
        return frame(HEADERS, END_HEADERS, self.stream, self.fields) + frame(CONTENT, END_STREAM, self.stream, message)

    def count(self, chunk: bytes) -> int:
        seen = self.tail + chunk
        at, done, size = 0, 0, len(seen)
        while size - at >= 9:
            head = HEADER.unpack_from(seen, at)[0]
            length, kind, flags = head >> 8, head & 0xFF, seen[at + 4]
            if at + 9 + length > size:
                break
            stream = HEADER.unpack_from(seen, at + 5)[0]
            if kind == CONTENT and length > 5:
                self.started.add(stream)
            elif kind == HEADERS and flags & END_STREAM:
                if stream not in self.started:
                    raise BadReply(f"the call failed: {seen[at : at + 200]!r}")
                self.started.discard(stream)
                done += 1
            elif kind == PING and not flags & ACK:
                self.back += frame(PING, ACK, 0, seen[at + 9 : at + 17])
            elif kind in (RESET, AWAY):
                raise BadReply(f"the server ends it: {seen[at : at + 200]!r}")
            at += 9 + length
        self.tail = seen[at:]
        return done


class Etcd(Call):
    """etcdserverpb.KV/Put: a key for each recipient and connection, of which etcd keeps every revision until somebody compacts them."""

    path = "/etcdserverpb.KV/Put"

    def message(self, whom: bytes, text: bytes) -> bytes:
        return field(1, b"box/%s/%d" % (whom, self.number)) + field(2, text)


class Grpc(Call):
    """SendMessage at the gRPC door, or at a service that only answers."""

    path = "/ChatService/SendMessage"

    def message(self, whom: bytes, text: bytes) -> bytes:
        return field(2, text) + field(3, b"s%d" % self.number) + field(4, whom)
