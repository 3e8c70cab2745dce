"""The cheapest gRPC service: what `grpc.aio` allows a Python server to do with the same messages, when it does nothing.

What it is not: a server. It stores nothing, knows nobody and reads no field; each call of SendMessage is answered by an id. A yardstick
for `scripts/bench.py`: half of its calls a second is what the gRPC door is asked for.

    python scripts/reference/grpc_echo.py PORT

Read next: `tests/bench/systems.py`, which starts it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import grpc
import uvloop

from doors.gen.chat_pb2 import DESCRIPTOR, ChatMessageRequest, ChatMessageResponse

PENDING_MAX = 10_000  # calls; by itself it cancels some of 2,000


async def serve(port: int) -> None:
    """Until the process is killed."""
    numbers = itertools.count(1)

    async def send(request: ChatMessageRequest, context: object) -> ChatMessageResponse:
        return ChatMessageResponse(id=next(numbers))

    read, write = ChatMessageRequest.FromString, ChatMessageResponse.SerializeToString
    handler = grpc.unary_unary_rpc_method_handler(send, read, write)
    name = DESCRIPTOR.services_by_name["ChatService"].full_name
    server = grpc.aio.server(options=[(f"grpc.server.max_pending_requests{which}", PENDING_MAX) for which in ("", "_hard_limit")])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"SendMessage": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
