"""The cable between hosts, as a process: it carries packets from one host's TUN device to another's, late, or not at all.

What it is not: it makes no device and no namespace (`spaces.py`), and it knows no connection: a packet is an address and bytes.

    python -m tests.system.switch FD FD …          one descriptor a host, in order
    a line in   {"cut": [[0, 1], …], "delay": seconds, "share lost": 0.05}     all of it, from now on
    a line out  ok

`cut` is one way: packets from the first to the second are dropped, and nobody is told. Delay and loss are for each packet and each way.

Read next: `spaces.py`.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import sys
import time

PACKET_MAX = 65_536  # bytes
AT_ONCE = 64  # packets of one host until the others have their turn


class Switch:
    """See the module's drawing. A host's address ends in its place among the descriptors, and one more."""

    def __init__(self, hosts: list[int]) -> None:
        self.hosts = hosts
        self.places = {fd: place for place, fd in enumerate(hosts)}
        self.cut: set[tuple[int, int]] = set()
        self.delay, self.lost = 0.0, 0.0
        self.late: list[tuple[float, int, int, bytes]] = []  # when, in which order, to whom, what
        self.carried = 0
        self.dice = random.Random(1)

    def run(self) -> None:
        """Until nobody gives orders any more."""
        orders = sys.stdin.fileno()
        for fd in (*self.hosts, orders):
            os.set_blocking(fd, False)
        unread = b""
        while True:
            wait = max(0.0, self.late[0][0] - time.monotonic()) if self.late else None
            ready, _, _ = select.select([*self.hosts, orders], [], [], wait)
            if orders in ready:
                ready.remove(orders)
                given = os.read(orders, PACKET_MAX)
                if not given:
                    return
                *lines, unread = (unread + given).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            for fd in ready:
                self.take(fd)
            now = time.monotonic()
            while self.late and self.late[0][0] <= now:
                _, _, to, packet = heapq.heappop(self.late)
                self.give(to, packet)

    def obey(self, order: dict[str, object]) -> None:
        """What holds from now on; what is under way arrives, unless it is cut."""
        cut = order["cut"]
        assert isinstance(cut, list)
        self.cut = {(int(a), int(b)) for a, b in cut}
        self.delay, self.lost = float(str(order["delay"])), float(str(order["share lost"]))
        self.late = [entry for entry in self.late if (entry[3][15] - 1, entry[2]) not in self.cut]
        heapq.heapify(self.late)
        print("ok", flush=True)

    def take(self, fd: int) -> None:
        """What one host has sent."""
        sender = self.places[fd]
        for _ in range(AT_ONCE):
            try:
                packet = os.read(fd, PACKET_MAX)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue  # IPv6 looks for neighbours: nobody asked it to
            to = packet[19] - 1
            if not 0 <= to < len(self.hosts) or (sender, to) in self.cut or (self.lost and self.dice.random() < self.lost):
                continue
            self.carried += 1
            if self.delay:
                heapq.heappush(self.late, (time.monotonic() + self.delay, self.carried, to, packet))
            else:
                self.give(to, packet)

    def give(self, to: int, packet: bytes) -> None:
        """A host that reads nothing loses what it does not read, as on any wire."""
        try:
            os.write(self.hosts[to], packet)
        except OSError:
            return


if __name__ == "__main__":
    Switch([int(word) for word in sys.argv[1:]]).run()
