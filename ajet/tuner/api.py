"""The gateway's HTTP interface without HTTP: what every transport hands requests to.

A transport (in process, or a socket) knows whose `AgentPort` a request is for; this module knows
the routes, the APIs' shapes and their errors.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ajet.errors import AjetError, EngineError, RequestError
from ajet.tuner.gateway import MODEL_NAME, AgentPort


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a transport sends back: a body, or a stream of server-sent events."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""
    events: AsyncIterator[bytes] | None = None
    """Each one event, complete with its blank line. Closing the iterator cancels the request."""


async def respond(port: AgentPort, method: str, path: str, body: bytes) -> Reply:
    """Answer one request; every `AjetError` becomes the API's error object."""
    route = ROUTES.get((method, path))
    try:
        if route is None:
            raise _no_route(method, path)
        return await route(port, body)
    except AjetError as error:
        status, content = error_body(error)
        return json_reply(content, status=status)


def json_reply(content: Any, *, status: int = 200) -> Reply:
    """A JSON body."""
    return Reply(status=status, body=json.dumps(content, ensure_ascii=False).encode())


def parse_json(body: bytes) -> Any:
    """The request's body.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise RequestError(f"body: not valid JSON: {error}") from error


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


async def _chat_completions(port: AgentPort, body: bytes) -> Reply:
    return json_reply(await port.chat_completions(parse_json(body)))


async def _models(port: AgentPort, body: bytes) -> Reply:
    return json_reply({"object": "list", "data": [{"id": MODEL_NAME, "object": "model"}]})


def _no_route(method: str, path: str) -> RequestError:
    there = ", ".join(" ".join(route) for route in ROUTES)
    return RequestError(
        f"{method} {path}: not served here; there are {there}", code="not_found", status=404
    )


ROUTES: dict[tuple[str, str], Callable[[AgentPort, bytes], Awaitable[Reply]]] = {
    ("POST", "/v1/chat/completions"): _chat_completions,
    ("GET", "/v1/models"): _models,
}
"""Method and path -> handler. What is added here is there for every door."""
