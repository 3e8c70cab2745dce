"""Snapshots: what is damaged is noticed, whatever it is; in their place, set aside, removed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import msgspec

import snapshots
from disk import OsDisk
from snapshot_worker import Folder, Maker, rows_through_csv
from snapshots import FORMAT, MANIFEST, ROWS_AT_ONCE, Manifest, Order, Part, SnapshotDamaged, install, listed, load, prune, remove_all, tidy
from state import ChatState
from tests.snapshot_places import CLUSTER, Case, Place, damage, folder_bytes, some_doings, table_rows, two_people

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ManifestTest(unittest.TestCase):
    """The list of what belongs to a snapshot."""

    def manifest(self, **changes: Any) -> Manifest:
        names = ["accounts.csv", "mailboxes.csv", "messages-000001.csv", "messages-000002.csv", "room.csv", "sessions.csv"]
        rows = [3, 0, 50_000, 7, 2, 1]
        files = {name: Part(100 + i, rows[i], f"{i:064x}") for i, name in enumerate(names)}
        return msgspec.structs.replace(Manifest(3, CLUSTER, 4711, "ab" * 16, 123, 50_007, files), **changes)

    def test_what_is_encoded_is_decoded(self) -> None:
        image = self.manifest().encode()
        found = Manifest.decode(image)
        self.assertEqual(found.encode(), image)
        self.assertEqual(msgspec.structs.replace(found, sha256=""), self.manifest())
        self.assertEqual(list(json.loads(image)), ["format", "cluster", "op", "hash", "digest", "messages", "files", "sha256"])
        self.assertEqual(list(json.loads(image)["files"]["accounts.csv"]), ["bytes", "rows", "sha256"])

    def test_every_flipped_bit_and_every_length_is_noticed(self) -> None:
        image = self.manifest(cluster='a b}é"\\\u2028').encode()
        Manifest.decode(image)
        for at, bit in itertools.product(range(len(image)), range(8)):
            flipped = bytearray(image)
            flipped[at] ^= 1 << bit
            with self.assertRaises(SnapshotDamaged):
                Manifest.decode(bytes(flipped))
        for size in range(len(image)):
            with self.assertRaises(SnapshotDamaged):
                Manifest.decode(image[:size])
        for more in (b"\n", b" ", b"\0", b"{}"):
            with self.assertRaises(SnapshotDamaged):
                Manifest.decode(image + more)

    def test_a_manifest_that_makes_no_sense_is_refused(self) -> None:
        files = self.manifest().files
        senseless: tuple[dict[str, Any], ...] = (
            {"format": FORMAT + 1},
            {"format": 0},
            {"op": 0},
            {"hash": "AB" * 16},
            {"hash": ""},
            {"messages": 50_000},
            {"messages": -1},
            {"files": {}},
            {"files": {**files, "../accounts.csv": files["accounts.csv"]}},
            {"files": {name: part for name, part in files.items() if name != "sessions.csv"}},
            {"files": {**files, "messages-000003.csv": Part(1, 0, "")}},
        )
        for changes in senseless:
            with self.subTest(changes), self.assertRaises(SnapshotDamaged):
                Manifest.decode(self.manifest(**changes).encode())

    def test_bytes_that_are_no_manifest_are_refused(self) -> None:
        for image in (b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"op": 1', b"\xff", self.manifest().encode().replace(b"4711", b'"x"')):
            with self.assertRaises(SnapshotDamaged):
                Manifest.decode(image)


class DamageTest(Case):
    """Whatever happens to a file is noticed."""

    def setUp(self) -> None:
        super().setUp()
        self.with_small_files(15)
        self.place_ = self.place()
        two_people(self.place_)
        some_doings(self.place_, random.Random(3), 60)
        self.path = self.place_.make(Maker(self.place_.disk, rows_through_csv))
        self.files = folder_bytes(self.path)
        self.assertIn("messages-000002.csv", self.files)

    def assert_damaged(self, says: str = "", *, verify_history: bool = True) -> None:
        with self.assertRaisesRegex(SnapshotDamaged, says):
            load(self.place_.disk, self.path, CLUSTER, verify_history=verify_history)

    @contextlib.contextmanager
    def instead(self, name: str, image: bytes | None) -> Iterator[None]:
        """While this is the content of the file."""
        path = os.path.join(self.path, name)
        os.unlink(path)
        if image is not None:
            with open(path, "wb") as file:
                file.write(image)
        yield
        with open(path, "wb") as file:
            file.write(self.files[name])

    def test_flipped_bits(self) -> None:
        dice = random.Random(4)
        for name, image in self.files.items():
            places = {0, len(image) - 1, *(dice.randrange(len(image)) for _ in range(60))}
            for at in places:
                flipped = bytearray(image)
                flipped[at] ^= 1 << dice.randrange(8)
                with self.subTest(name, at=at), self.instead(name, bytes(flipped)):
                    self.assert_damaged(name)
        load(self.place_.disk, self.path, CLUSTER, verify_history=True)

    def test_other_lengths(self) -> None:
        dice = random.Random(5)
        for name, image in self.files.items():
            lines = [i + 1 for i, byte in enumerate(image) if byte == 10]  # what still reads as a whole table
            for size in {
                0,
                1,
                len(image) - 1,
                *dice.sample(lines[:-1], min(10, len(lines) - 1)),
                *(dice.randrange(len(image)) for _ in range(20)),
            }:
                with self.subTest(name, size=size), self.instead(name, image[:size]):
                    self.assert_damaged(name, verify_history=False)
            with self.instead(name, image + b'"'):
                self.assert_damaged(name, verify_history=False)

    def test_missing_files(self) -> None:
        for name in self.files:
            with self.subTest(name), self.instead(name, None):
                self.assert_damaged(f"{name} cannot be read: No such file", verify_history=False)

    def test_files_that_changed_places(self) -> None:
        with self.instead("accounts.csv", self.files["mailboxes.csv"]), self.instead("mailboxes.csv", self.files["accounts.csv"]):
            self.assert_damaged()

    def test_full_message_files_are_read_only_when_asked(self) -> None:
        image = bytearray(self.files["messages-000001.csv"])
        image[50] ^= 1
        with self.instead("messages-000001.csv", bytes(image)):
            load(self.place_.disk, self.path, CLUSTER)
            self.assert_damaged("messages-000001.csv is damaged")

    def test_another_cluster(self) -> None:
        with self.assertRaisesRegex(SnapshotDamaged, "of cluster 'dormitory', not of 'office'"):
            load(self.place_.disk, self.path, "office")

    def test_a_huge_manifest_is_not_read(self) -> None:
        with self.instead(MANIFEST, b" " * (snapshots.MANIFEST_MAX + 1)):
            self.assert_damaged("more than any manifest")

    def test_tables_that_do_not_fit_though_every_digest_is_right(self) -> None:
        """Whoever wrote these was a bug; even so they are not believed."""
        accounts, mailboxes = self.files["accounts.csv"], self.files["mailboxes.csv"]
        for name, image, rows, says in (
            ("accounts.csv", accounts.replace(b'"number"', b'"nummer"'), None, "other columns"),
            ("accounts.csv", b"", None, "other columns"),
            ("accounts.csv", accounts + b'"a","b","c"\n', None, "3 fields instead of 7"),
            ("accounts.csv", accounts, 99, "rows instead of 99"),
            ("accounts.csv", accounts + accounts.splitlines(keepends=True)[-1], None, "stands there twice"),
            ("accounts.csv", accounts + b'"\xff"\n', None, "do not fit"),
            ("accounts.csv", accounts + b'"open', None, "do not fit"),
            ("mailboxes.csv", mailboxes + b'"nobody","1","1","1","a","b"\n', None, "do not fit"),
            ("mailboxes.csv", mailboxes + b'"NA","one","1","1","a","b"\n', None, "do not fit"),
        ):
            with self.subTest(says, name=name), self.instead(name, image), self.instead(MANIFEST, self.manifest_with(name, image, rows)):
                self.assert_damaged(says)

    def manifest_with(self, name: str, image: bytes, rows: int | None) -> bytes:
        manifest = Manifest.decode(self.files[MANIFEST])
        count = image.count(b"\n") - 1 if rows is None else rows
        part = Part(len(image), count, hashlib.sha256(image).hexdigest())
        return msgspec.structs.replace(manifest, files={**manifest.files, name: part}).encode()

    def test_one_of_format_1(self) -> None:
        self.read_older(1, {"accounts.csv": 3, "sessions.csv": 2})

    def test_one_of_format_2(self) -> None:
        self.read_older(2, {"accounts.csv": 1, "sessions.csv": 2})

    def test_one_of_format_3(self) -> None:
        self.read_older(3, {"accounts.csv": 1}, "room.csv")

    def test_one_of_format_4(self) -> None:
        self.read_older(4, {"accounts.csv": 0}, "room.csv")

    def read_older(self, older: int, lacking: dict[str, int], room: str = "") -> None:
        """It may have no room, and nobody was told anything, and it has fewer columns. The next one is of the newest format."""
        whole = load(self.place_.disk, self.path, CLUSTER)[0]
        for account in whole.accounts.values():
            account.since = -1 if older < 4 else account.since
        manifest = Manifest.decode(self.files[MANIFEST])
        parts = {name: part for name, part in manifest.files.items() if name not in ("room.csv", "told.csv") or name == room}
        with contextlib.ExitStack() as instead:
            for name, columns in lacking.items():
                image = b"".join(self.cut(self.files[name], columns))
                parts[name] = Part(len(image), parts[name].rows, hashlib.sha256(image).hexdigest())
                instead.enter_context(self.instead(name, image))
            image = msgspec.structs.replace(manifest, format=older, files=parts).encode()
            instead.enter_context(self.instead(MANIFEST, image))
            instead.enter_context(self.instead("told.csv", None))
            if not room:
                instead.enter_context(self.instead("room.csv", None))
            state, found = load(self.place_.disk, self.path, CLUSTER)
            self.assertEqual((found.format, table_rows(state)), (older, table_rows(whole)))
            if lacking["accounts.csv"]:
                with self.instead("accounts.csv", self.files["accounts.csv"]):
                    self.assert_damaged("accounts.csv")
            instead.enter_context(self.instead("accounts.csv", b"".join(self.cut(self.files["accounts.csv"], lacking["accounts.csv"]))))
            self.place_.say(0, "S|wayne|more")
            later = self.place_.make(Maker(self.place_.disk, rows_through_csv))
            self.assertEqual(load(self.place_.disk, later, CLUSTER, verify_history=True)[1].format, FORMAT)

    def cut(self, image: bytes, columns: int) -> Iterator[bytes]:
        """The rows without their last columns."""
        for row in image.splitlines():
            yield row.rsplit(b",", columns)[0] + b"\n"

    def test_a_disk_that_cannot_read(self) -> None:
        with mock.patch.object(OsDisk, "pread", side_effect=OSError(errno.EIO, "Input/output error")):
            self.assert_damaged("MANIFEST.json cannot be read: Input/output error")

    def test_the_maker_begins_with_the_older_one(self) -> None:
        before = folder_bytes(self.path)
        self.place_.say(0, "S|wayne|more")
        newest = self.place_.make(Maker(self.place_.disk, rows_through_csv))
        whole = folder_bytes(newest)
        damage(os.path.join(newest, "accounts.csv"), 30)
        answer = Maker(self.place_.disk, rows_through_csv).answer(self.place_.order())
        self.assertEqual(folder_bytes(answer["path"]), whole)
        self.assertEqual(folder_bytes(self.path), before)
        again = self.place_.put_in_place(answer)
        self.assertEqual((again, folder_bytes(again)), (newest, whole))


class PlacesTest(Case):
    """In its place, set aside, removed."""

    def fill(self, count: int) -> Place:
        place = self.place()
        maker = Maker(place.disk, rows_through_csv)
        for guest in range(count):
            place.open(guest)
            answer = maker.answer(place.order())
            install(place.disk, place.path, answer["path"], answer["made"])
        return place

    def test_two_are_kept_and_the_journal_down_to_the_older(self) -> None:
        place = self.fill(4)
        self.assertEqual(prune(place.disk, place.snapshots), 3)
        self.assertEqual(listed(place.disk, place.snapshots), [f"{4:016d}", f"{3:016d}"])
        self.assertEqual(prune(place.disk, place.snapshots), 3)

    def test_a_single_one_needs_the_whole_journal(self) -> None:
        place = self.fill(1)
        self.assertEqual(prune(place.disk, place.snapshots), 0)
        self.assertEqual(prune(place.disk, place.snapshots, keep=1), 1)

    def test_none_at_all(self) -> None:
        place = self.place()
        self.assertEqual((listed(place.disk, place.snapshots), prune(place.disk, place.snapshots)), ([], 0))

    def test_what_a_transfer_uses_stays(self) -> None:
        place = self.fill(5)
        self.assertEqual(prune(place.disk, place.snapshots, frozenset({2})), 2)
        self.assertEqual(listed(place.disk, place.snapshots), [f"{op:016d}" for op in (5, 4, 2)])

    def test_what_is_set_aside_is_removed_later(self) -> None:
        place = self.fill(4)
        prune(place.disk, place.snapshots)
        self.assertEqual(
            [n for n in os.listdir(place.snapshots) if n.startswith("gone-")].sort(), [f"gone-{1:016d}", f"gone-{2:016d}"].sort()
        )
        Maker(place.disk, rows_through_csv).rest(place.snapshots)
        self.assertEqual(sorted(os.listdir(place.snapshots)), [f"{3:016d}", f"{4:016d}"])

    def test_a_name_that_was_set_aside_before(self) -> None:
        place = self.fill(1)
        for _ in range(3):
            answer = Maker(place.disk, rows_through_csv).answer(place.order())
            install(place.disk, place.path, answer["path"], answer["made"])
        self.assertEqual(sorted(os.listdir(place.snapshots)), [f"{1:016d}", f"gone-{1:016d}", f"gone-{1:016d}-1", f"gone-{1:016d}-2"])
        load(place.disk, os.path.join(place.path, "csv"), CLUSTER, verify_history=True)

    def test_leftovers_go_at_start_and_the_link_is_turned(self) -> None:
        place = self.fill(2)
        for name in ("tmp-0000000000000009-77", "tmp-transfer", "gone-0000000000000000"):
            shutil.copytree(os.path.join(place.snapshots, f"{1:016d}"), os.path.join(place.snapshots, name))
        os.mkdir(os.path.join(place.snapshots, "my own copy"))
        os.unlink(os.path.join(place.path, "csv"))
        os.symlink("snapshots/nowhere", os.path.join(place.path, "csv"))
        tidy(place.disk, place.path, 1 << 60)
        self.assertEqual(sorted(os.listdir(place.snapshots)), [f"{1:016d}", f"{2:016d}", "my own copy"])
        self.assertEqual(os.readlink(os.path.join(place.path, "csv")), f"snapshots/{2:016d}")

    def test_a_worker_that_outlives_its_server_by_a_moment_stops_no_start(self) -> None:
        """It removes what it has begun, or writes on in it, while the next process removes it."""
        for leftover in ("gone", "grown"):
            place = self.fill(1)
            path = os.path.join(place.snapshots, "tmp-0000000000000009-77")
            shutil.copytree(os.path.join(place.snapshots, f"{1:016d}"), path)
            disk = OsDisk()

            def race(tree: str, leftover: str = leftover) -> None:
                shutil.rmtree(tree)
                if leftover == "grown":
                    os.mkdir(tree)
                    raise OSError(errno.ENOTEMPTY, "a file was made meanwhile", tree)
                shutil.rmtree(tree)

            with mock.patch.object(disk, "remove_tree", race):
                tidy(disk, place.path, 1 << 60)
            self.assertEqual(listed(place.disk, place.snapshots), [f"{1:016d}"])
            tidy(place.disk, place.path, 1 << 60)
            self.assertFalse(os.path.exists(path))

    def test_a_leftover_that_cannot_be_removed_is_not_hidden(self) -> None:
        place = self.fill(1)
        os.mkdir(os.path.join(place.snapshots, "tmp-0000000000000009-77"))
        with mock.patch.object(place.disk, "remove_tree", side_effect=OSError(errno.EIO, "bad")), self.assertRaises(OSError):
            tidy(place.disk, place.path, 1 << 60)

    def test_tidying_an_empty_directory(self) -> None:
        place = self.place()
        tidy(place.disk, place.path, 1 << 60)
        self.assertFalse(os.path.lexists(os.path.join(place.path, "csv")))

    def test_beginning_anew(self) -> None:
        place = self.fill(3)
        for _ in range(2):
            remove_all(place.disk, place.path)
            self.assertEqual(listed(place.disk, place.snapshots), [])
            self.assertFalse(os.path.lexists(os.path.join(place.path, "csv")))


class StartTest(Case):
    """What the start of a server costs; limits are ten times what is promised."""

    def test_loading_does_not_bring_pandas_in(self) -> None:
        place = self.place()
        two_people(place)
        path = place.make(Maker(place.disk, rows_through_csv))
        script = "import sys, disk, snapshots as s; s.load(disk.OsDisk(), *sys.argv[1:]); sys.exit('pandas' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", script, path, CLUSTER], cwd=ROOT, check=False).returncode, 0)

    def test_a_hundred_thousand_accounts(self) -> None:
        place = self.place()
        tables: dict[str, Any] = {
            "accounts": [(f"user{i}", str(i), "", "1", "0", "", "0") for i in range(100_000)],
            "mailboxes": [(f"user{i}", "1", str(i), "3", "mason", "hello " * 10) for i in range(10_000)],
            "sessions": [],
            "room": [],
            "told": [],
        }
        state = ChatState.load(7, 8, 0, tables)
        path = os.path.join(place.snapshots, "tmp-x")
        folder = Folder(place.disk, path, rows_through_csv, lambda: None, "", None)
        folder.end_messages()
        for name, (columns, rows) in state.tables().items():
            folder.add_table(name, columns, rows)
        folder.seal(state, msgspec.convert(place.order(hash="00" * 16), Order))
        pauses = list[float]()
        began = time.monotonic()
        found, _ = load(place.disk, path, CLUSTER, pause=lambda: pauses.append(time.monotonic()))
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(len(found.accounts), 100_000)
        self.assertEqual(len(pauses), 100_000 // ROWS_AT_ONCE + 10_000 // ROWS_AT_ONCE, "others may have the processor in between")


if __name__ == "__main__":
    unittest.main()
