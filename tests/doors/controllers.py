"""Controllers: the same few verbs at every door, for the conformance suite.

What it is not: a controller judges nothing; it says what its door said, in words that all share.

    House        three desks behind one log; every exchange may be cut in two by a view change, in which what was under way is lost
    Controller   one guest: create, log_in, names, matching, send, read, heard, delete

    answers      create   done · taken · no        send     here · waits · sent (the door does not say which) · nobody · full · no
                 log_in   done · unknown · wrong   delete   done · mail first · no
                          · no (unknown or wrong)

A new door is a class here, and a line in `DOORS`.

Read next: `test_conformance.py`.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast
from unittest import mock

from commands import system_run
from doors import TRANSLATORS, Shell, calls, messages
from doors.gen.chat_pb2 import (
    ChatClient,
    ChatMessage,
    ChatMessageRequest,
    CreateAccountRequest,
    DeleteAccountRequest,
    HistoryRequest,
    HistoryResponse,
    LogInRequest,
    WildCardRequest,
)
from doors.pipe_words import GREETING, INVALID
from exchange import Exchange
from listening import Listener
from tests.doors.toy import JsonTranslator
from tests.front_desk import FrontDesk, Log, Person
from told import position

PASSWORD = "secret"
Mail = list[tuple[str, str]]


class House:
    """`is_troubled`: a view change falls into every exchange."""

    def __init__(self, *, is_troubled: bool = False) -> None:
        self.log = Log()
        self.desks = [FrontDesk(self.log, f"{n}.7") for n in range(3)]
        self.is_troubled, self.views, self.sessions = is_troubled, 0, 0

    def settle(self) -> None:
        """Everybody's turn, until nothing is left to do."""
        while any(d.desk.open_runs or d.desk.queries or d.works for d in self.desks):
            for desk in self.desks:
                desk.turn()

    def change_view(self) -> None:
        """What is under way to the primary is lost with it; the next one begins with the list of members."""
        self.views += 1
        first = system_run("members|" + ",".join(d.desk.place for d in self.desks))
        for n, desk in enumerate(self.desks):
            desk.desk.take(1 << 30)
            desk.desk.renew(first if n == self.views % 3 else b"")

    def exchange(self, person: Person, words: bytes) -> bytes:
        """Say this, whatever happens, and hear the answer."""
        person.read()
        person.send(words)
        if self.is_troubled:
            self.change_view()
        self.settle()
        person.connection.quiet()
        if self.is_troubled:
            self.change_view()
        self.settle()
        return person.read()


class Controller:
    """A guest at one door of one replica. `has_receipts`: the door says whether the recipient is online."""

    door = "pipe"
    has_receipts = True
    deletes_mail = False  # whether an account is deleted with what waits for it
    counts_all = True  # whether a wrong password and an unknown name are told apart
    looks_back = False  # whether the door shows conversations

    def __init__(self, house: House, replica: int) -> None:
        self.house, self.name = house, ""
        self.person = house.desks[replica].connect(self.door)
        self.person.read()

    def ask(self, line: str) -> str:
        return self.house.exchange(self.person, line.encode() + b"\n").decode()

    def heard(self) -> Mail:
        """What was pushed since it was last looked at."""
        raise NotImplementedError

    def leave(self) -> None:
        self.person.connection.end()
        self.house.settle()
        self.person.connection.lost()
        self.house.settle()


