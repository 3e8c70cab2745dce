"""What operators ask of replicas that run, and what they are shown: status, stop and accounts.

Also the last resorts, for which none may run (`last_resort.py`).

What it is not: it starts nothing (`admin.py`), and it decides nothing: each replica answers for itself, also when the others are dead.

    question                    goes to                         the answer
    {"verb": "status"}          admin.sock in the directory     one row: `reports.status`
    {"verb": "stop", …}         of each replica                 {"stopping": true}; the process ends when the view has been left
    {"verb": "account", …}      of one that is in the view      {"done": NAME} or {"error": sentence} (`doors/operator.py`)

Only replicas of this host can be asked. Where the cluster has others, the row of one of those is what a replica here knows of it.

Read next: `admin.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import credentials
from disk import LockContent, OsDisk, ReplicaLock
from doorways import is_here
from evidence import shown
from growing import Growing
from host import ACCOUNT_S, short_path
from last_resort import DECISIONS, Refused, listens
from settings import SURVIVOR, Settings

ASK_S = 2.0  # seconds an operator's request may take
FORCE, TRUNCATE, GROW = "force-new-view", "truncate-corrupt-tail", "grow"
PASSWORD_BYTES = 12  # of chance in a password that a machine makes
STOP_S = 8.0  # seconds a clean stop may take; then its log is to be read, and the supervisor kills


def ask(base: str, replica: int, request: dict[str, Any], seconds: float = ASK_S) -> dict[str, Any] | None:
    """The replica's answer; None: it does not run."""
    path = os.path.join(base, f"replica-{replica}", "admin.sock")
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(seconds)
            line.connect(short_path(path))
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answers:
                return read_answer(answers.readline())
    except OSError:
        return None


def read_answer(line: bytes) -> dict[str, Any] | None:
    """What a replica has answered; None: nothing that makes sense."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def reminders_of(settings: Settings, replicas: Iterable[int]) -> list[str]:
    """Whose certificates end soon, of these replicas of this host."""
    if settings.tls is None:
        return []
    with contextlib.suppress(credentials.CredentialsRefused):  # whoever needs it says so at its start
        return [words for i in replicas for words in credentials.reminders(settings.tls, i, time.time())]
    return []


def here(settings: Settings) -> list[int]:
    """The replicas of this host, by the addresses at which the others reach them."""
    return [r.id for r in settings.replicas if is_here(r.peer.host)]


def gather_status(settings: Settings, base: str) -> dict[str, Any]:
    """All replicas' own words, put together; `serving` says whether commands can be served now."""
    mine = here(settings)
    answers = {i: answer for i in mine if (answer := ask(base, i, {"verb": "status"}))}
    newest = max(answers.values(), key=lambda row: (row["view"], row["serving"], row["changed"]), default={})
    rows = [answers.get(r.id) or _unasked(settings, newest, r.id, DOWN if r.id in mine else UNREACHED) for r in settings.replicas]
    head = max((row.get("commit", 0) for row in rows), default=0)
    for row, r in zip(rows, settings.replicas, strict=True):
        row["port"] = next((ports[0] for ports in r.doors.values()), 0)
        if "applied" in row:
            row["lag"] = head - row["applied"]
    is_served = settings.policy != SURVIVOR and any(row.get("is_served") for row in rows)
    return {
        "cluster": settings.name,
        "policy": settings.policy,
        "survives": settings.survives(),
        "view": newest.get("view", 0),
        "members": newest.get("members", []),
        "reason": newest.get("reason", ""),
        "changed": newest.get("changed", 0),
        "forced": max(row.get("forced", 0) for row in rows),
        "serving": is_served or any(row.get("serving") for row in rows),
        "here": mine,
        "missing": [row["id"] for row in rows if row["role"] in (DOWN, UNREACHED)],
        "warnings": settings.warnings() + reminders_of(settings, mine),
        "replicas": rows,
    }


def _unasked(settings: Settings, newest: dict[str, Any], replica: int, role: str) -> dict[str, Any]:
    """The row of one that did not answer. On several hosts the best informed one of this host may know more of it."""
    if settings.policy != SURVIVOR and replica in newest.get("members", ()):
        role = "primary" if replica == newest["primary"] else "backup"
    return {"id": replica, "role": role}


DOWN, UNREACHED = "down", "not heard"
DONE = {
    "reset": "whoever was logged in is logged out",
    "block": "blocked: nobody can log in, who was is logged out; messages to it wait",
    "unblock": "unblocked",
    "remove": "removed, with its mailbox and its balance",
}
COLUMNS = ("id", "role", "port", "view", "op", "commit", "applied", "lag", "pid", "uptime", "connections")


