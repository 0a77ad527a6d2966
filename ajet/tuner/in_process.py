"""An HTTP transport that leads to an agent's port without a socket.

`openai` speaks HTTP through `httpx2`; with this transport its genuine client, retries, types and
errors included, talks to the gateway within the process and on the caller's own event loop.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2

from ajet.errors import AjetError, EngineError, RequestError
from ajet.tuner.gateway import MODEL_NAME, AgentPort

BASE_URL = "http://ajet.invalid/v1"
"""Never dialled: `.invalid` is reserved for names that do not exist (RFC 2606)."""


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Answers requests to `BASE_URL` from an `AgentPort`."""

    def __init__(self, port: AgentPort) -> None:
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Route one request; every `AjetError` becomes the API's error object."""
        try:
            status, body = 200, await self._route(request)
        except AjetError as error:
            status, body = error_body(error)
        return httpx2.Response(
            status,
            headers={"content-type": "application/json"},
            content=json.dumps(body, ensure_ascii=False).encode(),
        )

    async def _route(self, request: httpx2.Request) -> dict[str, Any]:
        route = (request.method, request.url.path)
        if route == ("POST", "/v1/chat/completions"):
            return await self._port.chat_completions(_json(await request.aread()))
        if route == ("GET", "/v1/models"):
            return {"object": "list", "data": [{"id": MODEL_NAME, "object": "model"}]}
        raise RequestError(
            f"{request.method} {request.url.path}: not served here; "
            "POST /v1/chat/completions and GET /v1/models are",
            code="not_found",
            status=404,
        )


def error_body(error: AjetError) -> tuple[int, dict[str, Any]]:
    """HTTP status and the OpenAI API's error object."""
    if isinstance(error, RequestError):
        status, kind = error.status, "invalid_request_error"
        param, code = error.param, error.code
    else:
        status, kind = 503 if isinstance(error, EngineError) else 500, "server_error"
        param, code = None, "engine_error" if isinstance(error, EngineError) else None
    content = {"message": str(error), "type": kind, "param": param, "code": code}
    return status, {"error": content}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise RequestError(f"body: not valid JSON: {error}") from error
