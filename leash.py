"""A helper process ends with the process that started it, whatever it is doing at that moment.

What it is not: it knows no order and no answer; `snapshot_worker.py` has them. It is not how a server stops its worker either: that is a
signal. It is for a server that was killed and could not send one.

    what the helper is doing        what ends it
    anything, or nothing            its standard input closes, since nobody holds the other end any more: a thread waits for that alone
    it stands still (SIGSTOP)       the kernel, where it is Linux: it kills the children of a thread that ends, if they have asked for that

Nothing is tidied up: a helper must leave nothing that the next one cannot remove, as it may be killed itself.

Read next: `snapshot_worker.py`.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def end_with_parent(orders: int) -> None:
    """From now on. `orders`: a pipe, or a socket, of which the parent holds the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes its end
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Also for a parent that ended before the kernel was asked.
    threading.Thread(target=_wait_and_end, args=(orders,), daemon=True).start()


def _wait_and_end(orders: int) -> None:
    gone = select.poll()
    gone.register(orders, 0)  # POLLHUP is reported without being asked for
    gone.poll()
    os._exit(0)
