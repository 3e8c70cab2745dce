"""Planted bugs where strangers knock: handshakes of replicas, TLS at links and doors, keys on disk. A test is named that has to notice.

What it is not: no seed of the simulator finds these, since packets travel through it between friends.

Read next: `tests/prove_gates.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.planted import Edit, Mutation, planted

HANDSHAKE, CREDENTIALS, GATE, LINK, DOORWAYS = "handshake.py", "credentials.py", "gate.py", "link.py", "doorways.py"
SECURE, PLAIN, STRANGERS = "tests.test_secure_links.SecureLinks", "tests.test_links.HandshakeTest", "tests.test_links.OnAsyncio"
CLIENT, FILES, SECRET = "tests.test_wire.Secured", "tests.test_credentials.Files", "tests.test_links.SecretTest"
GUARD = "tests.test_gate.GateTest"

NAMES_ANYBODY = Edit(HANDSHAKE, "        if self.certified not in (ANY, peer.replica):\n", "        if self.certified == -2:\n")
BOTH_SIDES = "        context.verify_mode = ssl.CERT_REQUIRED\n"


class Watched(NamedTuple):
    """A mutation, and the tests that must fail with it."""

    bug: Mutation
    tests: tuple[str, ...]


def watched(name: str, rule: str, *edits: Edit, by: tuple[str, ...]) -> Watched:
    """A row of the table."""
    return Watched(planted(name, rule, *edits), by)


BUGS = (
    watched(
        "any_certificate",
        "a link wants a certificate of the cluster's CA from both sides, and the name in it counts",
        Edit(CREDENTIALS, BOTH_SIDES, "        context.verify_mode = ssl.CERT_NONE\n"),
        NAMES_ANYBODY,
        by=tuple(f"{SECURE}.test_{t}" for t in ("a_certificate_of_another_ca", "a_certificate_that_has_ended", "no_certificate")),
    ),
    watched(
        "certificate_wanted_and_not_demanded",
        "the same: whoever shows none is sent away before anything is said",
        Edit(CREDENTIALS, BOTH_SIDES, "        context.verify_mode = ssl.CERT_OPTIONAL\n"),
        by=(f"{FILES}.test_what_is_there_can_be_used",),
    ),
    watched(
        "another_ca_at_the_dialling_end",
        "who dials believes the cluster's CA alone",
        Edit(
            CREDENTIALS,
            "    accepts.num_tickets = 0  # nobody comes back with one\n",
            "    accepts.num_tickets, dials.verify_mode = 0, ssl.CERT_NONE\n",
        ),
        by=(f"{FILES}.test_what_is_there_can_be_used",),
    ),
    watched(
        "name_not_looked_at",
        "the replica that the certificate names is the one that Hello names",
        NAMES_ANYBODY,
        by=tuple(
            f"{SECURE}.test_{t}"
            for t in ("another_replicas_certificate", "a_guests_certificate", "one_that_dials_finds_another_replica_there")
        ),
    ),
    watched(
        "a_guest_passes_for_a_replica",
        "a certificate of our CA that names no replica is nobody's",
        Edit(HANDSHAKE, "self.certified not in (ANY, peer.replica):", "self.certified not in (ANY, None, peer.replica):"),
        by=(f"{SECURE}.test_a_guests_certificate",),
    ),
    watched(
        "two_names_are_one",
        "a certificate that names two replicas is nobody's",
        Edit(CREDENTIALS, "if len(names) == 1 and names[0]", "if names and names[0]"),
        by=("tests.test_credentials.Names",),
    ),
    watched(
        "another_clusters_replica",
        "the name in a certificate belongs to this cluster",
        Edit(CREDENTIALS, "names[0].startswith(prefix) else", "len(names[0]) else"),
        Edit(CREDENTIALS, "names[0].removeprefix(prefix)", 'names[0].rpartition("/")[2]'),
        by=("tests.test_credentials.Names",),
    ),
    watched(
        "ended_certificates_count",
        "a certificate that has ended counts no more",
        Edit(CREDENTIALS, BOTH_SIDES, BOTH_SIDES + "        context.verify_flags |= 0x200000\n"),  # X509_V_FLAG_NO_CHECK_TIME
        by=(f"{SECURE}.test_a_certificate_that_has_ended",),
    ),
    watched(
        "older_tls",
        "links speak TLS 1.3 and nothing older",
        Edit(CREDENTIALS, "ssl.TLSVersion.TLSv1_3", "ssl.TLSVersion.TLSv1_2"),
        by=(f"{SECURE}.test_an_older_tls",),
    ),
    watched(
        "wrong_proof",
        "a proof is compared with the one that the secret gives",
        Edit(HANDSHAKE, "        if not hmac.compare_digest(wanted.mac, mac):\n", "        if len(mac) != len(wanted.mac):\n"),
        by=(f"{PLAIN}.test_a_dialler_with_another_secret_is_refused", f"{PLAIN}.test_an_acceptor_with_another_secret_is_refused"),
    ),
    watched(
        "missing_proof",
        "letters come in their order: no Ready without a Proof",
        Edit(HANDSHAKE, "        if type(letter) is not self._awaited[0]:\n", "        if letter is None:\n"),
        by=(f"{PLAIN}.test_letters_out_of_turn_are_refused",),
    ),
    watched(
        "replayed_proof",
        "a proof covers both Hellos, and so the fresh nonce of whoever checks it",
        Edit(HANDSHAKE, "LENGTH.pack(len(hello)) + hello for hello in hellos]", "LENGTH.pack(len(hello)) + hello for hello in hellos[:1]]"),
        by=(f"{PLAIN}.test_a_recorded_handshake_replayed_is_refused",),
    ),
    watched(
        "reflected_proof",
        "a proof says which side gives it",
        Edit(HANDSHAKE, "        is_dialler = (self._dialled is not None) == is_mine\n", "        is_dialler = True\n"),
        by=(f"{PLAIN}.test_a_proof_sent_back_to_its_sender_is_refused",),
    ),
    watched(
        "reflected_hello",
        "nobody links with itself",
        Edit(HANDSHAKE, "        if peer.replica == me.replica:\n", "        if peer.inc < 0:\n"),
        by=(f"{PLAIN}.test_a_hello_sent_back_to_its_sender_is_refused",),
    ),
    watched(
        "another_dialled",
        "whoever answers is the replica that was dialled",
        Edit(HANDSHAKE, "self._dialled is not None and peer.replica != self._dialled:", "self._dialled is not None and peer.inc < 0:"),
        by=(f"{PLAIN}.test_only_the_higher_id_dials_and_only_the_dialled_answers",),
    ),
    watched(
        "lock_not_looked_at",
        "on one host a replica's lock file names the incarnation that knocks",
        Edit(HANDSHAKE, "        if not self._holds_lock(self.peer.replica, self.peer.inc):\n", "        if self.peer.inc < 0:\n"),
        by=(f"{PLAIN}.test_a_peer_whose_lock_is_not_its_own_is_refused_on_either_side",),
    ),
    watched(
        "packets_before_the_handshake",
        "what comes before the handshake has ended is no packet",
        Edit(
            LINK,
            "            if self.replica is None:\n                self._greet(bytes(frame))\n",
            "            if False:\n                pass\n",
        ),
        by=(f"{STRANGERS}.test_a_packet_before_the_handshake_is_not_applied",),
    ),
    watched(
        "refused_and_kept",
        "a handshake that was refused ends the connection",
        Edit(LINK, "            return self.cut(str(refusal))\n", "            return self._owner._log(str(refusal))\n"),
        by=(f"{STRANGERS}.test_ready_without_a_proof_gives_no_link", f"{STRANGERS}.test_our_own_hello_reflected_gives_no_link"),
    ),
    watched(
        "newcomers_without_end",
        "so many newcomers at a gate, and no more",
        Edit(GATE, "        if len(self.since) < self.most:\n", "        if self.since is not None:\n"),
        by=(f"{SECURE}.test_many_that_say_nothing_keep_nobody_out", f"{GUARD}.test_beyond_their_number_the_oldest_goes"),
    ),
    watched(
        "newcomers_for_ever",
        "a TLS handshake has its time",
        Edit(GATE, "ssl_handshake_timeout=self.newcomers.seconds", "ssl_handshake_timeout=3600.0"),
        by=(f"{SECURE}.test_one_that_says_nothing_has_little_time",),
    ),
    watched(
        "newcomers_pushed_out_at_once",
        "guests who all come at once are given their moment",
        Edit(GATE, "        if now - self.since[oldest] < self.moment:\n", "        if now < 0:\n"),
        by=(f"{GUARD}.test_who_has_just_come_is_not_turned_away_for_the_next",),
    ),
    watched(
        "keys_for_all_to_read",
        "a key that others may read is refused",
        Edit(CREDENTIALS, "    if mode & (stat.S_IRWXG | stat.S_IRWXO):\n", "    if mode < 0:\n"),
        by=(f"{FILES}.test_files_that_are_missing_or_not_what_they_should_be",),
    ),
    watched(
        "secret_for_all_to_read",
        "the same for the secret of replicas that share a host",
        Edit(HANDSHAKE, "        if status.st_mode & 0o077:\n", "        if status.st_mode < 0:\n"),
        by=(f"{SECRET}.test_one_that_others_may_read_is_refused",),
    ),
    watched(
        "client_believes_everybody",
        "a client believes its CA alone",
        Edit(
            CREDENTIALS,
            "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it asks for a certificate, and checks the address in it\n",
            "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
            "    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n",
        ),
        by=(f"{CLIENT}.test_a_certificate_of_another_ca", f"{CLIENT}.test_a_certificate_that_has_ended"),
    ),
    watched(
        "client_looks_at_no_address",
        "the address that was dialled stands in the certificate",
        Edit(
            CREDENTIALS,
            "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it asks for a certificate, and checks the address in it\n",
            "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n    context.check_hostname = False\n",
        ),
        by=(f"{CLIENT}.test_a_certificate_for_another_address",),
    ),
    watched(
        "doors_without_tls",
        "where there are certificates doors speak TLS",
        Edit(DOORWAYS, "        if self.context is None:\n", "        if self.context is not self:\n"),
        by=("tests.test_gate.DoorsTest",),
    ),
)
