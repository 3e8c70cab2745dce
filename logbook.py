"""A replica's log: `data/replica-N/log/replica.log`, for people or as JSON, rotated; one fact a line. And what is printed.

What it is not: it knows nothing of what is said. What a line may hold is the affair of whoever says it; no guest's text is among it.

    server.py … | head    head has read enough, and goes: what is printed from then on is dropped, what is done is done to its end
    server.py > FILE      the file's disk is full, or fails: likewise, or Python itself would end with 120 for what it cannot flush
    server.py >&-         there is nobody from the start: likewise. /dev/null takes the number 1, or the journal might, and hold what a
                          library prints
    replica.log           its disk is full, or fails: said once, on stderr

Read next: `admin.py`.
"""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
import sys
from typing import Any, TextIO

from settings import Settings


class Unheard(io.FileIO):
    """A file whose reader may go away, or whose disk may fail: nobody stops half-way, or with other words than its own, for that."""

    def __init__(self, number: int, *, is_lamented: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self.is_lamented = is_lamented

    def write(self, words: Any, /) -> int:
        try:
            return super().write(words)
        except BrokenPipeError:
            return len(words)
        except OSError as error:
            if not self.is_lamented:
                self.is_lamented = True
                print(f"what is printed from here on is lost: {error}", file=sys.stderr, flush=True)
            return len(words)


def print_to_whoever_listens() -> None:
    """From here on `print` goes on when its reader, or the disk below it, has gone."""
    for number in range(3):
        _fill(number)
    sys.stdout = _paper(sys.stdout, 1)
    sys.stderr = _paper(sys.stderr, 2)


def _fill(number: int) -> None:
    """Take a standard descriptor that is free before anybody else does."""
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, which is this one


def _paper(was: TextIO | None, number: int) -> io.TextIOWrapper:
    raw = Unheard(number, is_lamented=number == 2)  # nobody hears a lament about the place of laments
    encoding, errors = getattr(was, "encoding", None), getattr(was, "errors", "backslashreplace")
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=number == 2 or raw.isatty())


class LogFile(logging.handlers.RotatingFileHandler):
    """The file for people. What it cannot take is lost, and that is said once, until it takes something again."""

    trouble: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        before, self.trouble = self.trouble, None
        super().emit(record)
        if self.trouble is not None and before is None:
            print(f"what is logged from here on is lost: {self.trouble}", file=sys.stderr, flush=True)

    def handleError(self, record: logging.LogRecord) -> None:
        self.trouble = sys.exception()
        if not isinstance(self.trouble, OSError):
            super().handleError(record)


def start_log(settings: Settings, path: str, *, console: bool) -> None:
    """Readable or JSON lines to `log/replica.log`, rotated, and to the console. Raises OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    c = settings
    form = JsonLines() if c.log_format == "json" else logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%Y-%m-%d %H:%M:%S")
    to_file = LogFile(os.path.join(path, "replica.log"), maxBytes=c.log_bytes, backupCount=c.log_files, encoding="utf-8")
    handlers: list[logging.Handler] = [to_file, *([logging.StreamHandler(sys.stdout)] if console else [])]
    for handler in handlers:
        handler.setFormatter(form)
        handler.addFilter(one_line)
    logging.basicConfig(level=logging.INFO, handlers=handlers)


def one_line(record: logging.LogRecord) -> bool:
    """Control characters of others' making stay visible and harmless; one record is one line."""
    record.msg, record.args = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage()), ()
    return True


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"time": round(record.created, 6), "level": record.levelname, "text": record.getMessage()}, ensure_ascii=False)
