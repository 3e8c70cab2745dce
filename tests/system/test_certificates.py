"""Real replicas under `majority` that know each other by certificates, doors that speak TLS, and what an operator sees of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import unittest
from typing import Any

import grpc

import credentials
from doors.pipe_words import INVALID
from packets import encode
from tests import certified
from tests.system.callers import Caller
from tests.system.cluster import ROOT, Cluster
from tests.test_links import frame, handshake, identity, ok


class WithCertificates(unittest.TestCase):
    def script(self, cluster: Cluster, lines: str, *options: str, ports: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """A client with this to say, at all replicas' pipes."""
        ports = [str(port) for port in cluster.pipes] if ports is None else ports
        command = [sys.executable, os.path.join(ROOT, "client.py"), *ports, "--plain", "--wait", "10", *options]
        environment = {**os.environ, "XDG_STATE_HOME": cluster.where}
        return subprocess.run(
            command, cwd=cluster.where, input=lines, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def test_from_the_first_start_over_a_failover(self) -> None:
        with Cluster(policy="majority", tls="certs", grpc=True) as cluster:
            refused = cluster.run("--replica", "0")
            self.assertEqual(refused.returncode, 2)
            self.assertIn(
                "replica-0.pem cannot be read (No such file or directory): `python server.py make-certs` makes it", refused.stderr
            )
            made = cluster.run("make-certs")
            self.assertEqual((made.returncode, made.stderr), (0, ""))
            self.assertIn("to the host of replica 2", made.stdout)
            cluster.start()
            primary = cluster.wait_members()
            ca = os.path.join(cluster.where, "certs", credentials.CA)
            first = self.script(cluster, "create mason\n@mason hello\n", "--ca", ca)
            self.assertEqual((first.returncode, first.stdout.count("mason: hello")), (0, 1), first.stderr)
            cluster.kill(primary)
            cluster.wait_serving(but=[primary])
            # the CA stands in the configuration, too
            second = self.script(cluster, "login mason\nlist\n")
            self.assertEqual((second.returncode, second.stdout.splitlines()[-1]), (0, "Showing all accounts: mason"), second.stderr)
            backup = next(i for i in cluster.ids if i != primary)
            self.assert_the_peer_port_takes_nobody(cluster, backup)
            self.assert_a_door_takes_no_replica(cluster, backup, ca)
            self.assert_the_grpc_door_is_secured(cluster, backup, ca)
            doors = [str(port) for port in cluster.doors["grpc"]]
            for ports, options in ((doors, ("--ca", ca)), ([], ("--config", cluster.config))):  # the CA stands in the configuration, too
                third = self.script(cluster, "0|mason\nX\n", "--grpc", *options, ports=ports)
                self.assertEqual((third.returncode, third.stdout.splitlines()[-1]), (0, "Quitting!"), third.stderr)
            other = self.script(
                cluster, "0|mason\n", "--grpc", "--ca", certified.directory("theirs") + "/ca.pem", "--wait", "0.1", ports=doors
            )
            self.assertEqual((other.returncode, other.stdout.count("\n")), (1, 1), other.stderr)
            self.assertIn("shows a certificate that does not count", other.stderr)

    def assert_the_grpc_door_is_secured(self, cluster: Cluster, replica: int, ca: str) -> None:
        caller = Caller(cluster.doors["grpc"][replica])
        self.addCleanup(caller.close)
        plain: Any = caller.channel.unary_unary("/ChatService/CreateAccount", lambda request: b"", lambda response: response)
        with self.assertRaises(grpc.RpcError):
            plain(b"", timeout=2.0)
        caller.channel.close()
        with open(ca, "rb") as file:
            proof = grpc.ssl_channel_credentials(file.read())
        caller.channel = grpc.secure_channel(f"127.0.0.1:{cluster.doors['grpc'][replica]}", proof)
        self.assertGreater(caller.call("CreateAccount", client_id="albert"), 0)

    def assert_the_peer_port_takes_nobody(self, cluster: Cluster, replica: int) -> None:
        with socket.create_connection(("127.0.0.1", cluster.peers[replica]), 5) as stranger:
            stranger.sendall(b"understudy 1 00000000000000000000000000000000\n")
            stranger.settimeout(10)
            self.assertNotIn(b"understudy", stranger.recv(4096))
        cluster.wait("it is refused", lambda: "no TLS connection came about" in cluster.log(replica))

    def assert_a_door_takes_no_replica(self, cluster: Cluster, replica: int, ca: str) -> None:
        """The words of a handshake and a packet are a guest's mistake there."""
        side = handshake(identity(2, policy="majority"), 0)
        with (
            socket.create_connection(("127.0.0.1", cluster.pipes[replica]), 5) as line,
            credentials.of_client(ca).wrap_socket(line, server_hostname="127.0.0.1") as stranger,
        ):
            stranger.sendall(frame(side.hello) + frame(encode(ok(1))) + b"\n")
            stranger.settimeout(10)
            heard = stranger.recv(1 << 16)
            while INVALID not in heard:
                self.assertTrue(more := stranger.recv(1 << 16), heard)
                heard += more
        self.assertNotIn(b"understudy-", heard)


if __name__ == "__main__":
    unittest.main()
