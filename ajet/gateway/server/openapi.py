"""The OpenAPI document of the gateway's routes.

FastAPI generates it from routes that exist for this purpose only. The routes that serve requests
pass the body on unparsed: checking it here too would cost twice, and FastAPI's errors do not have
the API's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Security
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from ajet.gateway.apis.routes import APIS, load_api, routes

KEYS = [
    Security(HTTPBearer(auto_error=False)),
    Security(APIKeyHeader(name="x-api-key", auto_error=False)),
]


def openapi() -> dict[str, Any]:
    """The document of `/openapi.json`."""
    requests = {path: load_api(path).parameters for path in APIS}
    api_routes = [
        APIRoute(
            path,
            _endpoint(requests.get(path)),
            methods=[method],
            name=path.removeprefix("/v1/").replace("/", "_"),
            dependencies=KEYS,
            responses=_RESPONSES | (_STREAM if path in requests else {}),
        )
        for method, path in routes()
    ]
    document = get_openapi(title="AgentJet gateway", version="1", routes=api_routes)
    for request in requests.values():
        parameters = document["components"]["schemas"][request.__name__]["properties"]
        parameters["model"] = {"description": "Any name: the policy answers."}
        if "messages" in parameters:
            parameters["messages"] = {"type": "array", "minItems": 1, "items": _MESSAGE}
    return document


_TEXT = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT}]},
    },
    "required": ["role", "content"],
    "description": "Common to these APIs; each also accepts kinds of messages of its own.",
}
_ERROR = {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is wrong; nothing of it is recorded.", "content": _ERROR},
    503: {"description": "The engine failed, or the server is stopping.", "content": _ERROR},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer.", "content": {"text/event-stream": {}}}
}


def _endpoint(request: type[BaseModel] | None) -> Callable[..., Any]:
    def without_body() -> None:
        pass

    def with_body(body: Any) -> None:
        pass

    if request is None:
        return without_body
    with_body.__annotations__ = {"body": request}
    return with_body
