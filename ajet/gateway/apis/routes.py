"""The gateway's HTTP interface without HTTP: what every transport hands requests to.

A transport (in process, or a socket) knows whose `AgentPort` a request is for; this module knows
the routes, the APIs' shapes and their errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ajet.errors import AjetError, RequestError
from ajet.gateway.apis.chat_completions.body import chat_completions, error_body
from ajet.gateway.apis.messages.body import error_body as messages_error_body
from ajet.gateway.apis.messages.handler import messages
from ajet.gateway.apis.responses.handler import responses
from ajet.gateway.gateway import MODEL_NAME, AgentSession
from ajet.gateway.reply import Reply, json_reply, parse_json

__all__ = ["ROUTES", "Reply", "error_body", "error_reply", "json_reply", "respond"]


async def respond(port: AgentSession, method: str, path: str, body: bytes) -> Reply:
    """Answer one request; every `AjetError` becomes the error object of the path's API."""
    try:
        route = ROUTES.get((method, path))
        if route is None:
            raise _no_route(method, path)
        content = parse_json(body) if method == "POST" else None
        if port.upstream and isinstance(content, dict):
            port.check_open()
            return await port.upstream.forward(path, content)
        return await route(port, content)
    except AjetError as error:
        return error_reply(path, error)


def error_reply(path: str, error: AjetError) -> Reply:
    """An error in the shape of the path's API."""
    shape = messages_error_body if path.startswith(MESSAGES) else error_body
    status, content = shape(error)
    return json_reply(content, status=status)


async def _models(port: AgentSession, body: Any) -> Reply:
    return json_reply({"object": "list", "data": [_MODEL]})


async def _model(port: AgentSession, body: Any) -> Reply:
    return json_reply(_MODEL)


def _no_route(method: str, path: str) -> RequestError:
    there = ", ".join(" ".join(route) for route in ROUTES)
    return RequestError(
        f"{method} {path}: not served here; there are {there}", code="not_found", status=404
    )


_MODEL = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "agentjet"}

MESSAGES = "/v1/messages"

ROUTES: dict[tuple[str, str], Callable[[AgentSession, Any], Awaitable[Reply]]] = {
    ("POST", "/v1/chat/completions"): chat_completions,
    ("POST", "/v1/responses"): responses,
    ("POST", MESSAGES): messages,
    ("GET", "/v1/models"): _models,
    ("GET", f"/v1/models/{MODEL_NAME}"): _model,
}
"""Method and path -> handler of the parsed body. What is added here is there for every door."""
