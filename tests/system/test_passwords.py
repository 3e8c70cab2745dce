"""Passwords on real processes: they work at every replica and through failovers, and no byte of them is written anywhere."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import time
from typing import Any

import grpc

from client import ChatClient
from tests.system.callers import Caller
from tests.system.cluster import Cluster
from tests.system.guests import Numbered, Plain
from tests.system.stage import SystemTest
from tests.system.test_framed import Line
from waiting import HASHES_MAX, REFUSED_S

PASSWORD, NEWER, GUESS = "correct-horse-battery", "staple-of-the-horse", "guess-of-a-stranger"
CROWD, TRIES = 500, 20  # connections, and log-ins of each at the most
FLOOD = 60  # log-ins at once; each is some 30 ms of a processor


def forms(word: str) -> list[bytes]:
    """As it is, in 16 bits, in hexadecimal, and in base64 at any place of a longer text: there its ends depend on their neighbours."""
    raw = word.encode()
    base64s = [base64.b64encode(b"." * at + raw)[-(-at * 4 // 3) : (at + len(raw)) // 3 * 4] for at in range(3)]
    return [raw, word.encode("utf-16-le"), word.encode("utf-16-be"), raw.hex().encode(), *base64s]


class Passwords(SystemTest):
    """One cluster a test."""

    async def client(self, replica: int) -> ChatClient:
        ports = self.cluster.pipes
        client = ChatClient(ports[replica:] + ports[:replica])
        self.addAsyncCleanup(client.leave)
        client.start()
        return client

    async def test_a_password_works_everywhere_and_stands_nowhere(self) -> None:
        cluster = Cluster(grpc=True)
        self.addCleanup(cluster.end)
        self.begin(cluster)
        primary = await self.start()
        backup = next(i for i in self.cluster.ids if i != primary)
        mason = await self.client(backup)
        self.assertIn("Success", await mason.request(f"1|mason|{PASSWORD}"))
        await self.aside(self.use_every_door, backup)
        await self.aside(self.use_the_grpc_door, backup)
        other = await self.client(primary)
        self.assertEqual(await other.request(f"0|mason123|{GUESS}"), "wrong password for mason123\n")
        self.assertIn("logged in", await other.request(f"0|mason123|{PASSWORD}"))
        self.assertIn("No new", await other.request("4|mason123"))
        asked = asyncio.ensure_future(mason.request(f"passwd|mason123|{PASSWORD}\t{NEWER}"))
        await self.aside(self.cluster.kill, primary)
        self.assertEqual(await asked, "the password is changed\n")
        late = await self.client(backup)
        self.assertEqual(await late.request(f"0|mason123|{PASSWORD}"), "wrong password for mason123\n")
        self.assertIn("logged in", await late.request(f"0|mason123|{NEWER}"))
        given = await self.aside(self.cluster.run, "account", "reset", "mason")
        self.assertEqual(given.returncode, 0, given.stderr)
        word = given.stdout.split()[-1]
        self.assertIn("logged in", await late.request(f"0|mason123|{word}"))
        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        kept = {row["name"]: row["secret"] for row in self.cluster.table(backup, "accounts")}
        self.assertEqual(list(kept), ["mason", "plain", "teller", "caller"])
        for secret in kept.values():
            self.assertTrue(secret.startswith("$argon2id$v=19$m=19456,t=2,p=1$"))
        await self.aside(self.look_for, PASSWORD, NEWER, GUESS, word)

    def use_every_door(self, replica: int) -> None:
        """Log in with the right and with a wrong one wherever a password can be said, and make an account."""
        doors, heard = self.cluster.doors, list[str]()
        for door, lines in {
            "pipe": [f"0|mason123|{GUESS}", f"0|mason123|{PASSWORD}", f"1|plain|{PASSWORD}"],
            "ledger": [f"0|mason|{GUESS}", f"0|mason|{PASSWORD}", f"1|teller|{PASSWORD}"],
            "framed": [f"1|mason|{GUESS}", f"1|mason|{PASSWORD}", f"3|framed|{PASSWORD}", f"5|framed|{GUESS}", f"5|framed|{PASSWORD}"],
        }.items():
            guest = Numbered(doors[door][replica], greets=door == "pipe")
            self.addCleanup(guest.socket.close)
            heard += [guest.request(number, line) for number, line in enumerate(lines, 1)]
            if door != "framed":
                plain = Plain(doors[door][replica], greets=door == "pipe")
                self.addCleanup(plain.socket.close)
                heard += [plain.ask(line) for line in lines[:2]]
        frames = Line(doors["framed"][replica])
        self.addCleanup(frames.socket.close)
        heard += [frames.ask(f"{code}\nmason\n{word}") for code, word in ((1, GUESS), (1, PASSWORD), (3, PASSWORD), (5, GUESS))]
        room = Plain(doors["room"][replica], greets=False)
        self.addCleanup(room.socket.close)
        room.say("mason")
        heard.append(room.line())
        self.assertEqual(
            sum("is now logged in" in words or "Successful Login" in words or words == "mason123\n" for words in heard), 6, heard
        )

    def use_the_grpc_door(self, replica: int) -> None:
        """Every call and the stream, with the right and with a wrong one."""
        caller = Caller(self.cluster.doors["grpc"][replica])
        self.addCleanup(caller.close)
        caller.call("CreateAccount", client_id="caller", password=PASSWORD)
        mine = {"client_id": "caller"}
        asked: dict[str, dict[str, Any]] = {
            "LogIn": mine,
            "WildCard": {**mine, "pattern": ".*"},
            "Acknowledge": {**mine, "upto": 1},
            "History": {**mine, "partner_id": "mason"},
            "SendMessage": {"sender_id": "caller", "recipient_id": "caller", "message": "to myself"},
            "LogOut": mine,
        }
        for call, fields in asked.items():
            self.assertEqual(caller.refusal(call, password=GUESS, **fields)[0], grpc.StatusCode.UNAUTHENTICATED, call)
            caller.start(call, password=PASSWORD, **fields).result()
        self.assertEqual(caller.refusal("DeleteAccount", password=GUESS, **mine)[0], grpc.StatusCode.UNAUTHENTICATED)
        self.assertEqual(caller.listen("caller", password=GUESS).ended()[0], grpc.StatusCode.UNAUTHENTICATED)
        self.assertEqual(caller.listen("caller", password=PASSWORD).ended()[0], grpc.StatusCode.OK)

    async def test_a_flood_of_log_ins_starves_nobody(self) -> None:
        """Whoever cannot be answered soon is told so, and not faster than one can bear; those who talk go on."""
        await self.start()
        await self.begin_talk("ann", "bob")
        ann = self.talkers[0]
        before = len(ann.acked_at)
        refused = await asyncio.gather(*(self.try_in(n) for n in range(CROWD)))
        self.assertGreater(sum(refused), 2 * CROWD)
        hashed = sum(count < TRIES for count in refused)
        self.assertGreaterEqual(hashed, HASHES_MAX)
        self.assertGreater(len(ann.acked_at) - before, hashed // 2, "she has talked all the while")
        await self.end_talk()

    async def try_in(self, number: int) -> int:
        """One of a crowd, who goes on until it is heard. How often it was refused."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.cluster.pipes[0])
        await reader.readline()  # the greeting
        began = time.monotonic()
        for refused in range(TRIES):
            writer.write(f"0|nobody{number}-{refused}123|{GUESS}\n".encode())
            words = await asyncio.wait_for(reader.readline(), 60)
            if not words.startswith(b"too many passwords"):
                self.assertIn(b"is not recognized", words)
                break
        else:
            refused = TRIES
        self.assertGreaterEqual(time.monotonic() - began, 0.9 * refused * REFUSED_S)  # some timers come a little early
        writer.close()
        return refused

    def test_any_form_of_a_password_would_be_seen(self) -> None:
        for form in forms(PASSWORD):
            with tempfile.NamedTemporaryFile(dir=self.cluster.where) as file:
                file.write(b"\x00" + form + b"\xff")
                file.flush()
                with self.assertRaisesRegex(AssertionError, "stands in"):
                    self.look_for(PASSWORD)

    def look_for(self, *words: str) -> None:
        """In every file the cluster has written: journals, snapshots, logs, what was printed."""
        looked = 0
        wanted = [(word, form) for word in words for form in forms(word)]
        for directory, _, names in os.walk(self.cluster.where):
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path):
                    looked += 1
                    with open(path, "rb") as file:
                        content = file.read()
                    for word, form in wanted:
                        self.assertFalse(form in content, f"{word} stands in {path} as {form!r}")
        self.assertGreater(looked, 20)

    async def test_accounts_are_blocked_and_removed(self) -> None:
        await self.start()
        mason = await self.client(1)
        await mason.request("1|mason")
        for what, words in (("block", "blocked"), ("unblock", "unblocked"), ("remove", "removed")):
            done = await self.aside(self.cluster.run, "account", what, "mason")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(f"account mason: {words}", done.stdout)
            if what == "block":
                await self.soon("it is logged out", lambda: not mason.account)
                self.assertEqual(await mason.request("0|mason123"), "mason123 is blocked\n")
        self.assertIn("not recognized", await mason.request("0|mason123"))
        done = await self.aside(self.cluster.run, "account", "remove", "mason")
        self.assertEqual((done.returncode, done.stderr), (1, "account mason: there is no such account\n"))

    async def test_a_flood_of_log_ins_leaves_others_alone(self) -> None:
        """Somebody talks while many passwords are hashed at the same replica: no answer of hers waits for them."""
        await self.start()
        await self.begin_talk("ann", "bob")
        people = [await self.client(0) for _ in range(FLOOD)]
        for n, one in enumerate(people):
            await one.about()
            del n
        began = time.monotonic()
        asked = [asyncio.ensure_future(one.request(f"1|crowd{n}|{PASSWORD}")) for n, one in enumerate(people)]
        ann = self.talkers[0]
        before = len(ann.acked_at)
        await asyncio.wait(asked)
        took = time.monotonic() - began
        self.assertTrue(all("Success" in one.result() for one in asked))
        self.assertGreater(len(ann.acked_at) - before, FLOOD, f"in {took:.1f} s, one hash after the other")
        await self.end_talk()
