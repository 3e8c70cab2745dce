"""The snapshot worker: what it writes comes back byte for byte, and a crash never costs the older snapshot."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import msgspec

import snapshot_worker
from batches import NO_HASH
from disk import Disk, OsDisk
from journal import JournalDamaged, read_segments
from snapshot_worker import Folder, Maker, RowsWriter, ServerGone, Worker, rows_through_csv, rows_through_pandas
from snapshots import MANIFEST, Order, install, listed, load, make_look, prune, remove_all, tidy
from state import ChatState
from tables import MESSAGE_COLUMNS, TABLES
from tests.simulator.disk import SimDisk, Stopped
from tests.snapshot_places import CLUSTER, HOSTILE, Case, Place, damage, folder_bytes, rows_of, session, some_doings, table_rows, two_people

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:
    given = None  # type: ignore[assignment]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEADLINE_S = 60.0


class RowsTest(unittest.TestCase):
    """Rows to bytes and back."""

    WRITERS = (rows_through_csv, rows_through_pandas)

    def assert_kept(self, columns: list[str], rows: list[tuple[str, ...]]) -> None:
        """Both writers, the same bytes; both readers, the same texts."""
        with_csv, with_pandas = (write(columns, rows, True) for write in self.WRITERS)
        self.assertEqual(with_csv, with_pandas)
        csv.field_size_limit((1 << 31) - 1)
        read = list(csv.reader(io.StringIO(with_csv.decode(), newline=""), strict=True))
        self.assertEqual(read, [columns, *map(list, rows)])
        self.assertEqual(self.read_with_pandas(with_csv), [list(row) for row in rows])

    def read_with_pandas(self, image: bytes) -> list[list[str]]:
        import pandas

        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                io.BytesIO(image),
                index_col=False,
                dtype=str,
                keep_default_na=False,
                na_filter=False,
                quoting=csv.QUOTE_ALL,
                skip_blank_lines=False,
                on_bad_lines="error",
                encoding="utf-8",
                encoding_errors="strict",
                engine="c",
            )
        rows: list[list[str]] = frame.values.tolist()
        return rows

    def test_hostile_texts_alone_and_in_every_column(self) -> None:
        self.assert_kept(["text"], [(text,) for text in HOSTILE])
        self.assert_kept(
            ["a", "b", "c"], [(x, y, z) for x, y, z in zip(HOSTILE, HOSTILE[1:] + HOSTILE[:1], reversed(HOSTILE), strict=True)]
        )
        for text in HOSTILE:
            self.assert_kept(["a", "b"], [(text, text)])

    def test_hostile_column_names_and_no_rows(self) -> None:
        self.assert_kept(["a,b", 'c"d', "NA"], [])
        for write in self.WRITERS:
            self.assertEqual(write(["a", "b"], [], True), b'"a","b"\n')
            self.assertEqual(write(["a", "b"], [], False), b"")

    def test_pieces_written_one_after_the_other_are_the_whole(self) -> None:
        rows = [(text, str(i)) for i, text in enumerate(HOSTILE)]
        for write in self.WRITERS:
            pieces = [write(["a", "b"], rows[i : i + 7], not i) for i in range(0, len(rows), 7)]
            self.assertEqual(b"".join(pieces), write(["a", "b"], rows, True))

    def test_numbers_become_their_text(self) -> None:
        rows = [(1, 1_700_000_000_000_000, "mason", "wayne", "hi"), (2, 2**63, "", "", "")]
        for write in self.WRITERS:
            self.assertEqual(write("abcde", rows, False), write("abcde", [tuple(map(str, row)) for row in rows], False))
        self.assertEqual(rows_through_csv("abcde", rows, True), rows_through_pandas("abcde", rows, True))

    def test_lone_surrogates_are_refused(self) -> None:
        for write in self.WRITERS:
            with self.assertRaises(UnicodeEncodeError):
                write(["a"], [("\ud800",)], False)

    @unittest.skipIf(given is None, "hypothesis is not installed")
    def test_any_text_at_all(self) -> None:
        text = (
            st.text(st.characters(exclude_categories=["Cs"]))
            | st.text(st.sampled_from('",\r\n\0 \\=a'), max_size=12)
            | st.sampled_from(HOSTILE[:50])
        )

        @settings(max_examples=150, deadline=None, database=None)
        @given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[text] * width), min_size=1, max_size=6)))
        def check(rows: list[tuple[str, ...]]) -> None:
            self.assert_kept([f"c{i}" for i in range(len(rows[0]))], rows)

        check()


class MakeTest(Case):
    """A snapshot, made and loaded."""

    def test_the_first_snapshot(self) -> None:
        place = self.place()
        two_people(place)
        path = place.make(Maker(place.disk, rows_through_pandas))
        state, manifest = load(place.disk, path, CLUSTER, verify_history=True)
        self.assertEqual((state.op, state.message_count, manifest.op, manifest.hash), (place.op, 2, place.op, place.hash.hex()))
        self.assertEqual(state.names(), ["mason", "wayne"])
        self.assertEqual(rows_of(path, "messages-000001.csv")[0], ["id", "time", "sender", "recipient", "text"])
        history = [(row[0], *row[2:]) for row in rows_of(path, "messages-000001.csv")[1:]]
        self.assertEqual(history, [("1", "mason", "wayne", "hello"), ("2", "mason", "wayne", 'a "quoted", text | with =everything')])
        self.assertEqual([row[0] for row in rows_of(path, "mailboxes.csv")], ["account", "wayne", "wayne"])
        self.assertEqual(folder_bytes(os.path.join(place.path, "csv")), folder_bytes(path))
        self.assertEqual(os.readlink(os.path.join(place.path, "csv")), f"snapshots/{place.op:016d}")

    def test_the_files_say_what_the_state_holds(self) -> None:
        place = self.place()
        some_doings(place, random.Random(1), 100)
        path = place.make(Maker(place.disk, rows_through_pandas))
        state, _ = load(place.disk, path, CLUSTER)
        for name, columns in TABLES.items():
            self.assertEqual(rows_of(path, f"{name}.csv"), [list(columns), *map(list, table_rows(state)[name])])

    def test_nothing_local_is_in_it(self) -> None:
        """Two hosts, other directories, other processes: the same bytes."""
        first, second = self.place(), self.place()
        for place in (first, second):
            some_doings(place, random.Random(2), 60)
        one = folder_bytes(first.make(Maker(first.disk, rows_through_pandas, tag="812")))
        time.sleep(0.002)
        self.assertEqual(one, folder_bytes(second.make(Maker(second.disk, rows_through_csv, tag="7"))))

    def test_before_anybody_has_written(self) -> None:
        place = self.place()
        place.open(1)
        path = place.make(Maker(place.disk, rows_through_pandas))
        state, manifest = load(place.disk, path, CLUSTER, verify_history=True)
        self.assertEqual((state.message_count, manifest.files["messages-000001.csv"].rows), (0, 0))
        self.assertEqual(
            sorted(os.listdir(path)),
            [MANIFEST, "accounts.csv", "mailboxes.csv", "messages-000001.csv", "room.csv", "sessions.csv", "told.csv"],
        )

    def test_however_it_was_made_it_is_the_same(self) -> None:
        """One maker that stays, one that begins with the last snapshot each time, one that begins with nothing: byte-equal at equal op."""
        self.with_small_files()
        for seed in range(4):
            dice, places = random.Random(seed), [self.place() for _ in range(3)]
            staying = Maker(OsDisk(), rows_through_pandas if seed == 0 else rows_through_csv)
            for _ in range(6):
                doings, count = dice.randrange(1 << 30), dice.choice([0, 1, 2, 20])
                found = []
                for i, place in enumerate(places):
                    some_doings(place, random.Random(doings), count)
                    if i == 2:
                        remove_all(place.disk, place.path)
                    found.append(folder_bytes(place.make(staying if i == 0 else Maker(place.disk, rows_through_csv))))
                self.assertEqual(found[0], found[1])
                self.assertEqual(found[0], found[2])
            for place in places:
                load(place.disk, os.path.join(place.path, "csv"), CLUSTER, verify_history=True)

    def test_a_loaded_state_goes_on_like_the_one_that_stayed(self) -> None:
        place = self.place()
        some_doings(place, random.Random(5), 80)
        path = place.make(Maker(place.disk, rows_through_csv))
        loaded, _ = load(place.disk, path, CLUSTER)
        stayed = ChatState()
        for batch in read_segments(place.disk, place.journal_path, 0, NO_HASH, place.op):
            stayed.apply(batch.first_op, batch.count, batch.time, batch.body)
        before, tip = place.op, place.hash
        some_doings(place, random.Random(6), 200)
        for batch in read_segments(place.disk, place.journal_path, before, tip, place.op):
            for state in (loaded, stayed):
                state.apply(batch.first_op, batch.count, batch.time, batch.body)
        self.assertEqual((loaded.op, loaded.digest, loaded.message_count), (stayed.op, stayed.digest, stayed.message_count))
        self.assertEqual(table_rows(loaded), table_rows(stayed))

    def test_hostile_text_in_every_table(self) -> None:
        """Texts that no door accepts, too: what a state holds comes back."""
        place = self.place()
        replies = json.dumps(HOSTILE, ensure_ascii=False, separators=(",", ":"))
        tables: dict[str, list[tuple[str, ...]]] = {
            "accounts": [(text, str(i), text, "1", str(i << 55), "blocked" * (i % 2), "0") for i, text in enumerate(HOSTILE)],
            "mailboxes": [(text, "1", "2", "3", text, text) for text in HOSTILE],
            "sessions": [(session(1).hex(), "plain", HOSTILE[9], "0.1.2", str(len(HOSTILE)), "0", "0", "0", replies, "", "0")],
            "room": [(str(i), str(i), "3", text, text) for i, text in enumerate(HOSTILE, 1)],
            "told": [("word", text, str(i), "0", text) for i, text in enumerate(HOSTILE, 1)],
        }
        state = ChatState.load(7, 8, 0, dict(tables))
        for write in (rows_through_csv, rows_through_pandas):
            path = os.path.join(place.snapshots, "tmp-x")
            folder = Folder(place.disk, path, write, lambda: None, "", None)
            folder.end_messages()
            for name, (columns, rows) in state.tables().items():
                folder.add_table(name, columns, rows)
            folder.seal(state, msgspec.convert(place.order(hash="00" * 16), Order))
            found, _ = load(place.disk, path, CLUSTER, verify_history=True)
            self.assertEqual(table_rows(found), {name: sorted(rows) if name == "sessions" else rows for name, rows in tables.items()})

    def test_the_digest_is_that_of_the_replies(self) -> None:
        place = self.place()
        two_people(place)
        state = ChatState()
        for batch in read_segments(place.disk, place.journal_path, 0, NO_HASH, place.op):
            state.apply(batch.first_op, batch.count, batch.time, batch.body)
        answer = Maker(place.disk, rows_through_csv).answer(place.order())
        self.assertEqual((answer["made"], answer["digest"]), (place.op, state.digest))

    def test_only_up_to_the_ordered_op(self) -> None:
        place = self.place()
        two_people(place)
        order = place.order()
        place.say(1, "S|wayne|not yet committed")
        answer = Maker(place.disk, rows_through_csv).answer(order)
        state, _ = load(place.disk, answer["path"], CLUSTER)
        self.assertEqual((state.op, state.message_count), (order["make"], 2))

    def test_a_newer_one_is_not_begun_with(self) -> None:
        place = self.place()
        two_people(place)
        order = place.order()
        place.say(1, "S|wayne|later")
        place.make(Maker(place.disk, rows_through_csv))
        answer = Maker(place.disk, rows_through_csv).answer(order)
        self.assertEqual(load(place.disk, answer["path"], CLUSTER, verify_history=True)[1].op, order["make"])


class HistoryTest(Case):
    """Message files: cut by number, linked, never rewritten."""

    def setUp(self) -> None:
        super().setUp()
        self.with_small_files()
        self.place_ = self.place()
        two_people(self.place_)
        self.maker = Maker(self.place_.disk, rows_through_csv)

    def send(self, count: int) -> str:
        for i in range(count):
            self.place_.say(1, f"S|wayne|message {i}")
        self.place_.open(3)
        return self.place_.make(self.maker)

    def inode(self, path: str, number: int) -> int:
        return os.stat(os.path.join(path, f"messages-{number:06d}.csv")).st_ino

    def test_full_files_are_linked_and_the_last_is_copied(self) -> None:
        first = self.send(5)  # 7 messages: 5, 2
        kept = folder_bytes(first)
        second = self.send(1)  # 8: 5, 3
        self.assertEqual(self.inode(first, 1), self.inode(second, 1))
        self.assertNotEqual(self.inode(first, 2), self.inode(second, 2))
        self.assertEqual(folder_bytes(first), kept)
        self.assertEqual([row[0] for row in rows_of(second, "messages-000002.csv")], ["id", "6", "7", "8"])

    def test_nothing_new_costs_nothing(self) -> None:
        first, second = self.send(5), self.send(0)
        self.assertEqual([self.inode(first, n) for n in (1, 2)], [self.inode(second, n) for n in (1, 2)])

    def test_files_are_cut_by_number_whenever_snapshots_were_made(self) -> None:
        for count in (1, 0, 2, 3, 5, 12, 1):
            path = self.send(count)
        sizes = [len(rows_of(path, name)) - 1 for name in sorted(os.listdir(path)) if name.startswith("messages")]
        self.assertEqual(sizes, [5, 5, 5, 5, 5, 1])
        self.assertEqual(
            [row[0] for n in range(1, 7) for row in rows_of(path, f"messages-{n:06d}.csv")[1:]], [str(i) for i in range(1, 27)]
        )
        load(self.place_.disk, path, CLUSTER, verify_history=True)

    def test_exactly_full(self) -> None:
        first = self.send(3)  # 5 messages
        self.assertEqual([n for n in sorted(os.listdir(first)) if n.startswith("messages")], ["messages-000001.csv"])
        second = self.send(1)
        self.assertEqual(self.inode(first, 1), self.inode(second, 1))
        self.assertEqual([row[0] for row in rows_of(second, "messages-000002.csv")], ["id", "6"])

    def test_a_snapshot_costs_what_is_new(self) -> None:
        self.send(500)
        order = self.place_.order
        self.place_.say(1, "S|wayne|one more")
        with mock.patch.object(snapshot_worker, "rows_through_csv", wraps=rows_through_csv) as write:
            self.maker.write_rows = write
            before = self.maker.answer(order())
        written = [len(call.args[1]) for call in write.call_args_list if tuple(call.args[0]) == MESSAGE_COLUMNS]
        self.assertEqual(sum(written), 1)
        self.assertIn("made", before)

    def test_long_replays_are_written_in_pieces(self) -> None:
        with mock.patch.object(snapshot_worker, "REPLAY_AT_ONCE", 100):
            path = self.send(40)
        self.assertEqual(load(self.place_.disk, path, CLUSTER, verify_history=True)[1].messages, 42)

    def test_a_rotten_copy_is_not_sealed_in(self) -> None:
        """The last file of the older snapshot has rotted: the maker notices, and the next time begins with the one before."""
        self.send(0)
        second = self.send(5)
        damage(os.path.join(second, "messages-000002.csv"), 20)
        self.place_.say(1, "S|wayne|next")
        failed = self.maker.answer(self.place_.order())
        self.assertIn("messages-000002.csv is damaged", failed["failed"])
        healed = self.place_.make(self.maker)
        load(self.place_.disk, healed, CLUSTER, verify_history=True)
        self.assertEqual([row[0] for row in rows_of(healed, "messages-000002.csv")], ["id", "6", "7", "8"])


class LookTest(Case):
    """A second look at what was written long ago."""

    def setUp(self) -> None:
        super().setUp()
        self.with_small_files()
        self.place_ = self.place()
        self.maker = Maker(self.place_.disk, rows_through_csv)
        two_people(self.place_)
        self.place_.say(1, *[f"S|wayne|{i}" for i in range(9)])
        self.path = self.place_.make(self.maker)

    def look(self) -> dict[str, Any]:
        return self.maker.answer(make_look(self.place_.snapshots, CLUSTER))

    def test_nothing_is_wrong(self) -> None:
        self.assertEqual(self.look(), {"damage": ""})

    def test_nothing_is_there(self) -> None:
        self.assertEqual(self.maker.answer(make_look(self.place().snapshots, CLUSTER)), {"damage": ""})

    def test_every_file_is_read(self) -> None:
        for name in sorted(os.listdir(self.path)):
            with self.subTest(name=name):
                damage(os.path.join(self.path, name), 9)
                self.assertRegex(self.look()["damage"], rf"snapshot {os.path.basename(self.path)}: {name} ")
                damage(os.path.join(self.path, name), 9)
        self.assertEqual(self.look(), {"damage": ""})

    def test_a_file_that_a_newer_snapshot_links(self) -> None:
        """Loading it at the start of a server does not notice: full files are long and many."""
        self.place_.say(1, *[f"S|wayne|{i}" for i in range(9)])
        newer = self.place_.make(self.maker)
        damage(os.path.join(newer, "messages-000001.csv"), 30)
        load(self.place_.disk, newer, CLUSTER)
        self.assertIn("messages-000001.csv is damaged", self.look()["damage"])

    def test_one_that_is_set_aside_meanwhile(self) -> None:
        aside = os.path.join(self.place_.snapshots, "gone-1")

        def breathe() -> None:
            if os.path.exists(self.path):
                os.rename(self.path, aside)

        self.maker.breathe = breathe
        self.assertEqual(self.look(), {"damage": ""})


class Stumble:
    """The call of this number fails; `call`: what it was."""

    def __init__(self, number: int, kind: int) -> None:
        self.left, self.kind, self.call = number, kind, ""

    def __call__(self, call: str, site: str, path: str) -> OSError | None:
        self.left -= 1
        if self.left:
            return None
        self.call = call
        return OSError(self.kind, os.strerror(self.kind), path)


class TroubleTest(Case):
    """Disks that fail, processes that end and power that goes: the older snapshot stays what it was."""

    def ready(self, seed: int = 1) -> tuple[Place, SimDisk, dict[str, bytes]]:
        """Two snapshots in place, another to be made; the place's disk, and what the second one holds."""
        self.with_small_files(3)
        disk = SimDisk(random.Random(seed))
        place = Place("data", disk)
        two_people(place)
        place.make(Maker(disk, rows_through_csv))
        place.say(1, "S|wayne|3", "S|wayne|4")
        older = folder_bytes(place.make(Maker(disk, rows_through_csv)), disk)
        place.say(1, *(f"S|wayne|{i}" for i in range(5, 11)))
        self.in_place = disk.listdir(place.snapshots)
        disk.files.changes.clear()  # the server has synced the directories it made
        disk.effects = 0
        return place, disk, older

    def assert_intact(self, place: Place, disk: SimDisk, older: dict[str, bytes]) -> None:
        """The older one is as it was, what bears a number is complete, and the link leads to one of them."""
        self.assertEqual(folder_bytes(f"{place.snapshots}/{place.op - 6:016d}", disk), older)
        for path in (*(f"{place.snapshots}/{name}" for name in listed(disk, place.snapshots)), f"{place.path}/csv"):
            load(disk, path, CLUSTER, verify_history=True)

    def make(self, place: Place, disk: Disk) -> dict[str, Any]:
        return Maker(disk, rows_through_csv).answer(place.order())

    def whole(self, place: Place, disk: Disk) -> None:
        """Worker and server together."""
        answer = self.make(place, disk)
        install(disk, place.path, answer["path"], answer["made"])
        prune(disk, place.snapshots)
        Maker(disk, rows_through_csv).rest(place.snapshots)

    def effects_of(self, doing: Callable[[Place, Disk], Any]) -> int:
        place, disk, _ = self.ready()
        doing(place, disk)
        return disk.effects

    def test_every_call_that_fails(self) -> None:
        """A failing read of the older snapshot sends the maker back to the beginning of the journal; any other is an answer."""
        failed = 0
        for number, kind in itertools.product(range(1, self.effects_of(self.make) + 1), (errno.ENOSPC, errno.EIO)):
            place, disk, older = self.ready()
            stumble = Stumble(number, kind)
            disk.fault = stumble
            with self.subTest(number, kind=errno.errorcode[kind]):
                answer = self.make(place, disk)
                disk.fault = None
                if "failed" in answer:
                    failed += 1
                    self.assertEqual(disk.listdir(place.snapshots), self.in_place)
                    answer = self.make(place, disk)
                install(disk, place.path, answer["path"], answer["made"])
                self.assert_intact(place, disk, older)
                if stumble.call != "close":
                    self.assertLessEqual(len(disk.open_files), 2, "a descriptor is left open")
        self.assertGreater(failed, 60)

    def test_a_sync_that_fails_is_not_tried_again(self) -> None:
        place, disk, older = self.ready()
        disk.sync_error = 1.0
        self.assertIn("EIO", self.make(place, disk)["failed"])
        disk.sync_error = 0.0
        self.assertEqual(disk.listdir(place.snapshots), self.in_place)
        self.assert_intact(place, disk, older)

    def test_the_end_at_every_call(self) -> None:
        """The process dies, or the power goes, before or after each thing that it does to the disk."""
        for number in range(1, self.effects_of(self.whole) + 1):
            for after, power in itertools.product((False, True), (False, True)):
                place, disk, older = self.ready(number)
                disk.stop_at, disk.stop_after = number, after
                with self.subTest(number, after=after, power=power):
                    with self.assertRaises(Stopped):
                        self.whole(place, disk)
                    self.go_on(place, disk, older, power)

    def go_on(self, place: Place, before: SimDisk, older: dict[str, bytes], power: bool) -> None:
        """What a server that is started again finds and does."""
        before.kill()
        if power:
            before.crash()
        disk = SimDisk(before.dice, before.files)
        self.assert_intact(place, disk, older)
        tidy(disk, place.path, 1 << 60)
        self.assert_intact(place, disk, older)
        self.assertTrue(all(name.isdigit() for name in disk.listdir(place.snapshots)))
        newest = listed(disk, place.snapshots)[0]
        self.assertEqual(load(disk, f"{place.path}/csv", CLUSTER)[1].op, int(newest))
        self.whole(place, disk)
        self.assert_intact(place, disk, older)
        disk.crash()
        disk = SimDisk(before.dice, before.files)
        self.assert_intact(place, disk, older)
        self.assertEqual(listed(disk, place.snapshots), [f"{place.op:016d}", f"{place.op - 6:016d}"])

    def test_the_link_never_leads_to_what_is_removed(self) -> None:
        """However much of what happened to names is lost with the power."""
        for seed in range(20):
            place, disk, _ = self.ready(seed)
            self.whole(place, disk)
            place.open(7)
            self.whole(place, disk)
            disk.crash()
            load(SimDisk(disk.dice, disk.files), f"{place.path}/csv", CLUSTER, verify_history=True)

    def test_a_failure_costs_only_one_attempt(self) -> None:
        """The maker that stays does not go on from a state that may be half-way."""
        place, disk, _ = self.ready()
        maker = Maker(disk, rows_through_csv)
        place.make(maker)
        place.say(1, "S|wayne|11")
        disk.room = 100
        self.assertIn("ENOSPC", maker.answer(place.order())["failed"])
        disk.room = None
        self.assertIsNone(maker.kept)
        path = place.make(maker)
        self.assertEqual(load(disk, path, CLUSTER, verify_history=True)[1].messages, 11)

    def test_a_snapshot_that_was_not_put_in_place(self) -> None:
        """The server dropped it (its generation had changed): the next one begins with what is in place."""
        place, disk, _ = self.ready()
        maker = Maker(disk, rows_through_csv)
        dropped = maker.answer(place.order())
        place.say(1, "S|wayne|11")
        path = place.make(maker)
        _, manifest = load(disk, path, CLUSTER, verify_history=True)
        self.assertEqual([part.rows for name, part in manifest.files.items() if name.startswith("messages")], [3, 3, 3, 2])
        self.assertFalse(disk.exists(dropped["path"]))

    def test_orders_that_cannot_be_met(self) -> None:
        place, disk, _ = self.ready()
        maker = Maker(disk, rows_through_csv)
        for changes, says in (
            ({"hash": "00" * 16}, "the journal leads to op"),
            ({"make": place.op + 1}, f"the batch behind op {place.op} cannot be read"),
            ({"make": place.op - 1}, f"no batch that ends at op {place.op - 1}"),
            ({"generation": 2}, "holds nothing"),
            ({"make": "many"}, "Expected `int`"),
        ):
            with self.subTest(says):
                self.assertIn(says, maker.answer(place.order(**changes))["failed"])
        with mock.patch.object(snapshot_worker, "read_segments", side_effect=JournalDamaged("the journal is damaged")):
            self.assertEqual(maker.answer(place.order()), {"failed": "the journal is damaged"})
        self.assertEqual(disk.listdir(place.snapshots), self.in_place)

    def test_a_leftover_of_the_same_name(self) -> None:
        place, disk, older = self.ready()
        path = f"{place.snapshots}/tmp-{place.op:016d}-0"
        disk.mkdir(path)
        disk.close(disk.open(f"{path}/stray", create=True))
        self.assertNotIn("stray", disk.listdir(place.make(Maker(disk, rows_through_csv))))
        self.assert_intact(place, disk, older)

    def test_large_files_are_synced_on_the_way(self) -> None:
        few = self.effects_of(self.make)
        with mock.patch.object(snapshot_worker, "SYNC_EVERY", 64):
            self.assertGreater(self.effects_of(self.make), few)

    def test_nobody_waits_any_more(self) -> None:
        place, disk, older = self.ready()
        for breaths in range(5):
            left = iter(range(breaths))

            def breathe(left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise ServerGone

            with self.assertRaises(ServerGone):
                Maker(disk, rows_through_csv, breathe=breathe).answer(place.order())
            self.assertEqual(disk.listdir(place.snapshots), self.in_place)
        self.assert_intact(place, disk, older)


class Pipes:
    """A worker in this process, on a thread; the other ends of its pipes are here."""

    def __init__(self, case: unittest.TestCase, write_rows: RowsWriter = rows_through_csv) -> None:
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.worker = Worker(orders, answers, OsDisk(), write_rows)
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()
        self.unread = b""
        for fd in (orders, answers, self.answers):
            case.addCleanup(os.close, fd)
        case.addCleanup(self.end)

    def give(self, *orders: dict[str, Any]) -> None:
        os.write(self.orders, b"".join(json.dumps(order).encode() + b"\n" for order in orders))

    def take(self) -> dict[str, Any]:
        while b"\n" not in self.unread:
            self.unread += os.read(self.answers, 1 << 16)
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        if self.orders >= 0:
            os.close(self.orders)
            self.orders = -1
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "the worker stays though nobody is there"


class WorkerTest(Case):
    """Orders in, answers out."""

    def test_two_orders_at_once_are_carried_out_in_order(self) -> None:
        place = self.place()
        two_people(place)
        first = place.order()
        place.say(1, "S|wayne|more")
        pipes = Pipes(self)
        pipes.give(first, place.order())
        self.assertEqual([pipes.take()["made"], pipes.take()["made"]], [place.op - 1, place.op])

    def test_a_look_among_the_orders(self) -> None:
        place = self.place()
        two_people(place)
        pipes = Pipes(self)
        pipes.give(make_look(place.snapshots, CLUSTER), place.order())
        self.assertEqual((pipes.take(), pipes.take()["made"]), ({"damage": ""}, place.op))

    def test_an_order_in_two_pieces(self) -> None:
        place = self.place()
        two_people(place)
        line = json.dumps(place.order()).encode() + b"\n"
        pipes = Pipes(self)
        os.write(pipes.orders, line[:40])
        time.sleep(0.05)
        os.write(pipes.orders, line[40:])
        self.assertEqual(pipes.take()["made"], place.op)

    def test_a_failure_is_an_answer_and_the_worker_stays(self) -> None:
        place = self.place()
        two_people(place)
        pipes = Pipes(self)
        pipes.give(place.order(hash="ff" * 16), place.order())
        self.assertIn("failed", pipes.take())
        self.assertEqual(pipes.take()["made"], place.op)

    def test_it_leaves_when_it_has_nothing_to_do(self) -> None:
        with mock.patch.object(snapshot_worker, "IDLE_S", 0.05):
            pipes = Pipes(self)
            pipes.thread.join(DEADLINE_S)
            self.assertFalse(pipes.thread.is_alive())

    def test_it_removes_what_was_set_aside_when_it_rests(self) -> None:
        place = self.place()
        place.open(1)
        with mock.patch.object(snapshot_worker, "REST_S", 0.01):
            pipes = Pipes(self)
            for guest in range(2, 5):
                pipes.give(place.order())
                place.put_in_place(pipes.take())
                place.open(guest)
            pipes.give(make_look(place.snapshots, CLUSTER))  # it may have rested before the last was put in its place
            pipes.take()
            late, kept = time.monotonic() + DEADLINE_S, [f"{op:016d}" for op in (2, 3)]
            while sorted(os.listdir(place.snapshots)) != kept and time.monotonic() < late:
                time.sleep(0.01)
        self.assertEqual(sorted(os.listdir(place.snapshots)), kept)

    def test_under_load_it_waits_for_its_turn(self) -> None:
        place = self.place()
        two_people(place)
        lock = place.disk.try_lock(place.order()["turn"], shared=False)
        assert lock is not None
        pipes = Pipes(self)
        pipes.give(place.order(quiet=False), place.order(quiet=True))
        time.sleep(0.2)
        self.assertEqual(os.listdir(place.snapshots), [])
        place.disk.unlock(lock)
        self.assertEqual((pipes.take()["made"], pipes.take()["made"]), (place.op, place.op))
        lock = place.disk.try_lock(place.order()["turn"], shared=False)
        assert lock is not None, "the turn is over when the answer is given"
        pipes.give(place.order(quiet=True))
        self.assertEqual(pipes.take()["made"], place.op)
        place.disk.unlock(lock)

    def test_nobody_is_waited_for_forever(self) -> None:
        place = self.place()
        two_people(place)
        lock = place.disk.try_lock(place.order()["turn"], shared=False)
        assert lock is not None
        with mock.patch.object(snapshot_worker, "TURN_WAIT_S", 0.1):
            pipes = Pipes(self)
            pipes.give(place.order(quiet=False))
            self.assertEqual(pipes.take()["made"], place.op)
        place.disk.unlock(lock)

    def test_it_leaves_while_it_waits_for_its_turn(self) -> None:
        place = self.place()
        two_people(place)
        lock = place.disk.try_lock(place.order()["turn"], shared=False)
        assert lock is not None
        pipes = Pipes(self)
        pipes.give(place.order(quiet=False))
        time.sleep(0.1)
        pipes.end()
        place.disk.unlock(lock)

    def test_it_leaves_in_the_middle_of_its_work(self) -> None:
        place = self.place()
        two_people(place)
        begun, wait = threading.Event(), threading.Event()

        def slowly(*args: Any) -> bytes:
            begun.set()
            wait.wait(DEADLINE_S)
            return rows_through_csv(*args)

        pipes = Pipes(self, slowly)
        pipes.give(place.order())
        self.assertTrue(begun.wait(DEADLINE_S))
        self.assertNotEqual(os.listdir(place.snapshots), [])
        os.close(pipes.orders)
        pipes.orders = -1
        wait.set()
        pipes.end()
        self.assertEqual(os.listdir(place.snapshots), [])


class ProcessTest(Case):
    """The real worker process."""

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "snapshot_worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        return process

    def ask(self, process: subprocess.Popen[bytes], order: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    def test_three_at_once_are_quick_the_first_time_and_quicker_the_second(self) -> None:
        places = [self.place() for _ in range(3)]
        workers = [self.start() for _ in places]
        began = time.monotonic()
        for turn in range(2):
            answers: list[dict[str, Any]] = [{}] * 3

            def work(i: int, answers: list[dict[str, Any]] = answers) -> None:
                answers[i] = self.ask(workers[i], places[i].order())

            for place in places:
                some_doings(place, random.Random(turn), 50)
            threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found = [folder_bytes(place.put_in_place(answer)) for place, answer in zip(places, answers, strict=True)]
            self.assertTrue(found[0] == found[1] == found[2])
            self.assertLess(time.monotonic() - began, 17)  # 1.7 s is promised
        for worker in workers:
            self.assertEqual(os.getpriority(os.PRIO_PROCESS, worker.pid), max(10, os.getpriority(os.PRIO_PROCESS, 0)))
            assert worker.stdin is not None
            worker.stdin.close()
            self.assertEqual(worker.wait(DEADLINE_S), 0)

    def test_killed_at_any_moment(self) -> None:
        place = self.place()
        some_doings(place, random.Random(8), 300)
        older = folder_bytes(place.make(Maker(place.disk, rows_through_csv)))
        before = listed(place.disk, place.snapshots)
        dice = random.Random(9)
        for _ in range(6):
            process = self.start()
            self.ask(process, place.order())
            some_doings(place, dice, 150)
            assert process.stdin is not None
            process.stdin.write(json.dumps(place.order()).encode() + b"\n")
            process.stdin.flush()
            time.sleep(dice.random() * 0.03)
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.assertEqual(listed(place.disk, place.snapshots), before)
            self.assertEqual(folder_bytes(os.path.join(place.path, "csv")), older)
            tidy(place.disk, place.path, 1 << 60)
            self.assertEqual(os.listdir(place.snapshots), before)


if __name__ == "__main__":
    unittest.main()
