"""Targets that read files: journal, register, superblock, lock, manifest, snapshot, settings, the worker's orders, a client's memory.

What it is not: no file is damaged by chance here; the checksums are repaired more often than not, so that the parser behind them is met.

Read next: `outside.py`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import random
import struct
import zlib
from collections.abc import Iterator

import msgspec

import evidence
import memory
import settings
import superblock
from batches import CRC, END, HASH_SIZE, HEADER, HEADER_SIZE, MAGIC, NO_HASH, TRAILER_SIZE, Batch, digest
from commands import run, system_run
from disk import SECTOR, ReplicaLock
from guest import Guest
from history import Page, rows_of
from journal import Journal, JournalDamaged, read_segments
from packets import Member, View
from register import Register, RegisterDamaged
from segments import header, padded, survey
from snapshot_worker import Maker, rows_through_csv
from snapshots import FORMAT, Manifest, Part, SnapshotDamaged, load, make_look, make_order, message_file, name_of
from state import ChatState
from tables import MESSAGE_COLUMNS, TABLES
from tests.fuzzing.run import Target
from tests.ram_disk import RamDisk
from transfer import TransferFailed, read_offer

LENGTH = struct.Struct(">I")
WALL = 1_700_000_000_000_000


def framed(*parts: bytes) -> bytes:
    """Several files as one input."""
    return b"".join(LENGTH.pack(len(part)) + part for part in parts)


def unframed(image: bytes) -> list[bytes]:
    """The files of an input; a length that is too large means the rest."""
    parts: list[bytes] = []
    at = 0
    while at + LENGTH.size <= len(image) and len(parts) < 64:
        (length,) = LENGTH.unpack_from(image, at)
        parts.append(image[at + LENGTH.size : at + LENGTH.size + length])
        at += LENGTH.size + length
    return parts


def some_bodies() -> Iterator[tuple[int, bytes]]:
    """Bodies of batches, with their number of ops."""
    key = bytes(range(16))
    yield 1, system_run(f"open|{key.hex()}|0.7.1|numbered")
    yield 2, run(key, 1, 0, 0, b"C|wayne\nC|ann", 2)
    yield 3, run(key, 3, 2, 0, 'S|wayne|hello, "you"\nS|ann123|äöü 漢\nR|ann123'.encode(), 3)
    yield 1, system_run("members|0.7,1.8,2.9")
    yield 2, run(key, 7, 6, 1, b"L|wayne123\nS|ann|" + b"long " * 150, 2)
    yield 1, system_run("ack|ann|3|0|1")


@functools.cache
def some_batches() -> tuple[Batch, ...]:
    """A short log."""
    batches: list[Batch] = []
    op, tip = 0, NO_HASH
    for number, (count, body) in enumerate(some_bodies()):
        batches.append(Batch(first_op=op + 1, count=count, view=1, time=WALL + 1000 * number, prev_hash=tip, body=body))
        op, tip = batches[-1].op, batches[-1].hash
    return tuple(batches)


def some_state() -> ChatState:
    """What the log leads to."""
    state = ChatState()
    for batch in some_batches():
        state.apply(batch.first_op, batch.count, batch.time, batch.body)
    return state


def seal_batch(image: bytes, at: int, room: int, chain: tuple[int, bytes] | None) -> bytes:
    """The batch at `at` with a right length, checksum, hash and end; chained to (op, hash) if wanted."""
    length = min(struct.unpack_from("<I", image, at + 16)[0], max(1, room - HEADER_SIZE - TRAILER_SIZE))
    _, first_op, count, _, view, time, prev_hash = HEADER.unpack_from(image, at)
    first_op, prev_hash = (chain[0] + 1, chain[1]) if chain else (first_op, prev_hash)
    head = HEADER.pack(MAGIC, first_op, count, length, view, time, prev_hash)
    body = image[at + HEADER_SIZE : at + HEADER_SIZE + length].ljust(length, b"x")
    return head + CRC.pack(zlib.crc32(head)) + body + digest(head, body) + END


class JournalTarget(Target):
    """One segment. After a look at everything, the log is gone on from: what is written then must be found again."""

    name = "journal"
    tokens = (b"USJ1", b"USB1", END, bytes(512), bytes(4))
    path = "d/journal"

    def seeds(self) -> dict[str, bytes]:
        batches = some_batches()
        content = b"".join(b.image.ljust(padded(len(b.image)), b"\0") for b in batches)
        size = 6 << 10
        whole = (header(size, 0, 1, NO_HASH) + content).ljust(size, b"\0")
        torn = bytearray(whole)
        torn[SECTOR * 8 : SECTOR * 9] = bytes(SECTOR)
        full = header(SECTOR + len(content), 0, 1, NO_HASH) + content
        return {"whole": whole, "torn": bytes(torn), "full": full, "empty": header(2048, 0, 1, NO_HASH).ljust(2048, b"\0")}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        made = bytearray(image.ljust(SECTOR, b"\0"))
        made[:SECTOR] = header(len(made), 0, 1, dice.choice((NO_HASH, NO_HASH, dice.randbytes(HASH_SIZE))))
        at, op, tip = SECTOR, 0, bytes(made[24:40])
        while at + HEADER_SIZE + TRAILER_SIZE < len(made):
            if made[at : at + 4] == MAGIC:
                sealed = seal_batch(bytes(made), at, len(made) - at, (op, tip) if dice.random() < 0.95 else None)
                end = at + len(sealed)
                made[at:end] = sealed
                made[end : at + padded(len(sealed))] = bytes(max(0, min(len(made), at + padded(len(sealed))) - end))
                _, first_op, count, *_ = HEADER.unpack_from(sealed)
                op, tip = first_op + count - 1, sealed[-TRAILER_SIZE : -len(END)]
                at += padded(len(sealed))
            else:
                at += SECTOR
        return bytes(made)

    def run(self, image: bytes) -> str:
        disk = RamDisk({f"{self.path}/00000000-0000000000000001.seg": image})
        for _ in survey(disk, self.path):
            pass
        with contextlib.suppress(JournalDamaged):
            for _ in read_segments(disk, self.path, 0, NO_HASH, 7):
                pass
        with contextlib.suppress(JournalDamaged):
            Journal.open(disk, self.path, 0, 0, NO_HASH, 9).close()
        ops: list[int] = []
        sizes = {"segment_bytes": 4096, "first_bytes": 4096}
        journal = Journal.open(disk, self.path, 0, 0, NO_HASH, salvage=True, replay=lambda batch: ops.append(batch.op), **sizes)
        return self._go_on(disk, journal, [*ops, journal.last.op] if journal.last else ops)

    def _go_on(self, disk: RamDisk, journal: Journal, ops: list[int]) -> str:
        head = journal.head_op
        assert (ops[-1] if ops else 0) == head
        for op in (*ops, head + 1):
            journal.hash_at(op)
            journal.bytes_since(op)
        assert journal.read_after(head, journal.head_hash, 1000) == b""
        if head < 1 << 62:
            more = Batch(first_op=head + 1, count=1, view=9, time=1, prev_hash=journal.head_hash, body=b"more")
            journal.append(more)
            journal.sync()
            journal.close()
            again = Journal.open(disk, self.path, 0, 0, NO_HASH, more.op)
            assert again.last is not None and again.last.image == more.image
            again.close()
        return f"{'damaged' if journal.damage else 'sound'}, {min(len(ops), 9)} batches"


class RegisterTarget(Target):
    """Three records."""

    name = "register"
    tokens = (b"USV1", b"simulated", b"\x93", b"\x9a", b"\xc0", b"\xcf" + b"\xff" * 8, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")

    def seeds(self) -> dict[str, bytes]:
        records: list[bytes] = []
        prev_hash = NO_HASH
        for number in (1, 2, 3):
            members = tuple(Member(i, 1700 + i) for i in range(4 - number))
            view = View("simulated", number, members[0], members, number, bytes(16), "1 died", WALL, number == 3, prev_hash)
            content = msgspec.msgpack.encode(view)
            records.append(b"USV1" + struct.pack("<I", zlib.crc32(content)) + content)
            prev_hash = view.chain_hash()
        return {"three": framed(*records), "one": framed(records[0])}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        sealed = []
        prev_hash = NO_HASH
        for record in unframed(image):
            content = record[8:]
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                view = msgspec.structs.replace(msgspec.msgpack.decode(content, type=View), prev_hash=prev_hash)
                content, prev_hash = msgspec.msgpack.encode(view), view.chain_hash()
            sealed.append(b"USV1" + struct.pack("<I", zlib.crc32(content)) + content)
        return framed(*sealed)

    def run(self, image: bytes) -> str:
        disk = RamDisk({f"d/cluster/view-{number:010d}": record for number, record in enumerate(unframed(image), 1)})
        register = Register(disk, "d/cluster", "simulated", "proposal")
        try:
            view = register.last()
            for seen in register.recent(100):
                assert seen.cluster == "simulated" and str(seen)
        except RegisterDamaged:
            return "damaged"
        assert register.is_last(view.number if view else 0)
        return "sound" if view else "none"


class SuperblockTarget(Target):
    """Two slots. Whatever they hold, what is saved next is found again, or the saving refuses."""

    name = "superblock"
    tokens = (b"USP1", b"\x9d", b"\xc3", b"\xcf" + b"\xff" * 8, b"\xdd\xff\xff\xff\xff", b"\xff")
    some = superblock.Superblock(
        cluster="simulated", replica=1, replicas=3, config_hash="ab" * 16, format_nonce=b"12345678", inc=1700, view=4
    )

    def seeds(self) -> dict[str, bytes]:
        disk = RamDisk()
        superblock.save(disk, "superblock", self.some)
        first = bytes(disk.files["superblock"])
        superblock.save(disk, "superblock", msgspec.structs.replace(self.some, suspect=True, snapshot_name="0000000000000020"))
        return {"first": first, "second": bytes(disk.files["superblock"])}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        made = bytearray(image.ljust(2 * superblock.SLOT_BYTES, b"\0"))
        del made[2 * superblock.SLOT_BYTES :]
        for at in (0, superblock.SLOT_BYTES):
            made[at : at + 4] = b"USP1"
            struct.pack_into("<I", made, at + 4, zlib.crc32(made[at + 8 : at + superblock.SLOT_BYTES]))
        return bytes(made)

    def run(self, image: bytes) -> str:
        disk = RamDisk({"superblock": image})
        said: list[str] = []
        try:
            superblock.load(disk, "superblock", said.append)
        except superblock.SuperblockDamaged:
            return "damaged"
        superblock.save(disk, "superblock", self.some)
        assert superblock.load(disk, "superblock") == self.some
        return "one slot" if said else "sound"


class LockTarget(Target):
    """A lock file, read by its next holder and by another process."""

    name = "lock"
    tokens = (b"USL1", bytes(8), b"\xff" * 8)

    def seeds(self) -> dict[str, bytes]:
        disk = RamDisk()
        lock = ReplicaLock.acquire(disk, ".", 1, pid=77)
        assert lock is not None
        lock.write(1700, 4711)
        return {"held": bytes(disk.files["./replica-1.lock"]), "empty": b""}

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        fields = b"USL1" + image[4:28].ljust(24, b"\0")
        return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(SECTOR, b"\0")

    def run(self, image: bytes) -> str:
        disk = RamDisk({"./replica-1.lock": image})
        lock = ReplicaLock.acquire(disk, ".", 1, pid=77)
        assert lock is not None
        other = ReplicaLock.read(disk, ".", 1)
        assert other is not None and other == (lock.before or (0, 0, 0))
        return "rotten" if lock.rotten else "held" if lock.before else "empty"


class ManifestTarget(Target):
    """A manifest, from a disk or from another replica's offer."""

    name = "manifest"
    tokens = (
        b"{",
        b"}",
        b'"',
        b'"files"',
        b'"messages":',
        b"null",
        b"[" * 2000,
        b"\\u0000",
        b"\\ud800",
        b"1e400",
        b"messages-000002.csv",
        b"../x",
    )

    def seeds(self) -> dict[str, bytes]:
        table = Part(100, 2, "0" * 64)
        small = {f"{name}.csv": table for name in ("accounts", "mailboxes", "messages-000001", "room", "sessions", "told")}
        large = {**small, "messages-000001.csv": Part(9_000_000, 50_000, "1" * 64), "messages-000002.csv": Part(500, 3, "2" * 64)}
        return {
            "small": Manifest(FORMAT, "simulated", 10, "ab" * 16, 77, 2, small).encode(),
            "large": Manifest(FORMAT, "simulated", 200_000, "cd" * 16, 1 << 31, 50_003, large).encode(),
        }

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        try:
            return msgspec.json.decode(image, type=Manifest).encode()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return image

    def run(self, image: bytes) -> str:
        try:
            manifest = Manifest.decode(image)
        except SnapshotDamaged:
            return "damaged"
        try:
            read_offer(manifest.op, bytes.fromhex(manifest.hash), image)
        except TransferFailed:
            return "no offer"
        return "sound"


