"""Targets that read what others send: the pipe door with all behind it, links between replicas, packets, batches, and the client.

What it is not: there is no socket; bytes arrive cut anywhere.

Read next: `disks.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

import batches
import packets
from batches import NO_HASH, Batch, DamagedBatch
from commands import COMMANDS, RUN, SYSTEM, Refusal, count_ops, run, sessions_of
from doors.calls import Asked, Refused, refused
from doors.gen.chat_pb2 import (
    AcknowledgeRequest,
    ChatClient,
    ChatMessageRequest,
    CreateAccountRequest,
    DeleteAccountRequest,
    HistoryRequest,
    LogInRequest,
    WildCardRequest,
)
from doors.grpc_door import told
from doors.lines import LINE_MAX
from doors.messages import CALLS, looking_back, page
from events import Event, Linked, Persist, Persisted, Received, Saved, SaveLogView, Ticked
from exchange import Exchange
from guest import About, Guest, Message, Reply, Trouble
from handshake import ANY, LENGTH, Handshake, Identity, LinkRefused
from link import HANDSHAKE_MAX, Link
from links import Links
from packets import BAD_PACKET, PACKET_MAX, AnyPacket, Member, View
from policy import Start, Timers
from replication import HALTED, Replica
from snapshot_worker import rows_through_csv
from state import ChatState
from survivor import Survivor
from tests.doors.controllers import Ear
from tests.front_desk import FrontDesk, Person
from tests.fuzzing.disks import WALL, framed, seal_batch, some_batches, some_bodies, unframed
from tests.fuzzing.run import Target

CHUNK_MAX = 64 << 10  # bytes a socket gives at once


def pieces(image: bytes) -> Iterator[bytes]:
    """The input cut somewhere, always in the same places."""
    dice = random.Random(zlib.crc32(image))
    at = 0
    while at < len(image):
        size = dice.choice((1, 7, 40, 1 << 20, 1 << 20))
        yield image[at : at + min(size, CHUNK_MAX)]
        at += min(size, CHUNK_MAX)


def by_frame(image: bytes) -> Iterator[bytes]:
    """The input as it comes most often: one frame after the other, if that is what it is."""
    at = 0
    while at < len(image):
        length = LENGTH.size + int.from_bytes(image[at : at + LENGTH.size], "big")
        yield image[at : at + min(length, CHUNK_MAX)]
        at += min(length, CHUNK_MAX)


class PipeTarget(Target):
    """A guest at the pipe door, plain or numbered, the desk and the state behind it.

    All inputs of a while meet the same state, in which somebody else is logged in. What a numbered guest is sent, our own client must
    be able to read; now and then the state must survive being written down.
    """

    name = "pipe"
    tokens: tuple[bytes, ...] = (
        *(
            b"0|",
            b"1|",
            b"2|",
            b"3|",
            b"4|",
            b"5|",
            b"|",
            b"\n",
            b"\r\n",
            b"\0",
            b"understudy 1 " + b"ab" * 16 + b"\n",
            b"resume 7\n",
            b"ack 9\n",
        ),
        *(
            b"cluster\n",
            b"who\n",
            b"bye\n",
            b"1 0 ",
            b"2 1 ",
            b"99999 0 ",
            b"2|(a*)*b",
            b"2|[[:alpha:]",
            b"2|" + b"(" * 300,
            b"2|\\p{Greek}+",
        ),
        *(
            "\u202e".encode(),
            b"\xff\xfe",
            b"\xed\xa0\x80",
            "ẞ".encode(),
            "ﷺ".encode(),
            b"x" * 70_000,
            b"3|ann|",
            b"4|ann123",
            b"1|" + b"n" * 33,
        ),
    )
    life = 400  # inputs that meet the same state

    def __init__(self) -> None:
        self.left = 0

    def seeds(self) -> dict[str, bytes]:
        return {
            "plain": b"1|wayne",
            "framed": "1|wayne\n3|ann|hello\n2\n2|a.*\n4|wayne123\n3|wayne|äöü | 漢\n5|wayne123\n0|wayne123\n".encode(),
            "numbered": b"understudy 1 " + b"cd" * 16 + b"\n1 0 1|wayne\n2 1 3|ann|hi\n3 2 2\n4 3 who\n5 4 3|wayne|me\nack 1\n6 5 bye\n",
            "resumed": b"understudy 1 " + b"cd" * 16 + b"\nresume 1\n7 6 0|wayne123\ncluster\n8 7 4|wayne123\n9 8 5|wayne123\n",
            "history": b"understudy 1 "
            + b"ef" * 16
            + b"\n1 0 1|mason\n2 1 3|ann|hi\n3 2 history|ann|5|0\n4 3 history|ann\n5 4 history|x|9|2\n",
        }

    def run(self, image: bytes) -> str:
        if not self.left:
            self.begin()
        self.left -= 1
        person = self.front.connect(self.name)
        translator = cast(Any, person.connection.translator)  # the desk lets go of it with the guest
        words = self._talk(person, image)
        assert len(getattr(translator, "rest", b"")) <= LINE_MAX
        person.leave()
        self.front.turn()
        assert not self.front.desk.queries and person.connection.home not in self.front.desk.connections
        if getattr(translator, "numbered", False):
            read_as_guest(words)
        if not self.left:
            self.end()
        if person.paper.closed:
            return "hung up"
        if getattr(translator, "numbered", False):
            return "numbered"
        return "silent" if not words else "complained" if b"error" in words else "answered"

    def _talk(self, person: Person, image: bytes) -> bytes:
        words = b""
        for number, piece in enumerate(pieces(image)):
            if person.connection.gone:
                break
            waits = person.send(piece)
            if number % 3 == 2:
                self.front.turn()
            if waits and number % 5 == 4:
                person.connection.quiet()
            words += person.read()
        if not person.connection.gone:
            person.connection.quiet()
            self.front.turn()
            person.connection.end()
        self.front.turn()
        return words + person.read()

    def begin(self) -> None:
        """A cluster in which ann is there, rosa with a password, and bob is not."""
        self.left = self.life
        self.front = FrontDesk()
        ann = self.front.connect()
        ann.say("1|bob\n")
        ann.say("1|ann\n")
        rosa = self.front.connect("framed")
        rosa.say(frames(b"3\nrosa\na secret"))
        self.there = {ann.connection.home, rosa.connection.home}

    def end(self) -> None:
        """What this state is written down as is read back as the same."""
        rewritten(self.front.state)
        assert set(self.front.desk.connections) == self.there


class FramedTarget(PipeTarget):
    """The door with lengths and passwords."""

    name = "framed"
    tokens: tuple[bytes, ...] = (
        *(
            b"1\n",
            b"2\n",
            b"3\n",
            b"4\n",
            b"5\n",
            b"-1\n",
            b"\n",
            b"ann",
            b"bob\n",
            b"a secret",
            b"9999999999",
            b"-1        ",
            b"0         ",
        ),
        *("\u0663         ".encode(), b"1e9       ", b"\xff\xfe", b"\0", b"x" * 70_000, b"n" * 33),
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "talk": frames(b"3\nwayne\na secret", b"1\nwayne\na secret", b"2\nann\nhello", b"4\n", b"-1\n"),
            "numbered": b"understudy 1 " + b"cd" * 16 + b"\n1 0 3|nora|a secret\n2 1 2|ann|hi\n3 2 6|x\n4 3 4\n5 4 5|nora|wrong\n6 5 -1\n",
            "mixed": frames(b"-1\n", b"2\nann\nhello", b"4\n", b"2\nann\nhello", b"-1\n"),
            "end": frames(b"3\nmason\nx", b"2\nmason\nto myself", b"5\nmason\nwrong", b"5\nmason\nx"),
        }

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """The lengths made those of what stands up to the next thing that looks like one."""
        parts = re.split(rb"[0-9][0-9 ]{9}", image)
        return frames(*(part for part in parts if part))


class RelayTarget(FramedTarget):
    """The second connection of a guest with passwords, on which messages arrive."""

    name = "relay"

    def seeds(self) -> dict[str, bytes]:
        return {"rosa": frames(b"rosa"), "nobody": frames(b"nobody", b"rosa")}


def frames(*bodies: bytes) -> bytes:
    """Bodies as the framed door has them."""
    return b"".join(b"%-10d" % len(body) + body for body in bodies)


class LedgerTarget(PipeTarget):
    """The same at the door where balances are held."""

    name = "ledger"
    tokens: tuple[bytes, ...] = (
        *(b"0|", b"1|", b"2|", b"3|", b"4|", b"|", b"\n", b"\r\n", b"\0", b"ann123|", b"|-1\n", b"|0\n", b"|1e9\n", b"|" + b"9" * 5000),
        *("|\u0663\n".encode(), b"|9223372036854775807\n", b"\xff\xfe", b"x" * 70_000, b"1|" + b"n" * 33),
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "plain": b"1|wayne\n2|wayne123|50\n3|wayne123|20\n4|wayne123\n4|ann123\n3|ann123|1\n",
            "again": b"0|ann123\n2|ann123|9007199254740991\n3|ann123|9007199254740991\n4|ann123\n",
        }


class RoomTarget(PipeTarget):
    """The door of the one conversation: a name, then lines."""

    name = "room"
    tokens: tuple[bytes, ...] = (
        *(b"\n", b"\r\n", b"tata\n", b"join ", b"say ", b"tata", b"rosa\n", b"|", b",", b"\0", b"\x1b[2J", b"Server\n", b"resume 9\n"),
        *("\u0663\n".encode(), b"\xff\xfe", b"x" * 70_000, b"n" * 33),
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "guest": "albert\nhello\näöü | 漢\ntata\n".encode(),
            "taken": b"rosa\nhello\n",
            "numbered": b"understudy 1 " + b"cd" * 16 + b"\n1 0 join albert\n2 1 say hello\n3 2 say |\n4 3 tata\n5 4 join rosa\n",
            "resumed": b"understudy 1 " + b"cd" * 16 + b"\nresume 1\n1 0 join albert\n2 1 say again\n",
        }


class GrpcTarget(Target):
    """A call, or a stream, as bytes: which one stands in the first byte. All inputs of a while meet the same state."""

    name = "grpc"
    tokens: tuple[bytes, ...] = (
        *(b"\x0a\x05wayne", b"\x12\x02hi", b"\x1a\x03ann", b"\x22\x05wayne", b"\x08\x07", b"\x5a\x01r", b"\x62\x01p", b"\x68\xff\x01"),
        *(b"|", b"\n", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x0a\xff\xff\xff\xff\x0f", b"\x70\x01", b"x" * 70_000, b"n" * 33),
    )
    calls: tuple[str, ...] = (*CALLS, "ReceiveMessages", "History")
    life = 400  # inputs that meet the same state

    def __init__(self) -> None:
        self.left = 0

    def seeds(self) -> dict[str, bytes]:
        some = {
            "CreateAccount": CreateAccountRequest(client_id="wayne", request_id="r1"),
            "SendMessage": ChatMessageRequest(thread_id=7, message="äöü | 漢", sender_id="ann", recipient_id="wayne123", request_id="r2"),
            "WildCard": WildCardRequest(client_id="ann", pattern="(a|w).*"),
            "LogIn": LogInRequest(client_id="ann", password="p"),
            "DeleteAccount": DeleteAccountRequest(client_id="ann"),
            "Acknowledge": AcknowledgeRequest(client_id="ann", upto=99),
            "ReceiveMessages": ChatClient(recipient_id="ann", after=5),
            "History": HistoryRequest(client_id="wayne", partner_id="ann", before=9, count=3),
        }
        return {call: bytes([self.calls.index(call)]) + words.SerializeToString() for call, words in some.items()}

    def run(self, image: bytes) -> str:
        if not self.left:
            self.front, self.left = FrontDesk(), self.life
            self.exchange = Exchange(self.front.desk, self.front.later)
            self.ask(CALLS["CreateAccount"](CreateAccountRequest(client_id="ann").SerializeToString()))
        self.left -= 1
        call, raw = self.calls[image[0] % len(self.calls) if image else 0], image[1:]
        try:
            if call == "ReceiveMessages":
                return self.listen(raw)
            if call == "History":
                return self.ask(looking_back(raw), Exchange.look_back)
            return self.ask(CALLS[call](raw))
        except Refused as no:
            return no.status

    def ask(self, asked: Asked, ask: Callable[[Exchange, Asked, str, Callable[[str], None]], None] = Exchange.ask) -> str:
        assert "\n" not in asked.command
        answers: list[str] = []
        ask(self.exchange, asked, "127.0.0.1", answers.append)
        self.front.turn()
        (answer,) = answers
        assert answer != Refusal.INTERNAL, asked
        if answer[0] not in "yt":
            return refused(answer, asked.name).status
        (told if answer[0] == "y" else page)(answer)
        return "done"

    def listen(self, raw: bytes) -> str:
        ear = Ear(self.front, raw)
        self.front.turn()
        while ear.show():
            self.front.turn()
        ear.drop()
        self.front.turn()
        return "turned away" if ear.refused else "heard"


class OperatorTarget(PipeTarget):
    """What an operator asks about an account; whoever brings it has seen that it is an object."""

    name = "operator"
    tokens: tuple[bytes, ...] = (
        b'"what"',
        b'"name"',
        b'"password"',
        b'"block"',
        b'"remove"',
        b"null",
        b"\\ud800",
        b"|",
        b"\\n",
        b"\\u0000",
        b"9" * 5000,
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "reset": b'{"verb": "account", "what": "reset", "name": "ann", "password": "a long secret"}',
            "block": b'{"verb": "account", "what": "block", "name": "bob"}',
            "remove": b'{"verb": "account", "what": "remove", "name": "nobody"}',
        }

    def run(self, image: bytes) -> str:
        try:
            request = json.loads(image)
        except (ValueError, RecursionError):
            return "no JSON"
        return super().run(json.dumps(request).encode()) if isinstance(request, dict) else "no object"

    def _talk(self, person: Person, image: bytes) -> bytes:
        person.send(image)
        self.front.turn()
        return person.read()


def read_as_guest(words: bytes) -> None:
    """Our own client understands all that a door says to a numbered guest."""
    guest = Guest("ab" * 16)
    guest.connect(1.0)
    for event in guest.receive(words, 1.0):
        assert not (isinstance(event, Trouble) and event.word == "stranger"), f"{event} in {words[:500]!r}"


def rewritten(state: ChatState) -> None:
    """Tables → CSV → tables: nothing changes."""
    csv.field_size_limit(1 << 30)
    tables = {name: (columns, [list(row) for row in rows]) for name, (columns, rows) in state.tables().items()}
    back = {}
    for name, (columns, rows) in tables.items():
        text = rows_through_csv(columns, rows, True).decode()
        back[name] = list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]
        assert back[name] == rows, name
    again = ChatState.load(state.op, state.digest, state.message_count, {name: iter(rows) for name, rows in back.items()})
    assert {name: [list(row) for row in rows] for name, (_, rows) in again.tables().items()} == back


class BodyTarget(Target):
    """A batch's body, as a backup may forward it: what `count_ops` lets through is applied, whatever it says."""

    name = "body"
    tokens = (
        *(b"%c|" % letter for letter in range(65, 91)),
        *(
            b"O",
            b"\n",
            b"|",
            b"reset|",
            b"passwd|",
            b"|0|",
            b"|1700000000000000",
            b"argon2id$",
            b"open|",
            b"close|",
            b"ack|",
            b"members|",
            b"expire|",
            b"ann123",
            b"wayne",
        ),
        *(bytes(range(16)), bytes(16), b"R", b"S", "ſ".encode(), b"\xff", b"\0"),
    )
    life = 200

    def __init__(self) -> None:
        self.left = 0

    def seeds(self) -> dict[str, bytes]:
        bodies = [body for _, body in some_bodies()]
        return {"all": b"".join(bodies), "talk": bodies[1] + bodies[2], "skip": run(bytes(range(16)), 9, 3, 2, b"O\nO", 2)}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """Lengths and counts of all runs made right."""
        made, at = b"", 0
        while at + RUN.size <= len(image):
            kind, length, _, key, first, low, skip = RUN.unpack_from(image, at)
            lines = image[at + RUN.size : at + RUN.size + min(length, 4096)]
            kind = kind if kind in (COMMANDS, SYSTEM) else COMMANDS
            count = lines.count(b"\n") + 1 if dice.random() < 0.97 else dice.randint(1, len(lines) + 1)
            first = first if dice.random() < 0.3 else first % 20
            made += RUN.pack(kind, len(lines), count, key, first, low, skip) + lines
            at += RUN.size + len(lines)
        return made

    def run(self, image: bytes) -> str:
        try:
            count = count_ops(image)
        except ValueError:
            return "refused"
        if not image:
            return "empty"
        sessions_of(image)
        if not self.left:
            self.left, self.state = self.life, ChatState()
            for ops, body in some_bodies():
                self.state.apply(self.state.op + 1, ops, WALL, body)
        self.left -= 1
        before, said = self.state.op, 0
        outcome = self.state.apply(before + 1, count, WALL + before, image)
        assert self.state.op == before + count
        for _, _, replies in outcome.replies:
            said += len(replies)
            assert all(type(reply) is str and reply for reply in replies)
        assert said <= count
        if not self.left:
            rewritten(self.state)
        return "applied"


