"""What a workflow gets: the model under training, and the registry of its clients."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ajet.class_path import class_path_in, load_function
from ajet.context_tracker.tracker import EpisodeRecord
from ajet.errors import EpisodeError
from ajet.gateway.clients.http_endpoint import BaseUrlAndApiKey, HttpEndpoint
from ajet.gateway.gateway import AgentSession, Gateway
from ajet.gateway.upstream import Upstream, debug_endpoint

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI
    from openai import AsyncOpenAI


class AjetTuner:
    """The model under training, as the clients of well-known libraries.

    `agent_name` names the agent in logs and credit; `target_tag` is what a workflow's
    `trainable_targets` selects on. An agent whose tag is not selected is not trained: it answers
    with its `debug_model`, or with the policy if it has none. A `debug_model` is one of

    - the name of an OpenAI model; key and URL are the environment's `OPENAI_API_KEY` and
      `OPENAI_BASE_URL`;
    - an `UpstreamModel`, or a dict with its fields `model`, `base_url`, `api_key`;
    - an object like the one that the method returns, which the agent then gets as it is.

    Args:
        config: the whole resolved configuration.
        gateway: answers the requests.
        record: of the episode.
        http_endpoint: for clients over HTTP; None: one of its own, with default settings.
        trainable_targets: tags of the agents that are trained; None: all agents.
    """

    def __init__(
        self,
        *,
        config: Any,
        gateway: Gateway,
        record: EpisodeRecord,
        http_endpoint: HttpEndpoint | None = None,
        trainable_targets: Collection[str] | None = None,
    ) -> None:
        self.config = config
        """The whole resolved configuration with attribute access, including users' sections."""
        self._gateway = gateway
        self._record = record
        self._http_endpoint = http_endpoint or HttpEndpoint()
        # "tag" in "a tag" would compare parts of names.
        is_one = isinstance(trainable_targets, str)
        self._trainable_targets = [trainable_targets] if is_one else trainable_targets
        self._is_closed = False
        self._sessions: list[AgentSession] = []
        self._upstreams: list[tuple[str, Upstream]] = []
        """Name and model of each agent that answers with a debug model."""
        self._own_clients: list[str] = []
        """Names of the agents that use a client object of the user's own."""

    def as_raw_openai_sdk_client(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> AsyncOpenAI:
        """A genuine `openai.AsyncOpenAI` whose transport is in process; any `model` name works."""
        client: AsyncOpenAI = self.as_client("openai", agent_name, target_tag, debug_model)
        return client

    def as_agentscope_model(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> Any:
        """A genuine AgentScope chat model, of AgentScope 1.x or 2.x."""
        return self.as_client("agentscope", agent_name, target_tag, debug_model)

    def as_langchain_model(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> ChatOpenAI:
        """A genuine `langchain_openai.ChatOpenAI`, blocking and asynchronous."""
        client: ChatOpenAI = self.as_client("langchain", agent_name, target_tag, debug_model)
        return client

    def as_oai_baseurl_apikey(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> BaseUrlAndApiKey:
        """Base URL, API key and model name for any HTTP client, in any process and language.

        The first call of a run starts its HTTP server; see the section `interchange_server`.

        Raises:
            ConfigError: the server cannot listen on the configured address.
            MissingExtraError: the server's libraries are not installed.
        """
        client: BaseUrlAndApiKey = self.as_client("base_url", agent_name, target_tag, debug_model)
        return client

    def as_client(
        self,
        client: str | ClientFactory,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> Any:
        """A client of any registered kind, or of the user's own.

        Args:
            client: a name from `ajet.tuner.CLIENTS`, a class path, or a factory:
                what it makes of session and HTTP endpoint is returned.
            agent_name: names the agent in logs and credit.
            target_tag: what `trainable_targets` selects on.
            debug_model: answers if the tag is not selected.

        Raises:
            ConfigError: the name is unknown, or nothing can be loaded from the class path.
            MissingExtraError: the client's library is not installed.
        """
        make_client = client_factory(client)
        session = self._open_session(agent_name, target_tag, debug_model)
        return make_client(session, self._http_endpoint) if session else debug_model

    def get_context_tracker(self) -> EpisodeRecord:
        """The episode's record so far.

        Its `context_overflow` is True once a request was refused because the context is full.
        """
        return self._record

    def close(self) -> None:
        """End the episode: refuse every later request of its agents, also of clients to come."""
        self._is_closed = True
        for session in self._sessions:
            session.close()

    @property
    def debug_calls(self) -> dict[str, int | None]:
        """Requests that debug models answered, by agent; None: a client whose calls are unseen."""
        calls: dict[str, int | None] = dict.fromkeys(self._own_clients)
        for agent_name, upstream in self._upstreams:
            calls[agent_name] = (calls.get(agent_name) or 0) + upstream.num_calls
        return calls

    def _open_session(
        self, agent_name: str, target_tag: str, debug_model: Any
    ) -> AgentSession | None:
        """The session that answers the agent; None if its `debug_model` is a client object."""
        for argument, name in (("agent_name", agent_name), ("target_tag", target_tag)):
            if not name.isascii() and name != name.encode(errors="ignore").decode():
                # No file can hold it, so that the records of the whole step would be lost.
                raise EpisodeError(
                    f"{argument} {name!a} has half of a surrogate pair: leave it out"
                )
        targets = self._trainable_targets
        trained = targets is None or target_tag in targets
        session = AgentSession(
            self._gateway,
            self._record,
            agent_name=agent_name,
            target_tag=target_tag,
            trained=trained,
        )
        if debug_model is not None and not trained:
            endpoint = debug_endpoint(debug_model)
            if endpoint is None:
                self._own_clients.append(agent_name)
                return None
            session.upstream = Upstream(endpoint, self._record)
            self._upstreams.append((agent_name, session.upstream))
        elif self._gateway.make_upstream:
            session.upstream = self._gateway.make_upstream(self._record, agent_name, target_tag)
        # In this order: if another thread closes the tuner in between, either `close` finds the
        # session in the list or this thread sees the flag.
        self._sessions.append(session)
        if self._is_closed:
            session.close()
        return session


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
