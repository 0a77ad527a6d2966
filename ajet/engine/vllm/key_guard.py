"""Guards every path of a vLLM server with its key; vLLM's own `--api-key` guards `/v1` only.

Given to vLLM as `--middleware ajet.engine.vllm.key_guard.KeyGuard`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

KEY_VARIABLE = "VLLM_API_KEY"
"""The environment variable with the key, also read by vLLM."""

App = Callable[[Any, Any, Any], Awaitable[None]]


class KeyGuard:
    """ASGI middleware: 401 without the key, except for `/health`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[KEY_VARIABLE]}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)
