"""Targets that read what stands beside the protocols: the operators' socket, the secret, a fetched snapshot, what a person types.

What it is not: doors, links and packets are in `outside.py`, files in `disks.py`.

Read next: `disks.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import re
import socket
import zlib
from typing import Any, cast

import handshake
import operators
import phrases
import ports
from guest import Guest
from host import ADMIN_LINE_MAX, SO_PEERCRED, LoopHost
from packets import Chunk, SnapshotOffer
from snapshots import MANIFEST, Manifest, SnapshotDamaged, load, message_file, name_of
from tests.fuzzing.disks import SnapshotTarget, framed, unframed
from tests.fuzzing.run import Target
from tests.ram_disk import RamDisk
from tests.simulator.world import World
from tests.wreck import make_mix, small_sizes
from transfer import CHUNK, Receiver, Sender, TransferFailed


class Visitor:
    """The other end of the operators' socket."""

    def __init__(self) -> None:
        self.said = b""
        self.closed = False

    def get_extra_info(self, name: str) -> Visitor:
        return self

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return SO_PEERCRED.pack(1, os.getuid(), 0)

    def write(self, words: bytes) -> None:
        self.said += words

    async def drain(self) -> None: ...
    def close(self) -> None:
        self.closed = True


class AdminTarget(Target):
    """What an operator's program says to a replica, and what it makes of such an answer. Nothing but the named errors ends a request."""

    name = "admin"
    tokens = (b"{", b"}", b'"', b"[" * 3000, b"null", b"NaN", b"9" * 5000, b'"verb"', b'"stop"', b'"status"', b"\\ud800", b"\n", b"\xff")
    life = 400

    def __init__(self) -> None:
        self.left = 0
        self.runner: asyncio.Runner | None = None
        self.host: LoopHost | None = None

    def seeds(self) -> dict[str, bytes]:
        return {
            "status": b'{"verb": "status"}\n',
            "stop": b'{"verb": "stop", "everybody": true}\n',
            "answer": b'{"id": 0, "role": "primary", "view": 3, "commit": 9, "applied": 9, "serving": true, "changed": 17}\n',
        }

    def run(self, image: bytes) -> str:
        if self.runner is None:
            self.runner = asyncio.Runner()
        if not self.left:
            # One that was told to stop stops when its world goes on, which it does not.
            self.left = self.life
            with small_sizes():
                world = World(1, make_mix(), random.Random(1))
                world.start(0)
            self.server = world.processes[0].server
        self.left -= 1
        asked = self.runner.run(self._visit(image))
        answer = operators.read_answer(image)
        with contextlib.suppress(RecursionError):
            json.dumps(answer)
        return f"{asked}, {'no answer' if answer is None else 'an answer'}"

    async def _visit(self, image: bytes) -> str:
        if self.host is None:
            self.host = LoopHost(self.server.settings, 0, "nowhere")
        visitor, said, host = Visitor(), list[str](), self.host
        host.hands = cast(Any, self.server)
        host.log = said.append  # type: ignore[method-assign,assignment]
        reader = asyncio.StreamReader(limit=ADMIN_LINE_MAX)
        reader.feed_data(image)
        reader.feed_eof()
        await host._serve_operator(reader, cast(asyncio.StreamWriter, visitor))
        assert visitor.closed and bool(visitor.said) != bool(said), (visitor.said, said)
        if not visitor.said:
            return "refused"
        return "unknown" if "error" in json.loads(visitor.said) else "answered"


class SecretTarget(Target):
    """The file that all replicas of a directory share."""

    name = "secret"
    tokens = (b"ab" * 32, b"\n", b" ", b"\0", b"\xff", "٣".encode())

    def seeds(self) -> dict[str, bytes]:
        return {"whole": b"ab" * 32 + b"\n", "bare": b"0f" * 32}

    def run(self, image: bytes) -> str:
        secret = handshake.secret_in(image)
        if not secret:
            return "refused"
        assert len(secret) == handshake.SECRET_SIZE
        return "taken"


