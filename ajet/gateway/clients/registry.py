"""The registry of clients: to add one, write a factory in this package and add a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ajet.class_path import class_path_in, load_function
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import AgentSession

ClientFactory = Callable[[AgentSession, HttpEndpoint], Any]
"""Makes a client whose requests go to the session: in process, by one of the transports, or over
HTTP, with the base URL and key that the endpoint opens for the session."""

CLIENTS: dict[str, str | None] = {
    "agentscope": "ajet.gateway.clients.agentscope_model->agentscope_model",
    "base_url": "ajet.gateway.clients.http_endpoint->base_url_and_api_key",
    "langchain": "ajet.gateway.clients.langchain_model->langchain_model",
    "openai": "ajet.gateway.clients.openai_client->openai_client",
}
"""Name -> class path of its factory, which is imported when a workflow asks for the client."""


def client_factory(client: str | ClientFactory) -> ClientFactory:
    """The factory of a client that is given by name, by class path or as the factory itself.

    Raises:
        ConfigError: the name is unknown, or nothing can be loaded from the class path.
    """
    if callable(client):
        return client
    key = "tuner.as_client"
    return load_function(class_path_in(CLIENTS, client, key), key)