class SnapshotTarget(Target):
    """The files of a snapshot, under a manifest that fits them. What is loaded can be gone on from and written again."""

    name = "snapshot"
    tokens = (
        b'"',
        b'""',
        b'","',
        b"\n",
        b"\r\n",
        b'"[]"',
        b'"[""x""]"',
        b'"numbered"',
        b'"-1"',
        b'"' + b"[" * 3000,
        b"\xed\xa0\x80",
        b'"0.7.1"',
        b"\0",
    )
    names = ("accounts.csv", "mailboxes.csv", "sessions.csv", "room.csv", "told.csv", message_file(1))

    def seeds(self) -> dict[str, bytes]:
        told = some_state()
        told.apply(some_batches()[-1].op + 1, 2, WALL + 9000, run(bytes(range(16)), 9, 8, 1, b"M|zoe|i||r1|\nM|ann|s|7|r2|wayne|hello", 2))
        return {"some": self._files(some_state()), "new": self._files(ChatState()), "told": self._files(told)}

    def _files(self, state: ChatState) -> bytes:
        parts = [rows_through_csv(columns, list(rows), True) for columns, rows in state.tables().values()]
        return framed(*parts, rows_through_csv(MESSAGE_COLUMNS, (), True))

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """The file that was changed gets its length right: the frames end where the headers of the tables begin."""
        columns = [",".join(f'"{c}"' for c in names).encode() for names in (*TABLES.values(), MESSAGE_COLUMNS)]
        starts = [image.find(words) for words in columns]
        if -1 in starts or starts != sorted(starts):
            return image
        ends = [start - LENGTH.size for start in starts[1:]] + [len(image)]
        return framed(*(image[a : max(a, b)] for a, b in zip(starts, ends, strict=True)))

    def written(self, image: bytes) -> RamDisk:
        """These files in a folder, with a manifest that fits them."""
        disk = RamDisk()
        files, messages = {}, 0
        for name, content in zip(self.names, unframed(image), strict=False):
            rows = self._rows(content)
            files[name] = Part(len(content), rows, hashlib.sha256(content).hexdigest())
            messages = rows if name.startswith("messages-") else messages
            disk.files[f"d/{name}"] = bytearray(content)
        disk.files["d/MANIFEST.json"] = bytearray(Manifest(FORMAT, "simulated", 10, "ab" * 16, 5, messages, files).encode())
        return disk

    def run(self, image: bytes) -> str:
        disk = self.written(image)
        try:
            state, _ = load(disk, "d", "simulated", verify_history=True)
        except SnapshotDamaged:
            return "damaged"
        op = state.op
        for count, body in some_bodies():
            state.apply(op + 1, count, WALL, body)
            op += count
        again = ChatState.load(
            state.op, state.digest, state.message_count, {name: list(rows) for name, (_, rows) in state.tables().items()}
        )
        assert {n: list(r) for n, (_, r) in again.tables().items()} == {n: list(r) for n, (_, r) in state.tables().items()}
        return "sound"

    def _rows(self, content: bytes) -> int:
        try:
            return max(0, sum(1 for _ in csv.reader(io.StringIO(content.decode(), newline=""), strict=True)) - 1)
        except (csv.Error, UnicodeDecodeError):
            return 0


