"""How often a password may be tried: the primary's memory of attempts, which dies with it.

What it is not: it knows no password, no clock and no connection: times come in, seconds to wait go out.

    an account's attempts   1 … 5 at once, the 6th a second after the 5th, then 2, 4, 8 … 60 s between two
    an address's            1 … 20 at once, then the same. An address of this host is not counted: all its people share it
    a log-in that succeeds  takes back what its account has counted, here and at its address
    a minute without any    all is forgotten: nobody is locked out for good

Whoever would have to wait longer than WAIT_MAX is told so instead, and does not count. Each attempt counts before its outcome is known, so
that a thousand at once are no thousand guesses.

Read next: `waiting.py`.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

OF_ACCOUNT, OF_ADDRESS = 5, 20  # attempts that cost nothing
FORGET_S = 60.0  # seconds without an attempt after which counting begins anew
STEP_MAX = 60.0  # seconds the steps grow to
WAIT_MAX = 10.0  # seconds a guest is made to wait; then it is told
KEYS_MAX = 100_000  # accounts and addresses counted; the longest quiet is forgotten first


class Count:
    """The attempts of one account or one address."""

    __slots__ = ("address", "count", "free_at")

    def __init__(self) -> None:
        self.count = 0
        self.free_at = 0.0  # when the newest of them is, or was, made
        self.address = ""  # of an account: where its attempts came from


class Attempts:
    """See the module's page. Keys are `=NAME` and `@ADDRESS`."""

    def __init__(self) -> None:
        self.counts: OrderedDict[str, Count] = OrderedDict()

    def ask(self, name: str, address: str, now: float) -> float:
        """An attempt. How many seconds it must wait; more than WAIT_MAX: it may not be made now, and does not count."""
        keys = [("=" + name, OF_ACCOUNT)] + ([] if is_local(address) else [("@" + address, OF_ADDRESS)])
        counts = [(self._count(key, now), allowed) for key, allowed in keys]
        free_at = max(_free_at(count, allowed, now) for count, allowed in counts)
        if free_at - now > WAIT_MAX:
            return free_at - now
        for count, _ in counts:
            count.count += 1
            count.free_at = free_at
        counts[0][0].address = address
        return free_at - now

    def forgive(self, name: str) -> None:
        """Somebody has proved to know this account's password, or it has another one."""
        count = self.counts.pop("=" + name, None)
        at = self.counts.get("@" + count.address) if count else None
        if count and at:
            at.count = max(0, at.count - count.count)

    def _count(self, key: str, now: float) -> Count:
        count = self.counts.get(key)
        if count is None or now - count.free_at > FORGET_S:
            count = self.counts[key] = Count()
            if len(self.counts) > KEYS_MAX:
                self.counts.popitem(last=False)
        self.counts.move_to_end(key)
        return count


def _free_at(count: Count, allowed: int, now: float) -> float:
    """When the next attempt may be made."""
    beyond = count.count - allowed
    return now if beyond < 0 else max(now, count.free_at + min(STEP_MAX, 2.0 ** min(beyond, 16)))


def is_local(address: str) -> bool:
    """Whether this is an address of this host alone."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
