"""How ports are written, and which of them a client moves along."""

from __future__ import annotations

import os
import tempfile
import unittest

from ports import address_of, label, learned, ports_to_use

CONFIG = """\
cluster:
  name: somewhere
replicas:
  - {id: 0, peer: "127.0.0.1:7661", doors: {pipe: [6666, 2023]}}
  - {id: 1, peer: "127.0.0.1:7662", doors: {pipe: 6667}}
"""


class Ports(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(place.name)

    def test_several_may_stand_in_one_word(self) -> None:
        self.assertEqual(ports_to_use(["a.lan:6666,b.lan:6667", "6668"], None), [("a.lan", 6666), ("b.lan", 6667), ("127.0.0.1", 6668)])
        with self.assertRaisesRegex(ValueError, "is no port"):
            ports_to_use(["a.lan:6666,"], None)

    def test_what_a_server_says_is_learned_behind_what_is_known(self) -> None:
        told = {"replicas": [{"ports": ["10.0.0.1:6666", ":6667"]}, {"ports": ["10.0.0.1:6666", "[fd00::3]:6666"]}]}
        known = [("b.lan", 6667)]
        self.assertEqual(learned(known, told, ("b.lan", 6667)), [*known, ("10.0.0.1", 6666), ("fd00::3", 6666)])
        self.assertEqual(learned([], told, None)[1], ("127.0.0.1", 6667))

    def write(self, name: str = "cluster.yaml", text: str = CONFIG) -> None:
        with open(name, "w") as file:
            file.write(text)

    def test_ports_are_read_as_people_write_them(self) -> None:
        for written, address, read in (
            (6667, ("127.0.0.1", 6667), "6667"),
            ("6667", ("127.0.0.1", 6667), "6667"),
            (":6667", ("127.0.0.1", 6667), "6667"),
            (("::1", 6667), ("::1", 6667), "6667"),
            ("[fe80::1]:6667", ("fe80::1", 6667), "[fe80::1]:6667"),
            ("host.lan:6667", ("host.lan", 6667), "host.lan:6667"),
        ):
            self.assertEqual(address_of(written), address)
            self.assertEqual(label(address), read)

    def test_what_is_no_port_is_told(self) -> None:
        for wrong in ("", "x", "0", "65536", "-1", "host", "host:", "6667 ", "²"):
            with self.assertRaisesRegex(ValueError, "no port"):
                address_of(wrong)

    def test_a_configured_port_brings_the_others(self) -> None:
        self.write()
        self.assertEqual([p for _, p in ports_to_use(["6667"], None)], [6667, 6666, 2023])
        self.assertEqual([p for _, p in ports_to_use([], None)], [6666, 6667, 2023])

    def test_a_port_of_another_cluster_does_not(self) -> None:
        self.write()
        self.assertEqual([p for _, p in ports_to_use(["7777"], None)], [7777])

    def test_another_configuration_can_be_named(self) -> None:
        self.write("other.yaml", CONFIG.replace("6667", "7777"))
        self.assertEqual([p for _, p in ports_to_use(["7777"], "other.yaml")], [7777, 6666, 2023])

    def test_without_any_port_there_is_a_sentence(self) -> None:
        with self.assertRaisesRegex(ValueError, "name one"):
            ports_to_use([], None)

    def test_a_broken_configuration_matters_only_where_it_is_needed(self) -> None:
        self.write(text="cluster: [")
        self.assertEqual([p for _, p in ports_to_use(["6667"], None)], [6667])
        for given, config in (([], None), (["6667"], "cluster.yaml"), ([], "missing.yaml")):
            with self.assertRaises(ValueError):
                ports_to_use(given, config)


if __name__ == "__main__":
    unittest.main()