class SettingsTarget(Target):
    """cluster.yaml."""

    name = "settings"
    tokens = (
        *(
            b"cluster:",
            b"replicas:",
            b"- ",
            b"  ",
            b"{",
            b"}",
            b"[",
            b"]",
            b": ",
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!python/object:x ",
            b"|\n",
            b">\n",
        ),
        *(
            b"? ",
            b"%YAML 1.1\n",
            b"---\n",
            b"...\n",
            b"\t",
            b"\r",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            b'"\\x00"',
            b"'",
            b"#",
            b"[" * 100,
            b"::1",
            b"0.0.0.0",
        ),
    )

    def seeds(self) -> dict[str, bytes]:
        lines = "".join(f'  - {{id: {i}, peer: "127.0.0.1:{7661 + i}", doors: {{pipe: [{6666 + i}]}}}}\n' for i in range(3))
        block = "".join(f'  - id: {i}\n    peer: "[::1]:{7661 + i}"\n    doors:\n      pipe:\n        - {6666 + i}\n' for i in range(2))
        return {
            "short": f"cluster: {{name: dormitory}}\nreplicas:\n{lines}".encode(),
            "long": (
                "cluster:\n  name: x\n  policy: survivor\n  listen: ['::1']\n  heartbeat_ms: 1_000\n  suspect_after_ms: 5000\n"
                f"replicas:\n{block}"
            ).encode(),
        }

    def run(self, image: bytes) -> str:
        try:
            found = settings.parse(image, "cluster.yaml")
        except settings.SettingsError as error:
            assert str(error).startswith("cluster.yaml:") and "\n" not in str(error)
            return "refused"
        assert found.config_hash() and 0 <= found.survives() < len(found.replicas)
        found.addresses_of("pipe")
        found.peers()
        found.warnings()
        return "sound"


