"""The transfer of a snapshot: whole, verified and synced, or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import random
import tempfile
import unittest
from collections.abc import Callable
from typing import Any

import msgspec

import transfer
from disk import OsDisk
from packets import PACKET_MAX, Chunk, GetChunk, SnapshotOffer, encode
from snapshots import FORMAT, MANIFEST, MESSAGES_PER_FILE, Manifest, Part
from transfer import CHUNK, PACE, PACE_SLACK_S, PIN_S, WINDOW, Receiver, Sender, TransferFailed

HASH = bytes(range(16))
VIEW = 7


class WatchedDisk(OsDisk):
    """Writes down what is done, and fails or lies where a test says so."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.open_files: dict[int, str] = {}
        self.fail: Callable[[str, str], bool] = lambda call, name: False

    def _note(self, call: str, path: str) -> None:
        name = os.path.basename(path)
        self.done.append((call, name))
        if self.fail(call, name):
            raise OSError(28, f"no room for {call} of {name}")

    def open(self, path: str, create: bool = False) -> int:
        self._note("open", path)
        fd = super().open(path, create)
        self.open_files[fd] = path
        return fd

    def close(self, fd: int) -> None:
        del self.open_files[fd]
        super().close(fd)

    def pread(self, fd: int, count: int, at: int) -> bytes:
        self._note("pread", self.open_files[fd])
        return super().pread(fd, count, at)

    def pwrite(self, fd: int, content: bytes, at: int) -> None:
        self._note("pwrite", self.open_files[fd])
        super().pwrite(fd, content, at)

    def sync(self, fd: int) -> None:
        self._note("sync", self.open_files[fd])
        super().sync(fd)

    def sync_dir(self, path: str | int) -> None:
        self._note("sync_dir", str(path))
        super().sync_dir(path)

    def link(self, old: str, new: str) -> None:
        self._note("link", new)
        super().link(old, new)

    def listdir(self, path: str) -> list[str]:
        self._note("listdir", path)
        return super().listdir(path)


def manifest_of(files: dict[str, bytes], op: int, /, **changes: Any) -> bytes:
    """The manifest of these files: all tables, and messages that fill all but the last of their files."""
    histories = sorted(name for name in files if name.startswith("messages-"))
    rows = dict.fromkeys(files, 1) | dict.fromkeys(histories[:-1], MESSAGES_PER_FILE)
    parts = {name: Part(len(body), rows[name], hashlib.sha256(body).hexdigest()) for name, body in files.items()}
    base = Manifest(3, "dormitory", op, HASH.hex(), 77, MESSAGES_PER_FILE * (len(histories) - 1) + 1, parts)
    return msgspec.structs.replace(base, **changes).encode()


