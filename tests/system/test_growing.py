"""Three replicas under `majority` become five: nothing is lost, and nobody leads while one of the three was forgotten."""

from __future__ import annotations

import unittest
from functools import partial

from tests.system.cluster import Cluster
from tests.system.guests import Plain

OLD = (0, 1, 2)


class Growing(unittest.TestCase):
    def list(self, *ids: int) -> None:
        """These stand in cluster.yaml from now on."""
        self.cluster.ids = ids
        self.cluster._write_config({"policy": "majority"}, "{}")

    def waits_for_two(self, replica: int) -> bool:
        return "for replica 2 to answer" in str((self.cluster.status(replica) or {}).get("waiting"))

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
        self.assertIn("server.py grow --replica 0", cluster.run("--replica", "0").stderr)
        for i in (0, 1):
            code, words = self.grow(i)
            self.assertEqual(code, 0, words)
        cluster.start(0, 1, 3, 4)
        self.one_was_forgotten()
        cluster.kill_all()
        code, words = self.grow(2)
        self.assertEqual(code, 0, words)
        cluster.start()
        primary = cluster.wait_members()
        cluster.kill(primary, next(i for i in OLD if i != primary))
        self.assertEqual(cluster.run("status").stdout.splitlines()[0], "cluster scratch, policy majority: 5 replicas, survives 2 faults")
        with Plain(cluster.pipes[cluster.wait_serving()]) as guest:
            self.assertIn("logged in", guest.ask("0|kay123"))

    def one_was_forgotten(self) -> None:
        """Two old ones and two new ones are four of five, and three of them remember nothing that would count; nor may the third go on."""
        cluster = self.cluster
        for i in (3, 4):
            cluster.wait("a new one waits for all", partial(self.waits_for_two, i))
        self.list(*OLD)
        cluster.start(2)
        cluster.wait("its list is another one", lambda: "its configuration differs" in cluster.log(2))
        self.list(*range(5))
        self.assertEqual((cluster.primary(), self.grow(2)[0]), (None, 1))
        cluster.kill(2)


if __name__ == "__main__":
    unittest.main()
