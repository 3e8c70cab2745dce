"""The desk: order, sending again, deliveries, limits; what survives a view change, a dead connection and a full disk."""

from __future__ import annotations

import unittest

from commands import NO_SESSION, RUN, WINDOW, count_ops, system_run
from desk import BACKLOG_MAX
from doors import calls
from doors.pipe_words import INVALID
from exchange import Exchange
from people import Outcome
from state import ChatState
from tests.front_desk import FrontDesk, Log, Paper, Person
from waiting import Run

HEX = "00112233445566778899aabbccddeeff"


def texts(front: FrontDesk, name: str) -> list[str]:
    return [message[4] for message in front.state.accounts[name].mailbox]


def said(front: FrontDesk) -> list[str]:
    """Texts of all messages ever, in order."""
    return [message[4] for message in front.state.history]


def lines_of(body: bytes) -> list[str]:
    """The lines of a chain of runs."""
    lines, at = list[str](), 0
    while at < len(body):
        length = RUN.unpack_from(body, at)[1]
        lines += body[at + RUN.size : at + RUN.size + length].decode().split("\n")
        at += RUN.size + length
    return lines


class OrderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.person = self.front.connect()

    def tearDown(self) -> None:
        self.assertEqual(self.front.desk.unanswered_bytes, sum(c.bytes_unanswered for c in self.front.desk.connections.values()))

    def test_one_chunk_is_one_run(self) -> None:
        self.person.send(b"1|mason\n3|mason|a\n3|mason|b\n")
        body = self.front.desk.take(1 << 20)
        self.assertEqual(count_ops(body), 4, "open, and three commands in one run")
        self.assertEqual(lines_of(body)[1:], ["C|mason", "S|mason|a", "S|mason|b"])

    def test_nothing_is_sent_behind_a_query_until_it_is_answered(self) -> None:
        self.person.say("1|mason\n")
        self.person.send(b"2\n3|mason|a\n2\n3|mason|b\n")
        self.assertEqual(self.front.desk.open_runs, [])
        ((ticket, _, command),) = self.front.desk.unasked()
        self.assertEqual((command, self.front.desk.unasked()), ("A", []), "each is asked once")
        self.front.desk.answer(ticket, "a|mason")
        self.assertEqual(self.person.read(), b"Showing all accounts: mason\n")
        self.assertEqual(lines_of(self.front.desk.take(999)), ["S|mason|a"])
        self.assertEqual(self.front.desk.queries, {}, "the second one waits for the send before it")

    def test_a_query_waits_for_its_session(self) -> None:
        self.person.send(b"2\n")
        self.assertEqual(self.front.desk.unasked(), [])
        self.front.log.commit(self.front.desk.take(999))
        self.assertEqual([command for _, _, command in self.front.desk.unasked()], ["A"])

    def test_a_query_before_anything_else(self) -> None:
        self.assertEqual(self.person.say("2\n"), b"Showing all accounts: \n")
        self.assertEqual(self.person.say("3|x|y\n2|(\n"), INVALID + b"Account matched to: ( doesn't exist \n")

    def test_who_is_answered_and_who_hears_of_it_take_turns(self) -> None:
        """Nobody waits until all others have been told: writing to a socket costs more than all the rest."""
        people = {name: self.front.connect() for name in ("ann", "bob", "cid", "dan")}
        for name, person in people.items():
            person.say(f"1|{name}\n")
        order: list[str] = []
        for name, person in people.items():
            person.paper.write = lambda words, name=name: order.append(name)  # type: ignore[method-assign, misc]
        people["ann"].send(b"3|cid|one\n")
        people["bob"].send(b"3|dan|two\n")
        self.front.turn()
        self.assertEqual([name in ("ann", "bob") for name in order], [True, False, True, False], order)
        self.assertEqual(sorted(order), sorted(people))

    def test_an_answer_that_nobody_waits_for(self) -> None:
        self.front.desk.answer(99, "a|x")
        self.person.say("1|mason\n")
        self.person.send(b"2\n")
        ((ticket, _, _),) = self.front.desk.unasked()
        self.person.connection.drop_line()
        self.front.desk.answer(ticket, "a|x")
        self.assertEqual(self.person.read(), b"")

    def test_more_queries_than_sixteen_bits_count(self) -> None:
        self.person.say("1|mason\n")
        self.person.connection.skip = 70_000
        self.person.connection.count += 70_000
        self.assertEqual(self.person.say("3|mason|x\n"), b"Sender mason sends a new message x to mason\nmason: x\n")

    def test_older_copies_of_a_run_change_nothing(self) -> None:
        self.person.say("1|mason\n")
        self.person.send(b"3|mason|x\n")
        image = self.front.desk.open_runs[0]
        self.front.desk.submit(image)
        self.front.desk.submit(image)
        self.front.turn()
        self.front.log.commit(image)
        self.assertEqual(self.person.read(), b"Sender mason sends a new message x to mason\nmason: x\n")
        self.assertEqual(self.front.state.message_count, 1)

    def test_an_older_copy_while_a_newer_run_is_under_way(self) -> None:
        self.person.say("1|mason\n")
        self.person.send(b"3|mason|x\n")
        old = self.front.desk.take(1 << 20)
        self.front.log.commit(old)
        self.person.send(b"3|mason|y\n")
        self.person.read()
        self.front.log.commit(old)
        self.assertEqual(self.person.read(), b"", "the older reply is nobody's")
        self.front.turn()
        self.assertEqual(self.person.read(), b"Sender mason sends a new message y to mason\nmason: y\n")

    def test_a_batch_takes_whole_runs_and_at_least_one(self) -> None:
        for text in ("a", "b", "c"):
            self.person.send(f"3|{text}|{text}\n".encode())
        desk = self.front.desk
        whole = len(desk.open_runs)
        sizes = [len(image) for image in desk.open_runs]
        self.assertEqual(desk.open_bytes, sum(sizes))
        self.assertEqual(len(desk.take(1)), sizes[0])
        self.assertEqual(len(desk.take(sizes[1] + sizes[2])), sizes[1] + sizes[2])
        self.assertEqual((len(desk.open_runs), desk.open_bytes), (whole - 3, sizes[3]))
        self.assertEqual(len(desk.take(sizes[3])), sizes[3])
        self.assertEqual((desk.open_runs, desk.open_bytes), ([], 0))
        self.person.connection.drop_line()

    def test_a_stored_reply_that_is_no_reply_harms_nobody(self) -> None:
        guest = self.front.connect()
        guest.say(f"understudy 1 {HEX}\n1 0 who\n2 0 1|mason\n")
        again = self.front.connect()
        again.send(f"understudy 1 {HEX}\nresume 0\n1 0 1|evil\n".encode())
        self.front.turn()
        self.assertIn(b"1 %d\n" % len(INVALID) + INVALID, again.read())
        self.assertEqual(self.front.state.names(), ["mason"])


