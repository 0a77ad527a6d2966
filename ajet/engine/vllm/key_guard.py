"""Middlewares for vLLM's HTTP server: one asks for its key on every path, one refuses everything.

vLLM's own `--api-key` protects only paths below `/v1`. Start vLLM with
`--middleware ajet.engine.vllm.key_guard.KeyGuard`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable with the server's key; vLLM reads the same one."""

App = Callable[[Any, Any, Any], Awaitable[None]]


class KeyGuard:
    """ASGI middleware that answers requests without the key by 401, except for `/health`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[KEY_VARIABLE]}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Reject the request or pass it on."""
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)


class NoRequests:
    """ASGI middleware that refuses every request.

    For verl's servers: verl itself calls them through Ray, and asks for no key over HTTP.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse the request; only the server's own start and end are passed on."""
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await self._app(scope, receive, send)
