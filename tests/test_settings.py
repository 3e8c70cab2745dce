"""`settings.py` and `marked_yaml.py`: what a good file gives, and the one sentence for each bad one."""

from __future__ import annotations

import os
import random
import re
import tempfile
import unittest

import msgspec

import account_settings
import settings
from doors import DOORS
from settings import Address, Settings, SettingsError, load, parse

SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cluster.yaml")
GOOD = """\
cluster:
  name: dormitory
  heartbeat_ms: 50
replicas:
  - {id: 0, peer: "127.0.0.1:7661", doors: {pipe: [6666, 2023]}}
  - {id: 1, peer: "127.0.0.1:7662", doors: {pipe: 6667}}
  - {id: 2, peer: "[::1]:7663", doors: {pipe: 6668}}
"""


APART = """\
cluster:
  name: dormitory
  allow_plaintext: true
accounts: {require_password: true}
replicas:
  - {id: 0, peer: "10.0.0.1:7661", doors: {pipe: 6666}}
  - {id: 1, peer: "10.0.0.2:7661", doors: {pipe: 6666}}
  - {id: 2, peer: "[fd00::3]:7661", doors: {pipe: [6666, 2023]}}
"""


def read(text: str) -> Settings:
    return parse(text.encode(), "c.yaml")


def ports(found: Settings, door: str) -> list[int]:
    return [address.port for address in found.addresses_of(door)]


