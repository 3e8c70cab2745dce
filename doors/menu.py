"""The framed door's numbered mode: its commands as lines of the numbered mode, for programs that retry; messages on the same connection.

What it is not: it has no words of its own, they are those of `framed.py`.

    line                       command                        line                       command
    1|USER|PASSWORD            LogIn                          4                          ListAccounts, hidden ones too
    3|USER|PASSWORD            CreateAccount                  5|USER|PASSWORD            EraseAccount, with its mail
    2|RECIPIENT|TEXT           SendMessage                    -1                         LogOut

A connection comes here when the first bytes that it sends are no header but `understudy 1 SESSION-HEX⏎`.

Read next: `doors/framed.py`, `doors/lines.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from commands import CREATE, ERASE, ID_MAX, LIST_ALL, LOG_IN, LOG_OUT, SEND, TEXT_MAX, Passwords, account_id, is_name, is_password
from doors.framed import BAD_DELETION, BAD_LOGIN, BAD_NAME, BAD_PASSWORD, BAD_RECIPIENT, BAD_TEXT, BUSY, UNKNOWN, visible, words_of
from doors.lines import LineTranslator, text_of

if TYPE_CHECKING:
    from doors.lines import Words

LETTERS = {"1": LOG_IN, "3": CREATE, "5": ERASE}
# How answers begin to lines that are no command, and to some that are.
COMPLAINTS = tuple(words.encode() for words in (BAD_LOGIN, BAD_TEXT, BAD_RECIPIENT, BAD_PASSWORD, BAD_NAME, BAD_DELETION, BUSY, UNKNOWN))


class MenuTranslator(LineTranslator):
    """One numbered connection at the framed door."""

    words: Mapping[str, Words] = dict.fromkeys(
        (LOG_IN, CREATE, ERASE, LOG_OUT, SEND, LIST_ALL), lambda guest, command, reply: words_of(command, reply)
    )

    def understand(self, line: bytes) -> str | None:
        text = text_of(line) or ""
        code, whom, words = [*text.split("|", 2), "", ""][:3]
        if text in ("4", "-1"):
            return LIST_ALL if text == "4" else LOG_OUT
        is_send = code == "2" and 0 < len(whom) <= ID_MAX and 0 < len(words.encode()) <= TEXT_MAX
        return f"{SEND}|{whom}|{words}" if is_send else None

    def understand_numbered(self, line: bytes) -> str | None:
        return None

    def with_password(self, line: bytes) -> tuple[str, Passwords]:
        code, user, password = [*(text_of(line) or "").split("|", 2), "", ""][:3]
        if code not in LETTERS or not is_name(user) or not is_password(password):
            return "", Passwords()
        return (
            (f"{CREATE}|{user}", Passwords(new=password))
            if code == "3"
            else (f"{LETTERS[code]}|{account_id(user)}", Passwords(old=password))
        )

    def complaint(self, line: bytes) -> bytes:
        code, first = [*line.decode("utf-8", "replace").split("|", 2), ""][:2]
        words = {
            "1": BAD_LOGIN,
            "2": BAD_TEXT if 0 < len(first) <= ID_MAX else BAD_RECIPIENT,
            "3": BAD_PASSWORD if is_name(first) else BAD_NAME,
            "5": BAD_DELETION,
        }
        return words.get(code, f"{UNKNOWN}{visible(code)}").encode()
