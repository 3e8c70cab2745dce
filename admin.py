"""The command line of `server.py`: run a replica, have all started, asked and stopped.

What it is not: it serves no guest and no replica; each replica is a process of its own (`server.py --replica N`).

    python server.py                  every replica of cluster.yaml that lives on this host, each in its own process
    python server.py --replica N      one replica in the foreground, at the addresses of its own row; `server.py N` is short for it
    python server.py status [--json]  one row a replica; exit code 0 while commands can be served
    python server.py stop [--replica N]
    python server.py account reset|block|unblock|remove NAME
    python server.py make-certs       a CA and a certificate for each replica, in the directory that `tls` names
    python server.py force-new-view --replica N [--copy M …] [--cluster NAME]      last resorts: `last_resort.py`
    python server.py truncate-corrupt-tail --replica N [--cluster NAME]
    python server.py grow --replica N [--cluster NAME]      its disk becomes one of a larger cluster: `growing.py`

Read next: `operators.py` (how replicas are asked and stopped), `supervisor.py` (how all are started), `server.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import errno
import logging
import os
import re
import signal
import sys
import time
from typing import Any

import compiled
import descriptors
from credentials import CredentialsRefused
from disk import NETWORKED, file_system
from doors import DOORS
from host import VERSION, LoopHost
from logbook import print_to_whoever_listens, start_log
from operators import (
    DONE,
    FORCE,
    GROW,
    TRUNCATE,
    change_account,
    reminders_of,
    resort,
    show_status,
    stop_replicas,
    survives,
)
from server import Server
from settings import SURVIVOR, Settings, SettingsError, load
from storage import BootFailed
from supervisor import Supervisor

EXIT_BUG = 70  # as in sysexits.h
MAKE = "make-certs"
LOCK_S = 5.0  # seconds a start waits for the lock of an incarnation that is just ending


# --- one replica --------------------------------------------------------------------------------------------------------------------------


def run_replica(settings: Settings, replica: int, base: str, *, console: bool, loop: str) -> int:
    """One replica in this process, until it is stopped. Returns the exit code."""
    try:
        limit = descriptors.raise_limit()
        os.umask(0o077)
        start_log(settings, os.path.join(base, f"replica-{replica}", "log"), console=True)
    except (descriptors.TooFewDescriptors, OSError) as error:
        print(f"replica {replica} cannot start: {error}", file=sys.stderr)
        return 2
    if settings.policy == SURVIVOR and (kind := file_system(base)) in NETWORKED:
        print(
            f"replica {replica} cannot start: {base} is on a network file system ({kind}), whose locks prove nothing, and policy survivor"
            " goes by them: give a --data on a local disk, the same to all replicas of this host, or use policy: majority",
            file=sys.stderr,
        )
        return 2
    words = (replica, settings.name, settings.policy, len(settings.replicas), survives(settings), compiled.form())
    logging.info("replica %d of cluster %s: policy %s, %d replicas, survives %s; runs %s", *words)
    for warning in (*settings.warnings(), *descriptors.warnings(settings, replica, limit), *reminders_of(settings, [replica])):
        logging.warning("warning: %s", warning)
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        return runner.run(_run_replica(settings, replica, base, console=console))


def _loop_factory(name: str) -> Any:
    """uvloop where it is installed; the same code runs on asyncio's own loop."""
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run_replica(settings: Settings, replica: int, base: str, *, console: bool) -> int:
    host = LoopHost(settings, replica, base)
    loop = asyncio.get_running_loop()
    try:
        if console:
            print("SERVER WORKING".center(60), flush=True)
        host.doorways.bind()
        server = Server(host, settings, replica, base, host.console if console else None)
        host.hands = server
        with host.undisturbed():
            await _boot(server)
        await host.start_links(server.replica.me.inc, server.storage.disk.identity(server.storage.cluster_path))
        await host.start_admin(os.path.join(server.storage.path, "admin.sock"))
    except (BootFailed, CredentialsRefused, OSError) as error:
        print(f"replica {replica} cannot start: {error}{owner_of(error)}", file=sys.stderr, flush=True)
        await host.stop()
        return 2
    for word in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(word, lambda: server.stop(everybody=False))
    loop.set_exception_handler(lambda _, context: on_bug(host, server, context))
    server.run()
    looks = asyncio.create_task(_look(host))
    code = await host.finished
    looks.cancel()
    await host.stop()
    return code