class HistoryTarget(Target):
    """A message file, verified or not, in which a conversation is looked for."""

    name = "history"
    tokens = (
        b'"',
        b'""',
        b'","',
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b'"9"',
        b'"-1"',
        b"9" * 5000,
        b'","ann","wayne","',
        b'","wayne","ann","',
        b"x" * 70_000,
    )

    def seeds(self) -> dict[str, bytes]:
        rows = [(n, WALL + n, *(("ann", "wayne"), ("wayne", "ann"), ("ann", "bob"))[n % 3], f'text {n}, "quoted"') for n in range(1, 12)]
        hidden = [(1, WALL, "bob", "bob", '","ann","wayne","'), (2, WALL, "ann", "wayne", "é" * 300)]
        return {name: rows_through_csv(MESSAGE_COLUMNS, some, True) for name, some in (("talk", rows), ("hidden", hidden))}

    def run(self, image: bytes) -> str:
        page = Page("ann", "wayne", 1, 10, 3)
        pieces = [image[at : at + 100] for at in range(0, len(image), 100)]
        try:
            rows = rows_of(pieces, page)
        except SnapshotDamaged:
            return "damaged"
        assert len(rows) <= page.limit + 1 and all(map(page.has, rows)), rows
        return "found" if rows else "nothing"