class BatchTarget(Target):
    """The image of a batch, anywhere in a block of bytes."""

    name = "batch"
    tokens = (batches.MAGIC, batches.END, bytes(8), b"\xff" * 8)

    def seeds(self) -> dict[str, bytes]:
        first, second, *_ = some_batches()
        return {"one": first.image, "two": first.image + second.image}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        room = max(len(image), batches.HEADER_SIZE + batches.TRAILER_SIZE + 1)
        return seal_batch(image.ljust(room, b"\0"), 0, room, None)

    def run(self, image: bytes) -> str:
        at = 0
        try:
            while at < len(image):
                batch = Batch.decode(memoryview(image), at)
                assert batch.image == image[at : at + len(batch.image)] and batch.op >= batch.first_op > 0
                assert batches.image_hash(batch.image) == batch.hash
                at += len(batch.image)
        except DamagedBatch:
            return "damaged"
        return "sound"


class PacketTarget(Target):
    """A packet; what is read is what would be written."""

    name = "packet"
    tokens = (
        b"\xa1P",
        b"\xa1N",
        b"\xa1S",
        b"\xc0",
        b"\xc3",
        b"\xcb" + b"\x7f" * 8,
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\xd9\xff",
    )

    def seeds(self) -> dict[str, bytes]:
        first, *_ = some_batches()
        tip = first.hash
        some: list[packets.Packet] = [
            packets.Prepare(3, 1, 1, 77, first.image),
            packets.PrepareOk(3, 1, tip),
            packets.Commit(3, 1, tip, 77, 5),
            packets.CommitOk(3, 5, 1),
            packets.StartView(3, 1, tip, 0, NO_HASH, first.image),
            packets.GetState(3, 1, tip, 0, NO_HASH),
            packets.NewState(3, 0, NO_HASH, first.image, True),
            packets.SnapshotOffer(3, 1, tip, b"{}"),
            packets.GetChunk(3, 1, "accounts.csv", 4096),
            packets.Chunk(3, 1, "accounts.csv", 4096, b"bytes"),
            packets.Recovery(3, 9, 2, 1, tip, True, False),
            packets.RecoveryResponse(3, 9, "normal", 1, 1, True, False),
            packets.Leave(3, "planned stop"),
            packets.Forward(3, first.body),
            packets.ForwardQuery(3, 1 << 40, b"s" * 16, "A|a.*"),
            packets.Forwarded(3, 1 << 40, "a|ann,wayne"),
        ]
        return {type(packet).__name__: packets.encode(packet) for packet in some}

    def run(self, image: bytes) -> str:
        try:
            packet = packets.decode(image)
        except BAD_PACKET:
            return "refused"
        again = packets.decode(packets.encode(packet))
        assert again == packet
        return type(packet).__name__


