"""Certificates: whom they name, what is refused before anything listens, and what `make-certs` leaves behind."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import tempfile
import unittest
from typing import Any

import certificates
import credentials
from credentials import CA, CA_KEY, CredentialsRefused, named_replica, replica_name
from tests import certified
from tests.certified import DAY, NOW


class Names(unittest.TestCase):
    def named(self, *names: tuple[str, str]) -> int | None:
        return named_replica({"subjectAltName": names}, "dormitory")

    def test_a_certificate_names_one_replica_of_one_cluster(self) -> None:
        self.assertEqual(self.named(("IP Address", "10.0.0.1"), ("URI", replica_name("dormitory", 12))), 12)
        for wrong in ("understudy://library/replica/1", "understudy://dormitory/replica/", "understudy://dormitory/replica/01"):
            self.assertIsNone(self.named(("URI", wrong)), wrong)
        for wrong in ("understudy://dormitory/replica/-1", "understudy://dormitory/replica/1/2", "understudy://dormitory/replica/\u0661"):
            self.assertIsNone(self.named(("URI", wrong)), wrong)
        self.assertIsNone(self.named(("DNS", replica_name("dormitory", 1))))
        self.assertIsNone(self.named(("URI", replica_name("dormitory", 1)), ("URI", replica_name("dormitory", 2))), "one of two")
        nothing: Any = None
        self.assertIsNone(named_replica(nothing, "dormitory"))


class Files(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.where = os.path.join(place.name, "certs")
        shutil.copytree(certified.directory(), self.where)

    def path(self, name: str) -> str:
        return os.path.join(self.where, name)

    def refused(self, why: str) -> None:
        with self.assertRaisesRegex(CredentialsRefused, why):
            credentials.of_links(self.where, "dormitory", 1)

    def test_what_is_there_can_be_used(self) -> None:
        ours = credentials.of_links(self.where, "dormitory", 1)
        self.assertEqual(ours.common, credentials.of_links(self.where, "dormitory", 2).common)
        self.assertNotEqual(ours.common, certified.of_links(1, certified.directory("theirs")).common)
        for context in (ours.accepts, ours.dials):
            self.assertEqual((context.minimum_version, context.verify_mode), (ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED))
        self.assertGreaterEqual(credentials.of_doors(self.where, 1).minimum_version, ssl.TLSVersion.TLSv1_2)

    def test_files_that_are_missing_or_not_what_they_should_be(self) -> None:
        os.chmod(self.path("replica-1.key"), 0o640)
        self.refused("replica-1.key may be read by others: chmod 600")
        shutil.copy(self.path("replica-2.key"), self.path("replica-1.key"))
        os.chmod(self.path("replica-1.key"), 0o600)
        self.refused("do not belong together")
        os.unlink(self.path("replica-1.key"))
        self.refused(r"replica-1.key cannot be read \(No such file or directory\): `python server.py make-certs` makes it")
        for name in (f"{CA}", "replica-1.pem"):
            with open(self.path(name), "w") as file:
                file.write("nothing")
        with self.assertRaisesRegex(CredentialsRefused, "holds no certificate"):
            credentials.of_client(self.path(CA))
        with self.assertRaisesRegex(CredentialsRefused, "none.pem cannot be read"):
            credentials.of_client(self.path("none.pem"))

    def test_one_that_ends_soon_is_reminded_of(self) -> None:
        now = NOW.timestamp()
        self.assertEqual(credentials.reminders(self.where, 1, now), [])
        late = credentials.reminders(self.where, 1, now + 86400 * (certificates.DAYS - 20))
        self.assertRegex(late[0], r"replica-1.pem is good until \d{4}-\d\d-\d\d only: renew it")
        ended = credentials.reminders(certified.directory("old"), 1, now)
        self.assertRegex(ended[0], r"replica-1.pem is worth nothing \(certificate has expired\): renew it")

    def test_made_again_the_ca_stays_and_the_rest_is_new(self) -> None:
        before = {name: self.read(name) for name in os.listdir(self.where)}
        said = list(certificates.make(certified.settings_of(), self.where, NOW + DAY))
        after = {name: self.read(name) for name in os.listdir(self.where)}
        self.assertEqual({name for name in before if before[name] == after[name]}, {CA, CA_KEY})
        self.assertEqual(after.keys(), before.keys())
        for i in range(3):
            self.assertTrue(any(f"to the host of replica {i}, 127.0.0.1:  ca.pem replica-{i}.pem replica-{i}.key" in line for line in said))
        self.assertIn("whoever has it can be any replica", said[-1])
        self.assertIsNotNone(credentials.of_links(self.where, "dormitory", 1))

    def read(self, name: str) -> bytes:
        with open(self.path(name), "rb") as file:
            return file.read()

    def test_keys_are_their_owners_alone(self) -> None:
        shutil.rmtree(self.where)
        list(certificates.make(certified.settings_of(), self.where, NOW))
        modes = {name: stat.S_IMODE(os.stat(self.path(name)).st_mode) for name in os.listdir(self.where)}
        self.assertEqual({mode for name, mode in modes.items() if name.endswith(".key")}, {0o600})
        self.assertEqual(stat.S_IMODE(os.stat(self.where).st_mode), 0o700)
        self.assertEqual(len(modes), 2 + 2 * 3)

    def test_half_a_ca_is_not_replaced_in_silence(self) -> None:
        os.unlink(self.path(CA_KEY))
        with self.assertRaisesRegex(CredentialsRefused, "ca.key is missing: bring it back"):
            list(certificates.make(certified.settings_of(), self.where, NOW))
        shutil.copy(os.path.join(certified.directory("theirs"), CA_KEY), self.path(CA_KEY))
        with self.assertRaisesRegex(CredentialsRefused, "is not the key of"):
            list(certificates.make(certified.settings_of(), self.where, NOW))
        with open(self.path(CA_KEY), "w") as file:
            file.write("nothing")
        with self.assertRaisesRegex(CredentialsRefused, "cannot be read"):
            list(certificates.make(certified.settings_of(), self.where, NOW))


if __name__ == "__main__":
    unittest.main()