def show_status(settings: Settings, base: str, *, as_json: bool) -> int:
    """Print it; exit code 0 while commands can be served."""
    report = gather_status(settings, base)
    if as_json:
        print(json.dumps(report, indent=1))
        return 0 if report["serving"] else 1
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report["changed"] / 1e6)) if report["changed"] else "never"
    if all(report["replicas"][i]["role"] == DOWN for i in report["here"]):
        where = "" if len(report["here"]) == len(report["replicas"]) else " on this host"
        print(f"cluster {report['cluster']} does not run{where} (no replica answers in {base}); to start it: bash scripts/start.sh")
        return 1
    print(f"cluster {report['cluster']}, policy {report['policy']}: {len(report['replicas'])} replicas, survives {survives(settings)}")
    print(
        f"view {shown(report['view'])}, members {', '.join(map(str, report['members'])) or 'none yet'},"
        f" since {when}: {report['reason'] or 'first start'}"
    )
    rows = [[f"{row.get(c, '-')}{' s' if c == 'uptime' and c in row else ''}" for c in COLUMNS] for row in report["replicas"]]
    widths = [max(len(row[i]) for row in [list(COLUMNS), *rows]) for i in range(len(COLUMNS))]
    for row in [list(COLUMNS), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for row in report["replicas"]:
        for word in ("waiting", "trouble"):
            if row.get(word):
                print(f"replica {row['id']} {'waits ' if word == 'waiting' else 'reports: '}{row[word]}")
    for warning in report["warnings"]:
        print(f"warning: {warning}")
    if report["forced"]:
        where = os.path.join(base, "cluster", DECISIONS)
        print(f"an operator has forced view {shown(report['forced'])}; what that may have cost stands in {where}")
    if not report["serving"]:
        print(f"no commands are served now; not running: {', '.join(map(str, report['missing'])) or 'none'}")
    return 0 if report["serving"] else 1


def survives(settings: Settings) -> str:
    """`2 deaths`, in words; of hosts that share nothing, a cut cable is as bad as a death."""
    count, word = settings.survives(), "death" if settings.policy == SURVIVOR else "fault"
    return f"{count} {word}{'' if count == 1 else 's'}"


def stop_replicas(settings: Settings, base: str, replicas: Sequence[int] | None) -> int:
    """A clean stop of these; None: of all. Of all: the backups first, so that nobody votes anybody out; the primary closes the view."""
    wanted = here(settings) if replicas is None else replicas
    everybody = len(wanted) == len(settings.replicas)  # else others go on, and the primary hands over to one of them
    states = {i: row for i in wanted if (row := ask(base, i, {"verb": "status"}))}
    order = {"verb": "stop", "everybody": everybody}
    silent = {i for i in wanted if i not in states and holder_of(base, i)}
    for i in sorted(states, key=lambda i: states[i]["role"] == "primary"):
        ask(base, i, order)
    deadline = time.monotonic() + STOP_S
    left = set(states)
    while (left or silent) and time.monotonic() < deadline:
        for i in tuple(silent):  # one that was just starting has an ear by and by; one that stands still has not
            if row := ask(base, i, {"verb": "status"}):
                states[i] = row
                ask(base, i, order)
                left.add(i)
        silent = {i for i in silent if i not in states and holder_of(base, i)}
        left = {i for i in left if _is_alive(states[i]["pid"])}
        time.sleep(0.02)
    for i in wanted:
        holder = holder_of(base, i) if i in silent else None
        if holder is not None:
            named = f" (process {holder.pid})" if _is_ours(holder.pid) else ""  # it writes its own when it has read its disk
            print(f"replica {i} runs and does not answer: it may be reading its disk; let it go on if it stands still, or end it{named}")
        else:
            print(f"replica {i} " + ("did not run" if i not in states else "does not stop: see its log" if i in left else "stopped"))
    return 1 if left or silent or not states else 0


def change_account(settings: Settings, base: str, what: str, name: str) -> int:
    """Reset, block, unblock or remove an account. A new password is made here, and shown once; it stands in no command line and no log."""
    request = {"verb": "account", "what": what, "name": name}
    if what == "reset":
        request["password"] = secrets.token_urlsafe(PASSWORD_BYTES)
    answer: dict[str, Any] | None = None
    for i in here(settings):
        answer = ask(base, i, request, ACCOUNT_S + ASK_S) or answer
        if answer and "done" in answer:
            break
    if answer is None:
        print(f"no replica answers in {base}; to start them: bash scripts/start.sh", file=sys.stderr)
        return 1
    if "done" not in answer:
        print(f"account {name}: {answer.get('error', answer)}", file=sys.stderr)
        return 1
    print(f"account {answer['done']}: {DONE[what]}")
    if what == "reset":
        print(f"its password is now {request['password']}")
    return 0


def resort(settings: Settings, base: str, verb: str, replica: int, copies: Sequence[int], name: str | None) -> int:
    """An operator's last resort, or a larger cluster. Exit code 0: done; 1: refused, and nothing was changed; 3: the disk failed."""

    def confirm() -> str:
        if name is not None:
            return name
        print("To do it, type the cluster's name: ", end="", flush=True)
        return sys.stdin.readline().strip()

    os.umask(0o077)
    last = Growing(OsDisk(), settings, base, replica, confirm=confirm, say=print, wall=lambda: time.time_ns() // 1000, reaches=listens)
    try:
        if verb == FORCE:
            last.force_new_view(copies)
        elif verb == GROW:
            last.grow()
        else:
            last.truncate_corrupt_tail()
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the disk failed, and what was begun is not whole: {error}; mend that, and try again", file=sys.stderr)
        return 3
    finally:
        last.release()
    return 0


def holder_of(base: str, replica: int) -> LockContent | None:
    """What stands in the lock of a replica, while somebody holds it: who starts or stands still does not answer, and yet runs."""
    with contextlib.suppress(OSError):
        return ReplicaLock.read(OsDisk(), os.path.join(base, "cluster"), replica)
    return None


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return bool(pid) and b"server.py" in file.read()
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
