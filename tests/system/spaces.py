"""Hosts that share nothing but this kernel: network namespaces, and a cable between them that can be cut, slow or lossy.

What it is not: it starts no server (`apart.py`), and it needs nothing of the kernel but namespaces and TUN devices: no bridge, no packet
filter and no netem, which many kernels come without.

    namespace 0          namespace 1          namespace 2          this process
    10.x.y.1             10.x.y.2             10.x.y.3             10.x.y.4: its clients are a host like any other
       │ tun                │ tun                │ tun                │ tun
       └────────────────────┴─────── switch.py ──┴────────────────────┘

A cut is silent: who sends is not told, links stay up and time out, as when a cable is pulled out behind the next wall.

Read next: `switch.py`, `apart.py`.
"""

from __future__ import annotations

import fcntl
import ipaddress
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from typing import Self

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
ORDER_S = 10.0  # seconds the switch may take to obey


class NotPermitted(Exception):
    """This process may not make namespaces here, or this kernel has none; the text says what is missing."""


def ip(*words: str) -> None:
    """One call of `ip`. Raises NotPermitted with what it says."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=ORDER_S, check=False)
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Spaces:
    """So many hosts; the last place is this process. As a context it removes all it has made."""

    def __init__(self, count: int) -> None:
        self.count, self.here = count, count
        self.names: list[str] = []
        self.switch: subprocess.Popen[bytes] | None = None
        self.delay, self.share_lost = 0.0, 0.0
        self.cuts: set[tuple[int, int]] = set()
        tag = f"{os.getpid() % 100_000}{random.randrange(100)}"
        self.net = _free_net()
        fds: list[int] = []
        try:
            _look_for_means()
            for place in range(count + 1):
                fds.append(_tun(device := f"us{tag}-{place}"))
                inside: tuple[str, ...] = ()
                if place < count:
                    ip("netns", "add", device)
                    self.names.append(device)
                    ip("link", "set", device, "netns", device)
                    inside = ("-n", device)
                    ip(*inside, "link", "set", "lo", "up")
                ip(*inside, "addr", "add", f"{self.address(place)}/24", "dev", device)
                ip(*inside, "link", "set", device, "up")
            command = [sys.executable, "-m", "tests.system.switch", *map(str, fds)]
            self.switch = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds)
            self._order()
        except BaseException:
            self.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing of it is left."""
        if self.switch is not None:
            self.switch.kill()
            self.switch.communicate()
            self.switch = None
        while self.names:
            ip("netns", "del", self.names.pop())

    def address(self, place: int) -> str:
        """Where this host is."""
        return f"{self.net}.{place + 1}"

    def inside(self, place: int) -> list[str]:
        """What stands before a command that is to run there."""
        return ["ip", "netns", "exec", self.names[place]]

    # --- the cable ------------------------------------------------------------------------------------------------------------------------

    def cut(self, *ways: tuple[int, int]) -> None:
        """Drop what the first sends to the second, each pair one way."""
        self.cuts.update(ways)
        self._order()

    def isolate(self, *places: int, but: Iterable[int] = ()) -> None:
        """These on one side, all others on the other; `but` still reach both."""
        others = [o for o in range(self.count + 1) if o not in places and o not in but]
        self.cut(*itertools.chain.from_iterable(((a, o), (o, a)) for a in places for o in others))

    def heal(self) -> None:
        """Every packet arrives again, at the pace that is set."""
        self.cuts.clear()
        self._order()

    def weather(self, delay: float = 0.0, share_lost: float = 0.0) -> None:
        """Seconds each packet is under way, and what share of them gets lost."""
        self.delay, self.share_lost = delay, share_lost
        self._order()

    def _order(self) -> None:
        assert self.switch is not None and self.switch.stdin is not None and self.switch.stdout is not None
        words = {"cut": sorted(self.cuts), "delay": self.delay, "share lost": self.share_lost}
        self.switch.stdin.write(json.dumps(words).encode() + b"\n")
        self.switch.stdin.flush()
        said = self.switch.stdout.readline()
        assert said == b"ok\n", f"the switch said {said!r}"


def _look_for_means() -> None:
    if not shutil.which("ip"):
        raise NotPermitted("there is no `ip` (package iproute2)")
    if os.geteuid():
        raise NotPermitted("network namespaces are made by root")


def _tun(name: str) -> int:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError as error:
        raise NotPermitted(f"no TUN device can be made: {error}") from error
    return fd


def _free_net() -> str:
    """The beginning of a private network that no route of this host leads to."""
    used = []
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            for row in list(file)[1:]:
                _, target, *_, mask, _, _, _ = row.split()
                target_net, mask_net = (int.from_bytes(bytes.fromhex(word), "little") for word in (target, mask))
                used += [ipaddress.ip_network((target_net, mask_net.bit_count()))] if mask_net else []
    except OSError as error:
        raise NotPermitted(f"routes cannot be read: {error}") from error
    while True:
        net = f"10.{random.randrange(64, 250)}.{random.randrange(250)}"
        if not any(ipaddress.ip_network(f"{net}.0/24").overlaps(other) for other in used):
            return net
