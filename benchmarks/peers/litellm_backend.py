"""Backend behind LiteLLM's proxy in `gateway.py`: it gives the same answer at once.

python -m benchmarks.peers.litellm_backend PORT
"""

from __future__ import annotations

import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.gateway_workload import completion, stream_events

ANSWER = json.dumps(completion()).encode()
EVENTS = list(stream_events())


async def answer(request: Request) -> Response:
    """Answer with a completion, or with the same text as a stream."""
    if json.loads(await request.body()).get("stream"):
        return StreamingResponse(_stream(), media_type="text/event-stream")
    return Response(ANSWER, media_type="application/json")


async def _stream():  # noqa: ANN202
    for event in EVENTS:
        yield event


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
    )