class TransferTest(unittest.TestCase):
    """Two snapshot folders, a sender over one and receivers over the other."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.here, self.there = os.path.join(place.name, "here"), os.path.join(place.name, "there")
        self.disk, self.far_disk = WatchedDisk(), WatchedDisk()
        for path in (self.here, self.there):
            os.mkdir(path)
        dice = random.Random(30)
        self.files = {
            "accounts.csv": dice.randbytes(5 * CHUNK + 17),
            "mailboxes.csv": dice.randbytes(2 * CHUNK),
            "sessions.csv": b"session\n",
            "room.csv": b"line\n",
            "messages-000001.csv": dice.randbytes(3 * CHUNK + 1),
            "messages-000002.csv": dice.randbytes(CHUNK - 1),
        }
        self.sender = Sender(self.far_disk, self.there)
        self.addCleanup(self.check_files_closed)

    def check_files_closed(self) -> None:
        self.sender.close()
        for disk in (self.disk, self.far_disk):
            self.assertEqual(disk.open_files, {}, "every file was closed")

    def put(self, root: str, op: int, files: dict[str, bytes], manifest: bytes | None = None) -> str:
        path = os.path.join(root, f"{op:016d}")
        os.mkdir(path)
        for name, body in {**files, MANIFEST: manifest or manifest_of(files, op)}.items():
            with open(os.path.join(path, name), "wb") as file:
                file.write(body)
        return path

    def offer(self, now: float = 0.0) -> SnapshotOffer:
        offer = self.sender.offer(now)
        assert offer is not None
        return SnapshotOffer(VIEW, *offer)

    def receiver(self, offer: SnapshotOffer | None = None) -> Receiver:
        receiver = Receiver(self.disk, self.here, 4, 0, pace=math.inf)  # time stands still in these tests
        self.addCleanup(receiver.abort)
        receiver.begin(offer or self.offer())
        return receiver

    def answer(self, request: GetChunk, now: float = 0.0) -> Chunk:
        content = self.sender.chunk(request.op, request.name, request.offset, now)
        return Chunk(request.view, request.op, request.name, request.offset, content)

    def carry(self, receiver: Receiver, *, limit: int = 1000, now: float = 0.0) -> int:
        """Let both halves talk until the snapshot is complete; how many chunks that took."""
        taken = 0
        requests = receiver.next_requests(VIEW, now)
        for _ in range(limit):
            if requests:
                taken += 1
                if receiver.take(self.answer(requests.pop(0))):
                    return taken
            requests += receiver.next_requests(VIEW, now)
        raise AssertionError(f"not complete after {limit} rounds")

    def assert_whole(self, receiver: Receiver, files: dict[str, bytes], manifest: bytes) -> None:
        self.assertEqual(sorted(os.listdir(receiver.path)), sorted([*files, MANIFEST]))
        for name, body in {**files, MANIFEST: manifest}.items():
            with open(os.path.join(receiver.path, name), "rb") as file:
                self.assertEqual(file.read(), body, name)

    # All is well

    def test_a_snapshot_arrives_byte_for_byte(self) -> None:
        self.put(self.there, 12, self.files)
        offer = self.offer()
        receiver = self.receiver(offer)
        chunks = self.carry(receiver)
        self.assertEqual(chunks, sum(-(-len(body) // CHUNK) for body in self.files.values()))
        self.assert_whole(receiver, self.files, offer.manifest)
        self.assertEqual((receiver.op, receiver.hash, receiver.generation, receiver.replica), (12, HASH, 4, 0))
        self.assertEqual(receiver.next_requests(VIEW, 99.0), [])

    def test_everything_is_synced_before_it_is_called_complete(self) -> None:
        self.put(self.there, 12, self.files)
        self.carry(self.receiver())
        for name in [*self.files, MANIFEST]:
            last_write = max(at for at, what in enumerate(self.disk.done) if what == ("pwrite", name))
            self.assertIn(("sync", name), self.disk.done[last_write:], name)
        self.assertEqual(self.disk.done[-1], ("sync_dir", "tmp-transfer"))
        self.assertLess(
            self.disk.done.index(("sync", "sessions.csv")), self.disk.done.index(("pwrite", MANIFEST)), "the manifest comes last"
        )

    def test_a_window_of_chunks_is_asked_for_and_no_more(self) -> None:
        self.put(self.there, 12, self.files)
        receiver = self.receiver()
        first = receiver.next_requests(VIEW, 0.0)
        self.assertEqual([(r.view, r.op, r.name, r.offset) for r in first], [(VIEW, 12, "accounts.csv", n * CHUNK) for n in range(WINDOW)])
        self.assertEqual(receiver.next_requests(VIEW, 0.1), [])
        receiver.take(self.answer(first[0]))
        self.assertEqual([r.offset for r in receiver.next_requests(VIEW, 0.2)], [WINDOW * CHUNK])

    def test_it_keeps_its_pace_however_fast_the_chunks_come(self) -> None:
        self.put(self.there, 12, {**self.files, "accounts.csv": bytes(PACE // 2 // CHUNK * CHUNK)})
        receiver = Receiver(self.disk, self.here, 4, 0)
        self.addCleanup(receiver.abort)
        receiver.begin(self.offer())
        asked = 0
        for step in range(200):
            now = step / 1000
            for request in receiver.next_requests(VIEW, now):
                chunk = self.answer(request)
                asked += len(chunk.content)
                receiver.take(chunk)
            self.assertLessEqual(asked * 1000, PACE * (step + round(1000 * PACE_SLACK_S)) + CHUNK * 1000, now)
        self.assertGreater(asked, PACE * 0.19, "nor is it slower")
        self.assertTrue(receiver.is_early(receiver.due_at - 0.001))
        self.assertEqual(receiver.next_requests(VIEW, receiver.due_at - 0.001), [])
        self.assertFalse(receiver.is_early(receiver.due_at))
        self.assertEqual(len(receiver.next_requests(VIEW, receiver.due_at)), 1)
        receiver.next_requests(VIEW, 5.0)
        self.assertGreater(receiver.due_at, 5.0 - PACE_SLACK_S, "a long pause is not made up for")

    def test_chunks_may_come_in_any_order_and_twice(self) -> None:
        dice = random.Random(31)
        self.put(self.there, 12, self.files)
        offer = self.offer()
        for _ in range(20):
            receiver = self.receiver(offer)
            on_the_way: list[Chunk] = []
            finished = 0
            while not finished:
                on_the_way += [self.answer(request) for request in receiver.next_requests(VIEW, 0.0)]
                chunk = on_the_way.pop(dice.randrange(len(on_the_way)))
                finished += receiver.take(chunk)
                if dice.random() < 0.3:
                    on_the_way.append(chunk)
            for chunk in on_the_way:
                self.assertFalse(receiver.take(chunk), "complete only once")
            self.assert_whole(receiver, self.files, offer.manifest)
            receiver.abort()

    def test_a_lost_chunk_is_asked_for_again_after_a_while(self) -> None:
        self.put(self.there, 12, self.files)
        receiver = self.receiver()
        lost = receiver.next_requests(VIEW, 0.0)
        receiver.take(self.answer(lost[1]))
        self.assertEqual(receiver.next_requests(VIEW, 0.9), [])
        self.assertEqual(receiver.next_requests(VIEW, 1.0), [lost[0], lost[2], lost[3]], "what came out of turn is not lost")
        self.carry(receiver, now=2.5)

    def test_a_chunk_fits_a_packet(self) -> None:
        self.assertLess(len(encode(Chunk(VIEW, 1, "messages-000001.csv", 0, bytes(CHUNK)))), PACKET_MAX)

    # What is already here

    def test_files_that_the_own_snapshot_holds_are_linked(self) -> None:
        self.put(self.there, 12, self.files)
        mine = {**self.files, "accounts.csv": b"older", "messages-000002.csv": b"not full"}
        path = self.put(self.here, 9, mine)
        self.put(self.here, 3, self.files)
        offer = self.offer()
        receiver = self.receiver(offer)
        self.carry(receiver)
        self.assert_whole(receiver, self.files, offer.manifest)
        for name, is_linked in (
            ("messages-000001.csv", True),
            ("mailboxes.csv", True),
            ("accounts.csv", False),
            ("messages-000002.csv", False),
        ):
            self.assertEqual(os.path.samefile(os.path.join(path, name), os.path.join(receiver.path, name)), is_linked, name)

    def test_a_file_that_rotted_here_is_fetched(self) -> None:
        self.put(self.there, 12, self.files)
        for damage in (self.flip_bit, self.cut_short, os.unlink):
            with self.subTest(damage.__name__):
                path = self.put(self.here, 9, {**self.files, "accounts.csv": b"older"})
                damage(os.path.join(path, "messages-000001.csv"))
                offer = self.offer()
                receiver = self.receiver(offer)
                self.carry(receiver)
                self.assert_whole(receiver, self.files, offer.manifest)
                receiver.abort()
                self.disk.remove_tree(path)

    @staticmethod
    def flip_bit(path: str) -> None:
        with open(path, "r+b") as file:
            file.seek(400_000)
            byte = file.read(1)[0]
            file.seek(400_000)
            file.write(bytes([byte ^ 4]))

    @staticmethod
    def cut_short(path: str) -> None:
        os.truncate(path, 400_000)

    def test_when_everything_is_here_one_file_is_fetched_all_the_same(self) -> None:
        self.put(self.there, 12, self.files)
        self.put(self.here, 12, self.files)
        offer = self.offer()
        receiver = self.receiver(offer)
        self.assertEqual(self.carry(receiver), 1)
        self.assert_whole(receiver, self.files, offer.manifest)

    def test_the_last_chunk_waits_until_what_is_here_is_checked(self) -> None:
        """Else nothing would be left to come whose arrival could end the transfer."""
        big = random.Random(32).randbytes(3 * transfer.KEPT_SLICE)
        small = {"mailboxes.csv": b"m", "sessions.csv": b"s", "room.csv": b"r"}
        self.put(self.there, 12, {**small, "accounts.csv": b"new", "messages-000001.csv": big})
        self.put(self.here, 9, {**small, "accounts.csv": b"old", "messages-000001.csv": big})
        receiver = self.receiver()
        for _ in range(len(small) + 2):
            self.assertEqual(receiver.next_requests(VIEW, 0.0), [])
        self.assertEqual([r.name for r in receiver.next_requests(VIEW, 0.0)], ["accounts.csv"])
        self.assertTrue(receiver.take(self.answer(GetChunk(VIEW, 12, "accounts.csv", 0))))

    def test_a_damaged_manifest_of_our_own_is_no_hindrance(self) -> None:
        self.put(self.there, 12, self.files)
        self.put(self.here, 9, self.files, b"{")
        self.carry(self.receiver())

    # What is refused

    def refused(self, manifest: bytes, why: str, op: int = 12, tip: bytes = HASH) -> None:
        receiver = Receiver(self.disk, self.here, 1, 0, pace=math.inf)
        with self.assertRaisesRegex(TransferFailed, why):
            receiver.begin(SnapshotOffer(VIEW, op, tip, manifest))
        receiver.abort()
        self.assertEqual(os.listdir(self.here), [])

    def test_names_that_lead_elsewhere_are_refused(self) -> None:
        for name in (
            "../accounts.csv", "/etc/passwd", "a/b.csv", "..", ".", "", ".csv", "accounts", "accounts.csv\n", "accounts.csv\0",
            "Accounts.csv", "messages-\u0661.csv", "messages-1.csv", "messages-000009.csv", MANIFEST, "accounts.csv/", "extra.csv",
        ):  # fmt: skip
            files = {**self.files, name: b"x"}
            self.refused(manifest_of(files, 12, messages=MESSAGES_PER_FILE + 1), "names other files")
            del files["sessions.csv"]
            self.refused(manifest_of(files, 12, messages=MESSAGES_PER_FILE + 1), "names other files")

    def test_manifests_that_make_no_sense_are_refused(self) -> None:
        good = manifest_of(self.files, 12)
        for manifest, why in (
            (b"", "cannot be read"),
            (b"\xff", "cannot be read"),
            (b"[" * 100_000, "cannot be read"),
            (b"null", "cannot be read"),
            (b'{"op": 12}', "cannot be read"),
            (good + b"x", "cannot be read"),
            (good.replace(b'"op": 12', b'"op": 13'), "is damaged"),
            (manifest_of(self.files, 12, files={}), "names too few files"),
            (manifest_of(self.files, 0), "names no batch"),
            (manifest_of(self.files, 12, hash="zz" * 16), "names no batch"),
            (manifest_of(self.files, 12, format=FORMAT + 1), f"format {FORMAT + 1}"),
            (manifest_of(self.files, 13), "its manifest op 13"),
            (manifest_of(self.files, 12, hash="ab" * 16), "another hash"),
            (manifest_of({**self.files, "accounts.csv": b""}, 12), "empty"),
        ):
            self.refused(manifest, why)

    def test_no_cut_of_a_manifest_passes(self) -> None:
        whole = manifest_of(self.files, 12)
        for length in range(len(whole)):
            self.refused(whole[:length], "")

    def test_a_chunk_of_the_wrong_size_ends_the_transfer(self) -> None:
        self.put(self.there, 12, self.files)
        changes: list[Callable[[bytes], bytes]] = [lambda content: content[:-1], lambda content: content + b"x"]
        for change in changes:
            receiver = self.receiver()
            request = receiver.next_requests(VIEW, 0.0)[0]
            with self.assertRaisesRegex(TransferFailed, "bytes of accounts.csv came for 262144"):
                receiver.take(Chunk(VIEW, 12, request.name, request.offset, change(self.answer(request).content)))
            receiver.abort()
            self.assertEqual(os.listdir(self.here), [])

    def test_a_flipped_bit_anywhere_ends_the_transfer(self) -> None:
        self.put(self.there, 12, self.files)
        for name, offset in (("accounts.csv", 0), ("accounts.csv", 5 * CHUNK), ("sessions.csv", 0), ("messages-000001.csv", 2 * CHUNK)):
            receiver = self.receiver()
            with self.assertRaisesRegex(TransferFailed, f"{name} is not what the manifest says"):
                for _ in range(100):
                    for request in receiver.next_requests(VIEW, 0.0):
                        chunk = self.answer(request)
                        if (request.name, request.offset) == (name, offset):
                            content = bytes([chunk.content[0] ^ 1]) + chunk.content[1:]
                            chunk = Chunk(VIEW, 12, name, offset, content)
                        receiver.take(chunk)
            receiver.abort()

    def test_an_empty_chunk_says_that_the_snapshot_is_gone(self) -> None:
        path = self.put(self.there, 12, self.files)
        receiver = self.receiver()
        requests = receiver.next_requests(VIEW, 0.0)
        self.far_disk.remove_tree(path)
        with self.assertRaisesRegex(TransferFailed, "does not keep the snapshot of op 12 any more"):
            receiver.take(self.answer(requests[0]))

    def test_what_was_not_asked_for_is_ignored(self) -> None:
        self.put(self.there, 12, self.files)
        receiver = Receiver(self.disk, self.here, 1, 0, pace=math.inf)
        self.assertFalse(receiver.take(Chunk(VIEW, 12, "accounts.csv", 0, b"x")), "before the beginning")
        receiver.begin(self.offer())
        self.assertFalse(receiver.take(Chunk(VIEW, 12, "accounts.csv", 0, b"x")), "before it was asked for")
        receiver.next_requests(VIEW, 0.0)
        for op, name, offset in (
            (11, "accounts.csv", 0),
            (12, "sessions.csv", 0),
            (12, "../x", 0),
            (12, "accounts.csv", 1),
            (12, "accounts.csv", -1),
        ):
            self.assertFalse(receiver.take(Chunk(VIEW, op, name, offset, b"evil")))
        self.assertEqual(os.listdir(receiver.path), [])
        receiver.abort()
        self.assertFalse(receiver.take(Chunk(VIEW, 12, "accounts.csv", 0, b"x")), "after the end")
        self.assertEqual(receiver.next_requests(VIEW, 5.0), [])
        self.assertEqual(os.listdir(self.here), [])

    # Disks

    def test_whatever_write_or_sync_fails_the_transfer_ends_and_nothing_stays(self) -> None:
        self.put(self.there, 12, self.files)
        for call, name in (
            ("open", "accounts.csv"), ("pwrite", "accounts.csv"), ("sync", "accounts.csv"), ("pwrite", "sessions.csv"),
            ("open", MANIFEST), ("pwrite", MANIFEST), ("sync", MANIFEST), ("sync_dir", "tmp-transfer"),
        ):  # fmt: skip
            with self.subTest(f"{call} of {name}"):
                self.disk.fail = lambda c, n, bad=(call, name): (c, n) == bad  # type: ignore[misc]
                receiver = self.receiver()
                with self.assertRaises(OSError):
                    self.carry(receiver)
                receiver.abort()
                self.assertEqual((os.listdir(self.here), self.disk.open_files), ([], {}))

    def test_a_file_of_our_own_that_cannot_be_read_is_fetched(self) -> None:
        self.put(self.there, 12, self.files)
        self.put(self.here, 9, {**self.files, "accounts.csv": b"older"})
        for call in ("pread", "link"):
            self.disk.fail = lambda c, n, bad=call: (c, n) == (bad, "messages-000001.csv")  # type: ignore[misc]
            receiver = self.receiver()
            self.carry(receiver)
            receiver.abort()

    def test_a_link_that_was_made_and_said_to_have_failed_is_not_written_through(self) -> None:
        self.put(self.there, 12, self.files)
        path = self.put(self.here, 9, {**self.files, "accounts.csv": b"older"})
        kept = os.path.join(path, "messages-000001.csv")

        def fail_late(call: str, name: str) -> bool:
            if (call, name) == ("link", "messages-000001.csv"):
                os.link(kept, os.path.join(self.here, "tmp-transfer", name))
                return True
            return False

        self.disk.fail = fail_late
        offer = self.offer()
        receiver = self.receiver(offer)
        self.carry(receiver)
        self.assert_whole(receiver, self.files, offer.manifest)
        self.assertFalse(os.path.samefile(kept, os.path.join(receiver.path, "messages-000001.csv")))

    def test_what_an_earlier_process_left_is_removed(self) -> None:
        self.put(self.there, 12, self.files)
        left = os.path.join(self.here, "tmp-transfer")
        os.mkdir(left)
        with open(os.path.join(left, "accounts.csv"), "wb") as file:
            file.write(bytes(10 * CHUNK))
        offer = self.offer()
        receiver = self.receiver(offer)
        self.carry(receiver)
        self.assert_whole(receiver, self.files, offer.manifest)

    def test_a_transfer_that_is_dropped_half_way_leaves_nothing(self) -> None:
        self.put(self.there, 12, self.files)
        self.put(self.here, 9, {**self.files, "accounts.csv": b"older"})
        receiver = self.receiver()
        for request in receiver.next_requests(VIEW, 0.0):
            receiver.take(self.answer(request))
        receiver.abort()
        receiver.abort()
        self.assertEqual((os.listdir(self.here), self.disk.open_files), ([f"{9:016d}"], {}))

    def test_an_installed_snapshot_is_not_removed_with_the_transfer(self) -> None:
        self.put(self.there, 12, self.files)
        receiver = self.receiver()
        self.carry(receiver)
        os.rename(receiver.path, os.path.join(self.here, f"{12:016d}"))
        receiver.abort()
        self.assertEqual(os.listdir(self.here), [f"{12:016d}"])

    # The sender

    def test_nothing_is_offered_where_there_is_nothing(self) -> None:
        self.assertIsNone(self.sender.offer(0.0))
        self.assertIsNone(Sender(self.far_disk, os.path.join(self.there, "absent")).offer(0.0))
        os.mkdir(os.path.join(self.there, "tmp-0000000000000099"))
        os.mkdir(os.path.join(self.there, "99"))
        self.assertIsNone(self.sender.offer(0.0))

    def test_the_newest_sound_snapshot_is_offered(self) -> None:
        self.put(self.there, 3, self.files)
        self.put(self.there, 12, self.files)
        self.put(self.there, 20, self.files, b"rot")
        self.put(self.there, 21, self.files, manifest_of(self.files, 22))
        self.assertEqual(self.sender.offer(0.0), (12, HASH, manifest_of(self.files, 12)))

    def test_only_files_of_the_manifest_are_handed_out(self) -> None:
        path = self.put(self.there, 12, self.files)
        with open(os.path.join(path, "extra.csv"), "wb") as file:
            file.write(b"secret")
        with open(os.path.join(self.there, "other.csv"), "wb") as file:
            file.write(b"secret")
        for name in ("extra.csv", "../other.csv", "", "..", MANIFEST, "/etc/hostname", "accounts.csv\0"):
            self.assertEqual(self.sender.chunk(12, name, 0, 0.0), b"", name)
        for op in (0, 11, -12, 10**20):
            self.assertEqual(self.sender.chunk(op, "accounts.csv", 0, 0.0), b"")
        for offset in (-1, len(self.files["accounts.csv"]), 1 << 62):
            self.assertEqual(self.sender.chunk(12, "accounts.csv", offset, 0.0), b"")

    def test_a_disk_that_cannot_read_hands_out_nothing_and_raises_nothing(self) -> None:
        path = self.put(self.there, 12, self.files)
        self.put(self.there, 13, {**self.files, "sessions.csv": b"other"})
        os.unlink(os.path.join(path, "sessions.csv"))
        self.assertEqual(self.sender.chunk(12, "sessions.csv", 0, 0.0), b"")
        self.far_disk.fail = lambda call, name: call == "pread" and name == "accounts.csv"
        self.assertEqual(self.sender.chunk(12, "accounts.csv", 0, 0.0), b"")
        self.far_disk.fail = lambda call, name: call == "pread" and name == MANIFEST
        self.assertIsNone(self.sender.offer(0.0))
        self.assertEqual(Sender(self.far_disk, self.there).chunk(12, "accounts.csv", 0, 0.0), b"")
        self.far_disk.fail = lambda call, name: call == "listdir"
        self.assertIsNone(self.sender.offer(0.0))

    def test_a_snapshot_stays_pinned_until_a_while_after_the_last_request(self) -> None:
        self.put(self.there, 12, self.files)
        self.assertEqual(self.sender.pinned(0.0), frozenset())
        self.offer(now=100.0)
        self.assertEqual(self.sender.pinned(100.0 + PIN_S - 0.1), {12})
        self.sender.chunk(12, "accounts.csv", 0, 105.0)
        self.assertEqual(self.sender.pinned(105.0 + PIN_S - 0.1), {12})
        self.assertEqual(self.sender.pinned(105.0 + PIN_S), frozenset())
        self.assertEqual(self.far_disk.open_files, {}, "its file is closed with it")

    def test_each_transfer_pins_its_own_snapshot(self) -> None:
        self.put(self.there, 12, self.files)
        self.offer(now=0.0)
        self.put(self.there, 15, self.files)
        self.offer(now=5.0)
        self.assertEqual(self.sender.pinned(6.0), {12, 15})
        self.sender.chunk(15, "sessions.csv", 0, 9.0)
        self.assertEqual(self.sender.pinned(11.0), {15})

    def test_a_learner_may_go_on_where_another_incarnation_of_the_sender_began(self) -> None:
        self.put(self.there, 12, self.files)
        receiver = self.receiver()
        self.sender.close()
        self.sender = Sender(self.far_disk, self.there)
        self.carry(receiver)
        self.assertEqual(self.sender.pinned(1.0), {12})


if __name__ == "__main__":
    unittest.main()
