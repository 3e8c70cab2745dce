"""Requests with a password: whoever asks waits, in order, and nobody else; no password goes anywhere."""

from __future__ import annotations

import re
import unittest

from commands import system_run
from tests.front_desk import QUICK, FrontDesk, Person
from tests.test_desk import lines_of
from waiting import HASHES_MAX, REFUSED_S, Proof

HEX = "00112233445566778899aabbccddeeff"


class ProofTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.person = self.front.connect()

    def tearDown(self) -> None:
        self.assertEqual(self.front.desk.unanswered_bytes, sum(c.bytes_unanswered for c in self.front.desk.connections.values()))

    def commit(self) -> list[str]:
        """Only the log moves: no work is done, no query answered."""
        body = self.front.desk.take(1 << 20)
        if body:
            self.front.log.commit(body)
        return lines_of(body)

    def answer_queries(self) -> None:
        desk = self.front.desk
        for ticket, (connection, query) in list(desk.queries.items()):
            desk.answer(ticket, desk.evaluate(connection.session, query.command))

    def work(self) -> None:
        works, self.front.works = self.front.works, []
        for _, job, done in works:
            done(job())

    def test_no_password_enters_the_log(self) -> None:
        self.person.send(b"1|mason|secret\n0|mason123|secret\n0|mason123|wrong one\n")
        seen = list[str]()
        for _ in range(8):
            seen += self.commit()
            self.answer_queries()
            self.work()
        self.assertEqual(len(seen), 4, seen)
        self.assertTrue(seen[1].startswith("C|mason|$argon2id$"))
        self.assertEqual(seen[2], f"L|mason123|{self.front.state.accounts['mason'].secret}")
        self.assertEqual(seen[3], "L|mason123|-")
        self.assertNotIn("secret", "".join(seen))
        self.assertNotIn("wrong", "".join(seen))
        self.assertTrue(self.person.read().endswith(b"user : mason is now logged in\nwrong password for mason123\n"))

    def test_what_comes_behind_it_waits_and_others_do_not(self) -> None:
        other = self.front.connect()
        self.person.send(b"1|mason|secret\n3|mason|after\n2\n")
        self.assertEqual(self.commit(), [f"open|{self.person.connection.session.hex()}|0.7.1|plain"])
        self.assertEqual(other.say(b""), b"", "and the turn hashes")
        self.front.works.clear()
        person = self.front.connect()
        person.send(b"1|nora|secret\n3|nora|after\n")
        self.commit()
        self.assertEqual(len(self.front.works), 1, "being hashed")
        other.send(b"1|wayne\n3|wayne|me\n")
        self.commit()
        self.assertIn(b"to wayne\n", other.read())
        self.assertEqual(person.read(), b"")
        self.work()
        self.assertEqual([line[:2] for line in self.commit()], ["C|", "S|"], "what was held back leaves with it")
        self.assertIn(b"to nora\n", person.read())

    def test_a_queue_that_is_full_refuses(self) -> None:
        """At every door, whatever the password is for; nothing is done, and when the queue is shorter all goes on."""
        self.person.say("1|mason|secret\n")
        crowd = [self.front.connect() for _ in range(HASHES_MAX)]
        for person in crowd:
            person.send(b"1|one|secret\n")
        self.commit()
        self.assertEqual((len(self.front.works), self.front.desk.hashing), (HASHES_MAX, HASHES_MAX))
        words = b"too many passwords are being checked: try again in a moment"
        asked = {
            ("pipe", b"0|mason123|secret\n"): words + b"\n",
            ("pipe", b"1|nora|secret\n"): words + b"\n",
            ("ledger", b"0|mason|secret\n"): b"error: " + words + b"\n",
            ("ledger", b"1|nora|secret\n"): b"error: " + words + b"\n",
            ("framed", b"22        1\nmason\nsecret12345678"): b"62        -1\n" + words,
            ("framed", b"14        3\nnora\nsecret1"): b"62        -1\n" + words,
        }
        for (door, line), answer in asked.items():
            person = self.front.connect(door)
            person.read()
            person.send(line)
            self.commit()
            self.answer_queries()
            self.front.pass_by()
            self.assertEqual(self.commit(), [], "the log need not know")
            with self.subTest(door=door, line=line):
                self.assertTrue(person.read().endswith(answer))
        self.assertEqual(len(self.front.works), HASHES_MAX)
        operator = self.front.connect("operator")
        operator.send(b'{"what": "reset", "name": "mason", "password": "other"}')
        self.commit()
        self.assertEqual(len(self.front.works), HASHES_MAX + 1, "an operator is never refused")
        self.front.turn()
        self.assertEqual(self.front.desk.hashing, 0)
        self.assertEqual(list(self.front.state.accounts), ["mason", "one"])
        self.assertEqual(self.front.connect().say(b"0|mason123|other\n")[-33:], b"user : mason is now logged in\n"[-33:])

    def test_a_queue_that_fills_while_the_hash_is_looked_up(self) -> None:
        self.person.say("1|mason|secret\n")
        self.person.send(b"0|mason123|secret\n")
        self.front.desk.hashing += HASHES_MAX
        self.answer_queries()
        self.front.pass_by()
        self.assertIn(b"too many passwords", self.person.read())
        self.front.desk.hashing -= HASHES_MAX

    def test_of_a_refusal_the_log_hears_nothing_and_what_follows_it_follows(self) -> None:
        """Between refused requests: others that wait behind, nothing, a read, a line that is none; on one connection, and on its next."""
        self.person.say("1|mason|secret\n")
        behind = ("3|mason|x", "", "2", "nonsense", "0|mason123|guess\n3|mason|x", "1|new|secret\n3|mason|x")
        for nth, after in enumerate(behind):
            with self.subTest(after=after):
                self.front.desk.hashing += HASHES_MAX
                person = self.front.connect()
                person.say(f"understudy 1 {nth:032x}\n1 0 1|open{nth}\n")
                lines = ["0|mason123|guess", "0|mason123|guess", *after.split("\n"), "3|mason|y"]
                person.send("".join(f"{n} 0 {line}\n" for n, line in enumerate(lines, 2)).encode())
                while self.front.desk.queries or self.front.desk.open_runs or self.front.works:
                    self.assertFalse([line for line in self.commit() if line[:2] in ("L|", "C|")], "refused by the log")
                    self.answer_queries()
                    self.front.pass_by()
                words = person.read()
                self.assertEqual([int(n) for n in re.findall(rb"(?<!\* )([2-9]) \d+\n", words)], list(range(2, len(lines) + 2)))
                self.assertNotIn(b"! gap", words)
                self.assertEqual(words.count(b"Sender open"), 1 + ("|x" in after))
                self.assertEqual(person.connection.bytes_unanswered, 0)
                number = len(lines) + 2
                self.assertIn(b"too many passwords", person.say(f"{number} 0 0|mason123|guess\n"))
                self.assertIn(b"Sender open", person.say(f"{number + 1} 0 3|mason|z\n"))
                self.front.desk.hashing -= HASHES_MAX

    def test_a_thousand_refusals_in_one_breath(self) -> None:
        """Each a moment after the one before, not inside it: whoever guesses without a pause has one."""
        self.front.desk.hashing += HASHES_MAX
        self.person.send(b"1|nora|secret\n" * 1500)
        began = self.front.time
        self.front.turn()
        self.assertAlmostEqual(self.front.time - began, 1500 * REFUSED_S)
        self.assertEqual(self.person.read().count(b"too many passwords"), 1500)
        self.front.desk.hashing -= HASHES_MAX

    def test_who_came_back_hears_what_the_log_says(self) -> None:
        """The connection before may have been let in, or still be: a request that was refused is never executed."""
        self.person.say("1|mason|secret\n")
        first = self.front.connect()
        first.say(f"understudy 1 {HEX}\n")
        first.send(b"1 0 0|mason123|secret\n")
        self.commit()
        self.answer_queries()
        self.work()
        under_way = self.front.desk.take(1 << 20)
        again = self.front.connect()
        again.say(f"understudy 1 {HEX}\nresume 0 1\n")
        self.front.desk.hashing += HASHES_MAX
        again.send(b"1 0 0|mason123|secret\n")
        self.front.log.commit(under_way)
        self.front.turn()
        self.assertIn(b"mason is now logged in", again.read())
        self.front.desk.hashing -= HASHES_MAX

    def test_a_refused_guest_is_gone_before_it_is_told(self) -> None:
        self.front.desk.hashing += HASHES_MAX
        for hello in ("", f"understudy 1 {HEX}\n1 0 "):
            person = self.front.connect()
            person.send(f"{hello}1|nora|secret\n".encode())
            self.commit()
            person.connection.lost()
            self.front.turn()
        self.front.desk.hashing -= HASHES_MAX
        self.assertEqual(self.front.desk.connections.keys(), {self.person.connection.home})

    def test_an_open_account_that_cannot_have_a_password_now_stays_open(self) -> None:
        self.person.say(f"understudy 1 {HEX}\n")
        self.person.say("1 0 1|open\n")
        self.front.desk.hashing += HASHES_MAX
        self.assertIn(b"too many passwords", self.person.say("2 0 passwd|open123|\tnew\n"))
        self.front.desk.hashing -= HASHES_MAX
        self.assertEqual(self.front.state.accounts["open"].secret, "")

    def test_right_wrong_and_unknown_are_worked_on_alike(self) -> None:
        self.person.say("1|mason|secret\n")
        for line in ("0|mason123|secret", "0|mason123|guess", "0|nobody123|guess", "0|mason123|"):
            person = self.front.connect()
            person.send(line.encode() + b"\n")
            self.commit()
            self.answer_queries()
            self.assertEqual(len(self.front.works), 0 if line.endswith("|") else 1, line)
            self.front.turn()

    def test_numbers_follow_one_another(self) -> None:
        """Requests with and without a password, reads and nonsense, in one session."""
        self.person.say(f"understudy 1 {HEX}\n")
        lines = ["1|mason|secret", "who", "3|mason|a", "nonsense", "0|mason123|wrong", "2", "0|mason123|secret", "3|mason|b"]
        words = self.person.say("".join(f"{n} 0 {line}\n" for n, line in enumerate(lines, 1)))
        self.assertEqual([int(n) for n in re.findall(rb"(?<!\* )([1-8]) \d+\n", words)], list(range(1, 9)))
        self.assertNotIn(b"! gap", words)
        self.assertEqual(self.front.state.accounts["mason"].last_seq, 2)

    def test_asked_again_after_a_failover_it_is_done_once(self) -> None:
        """Hashed anew, with another salt: the reply and the hash are the first ones."""
        self.person.say(f"understudy 1 {HEX}\n")
        first = self.person.say("1 0 1|mason|secret\n")
        secret = self.front.state.accounts["mason"].secret
        again = self.front.connect()
        again.say(f"understudy 1 {HEX}\nresume 0 1\n")
        self.assertEqual(again.say("1 0 1|mason|secret\n"), first)
        self.assertEqual(self.front.state.accounts["mason"].secret, secret)
        self.assertTrue(QUICK.matches(secret, "secret"))

    def test_a_view_change_while_the_hash_is_looked_up(self) -> None:
        self.person.say("1|mason|secret\n")
        self.person.send(b"0|mason123|secret\n3|mason|x\n")
        self.commit()
        self.front.desk.unasked()
        old = next(iter(self.front.desk.queries))
        self.front.desk.renew(system_run("members|0.7"))
        self.front.desk.answer(old, "k|0|stale")
        self.assertEqual(self.front.works, [])
        self.front.turn()
        self.assertIn(b"is now logged in\nSender mason", self.person.read())

    def test_a_view_change_while_it_is_hashed(self) -> None:
        self.person.say("1|mason|secret\n")
        self.person.send(b"0|mason123|secret\n3|mason|x\n")
        self.commit()
        self.answer_queries()
        self.front.desk.renew(system_run("members|0.7"))
        self.answer_queries()
        self.assertEqual(len(self.front.works), 1, "once is enough")
        self.front.turn()
        self.assertIn(b"is now logged in\nSender mason", self.person.read())

    def test_who_is_gone_before_the_hash_is_there(self) -> None:
        for hello, stays in (("", True), (f"understudy 1 {HEX}\n1 0 ", False)):
            person = self.front.connect()
            person.send(f"{hello}1|{'p' if stays else 'q'}|secret\n".encode())
            self.commit()
            self.assertEqual(len(self.front.works), 1)
            person.connection.lost()
            self.front.turn()
            self.assertEqual("p" in self.front.state.accounts, True)
            self.assertEqual("q" in self.front.state.accounts, False, "it asks again elsewhere")
        self.assertEqual(self.front.desk.connections.keys(), {self.person.connection.home})

    def test_the_replica_leaves_the_view_while_it_hashes(self) -> None:
        self.person.send(b"1|mason|secret\n")
        self.commit()
        self.front.desk.close_all("not in the view")
        self.front.turn()
        self.assertEqual(self.front.state.accounts, {})

    def test_an_outdated_hash_is_made_anew(self) -> None:
        from passwords import Hasher

        old = Hasher(time_cost=1, memory_kib=16).hash("secret", b"s" * 16)
        self.person.say("1|mason|secret\n")
        account = self.front.state.accounts["mason"]
        account.secret = old
        self.assertEqual(self.person.say("0|mason123|wrong\n"), b"wrong password for mason123\n")
        self.assertEqual(account.secret, old)
        self.assertEqual(self.person.say("0|mason123|secret\n"), b"user : mason is now logged in\n")
        self.assertNotEqual(account.secret, old)
        self.assertTrue(QUICK.matches(account.secret, "secret"))

    def test_too_many(self) -> None:
        self.person.say("1|mason|secret\n")
        words = [self.front.connect().say("0|mason123|guess\n") for _ in range(5)]
        self.assertEqual(set(words), {b"wrong password for mason123\n"})
        before = self.front.time
        people = [self.front.connect() for _ in range(6)]
        for person in people:
            person.send(b"0|mason123|guess\n")
        self.front.turn()
        self.assertGreaterEqual(self.front.time, before + 7, "the last that was looked at had to wait so long")
        told = [person.read() for person in people]
        self.assertEqual(told[:3], [b"wrong password for mason123\n"] * 3)
        self.assertEqual(told[3:], [b"too many attempts for mason123: try again in 15 s\n"] * 3)

    def test_who_gets_in_is_forgiven(self) -> None:
        self.person.say("1|mason|secret\n")
        for _ in range(4):
            for _ in range(4):
                self.assertIn(b"wrong password", self.front.connect().say("0|mason123|guess\n"))
            self.assertIn(b"logged in", self.front.connect().say("0|mason123|secret\n"))
        self.assertEqual(self.front.time, 1000.0, "nobody had to wait")

    def test_a_password_is_not_kept(self) -> None:
        self.person.send(b"1|mason|secret\n0|mason123|secret\n")
        proofs = [item for item in self.person.connection.line if isinstance(item, Proof)]
        self.assertEqual(len(proofs), 2)
        self.front.turn()
        self.assertEqual([(p.old, p.new) for p in proofs], [("", "")] * 2)