class TransferTarget(Target):
    """A snapshot as another replica gives it: a manifest, and its files in pieces. What was taken is what the manifest says."""

    name = "transfer"
    tokens = SnapshotTarget.tokens
    rounds = 60  # requests until a sender that has all has given it

    def __init__(self) -> None:
        self.snapshot = SnapshotTarget()
        own = self.snapshot.written(self.snapshot.seeds()["some"]).files
        self.own = {f"s/{name_of(7)}{path[1:]}": bytes(content) for path, content in own.items()}

    def seeds(self) -> dict[str, bytes]:
        made = {}
        for name, image in self.snapshot.seeds().items():
            disk = self.snapshot.written(image)
            made[name] = framed(bytes(disk.files[f"d/{MANIFEST}"]), image)
        return made

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """The manifest made that of the files, more often than not."""
        parts = unframed(image)
        files = self.snapshot.seal(parts[1] if len(parts) > 1 else b"", dice)
        manifest = bytes(self.snapshot.written(files).files[f"d/{MANIFEST}"])
        return framed(manifest if dice.random() < 0.8 or not parts else parts[0], files)

    def run(self, image: bytes) -> str:
        parts = [*unframed(image), b"", b""]
        files = dict(zip(self.snapshot.names, unframed(parts[1]), strict=False))
        disk = RamDisk(self.own)
        if zlib.crc32(image) % 4 == 0:
            self._offer(parts[0], parts[1])
        receiver = Receiver(disk, "s", 1, 0, pace=math.inf)  # time stands still here
        try:
            receiver.begin(SnapshotOffer(3, 10, bytes.fromhex("ab" * 16), parts[0]))
            if not self._give(receiver, files):
                return "waits for ever"
        except TransferFailed:
            receiver.abort()
            assert not any(path.startswith(receiver.path) for path in disk.files)
            return "failed"
        manifest = Manifest.decode(bytes(disk.files[f"{receiver.path}/{MANIFEST}"]))
        for name, part in manifest.files.items():
            assert len(disk.files[f"{receiver.path}/{name}"]) == part.size
        try:
            load(disk, receiver.path, "simulated", verify_history=True)
        except SnapshotDamaged:
            return "whole, and no state"
        return "whole"

    def _offer(self, manifest: bytes, image: bytes) -> None:
        """The other half: what stands on the disk of the one that gives is whatever it is."""
        name = name_of(10)
        files = {f"s/{name}{path[1:]}": bytes(content) for path, content in self.snapshot.written(image).files.items()}
        sender = Sender(RamDisk({**files, f"s/{name}/{MANIFEST}": manifest}), "s")
        offered = sender.offer(1.0)
        assert offered is None or offered[2] == manifest
        for file, offset in ((self.snapshot.names[0], 0), (message_file(2), 0), ("../x", 0), (MANIFEST, -1))[: 4 if offered else 1]:
            assert len(sender.chunk(10, file, offset, 1.0)) <= CHUNK
        sender.pinned(1e9)

    def _give(self, receiver: Receiver, files: dict[str, bytes]) -> bool:
        for turn in range(self.rounds):
            for ask in receiver.next_requests(3, float(turn)):
                content = files.get(ask.name, b"")[ask.offset : ask.offset + CHUNK]
                if receiver.take(Chunk(3, ask.op, ask.name, ask.offset, content)):
                    return True
        return False


LINES_MOST = 30
STEERS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # what a terminal would obey


class PersonTarget(Target):
    """What a person types, and what the terminal shows of a reply to it: whatever it says, it steers nothing."""

    name = "person"
    tokens = (
        *(b"create ", b"login ", b"send ", b"inbox", b"list ", b"delete ", b"@", b"bye", b"who", b"help", b"logout", b"|", b"\t", b"\n"),
        *(b"\x1b[2J", "\u202e".encode(), "\u2028".encode(), "e\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301".encode(), b"3|x|", b":80"),
        *("⏎".encode(), b"history ", b" before ", b"conversation with ", b": 3 messages", b", older before ", b"9" * 5000),
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "friendly": "create wayne\n@ann hello, äöü 漢\nsend bob how are you\ninbox\nlist w.*\nwho\ndelete wayne\nbye".encode(),
            "history": (
                "conversation with ann: 2 messages, older before 4, an earlier ann up to 5⏎5|17|ann|hi⏎6|18|wayne|x\nhistory ann"
            ).encode(),
            "protocol": b"1|wayne\n3|ann|hello\nSender wayne sends a new message hello to ann\n2\nShowing all accounts: ann,wayne",
        }

    def run(self, image: bytes) -> str:
        seen = "nothing"
        typed = image.decode("utf-8", "surrogateescape").split("\n")
        for number, line in enumerate(typed[:LINES_MOST]):
            account, reply = ("", "wayne")[number % 2], typed[number - 1].encode(errors="replace").decode().replace("⏎", "\n")
            word = phrases.understand(line, account)
            seen = "asked" if word.ask else "said" if word.say else seen
            if word.ask:
                guest = Guest("ab" * 16)
                guest.connect(1.0)
                guest.request(word.ask)
                guest.take()
            shown = phrases.outcome(line, word.ask, reply) + phrases.hint(word.ask, reply, account)
            assert not STEERS.search(shown), shown
            with contextlib.suppress(ValueError):
                ports.label(ports.address_of(line))
        return seen


TARGETS = (AdminTarget(), SecretTarget(), TransferTarget(), PersonTarget())
