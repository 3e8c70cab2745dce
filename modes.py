"""Modes: what the client says to a person and asks of them at each door. The connection, the session and the retries are the same for all.

What it is not: it prints nothing and reads nothing (`terminal.py`, `screen.py`), and opens no port.

    python client.py 6666         Pipe    commands in words (`phrases.py`); what is secret is asked for, hidden
    python client.py localhost    Room    `room_mode.py`: a name, then lines
    python client.py --menu       Menu    `menu_mode.py`: numbers, and a question for whatever a number needs

    a terminal        question ──▶ what was typed ──▶ `typed`: a Word ──▶ what was answered ──▶ `replied`: what is shown
    a script          the same, without the questions' texts; and nobody is asked for a secret

Read next: `phrases.py`, `room_mode.py`, `menu_mode.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from commands import ID_SUFFIX
from dialects import PIPE, Dialect
from guest import Message
from phrases import SIMPLE, WITH_ARGUMENT, Word, banner, hint, outcome, scripted, understand


class Question(NamedTuple):
    """What stands before what is typed; what is typed to a secret one is neither shown nor kept."""

    text: str
    is_secret: bool = False


class Dialog:
    """Some questions, one after the other; then what the answers mean."""

    def __init__(self, questions: Sequence[Question], then: Callable[[list[str]], Word]) -> None:
        self.left, self.answers, self.then = list(questions), list[str](), then

    def answer(self, typed: str) -> Word:
        """Nothing yet, while a question is left."""
        self.answers.append(typed)
        del self.left[0]
        return Word() if self.left else self.then(self.answers)


class Mode:
    """One conversation of a person with a door."""

    door = "pipe"
    dialect: Dialect = PIPE
    completions: tuple[str, ...] = ()
    is_kept = False  # whether what is typed is kept for later clients

    def __init__(self, *, is_script: bool) -> None:
        self.is_script = is_script
        self.dialog: Dialog | None = None

    def banner(self, cluster: dict[str, Any], at: str, account: str) -> list[str]:
        """Said once a server has been found."""
        raise NotImplementedError

    def question(self, account: str) -> Question:
        """What is asked for now."""
        return self.dialog.left[0] if self.dialog else self.usual(account)

    def typed(self, line: str, account: str) -> Word:
        """What a person means by this line."""
        if self.dialog:
            word = self.dialog.answer(line)
            if not self.dialog.left:
                self.dialog = None
            return word
        return self.understand(line, account)

    def ask(self, questions: Sequence[Question], then: Callable[[list[str]], Word]) -> Word:
        """Ask for something before anything else is done."""
        self.dialog = Dialog(questions, then)
        return Word()

    def drop(self) -> None:
        """The person does not want to answer."""
        self.dialog = None

    def usual(self, account: str) -> Question:
        """What stands before a line that answers no question."""
        raise NotImplementedError

    def understand(self, line: str, account: str) -> Word:
        """What such a line means."""
        raise NotImplementedError

    def replied(self, typed: str, asked: str, reply: str, account: str) -> tuple[str, str]:
        """How the reply is shown, and what to do about it."""
        raise NotImplementedError

    def message(self, message: Message) -> tuple[str, str]:
        """Who says what; nobody: it is the door itself that says it."""
        return message.sender, message.text

    def farewell(self) -> str:
        """The last words."""
        return ""


class Pipe(Mode):
    """The chat in words."""

    completions = (*WITH_ARGUMENT, *SIMPLE)
    is_kept = True

    def banner(self, cluster: dict[str, Any], at: str, account: str) -> list[str]:
        return banner(cluster, at, account)

    def usual(self, account: str) -> Question:
        return Question(f"{account}> ")

    def understand(self, line: str, account: str) -> Word:
        words = line.lower().split()
        if words == ["passwd"] and account and not self.is_script:
            questions = Question("old password (none yet: Enter): ", True), *new_password("new password")
            return self.ask(questions, lambda answers: self._changed(account, answers))
        word = understand(line, account)
        return word._replace(waits=word.ask.startswith(("0|", "1|")))  # a password may have to be asked for

    def replied(self, typed: str, asked: str, reply: str, account: str) -> tuple[str, str]:
        if self.is_script:
            return scripted(typed, asked, reply), ""
        op, name, *secret = asked.split("|", 2) if "|" in asked else (asked, "")
        if op == "0" and not secret and reply.startswith("wrong password"):
            # asked for as most people type it: the password is not on the line
            self.ask(
                [Question(f"password for {name}: ", True)], lambda answers: Word(f"0|{name}|{answers[0]}" if answers[0] else "", waits=True)
            )
            return "", ""
        if op == "1" and not secret and reply.startswith("an account needs a password"):
            self.ask(new_password(f"a password for {name}"), lambda answers: checked(answers, f"1|{name}|{answers[-1]}"))
            return "", ""
        return outcome(typed, asked, reply), hint(asked, reply, account)

    def _changed(self, account: str, answers: list[str]) -> Word:
        return checked(answers[1:], f"passwd|{account}{ID_SUFFIX}|{answers[0]}\t{answers[-1]}")


def new_password(text: str) -> list[Question]:
    """A new password, twice."""
    return [Question(f"{text}: ", True), Question("again: ", True)]


def checked(twice: list[str], asks: str) -> Word:
    """This line, if the same was typed twice."""
    if not twice[0]:
        return Word(say="nothing was typed, and nothing is changed")
    return Word(asks, waits=True) if twice[0] == twice[1] else Word(say="the two are not the same: nothing is changed")
