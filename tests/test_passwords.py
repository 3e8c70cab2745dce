"""Passwords: what the hash says of itself, one work for all, and old parameters."""

from __future__ import annotations

import statistics
import time
import unittest

import argon2

from commands import PASSWORD_MAX, is_password
from passwords import MEMORY_KIB, SALT_SIZE, TIME_COST, Hasher

SALT = bytes(range(SALT_SIZE))


class HashTest(unittest.TestCase):
    def test_the_parameters_stand_in_the_hash(self) -> None:
        secret = Hasher().hash("secret", SALT)
        self.assertTrue(secret.startswith(f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p=1$AAECAwQFBgcICQoLDA0ODw$"), secret)
        self.assertEqual((MEMORY_KIB, TIME_COST, SALT_SIZE), (19_456, 2, 16))
        self.assertNotIn("|", secret, "it is a field of a command")

    def test_right_and_wrong(self) -> None:
        hasher = Hasher(time_cost=1, memory_kib=8)
        secret = hasher.hash("pässword", SALT)
        self.assertTrue(hasher.matches(secret, "pässword"))
        self.assertTrue(hasher.matches(secret, "pa\u0308ssword"), "the same, as another keyboard says it")
        for word in ("passwort", "", "pässword ", "x" * PASSWORD_MAX):
            self.assertFalse(hasher.matches(secret, word))
        self.assertFalse(hasher.matches("no hash at all", "x"))
        self.assertNotEqual(hasher.hash("pässword", SALT[::-1]), secret)

    def test_nobody_has_no_password(self) -> None:
        hasher = Hasher(time_cost=1, memory_kib=8)
        self.assertFalse(hasher.matches("", "nobody has this password"))
        with self.assertRaises(argon2.exceptions.VerifyMismatchError):  # another error would come without the work
            argon2.PasswordHasher().verify(hasher._nobodys, "x")
        nobodys, somebodys = hasher._nobodys, hasher.hash("x", bytes(SALT_SIZE))
        self.assertEqual((nobodys.rpartition("$")[0], len(nobodys)), (somebodys.rpartition("$")[0], len(somebodys)))

    def test_what_was_made_with_other_parameters_is_still_checked(self) -> None:
        old, new = Hasher(time_cost=1, memory_kib=8), Hasher(time_cost=2, memory_kib=16)
        secret = old.hash("secret", SALT)
        self.assertTrue(new.matches(secret, "secret"))
        self.assertTrue(new.is_outdated(secret))
        self.assertFalse(new.is_outdated(new.hash("secret", SALT)))

    def test_unknown_and_wrong_cost_the_same(self) -> None:
        """The work is the same; how long it takes is told by the better half of the tries."""
        hasher = Hasher(time_cost=1, memory_kib=1024)
        secret = hasher.hash("secret", SALT)

        def cost(one: str) -> float:
            began = time.thread_time()
            hasher.matches(one, "guess")
            return time.thread_time() - began

        pairs = [(cost(""), cost(secret)) for _ in range(60)]
        unknown, wrong = (statistics.median(sorted(times)[:30]) for times in zip(*pairs, strict=True))
        self.assertLess(max(unknown, wrong), 2 * min(unknown, wrong))


class WordsTest(unittest.TestCase):
    def test_what_may_be_one(self) -> None:
        for words in ("x", "with blanks and | and ,", "é" * (PASSWORD_MAX // 2), "🔑"):
            self.assertTrue(is_password(words), words)
        for words in ("", "tab\there", "nul\0", "x" * (PASSWORD_MAX + 1), "é" * (PASSWORD_MAX // 2) + "x"):
            self.assertFalse(is_password(words), words)


if __name__ == "__main__":
    unittest.main()
