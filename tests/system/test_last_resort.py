"""The operator's last resorts on real processes: the cluster goes on from one disk, and nothing that was given up comes back."""

from __future__ import annotations

import os
import unittest
from functools import partial

from tests.system.cluster import Cluster
from tests.system.guests import Plain


class LastResorts(unittest.TestCase):
    """Replica 2 dies first; what the others acknowledge after that is given up."""

    def begin(self, **knobs: object) -> Cluster:
        """Acknowledged everywhere: `kept`. Acknowledged without replica 2: `given up`. Nothing runs; the disks of 0 and 1 are away."""
        self.cluster = cluster = Cluster(**knobs)  # type: ignore[arg-type]
        self.addCleanup(cluster.end)
        cluster.start()
        cluster.wait_serving()
        cluster.wait("all are there", lambda: len(cluster.statuses()) == 3 and cluster.csv_op(2) is not None)
        for name in ("kay", "lou"):
            with Plain(cluster.pipes[0]) as guest:
                self.assertIn(name, guest.ask(f"1|{name}"))
        self.tell_lou("kept")
        cluster.wait_level()
        cluster.kill(2)
        cluster.wait_serving()
        self.tell_lou("given up")
        cluster.wait_level(0, 1)
        cluster.kill(0, 1)
        for i in (0, 1):
            os.rename(self.disk(i), self.disk(i, ".away"))
        return cluster

    def disk(self, replica: int, suffix: str = "") -> str:
        return os.path.join(self.cluster.base, f"replica-{replica}{suffix}")

    def tell_lou(self, text: str) -> None:
        """Kay does, at whoever serves, and it is acknowledged."""
        with Plain(self.cluster.pipes[self.cluster.wait_serving()]) as guest:
            self.assertIn("logged in", guest.ask("0|kay123"))
            guest.ask(f"3|lou|{text}", "lou's mailbox\n")

    def force(self, *arguments: str, name: str = "scratch") -> tuple[int, str]:
        done = self.cluster.run("force-new-view", "--replica", "2", "--cluster", name, *arguments)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout + done.stderr

    def has_joined(self, replica: int) -> bool:
        row = self.cluster.status(replica)
        return row is not None and row["forced"] > 0 and row["status"] == "normal"

    def has_ended_or_joined(self, replica: int) -> bool:
        return replica not in self.cluster.running() or self.has_joined(replica)

    def goes_on(self, *serving: int, late: tuple[int, ...]) -> None:
        """`kept` is there and `given up` is not, also after those that held it have come back."""
        cluster = self.cluster
        self.assertIn(cluster.wait_serving(), serving)
        self.tell_lou("since")
        for i in late:
            if os.path.exists(self.disk(i, ".away")):
                os.rename(self.disk(i, ".away"), self.disk(i))
            cluster.start(i)
        for i in late:  # under majority it learns from the others what was decided, ends, and begins anew
            cluster.wait("it ends or joins", partial(self.has_ended_or_joined, i))
            if i not in cluster.running():
                self.assertEqual(cluster.processes[i].returncode, 3, cluster.log(i)[-2000:])
                self.assertIn("an operator has forced a view without this log", cluster.log(i))
                cluster.start(i)
        self.tell_lou("last")
        cluster.wait_level()
        self.assertEqual(cluster.differences(), [])
        self.assertEqual([text for _, _, text in cluster.history(0)], ["kept", "since", "last"])
        for i in late:
            self.assertTrue([name for name in os.listdir(self.disk(i)) if name.startswith("given-up-")])
        status = cluster.run("status")
        self.assertEqual(status.returncode, 0, status.stdout)
        self.assertIn("an operator has forced view", status.stdout)
        with open(os.path.join(cluster.base, "cluster", "decisions.csv"), encoding="utf-8") as file:
            self.assertIn("force-new-view", file.read())

    def test_on_one_host(self) -> None:
        cluster = self.begin()
        cluster.start(2)
        cluster.wait("it says whom it needs", lambda: "cannot restart the cluster" in str((cluster.status(2) or {}).get("waiting")))
        code, words = self.force()
        self.assertEqual(code, 1)
        self.assertIn("refused: replica 2 runs", words)
        cluster.kill(2)
        code, words = self.force(name="kitchen")
        self.assertEqual(code, 1)
        self.assertIn("that is not the cluster's name: nothing was done", words)
        code, words = self.force()
        self.assertEqual(code, 0, words)
        self.assertIn("nothing is known here of what replica 0, 1 acknowledged, alone or together", words)
        self.assertRegex(words, r"the register ends at view 2, of replica 0, 1 \(2 died\), decided at op \d+")
        cluster.start(2)
        self.goes_on(2, late=(0, 1))

    def test_on_several(self) -> None:
        cluster = self.begin(policy="majority")
        code, words = self.force()
        self.assertEqual(code, 1)
        self.assertIn("nothing goes on without 2 of 3 replicas", words)
        code, words = self.force("--copy", "0")
        self.assertEqual(code, 0, words)
        cluster.start(0, 2)
        self.goes_on(0, 2, late=(1,))


if __name__ == "__main__":
    unittest.main()
