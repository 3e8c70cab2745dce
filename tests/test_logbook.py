"""The log for people, where its disk takes nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import unittest

from logbook import LogFile


class FullDisk(unittest.TestCase):
    """What a full disk does not take is no reason for a page of Python's words at each line."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "replica.log")
        os.symlink("/dev/full", self.path)

    def said(self, log: LogFile, *records: str) -> list[str]:
        """What stderr hears while these are logged."""
        with contextlib.redirect_stderr(io.StringIO()) as heard:
            for words in records:
                log.handle(logging.makeLogRecord({"msg": words}))
        return heard.getvalue().splitlines()

    def test_it_is_said_once_each_time_it_begins(self) -> None:
        log = LogFile(self.path, encoding="utf-8")
        lament = ["what is logged from here on is lost: [Errno 28] No space left on device"]
        self.assertEqual(self.said(log, "one", "two", "three"), lament)
        with contextlib.suppress(OSError):
            log.close()
        os.unlink(self.path)
        self.assertEqual(self.said(log, "four"), [])
        log.close()
        with open(self.path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "four\n")
        os.unlink(self.path)
        os.symlink("/dev/full", self.path)
        self.assertEqual(self.said(log, "five", "six"), lament)
        with contextlib.suppress(OSError):
            log.close()

    def test_an_error_of_ours_is_shown_whole(self) -> None:
        os.unlink(self.path)
        log = LogFile(self.path, encoding="utf-8")
        self.addCleanup(log.close)
        log.setFormatter(logging.Formatter("%(absent)s"))
        self.assertIn("Traceback (most recent call last):", self.said(log, "one"))


if __name__ == "__main__":
    unittest.main()
