"""Print what stands in a replica's journal: `python scripts/read_journal.py DIR [--bodies]`.

What it is not: it changes nothing, takes no lock and may run beside the server. DIR is `data/replica-N` or its `journal`.
Exit code 1 when something is damaged.

Read next: `segments.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from batches import Batch
from disk import OsDisk
from segments import survey


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Print the batches of a journal.")
    parser.add_argument("dir", help="data/replica-N, or the journal directory in it")
    parser.add_argument("--bodies", action="store_true", help="print what the batches hold, too")
    options = parser.parse_args(arguments)
    inner = os.path.join(options.dir, "journal")
    path = inner if os.path.isdir(inner) else options.dir
    if not os.path.isdir(path):
        print(f"{path} is not a directory", file=sys.stderr)
        return 1
    wrong = 0
    for item in survey(OsDisk(), path):
        if isinstance(item, Batch):
            print(line(item))
            if options.bodies:
                print(f"  {item.body!r}")
        else:
            wrong += item.wrong
            print(f"{item.path} byte {item.at}: {item.text}")
    return 1 if wrong else 0


def line(batch: Batch) -> str:
    """One batch for people."""
    when = datetime.fromtimestamp(batch.time / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    ops = f"{batch.first_op}-{batch.op}" if batch.count > 1 else str(batch.op)
    return f"  op {ops}  view {batch.view}  {when}  {len(batch.body)} bytes  {batch.hash.hex()}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # `| head` has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
