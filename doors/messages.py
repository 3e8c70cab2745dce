"""The messages of the gRPC door: bytes of protobuf into what a call asks for, and what is told into bytes.

What it is not: it knows no stream and no server; what a call means stands in `doors/calls.py`, the messages in `doors/gen/chat.proto`.

A request's bytes may be anything: what no message can be read from is refused, as is text that is no UTF-8. Fields that nobody knows are
passed over, and what is missing is empty; guests of old know none of the new fields, and send any message whose first field is the name.

Read next: `doors/calls.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from doors import calls
from doors.calls import INVALID_ARGUMENT, Asked, Refused
from doors.gen.chat_pb2 import (
    AcknowledgeRequest,
    ChatClient,
    ChatMessage,
    ChatMessageRequest,
    CreateAccountRequest,
    CreateAccountResponse,
    DeleteAccountRequest,
    HistoryMessage,
    HistoryRequest,
    HistoryResponse,
    LogInRequest,
    LogOutRequest,
    WildCardRequest,
)

REQUEST_MAX = 80 * 1024  # bytes: the longest text and its envelope
UNREADABLE = "these bytes are no {}; text in it must be UTF-8"


def _read(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Refused(INVALID_ARGUMENT, UNREADABLE.format(kind.DESCRIPTOR.name)) from None


def _send(raw: bytes) -> Asked:
    m = _read(ChatMessageRequest, raw)
    return calls.send(m.sender_id, m.recipient_id, m.message, m.thread_id, m.request_id, m.password)


def _match(raw: bytes) -> Asked:
    m = _read(WildCardRequest, raw)
    return calls.match(m.client_id, m.pattern, m.request_id, m.password)


def _acknowledge(raw: bytes) -> Asked:
    m = _read(AcknowledgeRequest, raw)
    return calls.call("k", m.client_id, str(m.upto), password=m.password)


def _simple(kind: Any, verb: str) -> Callable[[bytes], Asked]:
    def read(raw: bytes) -> Asked:
        m = _read(kind, raw)
        return calls.call(verb, m.client_id, request=m.request_id, password=m.password)

    return read


# What each call asks for. Each raises Refused.
CALLS: dict[str, Callable[[bytes], Asked]] = {
    "SendMessage": _send,
    "CreateAccount": _simple(CreateAccountRequest, "c"),
    "LogIn": _simple(LogInRequest, "i"),
    "LogOut": _simple(LogOutRequest, "o"),
    "DeleteAccount": _simple(DeleteAccountRequest, "d"),
    "WildCard": _match,
    "Acknowledge": _acknowledge,
}


def looking_back(raw: bytes) -> Asked:
    """A page of a conversation. Raises Refused."""
    m = _read(HistoryRequest, raw)
    return calls.look_back(m.client_id, m.partner_id, m.before, m.count, m.password)


def page(reply: str) -> bytes:
    """The page, as the query's answer has it."""
    _, _, anew, older, rows = reply.split("|", 4)
    found = HistoryResponse(older=int(older), anew=int(anew))
    for row in rows.split("\n") if rows else ():
        number, time, sender, text = row.split("|", 3)
        found.messages.append(HistoryMessage(id=int(number), time=int(time), sender_id=sender, message=text))
    return found.SerializeToString()


def listening(raw: bytes) -> tuple[str, str, int, bool]:
    """Whose stream, the password, the position to begin at, whether the guest acknowledges. Raises Refused."""
    m = _read(ChatClient, raw)
    return m.recipient_id, m.password, m.after, m.acknowledges


def answer(number: int) -> bytes:
    """Any response: all have this one field."""
    return CreateAccountResponse(id=number).SerializeToString()


def message(name: str, number: int, thread: int, sender: str, text: str) -> bytes:
    """What `name` is told."""
    return ChatMessage(id=number, thread_id=thread, message=text, sender_id=sender, recipient_id=name).SerializeToString()