class Pipe(Controller):
    """Lines that end with a newline."""

    def create(self, name: str) -> str:
        words = self.ask(f"1|{name}|{PASSWORD}")
        if words == f"Success New Account Creation! Your new Account ID: {name}123\n":
            self.name = name
            return "done"
        return "taken" if words == f"Username {name} already exists. Please try a different username." else self.no(words)

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        words = self.ask(f"0|{name}123|{password}")
        if words == f"user : {name} is now logged in\n":
            self.name = name
            return "done"
        return "wrong" if words == f"wrong password for {name}123\n" else "unknown" if "is not recognized" in words else self.no(words)

    def names(self) -> list[str]:
        words = self.ask("2")
        assert words.startswith("Showing all accounts: "), words
        return words[22:-1].split(",") if len(words) > 23 else []

    def matching(self, pattern: str) -> list[str]:
        words = self.ask(f"2|{pattern}")
        if words == f"Account matched to: {pattern} doesn't exist \n":
            return []
        assert words.startswith("Account matched: "), words
        return words[17:-1].split(",")

    def send(self, whom: str, text: str) -> str:
        words = self.ask(f"3|{whom}|{text}")
        return {
            f"Sender {self.name} sends a new message {text} to {whom}\n": "here",
            f"message from {self.name} has been delivered to {whom}'s mailbox\n": "waits",
            f"Receiver: {whom} doesn't exist \n": "nobody",
            f"{whom}'s mailbox is full": "full",
        }.get(words) or self.no(words)

    def read(self) -> Mail:
        words = self.ask(f"4|{self.name}123")
        if words == "No new messages\n":
            return []
        head = f"undelivered message for user ID {self.name}123: \n"
        assert words.startswith(head), words
        return [tuple(row.split(" sends: ", 1)) for row in words[len(head) :].split("\n\n") if row]  # type: ignore[misc]

    def heard(self) -> Mail:
        *rows, rest = self.person.read().decode().split("\n")
        assert not rest, f"a push without its newline: {rest}"
        return [tuple(row.split(": ", 1)) for row in rows]  # type: ignore[misc]

    def delete(self) -> str:
        words = self.ask(f"5|{self.name}123")
        return {
            "Your account has been deleted\n": "done",
            "Please check your mailbox before deleting your account! \n": "mail first",
        }.get(words) or self.no(words)

    def no(self, words: str) -> str:
        assert words == INVALID.decode(), words
        return "no"


class RawPipe(Pipe):
    """As clients of old: no newline, and what is heard has none. They read one thing at a time."""

    def ask(self, line: str) -> str:
        return self.house.exchange(self.person, line.encode()).decode()

    def heard(self) -> Mail:
        sender, _, text = self.person.read().decode().partition(": ")
        return [(sender, text)] if sender else []


class NumberedPipe(Pipe):
    """The numbered mode; it acknowledges what it was shown, and goes by the ids of messages.

    In a view change its connection breaks, and it resumes at another replica.
    """

    entering_lines: tuple[str, ...] = ("0|", "1|")
    looks_back = True

    def __init__(self, house: House, replica: int) -> None:
        super().__init__(house, replica)
        house.sessions += 1
        self.session, self.number, self.replica = f"{house.sessions:032x}", 0, replica
        self.pushed: Mail = []
        self.seen = self.newest = self.entering = 0  # newest seq and id displayed; the request by which it logs in
        self.hello("")

    def hello(self, more: str) -> bytes:
        words = self.house.exchange(self.person, f"understudy 1 {self.session}\n{more}".encode())
        return words.removeprefix(GREETING)

    def history(self, whom: str, count: int, before: int = 0) -> tuple[Mail, int]:
        """A page of the conversation, and where to ask on."""
        head, *rows, rest = self.ask(f"history|{whom}|{count}|{before}").split("\n")
        found = re.fullmatch(
            rf"conversation with {whom}: {len(rows)} messages?(, older before (\d+))?(, an earlier {whom} up to \d+)?", head
        )
        assert found and not rest, head
        return [tuple(row.split("|", 3)[2:]) for row in rows], int(found[2] or 0)  # type: ignore[misc]

    def move(self) -> None:
        """To the next replica, with the session. Numbers that the log never saw, of reads and of nonsense, are filled up."""
        self.person.connection.lost()
        self.replica = (self.replica + 1) % 3
        self.person = self.house.desks[self.replica].connect(self.door)
        words = self.hello(f"resume {self.seen} {self.number}\n")
        last = int(re.findall(rb"^= \S+ (\d+)", words, re.MULTILINE)[0])
        self.take(words)
        self.house.exchange(self.person, b"".join(b"%d 0 -\n" % n for n in range(last + 1, self.number)))

    def ask(self, line: str) -> str:
        self.number += 1
        request = f"{self.number} 0 {line}\n"
        self.take(self.person.read())
        if self.house.is_troubled:
            self.person.send(request.encode())
            self.move()
        self.entering = self.number if line.startswith(self.entering_lines) else 0
        answers = self.take(self.house.exchange(self.person, request.encode()))
        assert list(answers) == [self.number], answers
        return answers[self.number]

    def take(self, words: bytes) -> dict[int, str]:
        """The answers among these bytes; messages are kept and acknowledged."""
        answers = dict[int, str]()
        while words:
            line, _, words = words.partition(b"\n")
            parts = line.decode().split(" ")
            if parts[0] == "*" or parts[0].isdigit():
                body, words = words[: int(parts[-1])].decode(), words[int(parts[-1]) :]
                if parts[0] != "*":
                    answers[int(parts[0])] = body
                    self.seen = 0 if int(parts[0]) == self.entering else self.seen
                    continue
                sender, _, number, text = body.split("|", 3)
                self.seen = int(parts[1])
                if int(number) > self.newest:
                    self.newest = int(number)
                    self.pushed.append((sender, text))
            else:
                assert parts[0] in ("=", "."), line
        return answers

    def heard(self) -> Mail:
        self.take(self.person.read())
        found, self.pushed = self.pushed, []
        if self.seen:
            self.person.send(f"ack {self.seen}\n".encode())
            self.house.settle()
        return found

    def read(self) -> Mail:
        """What waits is pushed at the log-in."""
        self.take(self.person.read())
        return self.heard()


