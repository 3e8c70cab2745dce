"""The numbered menu at the client: a command's number, then a question for all that it needs; passwords are typed unseen.

What it is not: it frames nothing. It speaks the numbered mode at the framed door's port, so that what is typed counts once whatever dies,
and messages come on the same connection (`doors/menu.py`).

Read next: `doors/framed.py`.
"""

from __future__ import annotations

from typing import Any

from commands import NAME_MAX
from dialects import MENU
from modes import Mode, Question, checked, new_password
from phrases import Word

WELCOME = "Welcome! Connected to the server."
ABOUT = "This is a chat room app. We support the following command listed below with its corresponding command code:"
COMMANDS = (
    "0. Help",
    "1. Log in ",
    "2. Send message to other users",
    "3.  Register",
    "4.  List all registered users",
    "5.  Delete account",
    "-1. Log out",
)
CODE = "Command code: "
LEAVE = "bye, or Ctrl-D, ends the client"
USER, PASSWORD = Question("Username: "), Question("Password: ", True)


class Menu(Mode):
    """The framed door's."""

    door, dialect = "framed", MENU

    def banner(self, cluster: dict[str, Any], at: str, account: str) -> list[str]:
        return [WELCOME, ABOUT, *COMMANDS, LEAVE, *([f"you are {account} again"] if account else [])]

    def usual(self, account: str) -> Question:
        return Question(f"{account}, command code: " if account else CODE)

    def understand(self, line: str, account: str) -> Word:
        code = line.strip().removesuffix(".")
        if code in ("bye", "quit", "exit"):
            return Word(ends=True)
        if code == "0":
            return Word(say="\n".join((*COMMANDS, LEAVE)))
        if code in ("4", "-1"):
            return Word(code, waits=True)
        if code in ("1", "5"):
            return self.ask([USER, PASSWORD], lambda answers: self._named(code, answers))
        if code == "2":
            return self.ask([Question("Recipient: "), Question("Message: ")], lambda answers: self._named(code, answers))
        if code == "3":
            twice = [USER, PASSWORD] if self.is_script else [USER, *new_password("Password")]
            return self.ask(twice, self._registered)
        return Word(say=f"{code!r} is no command code: 0 shows them all") if code else Word()

    def _named(self, code: str, answers: list[str]) -> Word:
        name, words = answers[0].strip(), answers[1]
        if "|" in name:
            return Word(say=f"a username has 1 to {NAME_MAX} letters, no space and no , or |")
        return Word(f"{code}|{name}|{words}", waits=True)

    def _registered(self, answers: list[str]) -> Word:
        word = self._named("3", answers)
        return word if self.is_script or word.say else checked(answers[1:], word.ask)

    def replied(self, typed: str, asked: str, reply: str, account: str) -> tuple[str, str]:
        _, _, words = reply.partition("\n")
        return words or reply, ""