class StrictTest(unittest.TestCase):
    """A cluster without open accounts; `open` was made before."""

    def setUp(self) -> None:
        self.front = FrontDesk(is_strict=True)
        lax = FrontDesk(self.front.log, "1.8")
        lax.connect().say("1|open\n")
        self.front.log.desks[:] = [self.front]
        self.person = self.front.connect()

    def say(self, line: str, person: Person | None = None) -> str:
        return (person or self.person).say(line + "\n").decode()

    def test_open_accounts_are_shut_until_they_have_a_password(self) -> None:
        for line in ("0|open123", "0|open123|guess", "4|open123", "5|open123"):
            with self.subTest(line):
                self.assertEqual(self.say(line), "wrong password for open123\n")
        self.assertEqual(self.say("1|new"), "an account needs a password here: 1|new|PASSWORD\n")
        teller = self.front.connect("ledger")
        for line in ("2|open123|5", "3|open123|5", "4|open123", "0|open"):
            with self.subTest(line):
                self.assertEqual(self.say(line, teller), f"error: wrong password for {line.split('|')[1]}\n")
        self.assertEqual(self.say("1|new", teller), "error: an account needs a password here: 1|new|PASSWORD\n")

    def test_those_with_one_are_as_everywhere(self) -> None:
        self.assertIn("Success", self.say("1|mason|secret"))
        self.assertEqual(self.say("4|mason123"), "No new messages\n")
        teller = self.front.connect("ledger")
        self.assertEqual(self.say("4|mason123", teller), "error: wrong password for mason123\n")
        self.assertEqual(self.say("0|mason|secret", teller), "mason123\n")
        self.assertEqual(self.say("2|mason123|5\n4|mason123", teller), "5\n5\n")
        self.assertEqual(self.say("5|mason123"), "Your account has been deleted\n")


if __name__ == "__main__":
    unittest.main()