class PieceTarget(Target):
    """Batches in the packets of a primary, damaged on their way: at a backup, at one that installs a view, and at a learner.

    What is taken is what was sent, bit for bit: whole batches that follow each other. All else is passed over, or ends the process with
    a sentence. The primary does not lie: what its packet says of the log around the batches is true.
    """

    name = "piece"
    tokens = BatchTarget.tokens
    lead = Member(0, 1700)

    def seeds(self) -> dict[str, bytes]:
        first, second, third, *_ = (batch.image for batch in some_batches())
        return {"one": framed(first), "three": framed(first, second, third), "two": framed(first, second)}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """One of the batches made whole again."""
        parts = unframed(image)
        if parts:
            at = dice.randrange(len(parts))
            room = max(len(parts[at]), batches.HEADER_SIZE + batches.TRAILER_SIZE + 1)
            parts[at] = seal_batch(parts[at].ljust(room, b"\0"), 0, room, None)
        return framed(*parts)

    def run(self, image: bytes) -> str:
        parts, (first, *_) = [*unframed(image), b""], some_batches()
        turn = zlib.crc32(image) % 3
        if turn == 0:
            taken = self._fed(True, [packets.StartView(1, first.op, first.hash, 0, NO_HASH, parts[0])])
        elif turn == 1:
            taken = self._fed(False, [packets.NewState(1, 0, NO_HASH, b"".join(parts), False)])
        else:
            empty = packets.StartView(1, 0, NO_HASH, 0, NO_HASH, b"")
            taken = self._fed(True, [empty, *(packets.Prepare(1, 0, 0, 0, part) for part in parts)])
        return f"{min(taken, 5)} taken"

    def _fed(self, is_member: bool, some: list[packets.Packet]) -> int:
        """How many ops a replica with an empty log takes from these packets."""
        me, other = Member(1, 1701), Member(2, 1702)
        view = View("simulated", 1, self.lead, (self.lead, me, other) if is_member else (self.lead, other), 0, NO_HASH, "test", WALL)
        replica = Replica(1, (0, 1, 2), "simulated", Timers(), Start(1701, 0, 0, 0, NO_HASH, 0, NO_HASH, None, 0, "", 0, 1700, False), 1.0)
        replica.policy = Survivor(replica, view)
        events: list[Event] = [Ticked(), Linked(self.lead)]
        if not is_member:
            events.append(Received(self.lead, packets.RecoveryResponse(1, 1, "normal", 9, 9, True, False)))
        events += (Received(self.lead, packet) for packet in some)
        for event in events:
            todo = [event]
            while todo and replica.status != HALTED:
                for effect in replica.step(1.0, todo.pop(0)):
                    if isinstance(effect, Persist):
                        todo.append(Persisted(effect.generation, effect.batches[-1].op, effect.batches[-1].hash))
                    elif isinstance(effect, SaveLogView):
                        todo.append(Saved(effect.generation, effect.log_view))
        return replica.head_op


