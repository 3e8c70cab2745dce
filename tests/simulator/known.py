"""What was read once in a seed is not worked out again: the same bytes are the same batch, and the same record of a view.

What it is not: it believes nothing. Bytes of which one bit is another are others, and go through the program's own reader; so do all bytes
the first time they are met. A seed reads each batch twenty times: at every replica, at every start, for every snapshot.

Read next: `simulation.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import compiled
import register
from batches import HEADER_SIZE, TRAILER_SIZE, Batch
from packets import View

LENGTH, LENGTH_AT = struct.Struct("<I"), 16  # of a batch's body, in its header


@contextmanager
def remembered() -> Iterator[None]:
    """Within this."""
    read_batch, of_view = Batch.decode, register._decode
    batches: dict[bytes, Batch] = {}
    views: dict[bytes, View] = {}

    def batch_of(image: bytes | memoryview, at: int = 0) -> Batch:
        if len(image) - at >= HEADER_SIZE:
            whole = bytes(image[at : at + HEADER_SIZE + LENGTH.unpack_from(image, at + LENGTH_AT)[0] + TRAILER_SIZE])
            if whole in batches:
                return batches[whole]
        batch = read_batch(image, at)
        batches[batch.image] = batch
        return batch

    def view_of(record: bytes) -> View | None:
        if record in views:
            return views[record]
        view = of_view(record)
        if view is not None:
            views[record] = view
        return view

    if not compiled.is_in_use():  # a compiled class takes no other method
        Batch.decode = staticmethod(batch_of)  # type: ignore[method-assign]
    register._decode = view_of
    try:
        yield
    finally:
        if not compiled.is_in_use():
            Batch.decode = staticmethod(read_batch)  # type: ignore[method-assign]
        register._decode = of_view
