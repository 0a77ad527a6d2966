"""The chat model of AgentScope 1.x or 2.x, whichever is installed."""

from __future__ import annotations

from typing import Any

from ajet.errors import MissingExtraError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.clients.openai_client import BASE_URL, http_client, prepare
from ajet.gateway.gateway import MODEL_NAME, AgentSession

API_KEY = "in-process"


def agentscope_model(session: AgentSession, http_endpoint: HttpEndpoint | None = None) -> Any:
    """A genuine `agentscope.model.OpenAIChatModel` that does not stream."""
    try:
        import agentscope
        from agentscope.model import OpenAIChatModel
    except ModuleNotFoundError as error:
        if error.name != "agentscope":
            raise
        raise MissingExtraError("agentscope", "agentscope") from None
    client_kwargs: dict[str, Any] = {"http_client": http_client(session), "max_retries": 0}
    arguments: dict[str, Any]
    if agentscope.__version__.startswith("1."):
        client_kwargs["base_url"] = BASE_URL
        arguments = {"model_name": MODEL_NAME, "api_key": API_KEY}
    else:
        from agentscope.credential import OpenAICredential

        arguments = {
            "credential": OpenAICredential(api_key=API_KEY, base_url=BASE_URL),
            "model": MODEL_NAME,
            "max_retries": 0,
            # An agent of 2.x shortens its own history before it reaches this many tokens.
            "context_size": session.max_model_len,
        }
    model = OpenAIChatModel(stream=False, client_kwargs=client_kwargs, **arguments)
    prepare(model.client)
    return model