class Wire:
    """The transport and the owner of a link, and what reached them."""

    def __init__(self) -> None:
        self.closed = self.linked = False
        self.taken = 0
        self.largest = 0

    def write(self, words: bytes) -> None:
        assert len(words) <= HANDSHAKE_MAX

    def set_write_buffer_limits(self, high: int) -> None: ...
    def get_extra_info(self, name: str) -> None: ...
    def certified(self, transport: object) -> int:
        return ANY

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort

    def on_arrived(self, link: Link) -> None: ...
    def on_greeted(self, link: Link) -> None:
        assert not self.linked
        self.linked = True
        link.replica = link.peer.replica

    def on_parted(self, link: Link, reason: str) -> None:
        assert reason

    def on_gone(self, link: Link) -> None: ...
    def on_packet(self, replica: int, packet: AnyPacket) -> None:
        assert self.linked
        self.taken += 1


class LinkTarget(Target):
    """A connection to the port for replicas, from the first byte on: handshake as acceptor, then packets."""

    name = "link"
    tokens = (
        b"understudy-hello",
        b"understudy-proof",
        b"understudy-ready",
        b"\xff\xff\xff\xff",
        b"\0\0\x10\0",
        b"\0\x40\0\0",
        b"\xa9simulated",
        b"\xc4\x10",
    )
    secret = bytes(range(32))

    def seeds(self) -> dict[str, bytes]:
        dialler = self._side(1, dialled=0)
        hello = dialler.hello
        proof = dialler.take(self._side(0, dialled=None).hello)
        ready = msgspec.msgpack.encode(["understudy-ready"])
        some = [image for _, image in sorted(PacketTarget().seeds().items())]
        return {"whole": framed(hello, proof, ready, *some), "greeting": framed(hello, proof, ready), "stranger": b"1|wayne\n"}

    def _side(self, replica: int, *, dialled: int | None) -> Handshake:
        me = Identity(
            cluster="simulated",
            replica=replica,
            inc=1700 + replica,
            config_hash="ab" * 16,
            policy="survivor",
            version="0.1.0",
            pid=77,
            boot_id="boot",
            directory=(1, 2),
        )
        nonce = bytes([replica]) * 16
        return Handshake(me, self.secret, dialled=dialled, replicas=(0, 1, 2), nonce=nonce, holds_lock=lambda *_: True)

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """Lengths made right, and the proof that of somebody who knows the secret and says this."""
        frames = unframed(image)
        if len(frames) > 1:
            liar = self._side(1, dialled=0)
            liar.hello = frames[0]
            frames[1] = liar.take(self._side(0, dialled=None).hello)
        return framed(*frames)

    def link_to(self, wire: Wire) -> Link:
        """This replica's end of the connection."""
        return Link(cast(Links, wire), self._side(0, dialled=None), None, cast("asyncio.Future[None]", None))

    def run(self, image: bytes) -> str:
        wire = Wire()
        link = self.link_to(wire)
        link.connection_made(cast(asyncio.BaseTransport, wire))
        for piece in by_frame(image) if zlib.crc32(image) % 2 else pieces(image):
            if wire.closed:
                break
            link.data_received(piece)
            assert len(link._pending) <= LENGTH.size + (PACKET_MAX if wire.linked else HANDSHAKE_MAX) + CHUNK_MAX
        if wire.linked:
            return f"linked, {min(wire.taken, 3)} packets"
        return "cut" if wire.closed else "waits"