def on_bug(host: LoopHost, server: Server, context: dict[str, Any]) -> None:
    """A bug of ours. In the core it ends this incarnation, since nothing it believes can be relied on; at a door, one connection."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE) and not server.depth:
        return host.log(f"a connection was refused: {error.strerror}")
    host.logger.error(context["message"], exc_info=error)
    if server.depth:
        host.logger.error("the core broke a promise to itself: this process ends")
        logging.shutdown()
        os._exit(EXIT_BUG)
    transport = context.get("transport")
    if transport is not None:
        transport.abort()


async def _boot(server: Server) -> None:
    """An incarnation that is just ending holds its lock a moment longer."""
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            return server.boot()
        except BootFailed as error:
            if not error.may_pass or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def _look(host: LoopHost) -> None:
    while True:
        await asyncio.sleep(1)
        host.doorways.look(host.now())


def owner_of(error: BaseException) -> str:
    """Who listens on the port an error names, if /proc tells."""
    named = re.search(r"\bport (\d+)|, (\d+)\)", str(error))  # our words, asyncio's words
    if named is None:
        return ""
    inode = _listening_inode(int(named[1] or named[2]))
    for pid in filter(str.isdigit, os.listdir("/proc")) if inode else ():
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        name = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
                    return f"; it is taken by process {pid} ({name})"
    return "; it is taken by a process of another user" if inode else ""


def _listening_inode(port: int) -> str:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            for row in list(file)[1:]:
                fields = row.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                    return fields[9]
    return ""


# --- main ---------------------------------------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The command line; --config and --data are understood before and after a verb."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", default=argparse.SUPPRESS, metavar="PATH", help="the cluster's description (default: cluster.yaml)")
    common.add_argument("--data", default=argparse.SUPPRESS, metavar="DIR", help="where the replicas keep their state (default: data/)")
    parser = argparse.ArgumentParser(
        prog="server.py",
        parents=[common],
        description="Runs the replicas of an Understudy cluster. Without a verb: all replicas of cluster.yaml that live on this host.",
    )
    parser.add_argument("--version", action="version", version=f"Understudy {VERSION}")
    parser.add_argument("--replica", type=int, metavar="N", help="run this one replica in the foreground")
    parser.add_argument("--console", action="store_true", help="print guests' commands as they come (on by itself in a terminal)")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop; uvloop where it is installed")
    verbs = parser.add_subparsers(dest="verb", metavar="{status,stop,account,make-certs,grow,force-new-view,truncate-corrupt-tail}")
    status = verbs.add_parser("status", parents=[common], help="one row a replica; exit code 0 while commands can be served")
    status.add_argument("--json", action="store_true", help="the same as JSON")
    stop = verbs.add_parser("stop", parents=[common], help="a clean stop of all replicas, or of one")
    stop.add_argument("--replica", type=int, metavar="N", dest="stopped", help="stop this one; its guests move to the others")
    account = verbs.add_parser("account", parents=[common], help="reset an account's password, block, unblock or remove it")
    account.add_argument("what", choices=tuple(DONE))
    account.add_argument("name", metavar="NAME")
    verbs.add_parser(MAKE, parents=[common], help="make or renew the certificates of all replicas, and their CA if there is none")
    force = verbs.add_parser(FORCE, parents=[common], help="last resort: go on from the disk of one replica, whatever that loses")
    force.add_argument("--copy", type=int, action="append", default=[], metavar="M", help="majority: replica M begins with a copy of it")
    cut = verbs.add_parser(TRUNCATE, parents=[common], help="last resort: the log of a replica ends where it can be read")
    grow = verbs.add_parser(GROW, parents=[common], help="the disk of a replica becomes one of the larger cluster that cluster.yaml lists")
    for one in (force, cut, grow):
        one.add_argument("--replica", type=int, required=True, metavar="N", dest="stopped", help="whose disk it is about")
        one.add_argument("--cluster", metavar="NAME", help="the cluster's name, for scripts; people are asked for it")
    return parser


def make_certificates(settings: Settings) -> int:
    """`make-certs`. Returns the exit code."""
    from certificates import make  # what it needs is heavy, and no replica's affair

    if settings.tls is None:
        print("cluster.yaml names no directory for them: write `tls: certs` under `cluster`, then try again", file=sys.stderr)
        return 2
    try:
        for line in make(settings, settings.tls, datetime.datetime.now(datetime.UTC)):
            print(line)
    except (CredentialsRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def spelled_out(words: list[str]) -> list[str]:
    """`server.py 1` starts replica 1."""
    return ["--replica", *words] if words and words[0].isdigit() else words


def main() -> None:
    """Entry point of `server.py`."""
    print_to_whoever_listens()
    parser = make_parser()
    arguments = parser.parse_args(spelled_out(sys.argv[1:]))
    config, base = getattr(arguments, "config", "cluster.yaml"), os.path.abspath(getattr(arguments, "data", "data"))
    if not sys.platform.startswith("linux"):
        sys.exit(
            "Understudy's server needs Linux: its register and locks rely on Linux file systems and /proc. The client runs elsewhere too."
        )
    try:
        settings = load(config, DOORS)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    wanted = arguments.stopped if arguments.verb in ("stop", FORCE, TRUNCATE, GROW) else arguments.replica
    if wanted is not None and wanted not in {r.id for r in settings.replicas}:
        sys.exit(f"there is no replica {wanted} in {config}: it lists {', '.join(str(r.id) for r in settings.replicas)}")
    if arguments.verb == "status":
        sys.exit(show_status(settings, base, as_json=arguments.json))
    if arguments.verb == "stop":
        sys.exit(stop_replicas(settings, base, None if wanted is None else [wanted]))
    if arguments.verb == "account":
        sys.exit(change_account(settings, base, arguments.what, arguments.name))
    if arguments.verb == MAKE:
        sys.exit(make_certificates(settings))
    if arguments.verb in (FORCE, TRUNCATE, GROW):
        sys.exit(resort(settings, base, arguments.verb, arguments.stopped, getattr(arguments, "copy", ()), arguments.cluster))
    if wanted is not None:
        console = arguments.console or sys.stdout.isatty()
        sys.exit(run_replica(settings, wanted, base, console=console, loop=arguments.loop))
    passed = ["--config", config, "--data", base, "--loop", arguments.loop, *(["--console"] if arguments.console else [])]
    sys.exit(Supervisor(settings, base, passed).run())
