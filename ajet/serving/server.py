"""An OpenAI-compatible server for several models: the request's `model` chooses one."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ajet.errors import AjetError, RequestError
from ajet.gateway.apis.routes import APIS, error_reply, respond
from ajet.gateway.completion import Reply, json_reply, parse_json
from ajet.gateway.gateway import MODEL_NAME, AgentSession
from ajet.serving.models import ServedModel

MODELS_PATH = "/v1/models"
MODEL_ROUTE = ("GET", f"{MODELS_PATH}/{{name:path}}")

_NAME = re.compile(rb'"model":\s*"' + MODEL_NAME.encode() + rb'"')
"""The gateway's name of the model. In a text, the quotes would have backslashes before them."""


class ModelRouter:
    """Answers requests with the model that they name.

    Each request is a conversation of its own; nothing of it is kept when it is answered.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    async def answer(self, _: AgentSession, method: str, path: str, body: bytes) -> Reply:
        """Answer one request; errors have the shape of the path's API."""
        try:
            if method == "GET":
                return self._list(path)
            if path not in APIS:
                raise RequestError(f"{method} {path}: not served here", status=404)
            model = self._find(parse_json(body))
            return _named(await respond(model.session(), method, path, body), model.name)
        except AjetError as error:
            return error_reply(path, error)

    def _list(self, path: str) -> Reply:
        pages = [
            {"id": name, "object": "model", "created": 0, "owned_by": "agentjet"}
            for name in self._models
        ]
        if path == MODELS_PATH:
            return json_reply({"object": "list", "data": pages})
        name = path.removeprefix(f"{MODELS_PATH}/")
        for page in pages:
            if page["id"] == name:
                return json_reply(page)
        raise self._unknown(name)

    def _find(self, content: Any) -> ServedModel:
        name = content.get("model") if isinstance(content, dict) else None
        if name is None:
            return next(iter(self._models.values()))
        model = self._models.get(name) if isinstance(name, str) else None
        if model is None:
            raise self._unknown(name)
        return model

    def _unknown(self, name: Any) -> RequestError:
        known = ", ".join(self._models)
        return RequestError(
            f"there is no model {name!r}; there are: {known}",
            param="model",
            code="model_not_found",
            status=404,
        )


def _named(reply: Reply, name: str) -> Reply:
    """The reply with the name under which the model is served."""
    new = b'"model": ' + json.dumps(name).encode()
    body = _NAME.sub(lambda _: new, reply.body, count=1)
    events = reply.events and _renamed(reply.events, new)
    return Reply(status=reply.status, headers=reply.headers, body=body, events=events)


async def _renamed(events: AsyncGenerator[bytes, None], new: bytes) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield _NAME.sub(lambda _: new, event)
    finally:
        await events.aclose()
