"""Letters between replicas and the image of a batch: what is written is what is read, and one wrong bit is told."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import typing
import unittest
import zlib

import packets
from batches import (
    BATCH_MAX,
    CRC,
    END,
    HASH_SIZE,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    NO_HASH,
    TRAILER_SIZE,
    Batch,
    DamagedBatch,
    digest,
    image_hash,
    sound_header,
)
from packets import (
    BAD_PACKET,
    PACKET_MAX,
    Chunk,
    Commit,
    CommitOk,
    DoViewChange,
    Forward,
    Forwarded,
    ForwardQuery,
    GetChunk,
    GetState,
    LastMet,
    Leave,
    Member,
    NewState,
    Packet,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    SnapshotOffer,
    StartView,
    StartViewChange,
    View,
    decode,
    encode,
)

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:  # pragma: no cover
    given = None  # type: ignore[assignment]


def a_batch(body: bytes = b"hello", first_op: int = 8, count: int = 3, view: int = 2, time: int = 10**15, prev: bytes = b"p" * 16) -> Batch:
    return Batch(first_op=first_op, count=count, view=view, time=time, prev_hash=prev, body=body)


ALL = (
    Prepare(1, 2, 2, 3, b"image"),
    PrepareOk(1, 2, b"h" * 16),
    Commit(1, 2, b"h" * 16, 4, 5),
    CommitOk(1, 2, 3),
    StartView(1, 2, b"h" * 16, 3, b"p" * 16, b""),
    StartViewChange(1, 2),
    DoViewChange(2, 1, 3, b"h" * 16),
    LastMet(1, 2, 3),
    GetState(1, 2, b"h" * 16, 3, b"p" * 16),
    NewState(1, 2, b"h" * 16, b"images", True),
    SnapshotOffer(1, 2, b"h" * 16, b"{}"),
    GetChunk(1, 2, "accounts.csv", 1 << 40),
    Chunk(1, 2, "accounts.csv", 0, b"\0" * 1000),
    Recovery(1, 2**63, 3, 4, b"h" * 16, True, False),
    RecoveryResponse(1, 2, "normal", 3, 4, False, True),
    Leave(1, "planned stop"),
    Forward(1, b"runs"),
    ForwardQuery(1, 2, b"\xff" * 16, "A|w.yne"),
    Forwarded(1, 2, "a|wäyne"),
)


class ImageTest(unittest.TestCase):
    def test_the_image_is_laid_out_as_the_drawing_says(self) -> None:
        batch = a_batch()
        image = batch.image
        self.assertEqual(image[0:4], b"USB1")
        self.assertEqual(struct.unpack_from("<Q", image, 4)[0], 8)
        self.assertEqual(struct.unpack_from("<I", image, 12)[0], 3)
        self.assertEqual(struct.unpack_from("<I", image, 16)[0], 5)
        self.assertEqual(struct.unpack_from("<Q", image, 20)[0], 2)
        self.assertEqual(struct.unpack_from("<Q", image, 28)[0], 10**15)
        self.assertEqual(image[36:52], b"p" * 16)
        self.assertEqual(struct.unpack_from("<I", image, 52)[0], zlib.crc32(image[:52]))
        self.assertEqual(image[56:61], b"hello")
        self.assertEqual(image[61:77], hashlib.sha256(image[:52] + b"hello").digest()[:16])
        self.assertEqual(image[77:], b"\xf1END")
        self.assertEqual((HEADER_SIZE, TRAILER_SIZE, len(image)), (56, 20, 81))

    def test_a_batch_is_named_by_the_op_of_its_last_command(self) -> None:
        self.assertEqual(a_batch(first_op=8, count=3).op, 10)
        self.assertEqual(a_batch(first_op=1, count=1, prev=NO_HASH).op, 1)
        self.assertRegex(repr(a_batch()), r"^batch 10:[0-9a-f]{6}$")

    def test_what_is_written_is_what_is_read(self) -> None:
        for body in (b"x", b"\0" * 2000, bytes(range(256)) * 40):
            batch = a_batch(body)
            for image, at in ((batch.image, 0), (b"??" + batch.image + b"\0" * 9, 2), (memoryview(b"!" + batch.image), 1)):
                read = Batch.decode(image, at)
                for name in Batch.__slots__:
                    self.assertEqual(getattr(read, name), getattr(batch, name), name)
                self.assertEqual(sound_header(image, at), batch.image[: HEADER.size])

    def test_no_image_ends_in_a_zero_byte(self) -> None:
        self.assertNotEqual(END[-1], 0)
        self.assertTrue(a_batch(b"\0").image.endswith(END))

    def test_every_flipped_bit_is_told(self) -> None:
        image = a_batch(b"a body of some bytes").image
        for bit in range(8 * len(image)):
            flipped = bytearray(image)
            flipped[bit // 8] ^= 1 << bit % 8
            with self.subTest(bit=bit), self.assertRaises(DamagedBatch):
                Batch.decode(bytes(flipped))

    def test_every_missing_end_is_told(self) -> None:
        image = a_batch().image
        for size in range(len(image)):
            with self.subTest(size=size), self.assertRaises(DamagedBatch):
                Batch.decode(image[:size])

    def test_another_end_mark_is_no_end_mark(self) -> None:
        with self.assertRaisesRegex(DamagedBatch, "no end mark"):
            Batch.decode(a_batch().image[:-1] + b"E")

    def test_numbers_that_cannot_be_are_told_even_with_right_sums(self) -> None:
        for first_op, count, body in ((0, 1, b"x"), (1, 0, b"x"), (1, 1, b"")):
            header = HEADER.pack(MAGIC, first_op, count, len(body), 1, 1, NO_HASH)
            image = header + CRC.pack(zlib.crc32(header)) + body + digest(header, body) + END
            with self.subTest(first_op=first_op, count=count), self.assertRaisesRegex(DamagedBatch, "impossible"):
                Batch.decode(image)

    def test_a_header_that_promises_a_gigabyte_is_not_believed(self) -> None:
        header = HEADER.pack(MAGIC, 1, 1, 2**32 - 1, 1, 1, NO_HASH)
        with self.assertRaisesRegex(DamagedBatch, "cut short"):
            Batch.decode(header + CRC.pack(zlib.crc32(header)) + b"x" * 100)

    def test_a_batch_that_cannot_be_is_never_made(self) -> None:
        for wrong in ({"first_op": 0}, {"count": 0}, {"prev": b"short"}, {"body": b""}):
            with self.subTest(wrong=wrong), self.assertRaises(AssertionError):
                a_batch(**wrong)

    def test_equal_hashes_mean_equal_logs(self) -> None:
        one, other = a_batch(prev=b"a" * 16), a_batch(prev=b"b" * 16)
        self.assertNotEqual(one.hash, other.hash)
        seen = {a_batch().hash}
        for changed in ({"first_op": 9}, {"count": 4}, {"view": 3}, {"time": 5}, {"body": b"hellO"}, {"body": b"hello\0"}):
            seen.add(a_batch(**changed).hash)
        self.assertEqual(len(seen), 7, "each field is under the hash")

    def test_the_hash_of_images_is_that_of_the_last(self) -> None:
        one = a_batch()
        other = a_batch(b"next", first_op=one.op + 1, prev=one.hash)
        self.assertEqual(image_hash(one.image), one.hash)
        self.assertEqual(image_hash(one.image + other.image), other.hash)
        self.assertEqual(len(one.hash), HASH_SIZE)


class ViewTest(unittest.TestCase):
    def view(self, **changed: typing.Any) -> View:
        fields: dict[str, typing.Any] = {
            "cluster": "dormitory",
            "number": 4,
            "primary": Member(1, 77),
            "members": (Member(1, 77), Member(2, 78)),
            "op": 9,
            "hash": b"h" * 16,
            "reason": "0 died",
            "time": 5,
        }
        return View(**{**fields, **changed})

    def test_it_names_its_replicas(self) -> None:
        self.assertEqual(self.view().replicas, (1, 2))
        self.assertEqual(str(Member(2, 99)), "2")

    def test_its_chain_hash_covers_every_field(self) -> None:
        seen = {self.view().chain_hash()}
        changes: list[dict[str, typing.Any]] = [
            {"cluster": "x"},
            {"number": 5},
            {"primary": Member(1, 78)},
            {"members": (Member(1, 77),)},
            {"op": 8},
            {"hash": b"g" * 16},
            {"reason": ""},
            {"time": 6},
            {"closed": True},
            {"prev_hash": b"x" * 16},
            {"forced": 3},
        ]
        self.assertEqual({name for change in changes for name in change}, set(View.__struct_fields__))
        for change in changes:
            seen.add(self.view(**change).chain_hash())
        self.assertEqual(len(seen), 1 + len(changes))
        self.assertEqual(len(self.view().chain_hash()), len(NO_HASH))


class PacketsTest(unittest.TestCase):
    def test_every_packet_comes_back_as_it_was(self) -> None:
        self.assertEqual({type(p) for p in ALL}, set(typing.get_args(packets.AnyPacket)), "the list above names all")
        for packet in ALL:
            with self.subTest(packet=packet):
                self.assertEqual(decode(encode(packet)), packet)

    def test_every_kind_has_a_tag_of_its_own(self) -> None:
        tags = [kind.__struct_config__.tag for kind in typing.get_args(packets.AnyPacket)]
        self.assertEqual(len(set(tags)), len(tags))

    def test_what_is_no_packet_is_told(self) -> None:
        whole = encode(ALL[0])
        others = [b"", b"\xc1", b"\x90", b"\x91\xa1P", b"\xa1P", whole[:-1], whole + b"\0", b"\x92\xa1?\x01", b"\x91" * 100_000]
        others += [encode(Leave(1, "x")).replace(b"\xa1x", b"\xa1\xff"), encode(Forward(1, b"x")).replace(b"F", b"Z")]
        for frame in others:
            with self.subTest(frame=frame[:20]), self.assertRaises(BAD_PACKET):
                decode(frame)

    def test_a_bare_packet_is_no_packet(self) -> None:
        with self.assertRaises(BAD_PACKET):
            decode(encode(Packet(1)))

    def test_a_longest_batch_fits_a_packet_and_a_catch_up_answer_several(self) -> None:
        batch = a_batch(b"x" * BATCH_MAX)
        self.assertLess(len(encode(Prepare(2**63, 2**63, 2**63, 2**32, batch.image))), PACKET_MAX // 3)
        self.assertLess(len(encode(NewState(1, 2, b"h" * 16, 3 * batch.image, True))), PACKET_MAX)

    @unittest.skipIf(given is None, "hypothesis is not installed")
    def test_arbitrary_bytes_never_raise_anything_else(self) -> None:
        @settings(max_examples=500, deadline=None, database=None)
        @given(st.binary(max_size=200))
        def look(frame: bytes) -> None:
            for read, refusals in ((decode, BAD_PACKET), (Batch.decode, (DamagedBatch,))):
                with contextlib.suppress(*refusals):
                    read(frame)

        look()

    @unittest.skipIf(given is None, "hypothesis is not installed")
    def test_damaged_packets_never_raise_anything_else(self) -> None:
        @settings(max_examples=500, deadline=None, database=None)
        @given(st.sampled_from(ALL), st.integers(0, 200), st.integers(0, 255))
        def look(packet: Packet, at: int, value: int) -> None:
            frame = bytearray(encode(packet))
            frame[at % len(frame)] = value
            try:
                found = decode(bytes(frame))
            except BAD_PACKET:
                return
            self.assertIsInstance(found, typing.get_args(packets.AnyPacket))

        look()


if __name__ == "__main__":
    unittest.main()