class OrderTarget(Target):
    """An order for the snapshot worker."""

    name = "order"
    tokens = (b"{", b'"', b"null", b"-1", b"1e9", b"..", b"/", b"\\u0000", b"true", b"[")

    def seeds(self) -> dict[str, bytes]:
        place = {"replica_path": "d/replica-0", "cluster_path": "d/cluster", "cluster": "simulated"}
        tips = {batch.op: batch.hash for batch in some_batches()}
        orders = {op: make_order(op=op, hash=tips[op], generation=0, is_quiet=True, **place) for op in (3, 10)}
        look = make_look("d/replica-0/snapshots", "simulated")
        return {"look": json.dumps(look).encode(), **{f"op-{op}": json.dumps(order).encode() for op, order in orders.items()}}

    def run(self, image: bytes) -> str:
        try:
            order = msgspec.json.decode(image)  # as the worker does
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "no JSON"
        if not isinstance(order, dict):
            return "no order"
        disk = RamDisk()
        disk.mkdir("d/replica-0/snapshots")
        journal = Journal.open(disk, "d/replica-0/journal", 0, 0, NO_HASH, segment_bytes=8192, first_bytes=8192)
        for batch in some_batches():
            journal.append(batch)
        journal.sync()
        answer = Maker(disk, rows_through_csv).answer(order)
        words = {"made", "failed", "damage"} & set(answer)
        assert len(words) == 1, answer
        return words.pop()


