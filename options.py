"""The client's command line: which door, at which ports, and how it behaves.

What it is not: it opens nothing; a mode's words are in `modes.py` and its neighbours.

Read next: `terminal.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from menu_mode import Menu
from modes import Mode, Pipe
from ports import DEFAULT_CONFIG, is_host
from room_mode import Room

WAIT = 30.0  # seconds a script waits for a replica

ABOUT = """\
The chat in a terminal, or for scripts: lines in, lines out.

When its server dies it goes on with the next one: what was typed is sent exactly once, every message is shown exactly once."""

EPILOG = """\
Ports that are not given come from the configuration, if the given ones are in it, and from the server.

    python client.py                 the ports of cluster.yaml, in order
    python client.py 6667            begin at this replica; any will do
    python client.py localhost       a host name without a port means the room: one conversation of all who are in it
    python client.py --menu          the numbered menu, at the ports of the framed door
    python client.py --menu 8184     begin at this replica
    python client.py --grpc 50051    the gRPC door, in the words of its own client: 0|NAME, 1|NAME, 2|PATTERN, 3|NAME|TEXT, 5|, X
    python client.py 6666 <<EOF      a script; each line waits for the reply to the line before
    create mason
    @wayne hello
    EOF

Type help for the commands (in the menu 0; the room ends with tata). Passwords are best not typed on a line: login ID, passwd,
the menu and --grpc ask for them, and show and keep nothing of them. What is kept for the next client is in $XDG_STATE_HOME/understudy
(~/.local/state/understudy)."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="client.py", description=ABOUT, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    words = "PORT or HOST:PORT of a replica; the client moves along them when one dies. HOST alone: the room there"
    add("ports", nargs="*", metavar="PORT", help=words)
    mode = parser.add_mutually_exclusive_group().add_argument
    mode("--menu", action="store_true", help="the numbered menu, at the framed door's ports")
    mode("--grpc", action="store_true", help="the gRPC door's ports, and the lines of its own client; nothing is kept for the next one")
    add("--ca", metavar="FILE", help="the cluster's CA: speak TLS, and believe only servers that it has certified (default: of --config)")
    add("--config", metavar="PATH", help=f"where the other ports are looked up (default: {DEFAULT_CONFIG}, if it is there)")
    either = parser.add_mutually_exclusive_group().add_argument
    either("--resume", action="store_true", help="take up the session that the last client left without bye, with its unanswered lines")
    either("--fresh", action="store_true", help="begin a new session, on a terminal too")
    add("--wait", type=float, metavar="SECONDS", help=f"give up when no replica serves for so long (default: {WAIT:g}; a terminal: never)")
    add("--times", action="store_true", help="show the time of each message in scripts too")
    add("--plain", action="store_true", help="plain lines, as for a script, on a terminal too")
    return parser.parse_args(arguments)


def mode_of(options: argparse.Namespace) -> type[Mode]:
    """Which conversation is meant."""
    if options.menu:
        return Menu
    return Room if any(map(is_host, options.ports)) else Pipe