class Framed(Controller):
    """Frames, and a relay for what arrives."""

    door = "framed"
    has_receipts = False
    deletes_mail = True
    counts_all = False

    def __init__(self, house: House, replica: int) -> None:
        super().__init__(house, replica)
        self.replica = replica
        self.relay: Person | None = None

    def ask(self, line: str) -> str:
        words = self.house.exchange(self.person, self.frame(line))
        (body,) = self.frames(words)
        return body

    def frame(self, body: str) -> bytes:
        return b"%-10d%s" % (len(body.encode()), body.encode())

    def frames(self, words: bytes) -> list[str]:
        found = []
        while words:
            size = int(words[:10])
            found.append(words[10 : 10 + size].decode())
            words = words[10 + size :]
        return found

    def open_relay(self) -> None:
        self.relay = self.house.desks[self.replica].connect("relay")
        self.relay.send(self.frame(self.name))
        self.house.settle()

    def create(self, name: str) -> str:
        words = self.ask(f"3\n{name}\n{PASSWORD}")
        if words == "0\nSuccessful Created and logged in":
            self.name = name
            self.open_relay()
            return "done"
        return "taken" if words == "-1\nThis username has been used" else self.no(words)

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        words = self.ask(f"1\n{name}\n{password}")
        if words == "0\nSuccessful Login":
            self.name = name
            self.open_relay()
            return "done"
        return self.no(words)

    def names(self) -> list[str]:
        words = self.ask("4\n")
        assert words.startswith("0\n"), words
        return words[2:].split(" ")[:-1]

    def matching(self, pattern: str) -> list[str]:
        return [name for name in self.names() if re.fullmatch(pattern, name)]

    def send(self, whom: str, text: str) -> str:
        words = self.ask(f"2\n{whom}\n{text}")
        return {"0\nSent to recipient": "sent", "-1\ninvalid recipient": "nobody"}.get(words) or self.no(words)

    def read(self) -> Mail:
        return self.heard()

    def heard(self) -> Mail:
        assert self.relay is not None
        rows = self.frames(self.relay.read())
        self.house.desks[self.replica].desk.tidy()
        self.house.settle()
        return [tuple(row.removeprefix("0\n").split(":", 1)) for row in rows]  # type: ignore[misc]

    def delete(self) -> str:
        words = self.ask(f"5\n{self.name}\n{PASSWORD}")
        return "done" if words == "0\naccount deleted" else self.no(words)

    def leave(self) -> None:
        super().leave()
        if self.relay is not None:
            self.relay.leave()

    def no(self, words: str) -> str:
        assert words.startswith("-1\n"), words
        return "no"


class NumberedFrames(NumberedPipe):
    """The framed door's numbered mode."""

    door = "framed"
    has_receipts = False
    deletes_mail = True
    counts_all = looks_back = False
    entering_lines = ("1|", "3|")

    def create(self, name: str) -> str:
        return self.enter(f"3|{name}|{PASSWORD}", name, "0\nSuccessful Created and logged in")

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        return self.enter(f"1|{name}|{password}", name, "0\nSuccessful Login")

    def enter(self, line: str, name: str, wanted: str) -> str:
        words = self.ask(line)
        if words == wanted:
            self.name = name
            return "done"
        return "taken" if words == "-1\nThis username has been used" else self.no(words)

    def names(self) -> list[str]:
        words = self.ask("4")
        assert words.startswith("0\n"), words
        return words[2:].split(" ")[:-1]

    def matching(self, pattern: str) -> list[str]:
        return [name for name in self.names() if re.fullmatch(pattern, name)]

    def send(self, whom: str, text: str) -> str:
        words = self.ask(f"2|{whom}|{text}")
        return {"0\nSent to recipient": "sent", "-1\ninvalid recipient": "nobody"}.get(words) or self.no(words)

    def delete(self) -> str:
        words = self.ask(f"5|{self.name}|{PASSWORD}")
        return "done" if words == "0\naccount deleted" else self.no(words)

    def no(self, words: str) -> str:
        assert words.startswith("-1\n"), words
        return "no"


