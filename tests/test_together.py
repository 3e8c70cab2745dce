"""Packets of one read: batches become one packet, and nothing else changes its place."""

from __future__ import annotations

import unittest

from packets import AnyPacket, Commit, Prepare, PrepareOk
from together import gather


class Gathering(unittest.TestCase):
    def test_batches_of_one_read_become_one_packet(self) -> None:
        one, two, three = (Prepare(3, n, n - 1, 10 * n, b"image %d" % n) for n in range(3))
        commit, ok, late = Commit(3, 2, b"h" * 16, 4, 5), PrepareOk(3, 2, b"h" * 16), Prepare(4, 9, 9, 9, b"later")
        both = Prepare(3, 1, 0, 10, one.image + two.image)
        cases: list[tuple[list[AnyPacket], list[AnyPacket]]] = [
            ([], []),
            ([one], [one]),
            ([one, commit], [one, commit]),
            ([one, two], [both]),
            ([one, one, two, two], [both]),
            ([ok, one, two, ok, three], [ok, both, ok, three]),
            ([one, commit, two, commit, ok], [both, commit, commit, ok]),
            ([commit, one, two], [commit, both]),
            ([one, two, late, ok], [both, late, ok]),
        ]
        for read, given_then in cases:
            with self.subTest(read=read):
                self.assertEqual(gather(read), given_then)


if __name__ == "__main__":
    unittest.main()
