from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatMessageRequest(_message.Message):
    __slots__ = ("thread_id", "message", "sender_id", "recipient_id", "request_id", "password")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    thread_id: int
    message: str
    sender_id: str
    recipient_id: str
    request_id: str
    password: str
    def __init__(self, thread_id: _Optional[int] = ..., message: _Optional[str] = ..., sender_id: _Optional[str] = ..., recipient_id: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class ChatMessageResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("id", "thread_id", "message", "sender_id", "recipient_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    thread_id: int
    message: str
    sender_id: str
    recipient_id: str
    def __init__(self, id: _Optional[int] = ..., thread_id: _Optional[int] = ..., message: _Optional[str] = ..., sender_id: _Optional[str] = ..., recipient_id: _Optional[str] = ...) -> None: ...

class ChatClient(_message.Message):
    __slots__ = ("recipient_id", "password", "after", "acknowledges")
    RECIPIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGES_FIELD_NUMBER: _ClassVar[int]
    recipient_id: str
    password: str
    after: int
    acknowledges: bool
    def __init__(self, recipient_id: _Optional[str] = ..., password: _Optional[str] = ..., after: _Optional[int] = ..., acknowledges: _Optional[bool] = ...) -> None: ...

class DeleteAccountRequest(_message.Message):
    __slots__ = ("client_id", "request_id", "password")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    request_id: str
    password: str
    def __init__(self, client_id: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class DeleteAccountResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class CreateAccountRequest(_message.Message):
    __slots__ = ("client_id", "request_id", "password")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    request_id: str
    password: str
    def __init__(self, client_id: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class CreateAccountResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class WildCardRequest(_message.Message):
    __slots__ = ("client_id", "pattern", "request_id", "password")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    pattern: str
    request_id: str
    password: str
    def __init__(self, client_id: _Optional[str] = ..., pattern: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class WildCardResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class LogOutRequest(_message.Message):
    __slots__ = ("client_id", "request_id", "password")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    request_id: str
    password: str
    def __init__(self, client_id: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class LogOutResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class LogInRequest(_message.Message):
    __slots__ = ("client_id", "request_id", "password")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    request_id: str
    password: str
    def __init__(self, client_id: _Optional[str] = ..., request_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class LogInResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("client_id", "password", "upto")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    UPTO_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    password: str
    upto: int
    def __init__(self, client_id: _Optional[str] = ..., password: _Optional[str] = ..., upto: _Optional[int] = ...) -> None: ...

class AcknowledgeResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("client_id", "partner_id", "password", "before", "count")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PARTNER_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    partner_id: str
    password: str
    before: int
    count: int
    def __init__(self, client_id: _Optional[str] = ..., partner_id: _Optional[str] = ..., password: _Optional[str] = ..., before: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("messages", "older", "anew")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OLDER_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[HistoryMessage]
    older: int
    anew: int
    def __init__(self, messages: _Optional[_Iterable[_Union[HistoryMessage, _Mapping]]] = ..., older: _Optional[int] = ..., anew: _Optional[int] = ...) -> None: ...

class HistoryMessage(_message.Message):
    __slots__ = ("id", "time", "sender_id", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    time: int
    sender_id: str
    message: str
    def __init__(self, id: _Optional[int] = ..., time: _Optional[int] = ..., sender_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