class Json(Controller):
    """The toy."""

    door = "json"

    def ask_json(self, **asked: str) -> str:
        self.kept: Mail = getattr(self, "kept", [])
        answer = ""
        for row in self.ask(json.dumps(asked)).split("\n")[:-1]:
            said = json.loads(row)
            if "reply" in said:
                answer = said["reply"]
            else:
                self.kept.append((said["from"], said["text"]))
        return answer

    def create(self, name: str) -> str:
        words = self.ask_json(do="create", name=name, password=PASSWORD)
        self.name = name if words[0] == "c" else self.name
        return {"c": "done", "!": "taken" if words == "!NAME_TAKEN" else "no"}[words[0]]

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        words = self.ask_json(do="log in", name=name, password=password)
        self.name = name if words[0] == "l" else self.name
        return {"!WRONG_PASSWORD": "wrong", "!NO_SUCH_ACCOUNT": "unknown", "!INVALID": "no"}.get(words, "done")

    def names(self) -> list[str]:
        return self.matching("")

    def matching(self, pattern: str) -> list[str]:
        return [name for name in self.ask_json(do="list", pattern=pattern)[2:].split(",") if name]

    def send(self, whom: str, text: str) -> str:
        words = self.ask_json(do="send", to=whom, text=text)
        return {"p": "here", "m": "waits", "!NO_SUCH_ACCOUNT": "nobody", "!MAILBOX_FULL": "full"}.get(words, "no")

    def read(self) -> Mail:
        rows = self.ask_json(do="read").split("|", 2)[2].split("\n")
        return [tuple(row.split("|", 2)[1:]) for row in rows if row]  # type: ignore[misc]

    def heard(self) -> Mail:
        found, self.kept = getattr(self, "kept", []), []
        for row in self.person.read().decode().split("\n")[:-1]:
            said = json.loads(row)
            found.append((said["from"], said["text"]))
        return found

    def delete(self) -> str:
        words = self.ask_json(do="delete")
        return {"d": "done", "!MAILBOX_NOT_EMPTY": "mail first"}.get(words, "no")


class Ear(Shell):
    """The shell of a stream that is read as soon as it is woken, and not before. `end`: why it was ended."""

    def __init__(self, front: FrontDesk, raw: bytes) -> None:
        self.address = self.peer = "127.0.0.1"
        self.told: list[ChatMessage] = []
        self.end = self.refused = ""
        self.is_awake = True
        name, password, after, acknowledges = messages.listening(raw)
        self.listener = listener = cast(Listener, front.desk.welcome(self, "stream", Listener))
        listener.listen(
            name, calls.listen(name, password), after=after, acknowledges=acknowledges, wake=self.wake, turn_away=self.turn_away
        )

    def write(self, words: bytes) -> None:
        assert not words

    def close(self, why: str) -> None:
        self.end = self.end or why

    def turn_away(self, reply: str) -> None:
        self.refused = reply

    def pause(self) -> None:
        """It says nothing."""

    def resume(self) -> None:
        """It says nothing."""

    def is_drained(self) -> bool:
        return True

    def wake(self) -> None:
        self.is_awake = True

    def show(self) -> bool:
        """Read all that is there; whether there was anything. As the door does: what nobody tells it of it does not look for."""
        if not self.is_awake:
            return False
        self.is_awake = False
        told = [] if self.refused or self.end else self.listener.take()
        if told:
            self.is_awake = True
            self.told += [ChatMessage.FromString(messages.message(self.listener.name, *one)) for one in told]
            self.listener.written_to(told[-1].id)
        return bool(told)

    def drop(self) -> None:
        if not self.listener.gone:
            self.listener.lost()


