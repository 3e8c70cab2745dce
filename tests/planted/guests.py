"""Planted bugs in what guests see: sessions, repeated requests, answers, deliveries, presence.

Read next: `hunt.py`.
"""

from __future__ import annotations

from tests.planted import Edit, planted

STATE, DESK, CONNECTION, SERVER = "state.py", "desk.py", "connection.py", "server.py"

BUGS = (
    planted(
        "duplicate_executed",
        "2.10: a request is executed once, however often it is sent",
        Edit(STATE, "            done = min(last + 1 - first, len(lines))\n", "            done = 0\n"),
    ),
    planted(
        "numbers_used_again",
        "2.10: a number stands for one request for ever",
        Edit(
            CONNECTION,
            "        number = self._count(number, 1, low)\n",
            "        number = self._count(number, 1, low)\n"
            "        if command[0] in QUERIES:\n            number = self.count = self.count - 1\n",
        ),
    ),
    planted(
        "resent_under_new_numbers",
        "A3: what is unanswered is sent again with the same numbers",
        Edit(
            CONNECTION,
            """            if isinstance(item, Run):
                item.sent = True
                self.desk.submit(item.image, len(item.commands))
        if self.line:
            self.advance()
""",
            """            from commands import run

            if isinstance(item, Run):
                item.sent = True
                item.first, self.count = self.count + 1, self.count + len(item.commands)
                item.image = run(self.session, item.first, 0, 0, "\\n".join(item.commands).encode(), len(item.commands))
                self.desk.submit(item.image, len(item.commands))
        if self.line:
            self.advance()
""",
        ),
    ),
    planted(
        "resent_out_of_order",
        "A3: what is unanswered is sent again in order",
        Edit(
            CONNECTION,
            "        for item in self.line:\n            if isinstance(item, Query):\n                item.ticket = 0\n",
            "        for item in reversed(self.line):\n            if isinstance(item, Query):\n                item.ticket = 0\n",
        ),
    ),
    planted(
        "not_resent",
        "A3: in every new view everything that is unanswered is sent again",
        Edit(DESK, "        for connection in list(self.connections.values()):\n            connection.resend()\n", ""),
    ),
    planted(
        "gap_accepted",
        "2.10: a request above the next one is refused, not executed",
        Edit(
            STATE,
            """            if first - skip > last + 1:
                return [f"{Refusal.GAP}|{last + 1}"] * len(lines)
""",
            "",
        ),
    ),
    planted(
        "reply_forgotten_early",
        "H10: replies are kept as long as the guest may ask for them again",
        Edit(
            STATE,
            "        if len(kept) > WINDOW:\n            session.low += len(kept) - WINDOW\n            del kept[: len(kept) - WINDOW]\n",
            "        if len(kept) > 1:\n            session.low += len(kept) - 1\n            del kept[: len(kept) - 1]\n",
        ),
    ),
    planted(
        "queries_not_behind_writes",
        "H8: a query waits until all earlier requests of its connection are applied",
        Edit(
            CONNECTION,
            """        if self.line and type(self.line[0]) is not Run:
            self.advance()
        if self.unanswered""",
            """        for item in self.line:
            if isinstance(item, Query) and not item.ticket:
                item.ticket = self.desk.query(self, item)
        if self.line and type(self.line[0]) is not Run:
            self.advance()
        if self.unanswered""",
        ),
        Edit(
            CONNECTION,
            "        if line and line[0] is query:\n            line.popleft()\n",
            "        if query in line:\n            line.remove(query)\n",
        ),
    ),
    planted(
        "answered_before_commit",
        "2.5.3: what a guest asked is answered when it is committed",
        Edit(
            SERVER,
            """    def _submit(self) -> None:
        ops, body = self.desk.take_batch(BATCH_MAX)
""",
            """    def _submit(self) -> None:
        ops, body = self.desk.take_batch(BATCH_MAX)
        for connection in list(self.desk.connections.values()):
            if connection.line and type(connection.line[0]).__name__ == "Run" and connection.is_open and connection.line[0].sent:
                first = connection.line[0]
                connection.answered(first.first, ["p" if c and c[0] == "S" else "!INVALID" for c in first.commands])
""",
        ),
    ),
    planted(
        "delivered_when_pushed",
        "H11: a push is no delivery; a message waits until its recipient has acknowledged it",
        Edit(
            CONNECTION,
            "if self.account_number and self.acked < self.shown and not self.translator.is_resumable() and self.shell.is_drained():",
            "if self.account_number and self.acked < self.shown and self.shell.is_drained():",
        ),
    ),
    planted(
        "mailbox_passed_over_when_online",
        "H11: at apply a message always enters the mailbox",
        Edit(
            STATE,
            "        self._deliver(account, sender.name, text, time, out)\n        return reply\n",
            """        self._deliver(account, sender.name, text, time, out)
        if account.online:
            account.mailbox.pop()
        return reply
""",
        ),
    ),
    planted(
        "members_not_named",
        "H11: the first batch of a view names its members, and presence at others ends",
        Edit(SERVER, 'first = self._members_run() if replica.is_primary and not begins_alone else b""', 'first = b""'),
    ),
    planted(
        "ack_of_another_account",
        "2.10: an ack trims the mailbox of the account it was given for, not of a later one of that name",
        Edit(
            STATE,
            "        if account is None or account.number != int(number):\n            return\n        self._trim",
            "        if account is None:\n            return\n        self._trim",
        ),
    ),
    planted(
        "ack_trims_everything",
        "2.10: an ack removes messages up to its seq, and no more",
        Edit(STATE, "        self._trim(account, int(above), int(upto))\n", "        self._trim(account, int(above), account.last_seq)\n"),
    ),
    planted(
        "push_before_the_answers",
        "H11: nothing is pushed while the log is ahead of what the guest was told",
        Edit(
            CONNECTION,
            "        if session is not None and session.last > self.told:\n",
            "        if session is not None and session.last < 0:\n",
        ),
    ),
    planted(
        "push_from_the_batch",
        "H11: a delivery is read from the state above what the connection was shown, so a catch-up misses nothing",
        Edit(
            DESK,
            "            connection.push(self.state.undelivered(name, connection.account_number, connection.shown))\n",
            "            connection.push(list(self.state.undelivered(name, connection.account_number, connection.shown))[-1:])\n",
        ),
    ),
    planted(
        "older_connection_keeps_the_session",
        "row 43: the newest connection of a session wins",
        Edit(
            DESK,
            "        self.by_session[connection.session] = connection\n",
            "        self.by_session.setdefault(connection.session, connection)\n",
        ),
        Edit(DESK, "        if older is not None and older is not connection:\n            older.give_way()\n", ""),
    ),
    planted(
        "refused_though_in_flight",
        "L7: a read_only primary refuses nothing that may stand in the batch in flight",
        Edit(
            SERVER,
            "desk.refuse_open(sessions_of(replica.in_flight.body) if replica.in_flight else frozenset())",
            'desk.refuse_open(frozenset(sessions_of(b"")))',
        ),
    ),
    planted(
        "unordered_apply",
        "2.10: apply depends on nothing but the log",
        Edit(
            STATE,
            "        reply = ONLINE if account.online else WAITING\n",
            "        reply = ONLINE if account.online or id(account) % 64 == 0 else WAITING\n",
        ),
    ),
    planted(
        "forwarded_answer_of_an_older_view",
        "H8: an answer to a query counts in the view in which it was asked",
        Edit(
            SERVER,
            "        if packet.view == self.replica.view and sender == self.replica.primary:\n",
            "        if packet.view <= self.replica.view:\n",
        ),
        Edit(SERVER, "            self.queries.clear()\n", ""),
        redundant="in a new view the desk forgets its questions, and their numbers are never used again: a late answer finds none",
    ),
)
