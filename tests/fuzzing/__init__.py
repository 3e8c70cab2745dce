"""Bytes that nobody should have sent: every parser that reads from outside or from disk, and inputs for it.

    mutate.py         valid inputs → nearly valid ones, from a seed
    tests/corpus/     the valid ones, and whatever once broke something
    outside.py        targets that read what others send: doors, links, packets, client
    places.py         targets that read what stands beside: operators' socket, the cluster's secret, transfers, a person's words
    disks.py          targets that read files: journal, register, superblock, lock, snapshot, settings
    run.py            the loop: one input after the other, with a limit on processor time

Read next: `run.py`.
"""

from tests.fuzzing import disks, outside, places
from tests.fuzzing.run import Target

TARGETS: dict[str, Target] = {target.name: target for target in (*outside.TARGETS, *places.TARGETS, *disks.TARGETS)}