class MemoryTarget(Target):
    """What a client finds of an earlier one."""

    name = "memory"
    tokens = (b"{", b"}", b"[", b"]", b'"', b"null", b"NaN", b"1e400", b"Infinity", b"\\ud800", b"-1", b'"0|x"', b'"bye"')

    def seeds(self) -> dict[str, bytes]:
        guest = Guest("ab" * 16)
        guest.is_known, guest.account = True, "wayne"
        guest.request("3|ann|hello")
        fresh = Guest("cd" * 16)
        return {"used": json.dumps(guest.remember()).encode(), "fresh": json.dumps(fresh.remember()).encode()}

    def run(self, image: bytes) -> str:
        if not hasattr(self, "fd"):
            self.fd = os.memfd_create("memory")
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, image, 0)
        left = memory.Memory(self.fd, "nowhere").read()
        if left is None:
            return "no JSON"
        memory._marks([left])
        guest = memory._recall(left)
        if guest is None:
            return "refused"
        guest.connect(1.0)
        guest.take()
        guest.receive(b"= wayne 1 5\n* 5 12\nann|1|9|hey!", 1.0)
        guest.tick(1.1)
        json.dumps(guest.remember())
        return "recalled"


class EvidenceTarget(Target):
    """A replica's disk as an operator's program looks at it: superblock and segment, beside a sound snapshot. Nothing is written."""

    name = "evidence"
    tokens = (*SuperblockTarget.tokens, *JournalTarget.tokens)
    path = "b/replica-0"

    def __init__(self) -> None:
        self.journal, self.superblock = JournalTarget(), SuperblockTarget()
        snapshot = SnapshotTarget()
        files = snapshot.written(snapshot.seeds()["some"]).files
        self.snapshot = {f"{self.path}/snapshots/{name_of(10)}{path[1:]}": bytes(content) for path, content in files.items()}

    def seeds(self) -> dict[str, bytes]:
        slots, segments = self.superblock.seeds(), self.journal.seeds()
        return {
            "whole": framed(self._slots(log_view=4), segments["whole"]),
            "torn": framed(slots["second"], segments["torn"]),
            "behind-a-snapshot": framed(self._slots(log_view=4, snapshot_op=10), segments["whole"]),
        }

    def _slots(self, **changes: int) -> bytes:
        disk = RamDisk()
        superblock.save(disk, "superblock", msgspec.structs.replace(self.superblock.some, **changes))
        return bytes(disk.files["superblock"])

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        slots, segment = [*unframed(image), b"", b""][:2]
        return framed(self.superblock.seal(slots, dice), self.journal.seal(segment, dice))

    def run(self, image: bytes) -> str:
        slots, segment = [*unframed(image), b"", b""][:2]
        own = {"superblock": slots, "journal/00000000-0000000000000001.seg": segment}
        disk = RamDisk(self.snapshot | {f"{self.path}/{name}": content for name, content in own.items()})
        before = {path: bytes(content) for path, content in disk.files.items()}
        found = evidence.examine(disk, "b", 0, "simulated", None)
        assert "\n" not in found.tell()
        may_restart = evidence.may_restart(found, None, "simulated", (0, 1, 2))
        assert disk.files == before, "a look changed something"
        return "may restart" if may_restart else "doubted" if found.doubt else "whole"


TARGETS = (
    *(JournalTarget(), RegisterTarget(), SuperblockTarget(), LockTarget(), ManifestTarget(), SnapshotTarget()),
    *(SettingsTarget(), HistoryTarget(), OrderTarget(), MemoryTarget(), EvidenceTarget()),
)
