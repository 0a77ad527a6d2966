"""The door of AgentScope 1.x."""

from __future__ import annotations

from typing import Any

from ajet.errors import MissingExtraError
from ajet.tuner.gateway import MODEL_NAME, AgentPort
from ajet.tuner.in_process import BASE_URL
from ajet.tuner.openai_door import http_client, tell_platform


def agentscope_model(port: AgentPort) -> Any:
    """A genuine `agentscope.model.OpenAIChatModel`."""
    try:
        from agentscope.model import OpenAIChatModel
    except ModuleNotFoundError as error:
        if error.name != "agentscope":
            raise
        raise MissingExtraError("agentscope", "agentscope") from None
    client_kwargs: dict[str, Any] = {
        "base_url": BASE_URL,
        "http_client": http_client(port),
        "max_retries": 0,
    }
    model = OpenAIChatModel(
        model_name=MODEL_NAME,
        api_key="in-process",
        stream=False,
        client_kwargs=client_kwargs,
    )
    tell_platform(model.client)
    return model
