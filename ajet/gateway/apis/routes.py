"""The gateway's HTTP interface without HTTP: routes, and the registry of wire APIs.

A transport (in process, or a socket) knows which agent's session a request belongs to and calls
`respond`. To add a wire API, write a `WireApi` in a folder of its own and add a line to `APIS`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Any

from ajet.class_path import load_class
from ajet.errors import AjetError, RequestError
from ajet.gateway.apis.base import StreamEncoder, WireApi
from ajet.gateway.completion import PendingRequest, Reply, event_reply, json_reply, parse_json
from ajet.gateway.gateway import MODEL_NAME, AgentSession

APIS = {
    "/v1/chat/completions": "ajet.gateway.apis.chat_completions.api->ChatCompletionsApi",
    "/v1/responses": "ajet.gateway.apis.responses.api->ResponsesApi",
    "/v1/messages": "ajet.gateway.apis.messages.api->MessagesApi",
    "/v1/messages/count_tokens": "ajet.gateway.apis.messages.api->CountTokensApi",
}
"""Path of the POST route -> class path of its `WireApi`, which is imported with its first request.
A user's file may add its own API here before the run's HTTP server starts."""

_MODEL = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "agentjet"}
_MODEL_PAGES: dict[str, dict[str, Any]] = {
    "/v1/models": {"object": "list", "data": [_MODEL]},
    f"/v1/models/{MODEL_NAME}": _MODEL,
}


def routes() -> list[tuple[str, str]]:
    """Method and path of everything that is served."""
    return [("POST", path) for path in APIS] + [("GET", path) for path in _MODEL_PAGES]


def load_api(path: str) -> type[WireApi]:
    """The wire API that a path belongs to; chat completions where no API is registered."""
    owners = [known for known in APIS if path.startswith(known)]
    return _load_api(APIS[max(owners, key=len, default="/v1/chat/completions")])


async def respond(session: AgentSession, method: str, path: str, body: bytes) -> Reply:
    """Answer one request; every `AjetError` becomes the error object of the path's API."""
    try:
        if (method, path) not in routes():
            raise _no_route(method, path)
        content = parse_json(body) if method == "POST" else None
        if session.upstream and isinstance(content, dict):
            session.check_open()
            return await session.upstream.forward(path, content)
        if method == "GET":
            return json_reply(_MODEL_PAGES[path])
        return await _answer(session, load_api(path), content)
    except AjetError as error:
        return error_reply(path, error)


def error_reply(path: str, error: AjetError) -> Reply:
    """An error in the shape of the path's API."""
    status, content = load_api(path).error(error)
    return json_reply(content, status=status)


async def _answer(session: AgentSession, api: type[WireApi], content: Any) -> Reply:
    request = api(content, session.stored_turns)
    session.notices.of_request(content, api.without_effect)
    if request.only_counts:
        return json_reply(request.token_count(session.count_tokens(request.chat_request)))
    # Outside the stream: a request that cannot be honoured gets a status, not an error event.
    pending = session.prepare(request.chat_request)
    if request.chat_request.stream:
        return event_reply(_events(session, pending, request.encoder(pending)))
    return json_reply(request.answer(pending, await session.complete(pending)))


async def _events(
    session: AgentSession, pending: PendingRequest, encoder: StreamEncoder
) -> AsyncGenerator[bytes, None]:
    try:
        for event in encoder.begin():
            yield event
        # `aclosing`: when the transport closes this generator, the request is cancelled at once
        # and not when the garbage collector finds the inner one.
        async with aclosing(session.stream(pending)) as items:
            async for item in items:
                for event in encoder.add(item):
                    yield event
    except AjetError as error:
        for event in encoder.fail(error):
            yield event


@cache
def _load_api(class_path: str) -> type[WireApi]:
    return load_class(class_path, WireApi, "ajet.gateway.apis.routes.APIS")


def _no_route(method: str, path: str) -> RequestError:
    served = ", ".join(" ".join(route) for route in routes())
    return RequestError(
        f"{method} {path}: not served here; there are {served}", code="not_found", status=404
    )
