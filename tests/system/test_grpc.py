"""The gRPC door on real processes: clients of old as they are, words and messages through `kill -9`, health, reflection, hostile guests."""

from __future__ import annotations

import socket
import struct
import unittest
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.system.callers import Caller
from tests.system.cluster import Cluster, rss_of, until
from tests.system.guests import Numbered

GROWTH_BYTES = 96 << 20  # what a flood may cost a replica


class GrpcTest(unittest.TestCase):
    maxDiff = None

    def setUp(self) -> None:
        self.cluster = Cluster(grpc=True)
        self.addCleanup(self.cluster.end)
        self.cluster.start()
        self.primary = self.cluster.wait_members()
        self.backups = [i for i in self.cluster.ids if i != self.primary]

    def caller(self, replica: int, **options: Any) -> Caller:
        caller = Caller(self.cluster.doors["grpc"][replica], **options)
        self.addCleanup(caller.close)
        return caller

    def pipe(self, replica: int) -> Numbered:
        guest = Numbered(self.cluster.pipes[replica])
        self.addCleanup(guest.socket.close)
        return guest

    def check(self, caller: Caller, service: str = "") -> int:
        check = caller.channel.unary_unary(
            "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )
        return int(check(health_pb2.HealthCheckRequest(service=service), timeout=10, wait_for_ready=True).status)

    # --- as clients of old ----------------------------------------------------------------------------------------------------------------

    def test_clients_of_old_through_two_deaths(self) -> None:
        """Only old fields. Wayne's own replica dies, then the primary; what is told is told once, and in order."""
        wayne, mason = self.caller(self.backups[0]), self.pipe(self.backups[1])
        self.assertGreater(wayne.call("LogIn", client_id="wayne"), 0)
        wayne.call("CreateAccount", client_id="wayne")
        ear = wayne.listen("wayne")
        ear.until("Server", "Account wayne has been created!")
        self.assertIn("mason123", mason.request(1, "1|mason"))
        wayne.call("SendMessage", sender_id="wayne", recipient_id="mason", message="from afar | ü", thread_id=7)
        wayne.call("SendMessage", sender_id="wayne", recipient_id="nobody", message="x")
        wayne.call("WildCard", client_id="wayne", pattern=".*")
        wayne.call("WildCard", client_id="wayne", pattern="x+")
        self.assertEqual(mason.request(2, "3|wayne|to grpc"), "Sender mason sends a new message to grpc to wayne\n")
        ear.until("mason", "to grpc")
        self.assertEqual([words.split("|", 3)[3] for _, words in mason.pushed], ["from afar | ü"])
        self.assertEqual(ear.told[2].thread_id, 7, "given back")
        heard = ear.lines()
        self.assertEqual(
            heard,
            [
                ("Server", "Account wayne is not found!"),
                ("Server", "Account wayne has been created!"),
                ("Server", "Your message has been sent!"),
                ("Server", "Recipient is not found!"),
                ("Server", "Account matched: wayne,mason"),
                ("Server", "Account matched to: x+ doesn't exist"),
                ("mason", "to grpc"),
            ],
        )
        self.cluster.kill(self.backups[0])
        self.assertEqual(ear.ended()[0], grpc.StatusCode.UNAVAILABLE)
        again = self.caller(self.primary)
        again.call("SendMessage", sender_id="wayne", recipient_id="mason", message="before the stream")
        self.cluster.kill(self.primary)
        last = self.caller(self.backups[1])
        last.call("LogIn", client_id="wayne")
        ear = last.listen("wayne")
        ear.until("Server", "You have been successfully logged in!")
        mason.request(3, "3|wayne|at last")
        last.call("LogOut", client_id="wayne")
        self.assertEqual(ear.ended(), (grpc.StatusCode.OK, ""))
        self.assertEqual(
            [line for line in ear.lines() if line not in heard],  # what was written in its last moment may come again
            [
                ("Server", "You have been successfully logged in!"),
                ("mason", "at last"),
                ("Server", "You have been successfully logged out!"),
            ],
        )
        self.assertIn(("Server", "Your message has been sent!"), ear.lines())

    def test_calls_in_the_middle_of_a_death(self) -> None:
        """At a backup, while the primary hangs and is killed: each is answered, and done once."""
        caller = self.caller(self.backups[0])
        caller.call("CreateAccount", client_id="wayne")
        ear = caller.listen("wayne")
        ear.until("Server", "Account wayne has been created!")
        self.cluster.wait_level()
        self.cluster.pause(self.primary)
        calls = [
            caller.start("CreateAccount", client_id="zoe", password="secret"),
            caller.start("SendMessage", sender_id="wayne", recipient_id="wayne", message="hello"),
            caller.start("SendMessage", sender_id="wayne", recipient_id="nobody", message="hello"),
            caller.start("WildCard", client_id="wayne", pattern="w.*"),
        ]
        self.cluster.kill(self.primary)
        self.assertEqual(len({call.result().id for call in calls}), 4)
        ear.wait(lambda: len(ear.told) == 5)
        told = [("wayne", "hello"), *(("Server", w) for w in ("Your message has been sent!", "Recipient is not found!"))]
        self.assertEqual(sorted(ear.lines()[1:]), sorted([*told, ("Server", "Account matched: wayne")]))
        caller.call("DeleteAccount", client_id="wayne")
        self.assertEqual(ear.ended(), (grpc.StatusCode.OK, ""))

    # --- with the new fields --------------------------------------------------------------------------------------------------------------

    def test_once_with_positions_and_requests(self) -> None:
        """A guest that says what it has shown and names its requests: each is done once and shown once, whoever dies."""
        seen: list[Any] = []
        dying = list(self.cluster.ids)
        caller = self.caller(dying[0])
        caller.call("CreateAccount", client_id="wayne", password="secret", request_id="c")
        for death, replica in enumerate(dying):
            caller = self.caller(replica)
            ear = caller.listen("wayne", password="secret", after=seen[-1].id if seen else 0, acknowledges=True)
            for n in range(10):
                text = {"sender_id": "wayne", "recipient_id": "wayne", "message": f"{death}.{n}", "password": "secret"}
                calls = [caller.start("SendMessage", request_id=f"{death}.{n}", **text) for _ in range(2)]
                self.assertEqual(len({call.result().id for call in calls}), 1)
            ear.wait(lambda ear=ear: ear.lines()[-1:] == [("Server", "Your message has been sent!")] and len(ear.lines()) >= 20)  # type: ignore[misc]
            seen += ear.told
            if death == 1:
                caller.call("Acknowledge", client_id="wayne", password="secret", upto=seen[-1].id)
            if death < 2:
                self.cluster.kill(replica)
                ear.ended()
        mail = [one.message for one in seen if one.sender_id == "wayne"]
        self.assertEqual(mail, [f"{death}.{n}" for death in range(3) for n in range(10)])
        ids = [one.id for one in seen]
        self.assertEqual(ids, sorted(set(ids)))
        caller.call("Acknowledge", client_id="wayne", password="secret", upto=seen[-1].id)
        fresh = caller.listen("wayne", password="secret")
        caller.call("LogIn", client_id="wayne", password="secret")
        self.assertEqual(
            fresh.until("Server", "You have been successfully logged in!"), [("Server", "You have been successfully logged in!")]
        )

    def test_passwords(self) -> None:
        caller, other = self.caller(self.backups[0]), self.caller(self.primary)
        caller.call("CreateAccount", client_id="wayne", password="secret")
        other.call("CreateAccount", client_id="mason")
        wrong = (grpc.StatusCode.UNAUTHENTICATED, "wrong password for wayne")
        for call, more in (
            ("LogIn", {}),
            ("LogIn", {"password": "guess"}),
            ("DeleteAccount", {}),
            ("LogOut", {}),
            ("WildCard", {"pattern": "x"}),
        ):
            self.assertEqual(other.refusal(call, client_id="wayne", **more), wrong)
        self.assertEqual(other.refusal("SendMessage", sender_id="wayne", recipient_id="mason", message="x"), wrong)
        self.assertEqual(other.listen("wayne").ended(), wrong)
        self.assertEqual(
            other.refusal("CreateAccount", client_id="wayne"), (grpc.StatusCode.ALREADY_EXISTS, "Account wayne already exists!")
        )
        for n in range(30):  # one is hashed, the others go by what is remembered
            caller.call("SendMessage", sender_id="wayne", recipient_id="mason", message=str(n), password="secret")
        ear = caller.listen("wayne", password="secret")
        ear.wait(lambda: len(ear.told) == 31)
        self.assertEqual(ear.lines()[0], ("Server", "Account wayne has been created!"))
        done = self.cluster.run("account", "block", "wayne")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(ear.ended()[0], grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(caller.refusal("LogIn", client_id="wayne", password="secret")[0], grpc.StatusCode.PERMISSION_DENIED)

    def test_history(self) -> None:
        """Own conversations only, paged; the same at every replica."""
        caller = self.caller(self.backups[0])
        caller.call("CreateAccount", client_id="wayne", password="secret")
        caller.call("CreateAccount", client_id="mason")
        for n in range(5):
            sender, whom = ("mason", "wayne") if n % 2 else ("wayne", "mason")
            caller.call("SendMessage", sender_id=sender, recipient_id=whom, message=f"{n} | ü", password="secret")
        ask = {"client_id": "wayne", "partner_id": "mason", "password": "secret"}
        for replica in self.cluster.ids:
            other = self.caller(replica)
            newest = other.start("History", count=2, **ask).result()
            self.assertEqual([(m.sender_id, m.message) for m in newest.messages], [("mason", "3 | ü"), ("wayne", "4 | ü")])
            rest = other.start("History", before=newest.older, **ask).result()
            self.assertEqual([m.message for m in rest.messages], ["0 | ü", "1 | ü", "2 | ü"])
            self.assertEqual(rest.older, 0)
        self.assertEqual(caller.refusal("History", client_id="wayne", partner_id="mason")[0], grpc.StatusCode.UNAUTHENTICATED)
        self.assertEqual(caller.refusal("History", client_id="nobody", partner_id="mason")[0], grpc.StatusCode.NOT_FOUND)
        self.assertEqual(caller.refusal("History", count=1001, **ask)[0], grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(list(caller.start("History", client_id="mason", partner_id="nobody").result().messages), [])

    # --- health and reflection ------------------------------------------------------------------------------------------------------------

    def test_health_and_reflection(self) -> None:
        caller, survivor = self.caller(self.primary), self.caller(self.backups[0])
        self.assertEqual([self.check(c, "ChatService") for c in (caller, survivor)], [1, 1])
        with self.assertRaises(grpc.RpcError):
            self.check(caller, "NoService")
        ask = caller.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = (
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="ChatService"),
        )
        services, file = ask(iter(asked), timeout=10)
        names = {service.name for service in services.list_services_response.service}
        self.assertLessEqual({"ChatService", "grpc.health.v1.Health"}, names)
        self.assertIn(b"ReceiveMessages", file.file_descriptor_response.file_descriptor_proto[0])
        watch = survivor.channel.unary_stream(
            "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )
        watching = watch(health_pb2.HealthCheckRequest(service="ChatService"), timeout=20)
        self.assertEqual(next(watching).status, 1)
        watching.cancel()
        self.cluster.kill(*self.backups[1:])
        self.cluster.kill(self.primary)
        until("the last one serves", lambda: self.check(survivor) == 1)

    # --- hostile guests -------------------------------------------------------------------------------------------------------------------

    def test_hostile_guests(self) -> None:
        replica = self.backups[0]
        caller, pid = self.caller(replica), self.cluster.processes[replica].pid
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        for name in ("", "a b", "a,b", "a|b", "x" * 33, "x" * 70_000, "bell\x07", "line\nline", "a\u202eb"):
            self.assertEqual(caller.refusal("CreateAccount", client_id=name)[0], invalid, name[:40])
            self.assertEqual(caller.listen(name).ended()[0], invalid)
        caller.call("CreateAccount", client_id="wayne")
        for text in ("", "nul\0", "line\nline", "x" * (64 * 1024 + 1)):
            self.assertEqual(caller.refusal("SendMessage", sender_id="wayne", recipient_id="wayne", message=text)[0], invalid)
        self.assertEqual(caller.refusal("LogIn", client_id="x" * 100_000)[0], grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(caller.refusal("LogIn", client_id="wayne", request_id="a|b")[0], invalid)
        raw: Any = caller.channel.unary_unary("/ChatService/LogIn", None, None)
        for image in (b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 50):
            with self.assertRaises(grpc.RpcError) as caught:
                raw(image, timeout=10)
            self.assertEqual(caught.exception.code(), invalid)
        for after in (1, 1 << 62, (1 << 64) - 1):
            ear = caller.listen("wayne", after=after)
            if after == 1:
                ear.until("Server", "Account wayne has been created!")
            else:
                self.assertEqual(ear.ended()[0], invalid)
        self.flood(replica)
        cancelled = [caller.start("SendMessage", sender_id="wayne", recipient_id="wayne", message=str(n)) for n in range(200)]
        for call in cancelled:
            call.cancel()
        caller.call("LogIn", client_id="wayne")
        self.assertLess(rss_of(pid), GROWTH_BYTES + (60 << 20))
        self.assertEqual(self.check(caller), 1)
        self.cluster.wait_level()
        self.assertEqual(self.cluster.differences(), [])

    def flood(self, replica: int) -> None:
        """Connections that say nothing, half a preface, nonsense, and headers without an end."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        settings = struct.pack(">I", 0)[1:] + b"\x04\x00" + struct.pack(">I", 0)
        held = []
        for n in range(200):
            line = socket.create_connection(("127.0.0.1", self.cluster.doors["grpc"][replica]), 10)
            self.addCleanup(line.close)
            line.sendall((b"", preface[:7], b"GET / HTTP/1.1\r\n\r\n", preface + settings + b"\x00\x40\x00\x01\x00\x00\x00\x00\x01")[n % 4])
            held.append(line)

    def test_a_stream_that_is_not_read(self) -> None:
        """What it does not read stays in its mailbox; it is ended, and the replica's memory is not what holds it."""
        caller = self.caller(self.primary, **{"grpc.http2.lookahead_bytes": 0, "grpc.http2.bdp_probe": 0})
        slow: Any = caller.channel.unary_stream("/ChatService/ReceiveMessages", None, None)
        caller.call("CreateAccount", client_id="wayne")
        stream = slow(b"\x0a\x05wayne")
        next(iter(stream))
        sender, text = self.caller(self.backups[0]), "x" * 60_000
        sender.call("CreateAccount", client_id="mason")
        calls = [sender.start("SendMessage", sender_id="mason", recipient_id="wayne", message=text) for _ in range(100)]
        for call in calls:
            call.result()
        log = self.cluster.output(self.primary)

        def is_told() -> bool:
            with open(log, encoding="utf-8") as file:
                return "it did not read for" in file.read()

        until("it is ended", is_told, 40)
        stream.cancel()
        ear = self.caller(self.backups[1]).listen("wayne")
        ear.wait(lambda: len(ear.told) >= 60)
        self.assertLessEqual(set(ear.lines()), {("mason", text)})


if __name__ == "__main__":
    unittest.main()