class Grpc(Controller):
    """Calls with the messages of the wire, and a stream, as clients of old: it is opened after the first call, and words wait for it."""

    door = "grpc"
    has_receipts = False
    deletes_mail = looks_back = True

    def __init__(self, house: House, replica: int) -> None:
        self.house, self.name, self.front = house, "", house.desks[replica]
        self.exchange = Exchange(self.front.desk, self.front.later)
        self.ear: Ear | None = None
        self.mail: Mail = []

    def settle(self) -> None:
        self.house.settle()
        while self.ear is not None and self.ear.show():
            self.house.settle()

    def ask_call(self, call: str, request: Any, name: str = "") -> str:
        """The word that tells what came of it; or the status of a refusal."""
        answers: list[str] = []
        self.house.sessions += 1
        request.request_id, request.password = f"request-{self.house.sessions}", request.password or PASSWORD
        try:
            asked = messages.CALLS[call](request.SerializeToString())
        except calls.Refused as no:
            return no.status
        for _ in range(2 if self.house.is_troubled else 1):  # asked again, as by a guest who has not heard
            self.exchange.ask(asked, "127.0.0.1", answers.append)
            if self.house.is_troubled:
                self.house.change_view()
            self.settle()
        assert len(set(answers)) == 1, answers
        if answers[0].startswith("!"):
            return calls.refused(answers[0], name or self.name).status
        if name:
            self.open_stream(name, request.password)
        return self.word(position(int(answers[0][2:]), is_word=True))

    def open_stream(self, name: str, password: str) -> None:
        if self.ear is not None:
            self.ear.drop()
        self.ear = Ear(self.front, ChatClient(recipient_id=name, password=password).SerializeToString())
        if self.house.is_troubled:
            self.house.change_view()
        self.settle()

    def word(self, number: int) -> str:
        """What the stream said of it, once."""
        assert self.ear is not None
        self.settle()
        told, self.ear.told = self.ear.told, []
        self.mail += [(one.sender_id, one.message) for one in told if one.sender_id != "Server"]
        (word,) = [one.message for one in told if one.sender_id == "Server" and one.id == number]
        return word

    def create(self, name: str) -> str:
        word = self.ask_call("CreateAccount", CreateAccountRequest(client_id=name), name)
        if word == f"Account {name} has been created!":
            self.name = name
            return "done"
        return {f"Account {name} already exists!": "taken", "ALREADY_EXISTS": "taken", "INVALID_ARGUMENT": "no"}[word]

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        word = self.ask_call("LogIn", LogInRequest(client_id=name, password=password), name)
        if word == "You have been successfully logged in!":
            self.name = name
            return "done"
        return {"UNAUTHENTICATED": "wrong", f"Account {name} is not found!": "unknown"}[word]

    def names(self) -> list[str]:
        return self.matching("")

    def matching(self, pattern: str) -> list[str]:
        word = self.ask_call("WildCard", WildCardRequest(client_id=self.name, pattern=pattern))
        if word == f"Account matched to: {pattern} doesn't exist":
            return []
        assert word.startswith("Account matched: "), word
        return word[17:].split(",")

    def send(self, whom: str, text: str) -> str:
        word = self.ask_call("SendMessage", ChatMessageRequest(sender_id=self.name, recipient_id=whom, message=text))
        return {
            "Your message has been sent!": "sent",
            "Recipient is not found!": "nobody",
            f"{whom}'s mailbox is full": "full",
            "INVALID_ARGUMENT": "no",
        }[word]

    def heard(self) -> Mail:
        if self.ear is not None:
            self.settle()
            self.mail += [(one.sender_id, one.message) for one in self.ear.told if one.sender_id != "Server"]
            self.ear.told.clear()
        found, self.mail = self.mail, []
        return found

    def read(self) -> Mail:
        return self.heard()

    def history(self, whom: str, count: int, before: int = 0) -> tuple[Mail, int]:
        request = HistoryRequest(client_id=self.name, partner_id=whom, count=count, before=before, password=PASSWORD)
        answers: list[str] = []
        self.exchange.look_back(messages.looking_back(request.SerializeToString()), "127.0.0.1", answers.append)
        if self.house.is_troubled:
            self.house.change_view()
        self.settle()
        (reply,) = answers
        found = HistoryResponse.FromString(messages.page(reply))
        return [(one.sender_id, one.message) for one in found.messages], found.older

    def delete(self) -> str:
        word = self.ask_call("DeleteAccount", DeleteAccountRequest(client_id=self.name))
        assert self.ear is not None and self.ear.listener.is_over, "the stream ends behind it"
        return {"Your account has been deleted!": "done"}[word]

    def leave(self) -> None:
        assert self.ear is not None
        self.ear.drop()
        self.house.settle()


AnyDoor = type[Pipe] | type[Framed] | type[Json] | type[Grpc]
DOORS: dict[str, AnyDoor] = {
    "pipe": Pipe,
    "raw pipe": RawPipe,
    "numbered pipe": NumberedPipe,
    "framed": Framed,
    "numbered frames": NumberedFrames,
    "json": Json,
    "grpc": Grpc,
}
TOY = mock.patch.dict(TRANSLATORS, {"json": JsonTranslator})