class DialledTarget(LinkTarget):
    """The same, where this replica has dialled: the other one greets, proves, and packets follow."""

    name = "dialled"

    def seeds(self) -> dict[str, bytes]:
        acceptor = self._side(0, dialled=None)
        proof = self._proof_of(acceptor)
        some = [image for _, image in sorted(PacketTarget().seeds().items())]
        return {"whole": framed(acceptor.hello, proof, *some), "greeting": framed(acceptor.hello, proof), "stranger": b"HTTP/1.1 400"}

    def _proof_of(self, acceptor: Handshake) -> bytes:
        dialler = self._side(1, dialled=0)
        own = dialler.take(acceptor.hello)
        acceptor.take(dialler.hello)
        return acceptor.take(own)

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        frames = unframed(image)
        if len(frames) > 1:
            liar = self._side(0, dialled=None)
            liar.hello = frames[0]
            with contextlib.suppress(LinkRefused):
                frames[1] = self._proof_of(liar)
        return framed(*frames)

    def link_to(self, wire: Wire) -> Link:
        return Link(cast(Links, wire), self._side(1, dialled=0), 0, cast("asyncio.Future[None]", None))


class GuestTarget(Target):
    """What a server says to our client."""

    name = "guest"
    tokens = (
        b"* ",
        b"= ",
        b"! gap ",
        b"! session\n",
        b"! newer\n",
        b"@ ",
        b".\n",
        b"|",
        b"\n",
        b"1 5\n",
        b"{}",
        b"null",
        b"[" * 2000,
        b"-",
        b"\xff",
        b"67108865",
    )

    def seeds(self) -> dict[str, bytes]:
        return {
            "talk": b"To get started on this chat\n= - 0 0\n1 6\nhello!.\n2 0\n= wayne 2 1\n"
            b'* 1 14\nann|1700|9|hey\n@ 13\n{"primary":0}! gap 1\n',
            "entered": b"= - 0 0\n1 50\nuser : wayne is now logged in\n* 1 12\nann|17|9|hey* 2 12\nann|18|a|hey.\n! session\n",
        }

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """The size of every body made that of the bytes up to the next line that looks like ours."""
        made, rest = b"", image
        while rest:
            head, newline, rest = rest.partition(b"\n")
            words = head.split(b" ")
            if newline and words[-1].isdigit() and (words[0] in (b"*", b"@") or words[0].isdigit()) and len(words) in (2, 3):
                body, rest = rest[: len(rest) // 2], rest[len(rest) // 2 :]
                head = b" ".join([*words[:-1], b"%d" % len(body)])
                made += head + newline + body
            else:
                made += head + newline
        return made

    def run(self, image: bytes) -> str:
        guest = Guest("ab" * 16)
        guest.connect(1.0)
        for line in ("0|wayne123", "3|ann|hello", "2", "bye"):
            guest.request(line)
        now, seen = 1.0, "nothing"
        for piece in pieces(image):
            now += 0.05
            for event in guest.receive(piece, now):
                if isinstance(event, Message):
                    guest.displayed(event, now)
                assert not isinstance(event, Reply) or event.line
                assert not isinstance(event, About) or isinstance(event.cluster, dict)
                seen = type(event).__name__
            guest.tick(now)
            guest.take()
            if not guest.is_connected:
                break
        guest.lose()
        guest.connect(now)
        guest.take()
        guest.recall({**guest.remember(), "session": guest.session})
        return seen


TARGETS = (
    *(
        PipeTarget(),
        FramedTarget(),
        RelayTarget(),
        LedgerTarget(),
        RoomTarget(),
        GrpcTarget(),
        OperatorTarget(),
        BodyTarget(),
        BatchTarget(),
        PacketTarget(),
    ),
    *(PieceTarget(), LinkTarget(), DialledTarget(), GuestTarget()),
)
