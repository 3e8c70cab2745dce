"""Three replicas under `majority` become five, of which two may die. What comes of a forgotten one: `tests/prove_decisions.py`."""

from __future__ import annotations

import unittest

from tests.system.cluster import Cluster
from tests.system.guests import Plain

OLD = (0, 1, 2)


class Growing(unittest.TestCase):
    def list(self, *ids: int) -> None:
        """These stand in cluster.yaml from now on."""
        self.cluster.ids = ids
        self.cluster._write_config({"policy": "majority"}, "{}")

    def grow(self, replica: int) -> tuple[int, str]:
        done = self.cluster.run("grow", "--replica", str(replica), "--cluster", "scratch")
        return done.returncode, done.stdout + done.stderr

    def test_from_three_to_five(self) -> None:
        self.cluster = cluster = Cluster(replicas=5)
        self.addCleanup(cluster.end)
        self.list(*OLD)
        cluster.start(*OLD)
        cluster.wait_members(*OLD)
        with Plain(cluster.pipes[0]) as guest:
            self.assertIn("kay", guest.ask("1|kay"))
        cluster.kill_all()
        self.list(*range(5))
        for i in OLD:
            code, words = self.grow(i)
            self.assertEqual(code, 0, words)
        self.assertEqual(self.grow(1)[0], 1, "there is nothing to do")
        cluster.start()
        primary = cluster.wait_members()
        cluster.kill(primary, next(i for i in OLD if i != primary))
        with Plain(cluster.pipes[cluster.wait_serving()]) as guest:
            self.assertIn("logged in", guest.ask("0|kay123"))


if __name__ == "__main__":
    unittest.main()