class Good(unittest.TestCase):
    def test_the_shipped_file_is_the_cluster_of_the_documents(self) -> None:
        shipped = load(SHIPPED)
        self.assertEqual(shipped.name, "dormitory")
        self.assertEqual(ports(shipped, "pipe"), [6666, 6667, 6668, 2023])
        self.assertEqual(ports(shipped, "ledger"), [7001, 7002, 7003])
        self.assertEqual(ports(shipped, "framed"), [8084, 8184, 8284])
        self.assertEqual(ports(shipped, "relay"), [8086, 8186, 8286])
        self.assertEqual(list(shipped.peers().values()), [Address("127.0.0.1", 7661 + i) for i in range(3)])
        self.assertEqual(shipped.survives(), 2)
        self.assertEqual(shipped.policy, "survivor")
        self.assertIs(shipped.replica(1), shipped.replicas[1])

    def test_the_shipped_file_says_what_the_code_takes_by_default(self) -> None:
        with open(SHIPPED, encoding="utf-8") as file:
            text = file.read()
        least = parse(b"cluster: {name: dormitory}\n" + text[text.index("replicas:") :].encode(), "c.yaml")
        people = tuple(account_settings.Initial(name, password) for name, password in (("tester", "abc123"), ("abc", "abc")))
        self.assertEqual(load(SHIPPED), msgspec.structs.replace(least, accounts=account_settings.Accounts(initial=people)))

    def test_the_shipped_file_explains_every_key(self) -> None:
        with open(SHIPPED, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for key in (*settings.Cluster.__struct_fields__, *account_settings.Accounts.__struct_fields__):
            at = next((i for i, line in enumerate(lines) if re.match(rf"  (# )?{key}:( |$)", line)), None)
            assert at is not None, f"{key} is not in cluster.yaml"
            text = " ".join(lines[max(0, at - 3) : at + 2]).lower()
            self.assertIn("default", text, key)
            self.assertIn("#", text, key)

    def test_replicas_stand_in_order_of_their_ids(self) -> None:
        lines = GOOD.splitlines(keepends=True)
        self.assertEqual(read("".join(lines[:4] + lines[:3:-1])), read(GOOD))

    def test_an_address_of_the_sixth_version_keeps_its_brackets_outside(self) -> None:
        address = read(GOOD).replica(2).peer
        self.assertEqual((address.host, str(address)), ("::1", "[::1]:7663"))

    def test_the_hash_covers_what_peers_must_agree_on_and_nothing_else(self) -> None:
        first = read(GOOD).config_hash()
        self.assertEqual(first, read(GOOD.replace("heartbeat_ms: 50", "heartbeat_ms: 60")).config_hash())
        self.assertEqual(first, read(GOOD.replace("pipe: 6667", "pipe: 6669")).config_hash())
        self.assertNotEqual(first, read(GOOD.replace("dormitory", "library")).config_hash())
        self.assertNotEqual(first, read(GOOD.replace("7662", "7669")).config_hash())
        self.assertNotEqual(first, read("\n".join(GOOD.splitlines()[:-1])).config_hash())

    def test_a_replica_without_a_pipe_door_is_left_out_of_its_ports(self) -> None:
        self.assertEqual(ports(read(GOOD.replace("{pipe: 6667}", "{}")), "pipe"), [6666, 6668, 2023])
        self.assertEqual(read("cluster: {name: a}\nreplicas: [{id: 0, peer: '127.0.0.1:1', doors: {}}]\n").addresses_of("pipe"), ())

    def test_more_doors_can_be_known(self) -> None:
        text = GOOD.replace("{pipe: 6667}", "{pipe: 6667, room: 5002}").encode()
        self.assertEqual(parse(text, "c.yaml", ("pipe", "room")).replica(1).doors, {"pipe": (6667,), "room": (5002,)})

    def test_settings_do_not_change(self) -> None:
        with self.assertRaises(AttributeError):
            read(GOOD).heartbeat_ms = 1  # type: ignore[misc]


class Apart(unittest.TestCase):
    """Replicas on hosts of their own."""

    def test_they_decide_by_majority_with_timers_of_a_network(self) -> None:
        found = read(APART)
        self.assertEqual((found.policy, found.survives(), found.heartbeat_ms, found.suspect_after_ms), ("majority", 1, 100, 500))
        more = "".join(f'  - {{id: {i}, peer: "10.0.0.{i}:7661", doors: {{pipe: 6666}}}}\n' for i in (3, 4))
        self.assertEqual(read(APART + more).survives(), 2)
        said = read(APART.replace("  allow", "  heartbeat_ms: 60\n  suspect_after_ms: 700\n  allow"))
        self.assertEqual((said.heartbeat_ms, said.suspect_after_ms), (60, 700))
        self.assertEqual(read(GOOD.replace("heartbeat_ms: 50", "policy: majority")).suspect_after_ms, 500)

    def test_each_binds_what_its_own_row_says(self) -> None:
        found = read(APART)
        self.assertEqual(found.replica(1).listen, ("10.0.0.2", "127.0.0.1", "::1"))
        self.assertEqual(list(map(str, found.addresses_of("pipe"))), ["10.0.0.1:6666", "10.0.0.2:6666", "[fd00::3]:6666", "[fd00::3]:2023"])
        own = read(APART.replace("{pipe: 6666}}", "{pipe: 6666}, listen: [192.168.7.1]}", 1))
        self.assertEqual((own.replica(0).listen, own.replica(0).reached_at), (("192.168.7.1",), "192.168.7.1"))
        common = read(APART.replace("  allow", "  listen: [0.0.0.0]\n  allow"))
        self.assertEqual({replica.listen for replica in common.replicas}, {("0.0.0.0",)})
        self.assertEqual([replica.reached_at for replica in common.replicas], ["10.0.0.1", "10.0.0.2", "fd00::3"])

    def test_one_host_whose_guests_come_from_others_says_so_where_it_knows_its_address(self) -> None:
        common = (
            GOOD.replace("heartbeat_ms: 50", "listen: [127.0.0.1, HERE]\n  allow_plaintext: true") + "accounts: {require_password: true}\n"
        )
        self.assertEqual(str(read(common.replace("HERE", "10.0.0.9")).addresses_of("pipe")[0]), "10.0.0.9:6666")
        self.assertEqual(str(read(common.replace("HERE", "0.0.0.0")).addresses_of("pipe")[0]), ":6666")

    def test_with_tls_nothing_has_to_be_written_out(self) -> None:
        found = parse(APART.replace("allow_plaintext: true", "tls: certs").encode(), "etc/c.yaml")
        self.assertEqual((found.tls, found.secures_doors, found.warnings()), ("etc/certs", True, []))
        both = read(APART.replace("  allow", "  tls: certs\n  allow"))
        self.assertEqual((both.tls, both.secures_doors), ("certs", False), "doors for clients of old")
        self.assertEqual(
            [warning.split(" can ")[1] for warning in both.warnings()], ["read what guests say, passwords too (allow_plaintext: true)"]
        )

    def test_nobody_is_warned_of_what_is_closed(self) -> None:
        self.assertEqual(read(GOOD).warnings(), [])

    def test_what_was_written_out_is_what_the_warnings_are_about(self) -> None:
        shut, doors_open = read(APART).warnings(), read(APART.replace("require_password: true", "require_password: false")).warnings()
        self.assertEqual([warning.split()[0] for warning in shut], ["whoever", "whoever"])
        self.assertIn("10.0.0.1, 10.0.0.2, fd00::3 can read what guests say", shut[0])
        self.assertIn("can read and change what replicas say", shut[1])
        self.assertEqual(doors_open[1:], shut)
        self.assertIn("open to everybody who reaches 10.0.0.1", doors_open[0])


class Bad(unittest.TestCase):
    def assert_says(self, text: str | bytes, line: int, column: int, sentence: str) -> None:
        with self.assertRaises(SettingsError) as caught:
            parse(text if isinstance(text, bytes) else text.encode(), "c.yaml", DOORS)
        self.assertTrue(str(caught.exception).startswith(f"c.yaml:{line}:{column}: "), caught.exception)
        self.assertIn(sentence, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def changed(self, old: str, new: str) -> str:
        self.assertEqual(GOOD.count(old), 1)
        return GOOD.replace(old, new)

    def test_keys(self) -> None:
        self.assert_says(self.changed("heartbeat_ms", "heartbeat"), 3, 3, "cluster.heartbeat: there is no such key; is heartbeat_ms meant?")
        self.assert_says(self.changed("heartbeat_ms", "xyzzy"), 3, 3, "the keys are name, policy")
        self.assert_says(GOOD + "doors: 1\n", 8, 1, "the keys are cluster, replicas")
        self.assert_says(self.changed("id: 1", "id: 1, pear: 1"), 6, 13, "replicas[1].pear: there is no such key; is peer meant?")
        self.assert_says(self.changed("  name: dormitory\n", ""), 2, 3, "cluster: the key name is missing")
        self.assert_says(self.changed("id: 1, ", ""), 6, 5, "replicas[1]: the key id is missing")
        self.assert_says(self.changed("heartbeat_ms", "name"), 3, 3, "cluster.name stands here twice, first in line 2")
        self.assert_says(self.changed("heartbeat_ms", "[1]"), 3, 3, "a key must be a plain word")
        self.assert_says("cluster: {name: a}\n", 1, 1, "the key replicas is missing")

    def test_types(self) -> None:
        for wrong in ("50ms", "5.0", "050", "1:30", "0x10", "'50'", "1" * 19):
            self.assert_says(
                self.changed("_ms: 50", f"_ms: {wrong}"),
                3,
                17,
                f"heartbeat_ms: expected a whole number, but this is '{wrong.strip(chr(39))}'",
            )
        self.assert_says(self.changed("_ms: 50", "_ms: true"), 3, 17, "expected a whole number, but this is True")
        self.assert_says(self.changed("_ms: 50", "_ms:"), 3, 16, "expected a whole number, but this is nothing")
        self.assert_says(self.changed("_ms: 50", "_ms: [50]"), 3, 17, "expected a whole number, but this is a list")
        self.assert_says(self.changed("_ms: 50", "_ms: {a: 1}"), 3, 17, "expected a whole number, but this is a section")
        self.assert_says(self.changed("_ms: 50", "_ms: 0"), 3, 17, "expected a whole number >= 1, but this is 0")
        self.assert_says("cluster: 3\nreplicas: []\n", 1, 10, "expected a section, but this is 3")
        self.assert_says("[]", 1, 1, "expected a section, but this is a list")
        self.assert_says("cluster: {name: a}\nreplicas: []\n", 2, 11, "replicas: expected a list of length >= 1")
        self.assert_says("cluster: {name: a}\nreplicas: no\n", 2, 11, "replicas: expected a list, but this is 'no'")

    def test_names_and_words(self) -> None:
        for wrong in ('""', "-a", "a b", "a" * 33, '"a\\n"', "é", "7"):
            self.assert_says(self.changed("dormitory", wrong), 2, 9, "name: expected 1 to 32 letters, digits, _ or -")
        self.assert_says(self.changed("heartbeat_ms: 50", "policy: anarchy"), 3, 11, "expected survivor or majority")
        self.assert_says(self.changed("heartbeat_ms: 50", "log_format: xml"), 3, 15, "expected text or json, but this is 'xml'")

    def test_ports(self) -> None:
        self.assert_says(
            self.changed("6667", "70000"), 6, 51, "replicas[1].doors.pipe: expected a whole number <= 65535, but this is 70000"
        )
        self.assert_says(self.changed("2023", "0"), 5, 58, "replicas[0].doors.pipe[1]: expected a whole number >= 1, but this is 0")
        self.assert_says(self.changed("2023", "x"), 5, 58, "replicas[0].doors.pipe[1]: expected a whole number, but this is 'x'")
        self.assert_says(self.changed("6667", "[]"), 6, 51, "replicas[1].doors.pipe: expected a list of length >= 1")
        self.assert_says(
            self.changed("6667", "6666"), 6, 51, "replicas[1].doors.pipe: port 6666 is taken already by replicas[0].doors.pipe"
        )
        self.assert_says(self.changed("6667", "7661"), 6, 51, "port 7661 is taken already by replicas[0].peer")
        self.assert_says(self.changed("7662", "7661"), 6, 19, "replicas[1].peer: port 7661 is taken already by replicas[0].peer")
        self.assert_says(
            self.changed("pipe: 6667", "pope: 6667"),
            6,
            45,
            f"replicas[1].doors.pope: there is no such door; the doors are {', '.join(DOORS)}",
        )

    def test_addresses(self) -> None:
        for wrong in ("127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:07662", "7662", ""):
            self.assert_says(self.changed("127.0.0.1:7662", wrong), 6, 19, "replicas[1].peer: expected an address and a port")
        for wrong in ("localhost:7662", ":7662", "[127.0.0.1:7662", "1.2.3:7662"):
            self.assert_says(self.changed("127.0.0.1:7662", wrong), 6, 19, "replicas[1].peer: expected a numeric address")
        for wrong in ("0.0.0.0:7662", "[::]:7662"):
            self.assert_says(self.changed("127.0.0.1:7662", wrong), 6, 19, "replicas[1].peer: the other replicas cannot dial")
        self.assert_says(self.changed("127.0.0.1:7662", "[0::1]:7662"), 6, 19, "0::1 is usually written ::1")
        self.assert_says(
            self.changed("heartbeat_ms: 50", "listen: [127.0.0.1, 0::1]"), 3, 23, "cluster.listen[1]: 0::1 is usually written ::1"
        )
        self.assert_says(self.changed("heartbeat_ms: 50", "listen: ['::1', '::1']"), 3, 19, "cluster.listen[1]: ::1 stands here twice")
        self.assert_says(self.changed("heartbeat_ms: 50", "listen: []"), 3, 11, "cluster.listen: expected a list of length >= 1")

    def test_one_host_pretended(self) -> None:
        self.assert_says(
            APART.replace("  allow", "  policy: survivor\n  allow"), 7, 19, "under policy survivor all replicas share one host"
        )
        self.assert_says(APART.replace("10.0.0.2", "127.0.0.1"), 7, 19, "127.0.0.1 cannot be reached from the other hosts")
        same_host = APART.replace("10.0.0.2", "10.0.0.1")
        self.assert_says(same_host, 7, 19, "port 7661 is taken already by replicas[0].peer")
        self.assert_says(
            same_host.replace("10.0.0.1:7661", "10.0.0.1:7662", 1), 7, 50, "port 6666 is taken already by replicas[0].doors.pipe"
        )

    def test_what_others_could_read(self) -> None:
        shut = APART.replace("allow_plaintext: true", "heartbeat_ms: 100")
        self.assert_says(shut, 6, 19, "could read and change what replicas say: use tls: certs (a directory")
        self.assert_says(
            self.changed("heartbeat_ms: 50", "listen: [127.0.0.1, 10.0.0.1]"), 3, 11, "others can read along: use tls: certs (a dir"
        )
        row = self.changed("{pipe: 6667}", "{pipe: 6667}, listen: ['::']")
        self.assert_says(row, 6, 66, "the doors at :: are reached over a network")

    def test_open_accounts_beyond_loopback_are_written_out(self) -> None:
        for accounts in ("{}", "{initial: []}"):
            self.assert_says(APART.replace("{require_password: true}", accounts), 6, 19, "where accounts need passwords")
        without = self.changed("heartbeat_ms: 50", "listen: [10.0.0.1]") + "accounts: {require_password: false}\n"
        self.assert_says(without, 3, 11, "others can read along")
        self.assert_says(without.replace("  listen", "  tls: certs\n  listen"), 4, 11, "where accounts need passwords")
        self.assertEqual(len(read(without.replace("  listen", "  allow_plaintext: true\n  listen")).warnings()), 2)

    def test_ids(self) -> None:
        self.assert_says(self.changed("id: 1", "id: 0"), 6, 10, "replicas[1].id: 3 replicas have the ids 0 to 2, each once; this is 0")
        self.assert_says(self.changed("id: 1", "id: 3"), 6, 10, "3 replicas have the ids 0 to 2, each once; this is 3")
        self.assert_says(self.changed("id: 1", "id: -1"), 6, 10, "expected a whole number >= 0")

    def test_initial_accounts(self) -> None:
        for people, column, sentence in (
            ("[{name: a b, password: x}]", 29, "no account can be called 'a b'"),
            ("[{name: Server, password: x}]", 29, "no account can be called 'Server'"),
            ("[{name: abc, password: ''}]", 44, "a password has 1 to 1024 bytes"),
            ("[{name: abc, password: x}, {name: ABC, password: x}]", 55, "ABC is taken already"),
            ("[{name: abc, password: x}, {name: abc123, password: x}]", 55, "abc123 is taken already"),
            ("[{name: abc}]", 22, "the key password is missing"),
        ):
            with self.subTest(people):
                self.assert_says(GOOD + f"accounts: {{initial: {people}}}\n", 8, column, sentence)

    def test_timers_that_contradict_each_other(self) -> None:
        self.assert_says(
            self.changed("_ms: 50", "_ms: 300"), 3, 17, "suspect_after_ms (1000) must be at least 4 x heartbeat_ms, which is 1200"
        )
        self.assert_says(
            self.changed("heartbeat_ms: 50", "suspect_after_ms: 150"),
            3,
            21,
            "suspect_after_ms (150) must be at least 4 x heartbeat_ms, which is 200",
        )

    def test_yaml_that_means_more_than_it_says(self) -> None:
        self.assert_says("a: &x 1\nb: *x\n", 1, 4, "anchors and aliases are not used here")
        self.assert_says("a: 1\nb: *x\n", 2, 4, "anchors and aliases are not used here")
        self.assert_says("a: !!int 1\n", 1, 4, "tags are not used here")
        self.assert_says("&a b: 1\n", 1, 1, "a key must be a plain word")
        self.assert_says("a: 1\n---\nb: 1\n", 2, 1, "a second document begins here")
        self.assert_says("[" * 20_000, 1, 10, "is nested deeper than 8 levels")

    def test_what_is_no_yaml(self) -> None:
        self.assert_says("cluster: {\n", 2, 1, "is not YAML")
        self.assert_says("a: 'b\n", 2, 1, "is not YAML")
        self.assert_says("a:\n\tb: 1\n", 2, 1, "is not YAML")
        self.assert_says(b"a: 1\nb: \xff\n", 2, 1, "is not UTF-8 text")

    def test_files_without_a_place_to_point_at(self) -> None:
        for raw, sentence in (
            (b"", "c.yaml: is empty"),
            (b"# nothing\n", "c.yaml: is empty"),
            (b" " * 70_000, "is longer than"),
            (b"a: \0", "is not YAML"),
        ):
            with self.assertRaisesRegex(SettingsError, f"^(c.yaml: )?.*{sentence}"):
                parse(raw, "c.yaml")

    def test_files_that_cannot_be_read(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            with self.assertRaisesRegex(SettingsError, r"none\.yaml: cannot be read: No such file"):
                load(os.path.join(directory, "none.yaml"))
            with self.assertRaisesRegex(SettingsError, "cannot be read: Is a directory"):
                load(directory)

    def test_a_damaged_file_is_a_sentence_or_a_file(self) -> None:
        dice = random.Random(11)
        whole = GOOD.encode()
        for _ in range(2000):
            raw = bytearray(whole)
            for _ in range(dice.randint(1, 4)):
                at = dice.randrange(len(raw))
                raw[at : at + dice.randint(0, 3)] = bytes(
                    dice.choice(b"{}[]:,&*!|>'\"#-% \n\t\0\xff019azA") for _ in range(dice.randint(0, 3))
                )
            try:
                self.assertIsInstance(msgspec.json.encode(parse(bytes(raw), "c.yaml")), bytes)
            except SettingsError as error:
                self.assertNotIn("\n", str(error))


if __name__ == "__main__":
    unittest.main()
