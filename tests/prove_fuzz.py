"""Nearly valid bytes for every parser: all that once broke something, and a few hundred new inputs each.

More: `python scripts/fuzz.py --inputs 1000000`. Read next: `tests/fuzzing/run.py`.
"""

from __future__ import annotations

import ast
import sys
import tracemalloc
import unittest
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from doors import TRANSLATORS
from tests import fuzzing
from tests.fuzzing.mutate import LENGTH_MAX
from tests.fuzzing.run import Target, fuzz, make, replay, timed
from tests.test_house_rules import PRODUCT, TREES

TARGETS: tuple[Target, ...] = tuple(fuzzing.TARGETS.values())
# Calls that make values of bytes or text.
DECODERS = {"decode", "loads", "unpack", "unpack_from", "fromhex", "convert", "parse", "reader", "int"}
# Functions that call one, and that no input reaches, with the reason.
UNREACHED = {
    "admin._listening_inode": "the kernel's own table, when a port is taken",
    "admin.owner_of": "the same",
    "credentials.named_replica": "a certificate that `ssl` has found to be of the cluster's own CA",
    "disk.file_system": "the kernel's own table, of what is mounted",
    "host.LoopHost.console": "the clock",
    "grpc_mode.knock": "what the gRPC door has answered",
    "last_resort.LastResort._cut_tail": "names of segments, which `evidence.examine` has read before",
    "host.LoopHost._ask_worker": "what this server's own worker answers",
    "settings.load": "opens the file; what stands in it is target settings",
    "snapshot_worker.Worker.run": "opens what its own server has sent; what is in it is target order",
    "snapshots.prune": "names that are sixteen digits",
    "terminal.main": "the command line",
    "terminal.stdin_lines": "any bytes are text, as target person has it",
}
INPUTS = 2000
SECONDS = 0.5  # of each target: a slow machine tries fewer
MEMORY_MAX = 24 << 20  # bytes that one input may cost: a frame of a linked replica is 4 MiB, and is copied


class Fuzz(unittest.TestCase):
    def test_the_corpus_breaks_nothing(self) -> None:
        for target in TARGETS:
            with self.subTest(target.name):
                self.assertGreaterEqual(len(target.corpus()), 2)
                self.assertEqual([find.story for find in replay(target)], [])

    def test_seeds_are_valid_and_kept(self) -> None:
        for target in TARGETS:
            kept = set(target.corpus())
            for name, image in target.seeds().items():
                with self.subTest(target.name, seed=name):
                    self.assertIn(image, kept, "the format has changed: python scripts/fuzz.py --seeds")

    def test_nearly_valid_bytes_break_nothing(self) -> None:
        for target in TARGETS:
            with self.subTest(target.name):
                report = fuzz(target, seed=11, inputs=INPUTS, seconds=SECONDS)
                self.assertEqual([(find.image, find.story) for find in report.finds], [])
                self.assertGreater(len(report.outcomes), 1, f"all inputs had the same fate: {report.outcomes}")

    def test_no_input_costs_much_memory(self) -> None:
        with timed():
            for target in TARGETS:
                corpus = target.corpus()
                images = [make(target, corpus, 3, number) for number in range(12)]
                target.run(images[0])
                tracemalloc.start()
                for image in images:
                    tracemalloc.reset_peak()
                    before, _ = tracemalloc.get_traced_memory()
                    target.run(image)
                    _, peak = tracemalloc.get_traced_memory()
                    self.assertLess(peak - before, MEMORY_MAX, f"{target.name}: {image[:200]!r}")
                tracemalloc.stop()

    def test_inputs_are_named_by_their_seed(self) -> None:
        target = TARGETS[0]
        corpus = target.corpus()
        images = [make(target, corpus, 5, number) for number in range(200)]
        self.assertEqual(images, [make(target, corpus, 5, number) for number in range(200)])
        self.assertGreater(len(set(images)), 180)
        self.assertLessEqual(max(map(len, images)), LENGTH_MAX)


class EveryParser(unittest.TestCase):
    """No parser is forgotten: what decodes bytes is found in the syntax trees, and must be entered while inputs are fed."""

    def test_every_door_has_a_target(self) -> None:
        self.assertLessEqual(set(TRANSLATORS) - {"stream"}, set(fuzzing.TARGETS))  # a stream is asked for by a call: target grpc

    def test_every_function_that_decodes_is_reached(self) -> None:
        reached = self.reached()
        wanted = {f"{module}.{name}" for module, path in PRODUCT.items() for name in decoding(TREES[path])}
        self.assertEqual(sorted(wanted - reached - set(UNREACHED)), [])
        self.assertEqual(sorted(name for name in UNREACHED if name not in wanted or name in reached), [], "no reason is needed any more")

    def reached(self) -> set[str]:
        """All functions of the product that the corpus and some inputs enter."""
        by_file = {str(path): module for module, path in PRODUCT.items()}
        entered: set[CodeType] = set()

        def note(frame: FrameType, event: str, argument: Any) -> None:
            entered.add(frame.f_code)

        sys.setprofile(note)
        try:
            for target in TARGETS:
                fuzz(target, seed=2, inputs=60)
                replay(target)
        finally:
            sys.setprofile(None)
        return {f"{by_file[code.co_filename]}.{code.co_qualname}" for code in entered if code.co_filename in by_file}


def decoding(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Names of the functions that call a decoder themselves."""
    for step in ast.iter_child_nodes(tree):
        if isinstance(step, ast.ClassDef):
            yield from decoding(step, f"{prefix}{step.name}.")
        elif isinstance(step, (ast.FunctionDef, ast.AsyncFunctionDef)):
            calls = (inner.func for inner in ast.walk(step) if isinstance(inner, ast.Call))
            if {
                call.attr if isinstance(call, ast.Attribute) else call.id for call in calls if isinstance(call, (ast.Attribute, ast.Name))
            } & DECODERS:
                yield f"{prefix}{step.name}"


if __name__ == "__main__":
    unittest.main()