class OthersTest(unittest.TestCase):
    """Whether the other replicas must know at once what was committed."""

    def setUp(self) -> None:
        self.here = FrontDesk()
        self.there = FrontDesk(self.here.log, "1.7")
        self.mason, self.wayne = self.here.connect(), self.there.connect()
        self.mason.say("1|mason\n")
        self.wayne.say("1|wayne\n")
        self.here.connect().say("1|bob\n")
        self.answers: list[str] = []

    def test_a_message_that_waits_concerns_nobody_else(self) -> None:
        self.wayne.connection.lost()
        self.there.turn()
        self.mason.say("3|wayne|hello\n")
        self.assertFalse(self.here.desk.others_wait)

    def test_one_for_a_guest_who_is_here_somewhere_does(self) -> None:
        self.mason.say("3|wayne|hello\n")
        self.assertTrue(self.here.desk.others_wait)

    def test_what_a_guest_of_another_replica_asked_does(self) -> None:
        self.wayne.say("1|jane\n")
        self.assertTrue(self.here.desk.others_wait, "its answer")
        self.here.connect().say("3|bob|x\n")
        self.there.connect().send(b"understudy 1 " + b"7" * 32 + b"\nack 1\n")
        self.there.connect().say("3|nobody|x\n")
        self.assertTrue(self.here.desk.others_wait, "its session")

    def test_the_end_of_an_account_does(self) -> None:
        jane = self.here.connect()
        jane.say("1|jane\n")
        jane.say("5|jane123\n")
        self.assertTrue(self.here.desk.others_wait, "a relay may have been waiting for its messages")

    def test_a_word_does_if_a_stream_may_wait_for_it(self) -> None:
        exchange = Exchange(self.here.desk, self.here.later)

        def is_told(verb: str, name: str) -> bool:
            exchange.ask(calls.call(verb, name), "127.0.0.1", self.answers.append)
            self.here.turn()
            return self.here.desk.others_wait

        is_told("i", "mason")
        self.assertTrue(is_told("i", "jane"), "a stream may have begun before its account")
        self.assertTrue(is_told("c", "jane"), "and has not come in yet")
        self.assertFalse(is_told("i", "jane"))
        self.assertTrue(is_told("i", "wayne"), "who is here")
        self.assertEqual(len(self.answers), 5)


