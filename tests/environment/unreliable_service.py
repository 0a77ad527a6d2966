"""The counting service behind a network that loses calls and answers.

    python tests/environment/unreliable_service.py --port 8000 --share 0.2

Of all calls, this share fails, by turns: answered 500 and not worked on; the connection broken
before, or after, the call was worked on. `GET /health` never fails.
"""

from __future__ import annotations

import argparse
import itertools
import random
from typing import Any

import uvicorn

from ajet.environment.serving import EnvironmentApp
from tests.environment.counting_service import CountingService


class Unreliable:
    """ASGI middleware."""

    def __init__(self, app: Any, share: float) -> None:
        self.app = app
        self.share = share
        self.random = random.Random(7)
        self.kinds = itertools.cycle(["500", "before", "after"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_call = scope["type"] == "http" and scope["method"] == "POST"
        if not is_call or self.random.random() >= self.share:
            return await self.app(scope, receive, send)
        kind = next(self.kinds)
        if kind == "after":
            await self.app(scope, receive, _swallow)
        status = 500 if kind == "500" else 200
        length = b"5" if kind == "500" else b"100"  # of which nothing comes: the connection breaks
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"sorry" if kind == "500" else b""
        await send({"type": "http.response.body", "body": body})


async def _swallow(message: Any) -> None:
    pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--share", type=float)
    options = parser.parse_args()
    app = Unreliable(EnvironmentApp(CountingService()).app(), options.share)
    uvicorn.run(app, port=options.port, log_level="critical")
