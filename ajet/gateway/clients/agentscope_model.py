"""The door of AgentScope, of 1.x and of 2.x: whichever is installed."""

from __future__ import annotations

from typing import Any

from ajet.errors import MissingExtraError
from ajet.gateway.clients.in_process_transport import BASE_URL
from ajet.gateway.clients.openai_client import http_client, tell_platform
from ajet.gateway.gateway import MODEL_NAME, AgentSession

API_KEY = "in-process"


def agentscope_model(port: AgentSession, max_model_len: int) -> Any:
    """A genuine `agentscope.model.OpenAIChatModel` that does not stream.

    Args:
        port: the agent's.
        max_model_len: tokens; an agent of AgentScope 2.x shortens its context before that.
    """
    try:
        import agentscope
        from agentscope.model import OpenAIChatModel
    except ModuleNotFoundError as error:
        if error.name != "agentscope":
            raise
        raise MissingExtraError("agentscope", "agentscope") from None
    client_kwargs: dict[str, Any] = {"http_client": http_client(port), "max_retries": 0}
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
            "context_size": max_model_len,
        }
    model = OpenAIChatModel(stream=False, client_kwargs=client_kwargs, **arguments)
    tell_platform(model.client)
    return model