class AgainTest(unittest.TestCase):
    """The view changes: all that is unanswered is sent again, in order, with the same numbers."""

    def setUp(self) -> None:
        self.front = FrontDesk()
        self.person = self.front.connect()
        self.person.say("1|mason\n")

    def test_what_was_lost_is_sent_again(self) -> None:
        self.person.send(b"3|mason|a\n3|mason|b\n")
        self.person.send(b"3|mason|c\n2\n3|mason|d\n")
        lost = self.front.desk.take(1 << 20)
        self.front.new_view("0.7")
        body = self.front.desk.take(1 << 20)
        self.assertEqual(lines_of(body)[0], "members|0.7", "the view's list leads")
        self.assertTrue(body.endswith(lost))
        self.front.log.commit(body)
        self.front.turn()
        self.assertEqual(said(self.front), ["a", "b", "c", "d"])
        self.assertEqual(self.person.read().count(b"Sender mason"), 4)

    def test_what_was_lost_only_in_part(self) -> None:
        self.person.send(b"3|mason|a\n")
        self.front.log.commit(self.front.desk.take(1 << 20))
        self.person.send(b"3|mason|b\n")
        self.front.desk.take(1 << 20)
        for _ in range(3):
            self.front.new_view("0.7")
        self.front.turn()
        self.assertEqual(said(self.front), ["a", "b"])

    def test_an_open_that_was_sent_twice(self) -> None:
        other = self.front.connect()
        other.send(f"understudy 1 {HEX}\n1 0 2\n".encode())
        body = self.front.desk.take(1 << 20)
        self.front.log.commit(body)
        self.front.log.commit(body)
        self.assertEqual(other.read(), b"= - 0 0\n")

    def test_an_answer_that_needs_nobody_waits_its_turn(self) -> None:
        self.person.send(b"3|mason|a\nnonsense\n3|mason|b\n")
        self.front.desk.take(1 << 20)
        self.front.new_view("0.7")
        self.front.turn()
        heard = self.person.read()
        self.assertLess(heard.index(b"message a"), heard.index(INVALID))
        self.assertLess(heard.index(INVALID), heard.index(b"message b"))

    def test_an_open_that_was_lost(self) -> None:
        other = self.front.connect()
        other.send(b"1|wayne\n")
        self.front.desk.take(1 << 20)
        self.front.new_view("0.7")
        self.front.turn()
        self.assertEqual(other.read(), b"Success New Account Creation! Your new Account ID: wayne123\n")

    def test_a_close_that_was_lost(self) -> None:
        self.person.connection.lost()
        self.front.desk.take(1 << 20)
        self.assertEqual(len(self.front.desk.closing), 1)
        self.front.new_view("0.7")
        self.front.turn()
        self.assertEqual((self.front.desk.closing, self.front.state.sessions), ({}, {}))

    def test_a_query_that_was_lost_is_asked_again(self) -> None:
        self.person.send(b"2\n")
        old = self.front.desk.unasked()
        self.front.desk.renew()
        self.front.desk.answer(old[0][0], "a|from the old view")
        self.assertEqual(self.person.read(), b"", "an old ticket is worth nothing")
        self.front.turn()
        self.assertEqual(self.person.read(), b"Showing all accounts: mason\n")

    def test_an_acknowledgement_that_was_lost(self) -> None:
        self.person.say("3|mason|a\n")
        self.front.desk.tidy()
        self.front.desk.take(1 << 20)
        self.front.desk.renew()
        self.front.turn()
        self.assertEqual(texts(self.front, "mason"), [])

    def test_a_run_whose_session_is_gone(self) -> None:
        session = next(iter(self.front.state.sessions))
        self.front.state._forget(self.front.state.sessions[session], 0, Outcome())
        self.person.say("3|mason|a\n")
        self.assertIn("not known any more", self.person.paper.closed or "")

    def test_the_guest_of_a_backup_goes_on_through_a_failover(self) -> None:
        log = Log()
        old, new = FrontDesk(log, "0.7"), FrontDesk(log, "1.8")
        mason = new.connect()
        mason.send(b"1|mason\n3|mason|a\n")
        log.commit(new.desk.take(1 << 20))  # forwarded, and committed by replica 0
        mason.send(b"3|mason|b\n")
        new.desk.take(1 << 20)  # forwarded, and lost with replica 0
        log.desks.remove(old)
        new.new_view("1.8")
        new.turn()
        self.assertEqual(said(new), ["a", "b"])
        self.assertEqual(mason.read().count(b"Sender mason"), 2)


class DeliveryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.mason, self.wayne = self.front.connect(), self.front.connect()
        self.mason.say("1|mason\n1|wayne\n0|mason123\n")

    def test_what_waited_before_the_log_in_stays_for_the_mailbox(self) -> None:
        self.mason.say("3|wayne|early\n3|wayne|too\n")
        self.assertEqual(self.wayne.say("0|wayne123\n"), b"user : wayne is now logged in\n")
        self.mason.say("3|wayne|now\n")
        self.assertEqual(self.wayne.read(), b"mason: now\n")
        self.front.desk.tidy()
        self.front.turn()
        self.assertEqual(texts(self.front, "wayne"), ["early", "too"], "only what was written counts as delivered")
        self.mason.say("3|wayne|later\n")
        self.assertEqual(
            self.wayne.say("4|wayne123\n4|wayne123\n"),
            b"mason: later\nundelivered message for user ID wayne123: \nmason sends: early\n\nmason sends: too\n\nNo new messages\n",
        )

    def test_the_mailbox_right_after_a_push_is_empty(self) -> None:
        self.wayne.say("0|wayne123\n")
        self.mason.say("3|wayne|now\n")
        self.assertEqual(self.wayne.say("4|wayne123\n"), b"mason: now\nNo new messages\n")

    def test_a_push_that_is_not_written_yet_is_not_delivered(self) -> None:
        self.wayne.say("0|wayne123\n")
        self.wayne.paper.drained = False
        self.mason.say("3|wayne|now\n")
        self.front.desk.tidy()
        self.front.turn()
        self.assertEqual(texts(self.front, "wayne"), ["now"], "if the replica dies now it is still there")
        self.wayne.paper.drained = True
        self.front.desk.tidy()
        self.front.turn()
        self.assertEqual(texts(self.front, "wayne"), [])

    def test_what_was_pushed_is_not_read_again_even_if_it_is_not_written_yet(self) -> None:
        self.mason.say("3|wayne|early\n")
        self.wayne.say("0|wayne123\n")
        self.wayne.paper.drained = False
        self.mason.say("3|wayne|now\n")
        self.assertEqual(texts(self.front, "wayne"), ["early", "now"])
        self.assertEqual(self.wayne.say("4|wayne123\n"), b"mason: now\nundelivered message for user ID wayne123: \nmason sends: early\n\n")
        self.mason.say("3|wayne|more\n")
        self.assertEqual(self.wayne.say("4|wayne123\n"), b"mason: more\nNo new messages\n")

    def test_a_message_and_a_read_in_one_batch(self) -> None:
        self.wayne.say("0|wayne123\n")
        self.mason.send(b"3|wayne|a\n")
        self.wayne.send(b"4|wayne123\n")
        self.mason.send(b"3|wayne|b\n")
        self.front.turn()
        self.assertEqual(self.wayne.read(), b"undelivered message for user ID wayne123: \nmason sends: a\n\nmason: b\n")

    def test_a_read_of_somebody_elses_mailbox_hides_nothing(self) -> None:
        self.mason.say("3|wayne|a\n3|mason|b\n")
        self.assertIn(b"mason sends: a", self.mason.say("4|wayne123\n"))

    def test_a_mailbox_longer_than_one_read(self) -> None:
        text = "x" * 60_000
        for number in range(7):
            self.mason.say(f"3|wayne|{number}{text}\n")
        self.wayne.say("0|wayne123\n")
        self.mason.say("3|wayne|pushed\n")
        self.wayne.read()
        first, second = self.wayne.say("4|wayne123\n"), self.wayne.say("4|wayne123\n")
        self.assertEqual([first.count(b" sends: "), second.count(b" sends: ")], [4, 3], "each once, the pushed one not again")
        self.assertEqual(self.wayne.say("4|wayne123\n"), b"No new messages\n")

    def test_what_a_lost_read_took_is_given_with_its_reply(self) -> None:
        guest = self.front.connect()
        guest.say(f"understudy 1 {HEX}\n1 0 0|wayne123\n")
        guest.connection.shell = Paper()  # nothing reaches it any more
        self.mason.say("3|wayne|one\n")
        guest.send(b"2 1 4|wayne123\n")
        self.front.turn()
        guest.leave()
        self.mason.say("3|wayne|two\n")
        again = self.front.connect()
        self.assertIn(b"|two", again.say(f"understudy 1 {HEX}\nresume 0\n"))
        self.assertIn(b"mason sends: one\n", again.say("2 1 4|wayne123\n"))

    def test_nothing_newer_is_pushed_before_the_reply_that_a_resumed_guest_lacks(self) -> None:
        guest = self.front.connect()
        guest.say(f"understudy 1 {HEX}\n1 0 0|wayne123\n")
        guest.connection.shell = Paper()
        self.mason.say("3|wayne|one\n")
        guest.send(b"2 1 4|wayne123\n")
        self.front.turn()
        guest.leave()
        self.mason.say("3|wayne|two\n")
        again = self.front.connect()
        self.assertEqual(again.say(f"understudy 1 {HEX}\nresume 0 2\n"), b"= wayne 2 2\n")
        self.mason.say("3|wayne|three\n")
        self.assertEqual(again.read(), b"")
        heard = again.say("2 1 4|wayne123\n")
        self.assertLess(heard.index(b"mason sends: one\n"), heard.index(b"|two"))
        self.assertLess(heard.index(b"|two"), heard.index(b"|three"))
        self.mason.say("3|wayne|four\n")
        self.assertIn(b"|four", again.read())

    def test_a_guest_that_lacks_what_was_never_executed_waits_for_nothing(self) -> None:
        guest = self.front.connect()
        guest.say(f"understudy 1 {HEX}\n1 0 0|wayne123\n")
        guest.leave()
        self.mason.say("3|wayne|one\n")
        again = self.front.connect()
        self.assertIn(b"|one", again.say(f"understudy 1 {HEX}\nresume 0 2\n"))

    def test_who_is_watching_already_is_not_shown_twice(self) -> None:
        self.wayne.say("0|wayne123\n")
        self.front.desk.watch(self.wayne.connection)
        self.mason.say("3|wayne|x\n")
        self.assertEqual(self.wayne.read(), b"mason: x\n")

    def test_nobody_is_pushed_to_after_good_bye(self) -> None:
        self.wayne.say("0|wayne123\n")
        self.wayne.connection.end()
        self.front.turn()
        self.assertEqual(self.mason.say("3|wayne|x\n"), b"message from mason has been delivered to wayne's mailbox\n")
        self.assertEqual(self.wayne.read(), b"")
        self.assertEqual(self.wayne.paper.closed, "")

    def test_another_account_on_the_same_connection(self) -> None:
        self.wayne.say("0|wayne123\n0|mason123\n")
        self.mason.say("3|wayne|x\n3|mason|y\n")
        self.assertEqual(self.wayne.read(), b"mason: y\n")
        self.assertEqual(list(self.front.desk.watching), ["mason"])
        self.wayne.say("5|wayne123\n4|wayne123\n5|wayne123\n")
        self.assertEqual(
            self.front.desk.watching["mason"], [self.mason.connection, self.wayne.connection], "it deleted an account that is not its own"
        )

    def test_a_deleted_account_is_watched_no_more(self) -> None:
        self.mason.say("5|mason123\n")
        self.assertEqual(self.front.desk.watching, {})
        self.wayne.say("1|mason\n3|mason|for the new one\n")
        self.assertEqual(self.mason.read(), b"")

    def test_a_snapshot_is_installed_under_connected_guests(self) -> None:
        log = self.front.log
        other = FrontDesk(log, "1.8")
        tables = {name: [tuple(row) for row in rows] for name, (_, rows) in self.front.state.tables().items()}
        other.state.__dict__.update(ChatState.load(self.front.state.op, self.front.state.digest, 0, tables).__dict__)  # type: ignore[arg-type]
        wayne = other.connect()
        wayne.send(b"0|wayne123\n")
        log.commit(other.desk.take(999))
        wayne.read()
        log.desks.remove(other)  # it misses what comes now
        self.mason.say("3|wayne|missed\n")
        other.desk.replace_state(self.front.state)
        self.assertEqual(wayne.read(), b"mason: missed\n")


class SessionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()

    def test_the_newest_connection_has_the_session_at_once(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        one.say(f"understudy 1 {HEX}\n1 0 1|mason\n")
        two.send(f"understudy 1 {HEX}\nresume 0\n".encode())
        self.assertEqual(one.read(), b"! newer\n")
        self.assertIn("took its session over", one.paper.closed or "")
        self.front.turn()
        self.assertEqual(two.read(), b"= mason 1 0\n")
        one.leave()
        self.assertEqual(self.front.state.present(), ["mason"])

    def test_replies_to_the_older_connection_are_not_taken_for_ones_to_the_newer(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        one.say(f"understudy 1 {HEX}\n1 0 1|mason\n")
        one.send(b"2 0 3|mason|a\n")
        body = self.front.desk.take(1 << 20)
        two.send(f"understudy 1 {HEX}\nresume 0\n2 0 3|mason|a\n".encode())
        self.front.log.commit(body)
        self.assertEqual(two.read(), b"", "its session is not there yet")
        self.front.turn()
        heard = two.read()
        self.assertTrue(heard.startswith(b"= mason 2 1\n"))
        self.assertEqual((heard.count(b"Sender mason"), self.front.state.message_count), (1, 1))

    def test_the_newest_connection_is_at_another_replica(self) -> None:
        log = Log()
        here, there = FrontDesk(log, "0.7"), FrontDesk(log, "1.8")
        one, two = here.connect(), there.connect()
        one.say(f"understudy 1 {HEX}\n1 0 1|mason\n")
        two.send(f"understudy 1 {HEX}\nresume 0\n".encode())
        there.turn()
        self.assertTrue(one.read().endswith(b"! newer\n"))
        self.assertEqual(two.read(), b"= mason 1 0\n")

    def test_a_numbered_guest_that_is_cut_off_sends_again_by_itself(self) -> None:
        one = self.front.connect()
        one.say(f"understudy 1 {HEX}\n1 0 1|mason\n")
        one.send(b"2 0 3|mason|a\n3 0 2\n")
        self.front.desk.take(1 << 20)
        one.connection.lost()
        one.connection.lost()
        self.assertEqual((len(one.connection.line), self.front.desk.unanswered_bytes), (0, 0))
        self.front.turn()
        self.assertEqual(texts(self.front, "mason"), [], "what was lost is not sent by us")
        self.assertEqual(self.front.desk.connections, {})

    def test_a_plain_guest_that_is_cut_off_is_still_served(self) -> None:
        one = self.front.connect()
        one.say("1|mason\n")
        one.send(b"3|mason|a\n2\n3|mason|b\n")
        self.front.desk.take(1 << 20)
        one.connection.lost()
        self.front.new_view("0.7")
        self.front.turn()
        self.assertEqual(texts(self.front, "mason"), ["a", "b"])
        self.assertEqual((self.front.desk.connections, self.front.state.sessions), ({}, {}))

    def test_half_closed_is_answered_then_closed(self) -> None:
        one = self.front.connect()
        one.send(b"1|mason\n2\n4|mason123")
        one.connection.end()
        self.assertIsNone(one.paper.closed)
        self.front.turn()
        self.assertTrue(one.read().endswith(b"No new messages\n"))
        self.assertEqual(one.paper.closed, "")
        one.connection.end()
        one.leave()
        self.assertEqual(self.front.state.sessions, {})

    def test_a_guest_that_never_says_anything_leaves_no_trace(self) -> None:
        one = self.front.connect()
        one.connection.end()
        one.leave()
        self.assertEqual((self.front.desk.connections, self.front.desk.open_runs, self.front.state.op), ({}, [], 0))

    def test_sessions_of_plain_guests_differ(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        one.say("2\n")
        two.say("2\n")
        self.assertEqual(len(self.front.state.sessions), 2)
        self.assertTrue(all(len(key) == len(NO_SESSION) for key in self.front.state.sessions))

    def test_no_view_no_service(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        one.say("1|mason\n3|mason|x\n")
        one.send(b"3|mason|y\n2\n")
        two.send(b"2\n")
        self.front.desk.close_all("gone")
        desk = self.front.desk
        self.assertEqual((one.paper.closed, two.paper.closed), ("gone", "gone"))
        left = (
            desk.connections,
            desk.by_session,
            desk.watching,
            desk.closing,
            desk.queries,
            desk.unanswered_bytes,
            desk.open_runs,
            desk.open_bytes,
        )
        self.assertEqual(left, ({}, {}, {}, {}, {}, 0, [], 0))
        self.front.turn()
        self.assertEqual(self.front.state.message_count, 1)


class LimitsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()

    def test_a_window_of_unanswered_requests(self) -> None:
        one = self.front.connect()
        for _ in range(WINDOW - 1):
            one.send(b"3|x|y\n")
        self.assertFalse(one.paper.paused)
        one.send(b"3|x|y\n")
        self.assertTrue(one.paper.paused)
        self.front.turn()
        self.assertFalse(one.paper.paused)
        self.assertEqual(one.connection.unanswered, 0)
        for _ in range(WINDOW):
            one.send(b"2\n")
        self.assertTrue(one.paper.paused)
        self.front.turn()
        self.assertFalse(one.paper.paused)

    def test_a_backlog_stops_all_doors_and_opens_them_again(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        self.front.desk.backlog_max = 3000
        for _ in range(60):
            one.send(b"3|x|y\n")
        self.assertTrue(self.front.desk.is_full and one.paper.paused and two.paper.paused)
        late = self.front.connect()
        self.assertTrue(late.paper.paused)
        body = self.front.desk.take(1 << 20)
        self.assertTrue(self.front.desk.is_full, "they are not answered yet")
        self.front.log.commit(body)
        self.assertFalse(self.front.desk.is_full or one.paper.paused or two.paper.paused or late.paper.paused)
        self.assertEqual((BACKLOG_MAX, FrontDesk().desk.backlog_max), (8 << 20, 8 << 20))

    def test_a_window_that_opens_while_the_backlog_stands(self) -> None:
        one = self.front.connect()
        for _ in range(WINDOW):
            one.send(b"3|x|y\n")
        body = self.front.desk.take(1 << 20)
        self.front.desk.backlog_max = 10
        two = self.front.connect()
        two.send(b"3|x|y\n")
        self.front.log.commit(body)
        self.assertEqual((one.connection.unanswered, one.paper.paused), (0, True))
        self.front.turn()
        self.front.desk.ease()
        self.assertFalse(one.paper.paused)

    def test_who_is_beyond_its_own_window_stays_stopped(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        self.front.desk.backlog_max = 100_000
        for _ in range(WINDOW):
            one.send(b"3|x|y\n")
        for _ in range(1100):
            two.send(b"3|x|yyyyyyyyyyyyy\n")
        self.assertTrue(self.front.desk.is_full)
        two.connection.drop_line()
        two.connection.paused = False
        one.connection.drop_line()
        one.connection.unanswered = WINDOW
        self.front.desk.take(1 << 20)
        self.assertEqual((one.paper.paused, two.paper.paused), (True, False))

    def test_read_only(self) -> None:
        one, numbered = self.front.connect(), self.front.connect()
        one.say("1|mason\n")
        numbered.say(f"understudy 1 {HEX}\n1 0 1|wayne\n")
        one.send(b"3|mason|a\n3|mason|b\n2\n3|mason|c\n")
        numbered.send(b"2 0 3|mason|d\n")
        self.front.desk.refuse_open()
        for ticket, _, _ in self.front.desk.unasked():
            self.front.desk.answer(ticket, "a|mason,wayne")
        self.front.desk.refuse_open()
        self.assertEqual(one.read(), INVALID * 2 + b"Showing all accounts: mason,wayne\n" + INVALID)
        self.assertEqual(numbered.read(), b"2 %d\n%s" % (len(INVALID), INVALID))
        self.assertEqual(self.front.desk.unanswered_bytes, 0, "or the doors would stop reading for ever")
        self.assertEqual((one.connection.unanswered, numbered.connection.unanswered), (0, 0))
        self.assertEqual(
            one.say("3|mason|e\n"), b"Sender mason sends a new message e to mason\nmason: e\n", "the refused numbers are skipped"
        )
        self.assertEqual(numbered.say("3 0 3|mason|f\n"), b"3 44\nSender wayne sends a new message f to mason\n")

    def test_read_only_leaves_open_what_may_have_been_done(self) -> None:
        one, two = self.front.connect(), self.front.connect()
        one.say("1|mason\n")
        two.say("1|wayne\n")
        one.send(b"3|mason|a\n")
        two.send(b"3|mason|b\n")
        self.front.desk.refuse_open(frozenset({one.connection.session}))
        self.assertEqual((one.read(), two.read()), (b"", INVALID))
        self.front.new_view("0.7")
        self.front.turn()
        self.assertEqual(one.read(), b"Sender mason sends a new message a to mason\nmason: a\n")
        self.assertEqual(said(self.front), ["a"])

    def test_read_only_refuses_nothing_that_is_under_way(self) -> None:
        one = self.front.connect()
        one.say("1|mason\n")
        one.send(b"3|mason|a\n")
        body = self.front.desk.take(1 << 20)
        one.send(b"3|mason|b\n")
        self.front.desk.refuse_open()
        self.assertEqual(one.read(), b"", "replies leave in order")
        self.front.log.commit(body)
        self.assertEqual(one.read(), b"Sender mason sends a new message a to mason\n" + INVALID + b"mason: a\n")


class ReadOnlyTest(unittest.TestCase):
    """Guests that come to a replica that takes nothing new."""

    def setUp(self) -> None:
        self.front = FrontDesk()

    def read_only_turn(self) -> None:
        """As `Server.turn`, when nothing is in flight."""
        desk = self.front.desk
        while desk.open_runs or desk.unasked():
            desk.refuse_open()
            for ticket, (connection, query) in list(desk.queries.items()):
                desk.answer(ticket, desk.evaluate(connection.session, query.command))
            while self.front.works:
                _, job, done = self.front.works.pop(0)
                done(job())

    def hear(self, person: Person, words: str) -> bytes:
        person.send(words.encode())
        self.read_only_turn()
        person.connection.quiet()
        self.read_only_turn()
        return person.read()

    def recover(self) -> None:
        self.front.new_view("0.7")
        self.front.turn()

    def refused(self, number: int) -> bytes:
        return b"%d %d\n%s" % (number, len(INVALID), INVALID)

    def test_a_plain_guest(self) -> None:
        self.front.connect().say("1|mason\n")
        guest = self.front.connect()
        self.assertEqual(self.hear(guest, "1|wayne\n"), INVALID)
        self.assertEqual(
            self.hear(guest, "2\n3|mason|hi\n2|mas.n\n"), b"Showing all accounts: mason\n" + INVALID + b"Account matched: mason\n"
        )
        self.recover()
        self.assertEqual(guest.read(), b"")
        self.assertEqual(guest.say("1|wayne\n"), b"Success New Account Creation! Your new Account ID: wayne123\n")
        self.assertEqual(list(self.front.state.accounts), ["mason", "wayne"])

    def test_a_numbered_guest(self) -> None:
        guest = self.front.connect()
        self.assertEqual(self.hear(guest, f"understudy 1 {HEX}\n"), b"= - 0 0\n")
        self.assertEqual(self.hear(guest, "1 0 1|wayne\n2 0 2\n"), self.refused(1) + b"2 23\nShowing all accounts: \n")
        self.front.desk.beat()
        self.assertEqual(guest.read(), b".\n", "or it would look for another port")
        self.recover()
        self.assertEqual(guest.read(), b"", "its session was there all the time")
        self.assertEqual(guest.say("3 0 1|wayne\n"), b"3 60\nSuccess New Account Creation! Your new Account ID: wayne123\n")

    def test_one_with_a_password(self) -> None:
        """Alone, and behind something that is refused, it is refused; later it may be asked again."""
        guest = self.front.connect()
        self.hear(guest, f"understudy 1 {HEX}\n")
        guest.send(b"1 0 1|wayne|secret\n")
        self.front.desk.refuse_open()
        self.work()
        self.assertEqual(self.hear(guest, ""), self.refused(1))
        self.assertEqual(
            self.hear(guest, "2 0 1|wayne\n3 0 1|wayne|secret\n4 0 2\n"),
            self.refused(2) + self.refused(3) + b"4 23\nShowing all accounts: \n",
        )
        self.work()
        self.recover()
        self.assertEqual(guest.say("5 0 1|wayne|secret\n"), b"5 60\nSuccess New Account Creation! Your new Account ID: wayne123\n")

    def work(self) -> None:
        works, self.front.works = self.front.works, []
        for _, job, done in works:
            done(job())

    def test_one_that_comes_back_hears_what_was_done_and_is_shown_what_waits(self) -> None:
        mason = self.front.connect()
        mason.say("1|mason\n")
        guest = self.front.connect()
        guest.say(f"understudy 1 {HEX}\n1 0 1|wayne\n2 0 3|mason|one\n")
        guest.leave()
        mason.say("3|wayne|while you were away\n")
        guest = self.front.connect()
        heard = self.hear(guest, f"understudy 1 {HEX}\nresume 0 2\n2 0 3|mason|one\n3 0 3|mason|two\n")
        done = b"Sender wayne sends a new message one to mason\n"
        head, _, push = heard.partition(b"* 1 ")
        self.assertEqual(head, b"= wayne 2 1\n" + b"2 %d\n%s" % (len(done), done) + self.refused(3))
        self.assertTrue(push.endswith(b"while you were away"))
        self.recover()
        self.assertEqual(guest.read(), b"")
        self.assertEqual(said(self.front), ["one", "while you were away"])
        self.assertEqual(guest.say("4 0 3|mason|three\n"), b"4 48\nSender wayne sends a new message three to mason\n")

    def test_a_read_before_what_was_done(self) -> None:
        """What waits is pushed after the stored reply, which may show older messages."""
        wayne = self.front.connect()
        wayne.say(f"understudy 1 {HEX}\n1 0 1|wayne\n2 0 3|wayne|own\n")
        wayne.leave()
        guest = self.front.connect()
        heard = self.hear(guest, f"understudy 1 {HEX}\nresume 0 1\n1 0 2\n2 0 3|wayne|own\n3 0 3|wayne|more\n")
        self.assertRegex(
            heard.decode(), r"^= wayne 2 1\n1 \d+\nShowing all accounts: wayne\n2 \d+\n.* own .*\n3 60\nPlease.*documentation\* 1 "
        )
        self.recover()
        self.assertNotIn("more", said(self.front))

    def test_a_read_between_what_was_done(self) -> None:
        wayne = self.front.connect()
        wayne.say(f"understudy 1 {HEX}\n1 0 1|wayne\n2 0 2\n3 0 3|wayne|own\n")
        wayne.leave()
        guest = self.front.connect()
        guest.send(f"understudy 1 {HEX}\nresume 0 1\n1 0 1|wayne\n2 0 2\n3 0 3|wayne|own\n".encode())
        self.front.desk.refuse_open()
        self.assertRegex(guest.read().decode(), r"^= wayne 3 1\n1 \d+\nSuccess.*\n$", "nothing is pushed before request 3 is answered")
        self.read_only_turn()
        self.assertRegex(guest.read().decode(), r"^2 \d+\nShowing all accounts: wayne\n3 \d+\n.* own .*\n\* 1 \d+\n.*own$")
        self.recover()
        self.assertEqual(guest.read(), b"")

    def test_one_whose_session_is_forgotten(self) -> None:
        guest = self.front.connect()
        self.assertEqual(self.hear(guest, f"understudy 1 {HEX}\nresume 0\n"), b"! session\n")
        self.assertIsNotNone(guest.paper.closed)

    def test_behind_a_refused_run_all_are_refused(self) -> None:
        """A query holds the second run up; when the disk recovers now, its number must not follow one that nobody knows."""
        guest = self.front.connect()
        guest.say("1|mason\n")
        guest.send(b"3|mason|a\n2\n3|mason|b\n")
        self.front.desk.refuse_open()
        self.recover()
        self.assertEqual(guest.read(), INVALID + b"Showing all accounts: mason\n" + INVALID)
        self.assertIsNone(guest.paper.closed)
        self.assertEqual(guest.say("3|mason|c\n"), b"Sender mason sends a new message c to mason\nmason: c\n")

    def test_a_guest_with_a_full_window_is_read_again(self) -> None:
        guest = self.front.connect()
        guest.say("1|mason\n")
        guest.send(b"3|mason|a\n" * WINDOW)
        self.assertTrue(guest.paper.paused)
        self.front.desk.refuse_open()
        self.assertEqual((guest.read(), guest.paper.paused), (INVALID * WINDOW, False))


class SmallTest(unittest.TestCase):
    def test_a_lonely_system_run(self) -> None:
        front = FrontDesk()
        front.desk.renew(system_run("members|0.7"))
        self.assertEqual(front.turn(), 1)

    def test_lines_are_runs(self) -> None:
        person: Person = FrontDesk().connect()
        person.send(b"1|mason\n")
        self.assertIsInstance(person.connection.line[0], Run)
        self.assertEqual(len(list(person.sent_runs())), 1)


class CutOff(unittest.TestCase):
    """A replica that reaches too few others serves nobody, and says so to those who understand it."""

    def setUp(self) -> None:
        self.front = FrontDesk()

    def numbered(self, asked: str = "") -> Person:
        guest = self.front.connect()
        guest.send(f"understudy 1 {HEX}\n{asked}".encode())
        return guest

    def test_who_is_there_is_told_or_turned_away(self) -> None:
        plain, guest = self.front.connect(), self.numbered()
        plain.say("1|mason\n")
        guest.say("1 0 1|wayne\n")
        guest.send(b"2 0 3|mason|hello\n")
        self.front.desk.cut_off((1, 3))
        self.assertTrue(guest.read().endswith(b"! cut 1 3\n"))
        self.assertEqual(plain.read(), b"")
        self.assertEqual([plain.paper.closed, guest.paper.closed], ["", ""])
        self.assertEqual(len(guest.connection.line), 0, "it asks somebody else, with the same number")
        for person in (plain, guest):
            person.connection.lost()
        self.front.desk.cut_off((0, 0))
        self.front.new_view("0.7,1.7")
        self.front.turn()
        self.assertEqual(self.front.state.present(), [], "nobody is here any more")

    def test_newcomers_are_turned_away_at_their_first_words(self) -> None:
        self.front.desk.cut_off((2, 5))
        quiet, plain, guest = self.front.connect(), self.front.connect(), self.numbered("1 0 1|wayne\n")
        self.assertFalse(plain.send(b"1|mason"), "nothing is waited for")
        self.assertEqual(guest.read()[-10:], b"! cut 2 5\n")
        self.assertEqual([quiet.paper.closed, plain.paper.closed, guest.paper.closed], [None, "", ""])
        self.front.desk.cut_off((0, 0))
        self.assertEqual(quiet.say("1|albert\n"), b"Success New Account Creation! Your new Account ID: albert123\n")
        guest = self.numbered("1 0 1|wayne\n")
        self.front.turn()
        self.assertIn(b"1 60\nSuccess New Account Creation! Your new Account ID: wayne123\n", guest.read())
        self.assertEqual(sorted(self.front.state.accounts), ["albert", "wayne"], "whatever became of it before, it counts once")


if __name__ == "__main__":
    unittest.main()
