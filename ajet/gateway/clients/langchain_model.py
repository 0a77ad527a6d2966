"""The chat model of LangChain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from ajet.errors import MissingExtraError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.clients.openai_client import BASE_URL, blocking_http_client, http_client, prepare
from ajet.gateway.gateway import MODEL_NAME, AgentSession

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI


def langchain_model(session: AgentSession, http_endpoint: HttpEndpoint | None = None) -> ChatOpenAI:
    """A genuine `langchain_openai.ChatOpenAI`, for both `invoke` and `ainvoke`."""
    try:
        from langchain_openai import ChatOpenAI
    except ModuleNotFoundError as error:
        if error.name != "langchain_openai":
            raise
        raise MissingExtraError("langchain-openai", "langchain") from None
    model = ChatOpenAI(
        model=MODEL_NAME,
        base_url=BASE_URL,
        api_key=SecretStr("in-process"),
        max_retries=0,
        http_client=blocking_http_client(session),
        http_async_client=http_client(session),
    )
    prepare(model.root_async_client)
    prepare(model.root_client)
    return model
