"""How many guests a limit on open files leaves room for."""

from __future__ import annotations

import os
import resource
import subprocess
import unittest
from unittest import mock

import msgspec

from descriptors import CALLS_MAX, GUESTS_MIN, NEWCOMERS_MAX, OWN, Room, TooFewDescriptors, raise_limit, room, warnings
from settings import Address, Replica, Settings
from tests.system.cluster import Cluster
from tests.system.guests import Gone, Plain

PLAIN = Settings(name="dormitory", replicas=(Replica(0, Address("127.0.0.1", 7661), {"pipe": (6666,)}),), clients_max=1000)
WITH_GRPC = msgspec.structs.replace(PLAIN, replicas=(Replica(0, Address("127.0.0.1", 7661), {"pipe": (6666,), "grpc": (50051,)}),))


class RoomTest(unittest.TestCase):
    def test_enough_for_all(self) -> None:
        for limit in (OWN + 1000, 1 << 20, resource.RLIM_INFINITY):
            self.assertEqual(room(PLAIN, 0, limit), Room(1000, 0, 0))
            self.assertEqual(warnings(PLAIN, 0, limit), [])
        self.assertEqual(room(WITH_GRPC, 0, 1 << 20), Room(1000, CALLS_MAX, 0))

    def test_less_than_asked_for_is_shared_and_said(self) -> None:
        self.assertEqual(room(PLAIN, 0, OWN + 40), Room(40, 0, 0))
        self.assertIn("which is enough for 40 guests; clients_max is 1,000: raise `ulimit -Hn`", warnings(PLAIN, 0, OWN + 40)[0])
        self.assertEqual(room(WITH_GRPC, 0, OWN + 800), Room(400, 400, 0))
        self.assertIn("400 guests and 400 at the gRPC door", warnings(WITH_GRPC, 0, OWN + 800)[0])

    def test_newcomers_count_where_doors_speak_tls(self) -> None:
        with mock.patch.object(Settings, "secures_doors", True):
            self.assertEqual(room(PLAIN, 0, 1 << 20), Room(1000, 0, NEWCOMERS_MAX))
            few = room(WITH_GRPC, 0, OWN + 800)
        self.assertEqual((few, sum(few)), (Room(350, 350, 100), 800))

    def test_too_few_for_the_replica_itself(self) -> None:
        for limit in (8, 64, OWN + GUESTS_MIN - 1):
            with (
                mock.patch.object(resource, "getrlimit", return_value=(8, limit)),
                mock.patch.object(resource, "setrlimit"),
                self.assertRaisesRegex(TooFewDescriptors, f"it may open {limit} files at most, and needs {OWN} for itself"),
            ):
                raise_limit()


class ScarceTest(unittest.TestCase):
    """Real processes under a hard limit."""

    def test_one_that_could_not_serve_says_so(self) -> None:
        with Cluster() as cluster:
            for limit in (8, 64):
                done = subprocess.run(
                    ["/bin/sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *cluster.command("--replica", "0")],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertRegex(done.stderr, rf"\Areplica 0 cannot start: it may open {limit} files at most.*LimitNOFILE in a unit\)\n\Z")

    def test_guests_beyond_it_are_turned_away_and_operators_are_answered(self) -> None:
        limit = OWN + GUESTS_MIN
        with Cluster() as cluster:
            plain = cluster.command
            cluster.command = lambda *words: ["/bin/sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *plain(*words)]  # type: ignore[method-assign]
            cluster.start()
            cluster.command = plain  # type: ignore[method-assign]
            primary = cluster.wait_members()
            self.assertIn(f"enough for {GUESTS_MIN} guests", cluster.log(primary))
            guests, turned_away = list[Plain](), 0
            for _ in range(3 * limit):
                try:
                    guests.append(Plain(cluster.pipes[primary]))
                except (Gone, ConnectionError):
                    turned_away += 1
            self.assertEqual((len(guests), turned_away), (GUESTS_MIN, 3 * limit - GUESTS_MIN))
            self.assertEqual((cluster.status(primary) or {}).get("connections"), GUESTS_MIN)
            self.assertIn("bob", guests[-1].ask("1|bob"))
            used = len(os.listdir(f"/proc/{cluster.processes[primary].pid}/fd"))
            self.assertLess(used, limit - OWN // 2, "what it needs itself is half of what is kept for it at most")
            for guest in guests:
                guest.socket.close()
            cluster.wait("there is room again", lambda: not (cluster.status(primary) or {"connections": 1})["connections"])
            with Plain(cluster.pipes[primary]) as guest:
                self.assertIn("cid", guest.ask("1|cid"))
            with open(cluster.output(primary), encoding="utf-8") as file:
                self.assertNotIn("Traceback", file.read())


if __name__ == "__main__":
    unittest.main()
