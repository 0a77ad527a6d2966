"""What a workflow gets: one tracked model behind several doors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ajet.context_tracker.tracker import ContextTracker
from ajet.gateway.clients.http_endpoint import BaseUrlAndApiKey
from ajet.gateway.gateway import MODEL_NAME, AgentSession, Gateway
from ajet.gateway.upstream import Upstream, debug_endpoint

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI
    from openai import AsyncOpenAI


class AjetTuner:
    """The model under training, as the clients of well-known libraries.

    `agent_name` names the agent in logs and credit; `target_tag` is what a workflow's
    `trainable_targets` selects on. An agent that is not selected answers with its `debug_model`,
    or, where it has none, with the policy, and is not trained. A `debug_model` is

    - the name of an OpenAI model, with `OPENAI_API_KEY` and `OPENAI_BASE_URL` of the environment;
    - a `DebugModel`, or a dict with its fields `model`, `base_url`, `api_key`;
    - what the door returns: a client of that library, which the agent then gets as it is.
    """

    def __init__(
        self,
        *,
        config: Any,
        gateway: Gateway,
        tracker: ContextTracker,
        trainable_targets: list[str] | None = None,
    ) -> None:
        self.config = config
        """The whole resolved configuration, by attributes; users' own sections included."""
        self.tracker = tracker
        self._gateway = gateway
        self._trainable_targets = trainable_targets
        self._is_closed = False
        self._ports: list[AgentSession] = []
        self._api_keys: list[str] = []
        self._upstreams: list[tuple[str, Upstream]] = []
        """Agents that answer with a debug model."""
        self._unseen: list[str] = []
        """Agents that answer with a client of their own."""

    def as_raw_openai_sdk_client(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> AsyncOpenAI:
        """A genuine `openai.AsyncOpenAI` whose transport is in process; any `model` name works."""
        from ajet.gateway.clients.openai_client import openai_client

        port = self._port(agent_name, target_tag, debug_model)
        return openai_client(port) if port else debug_model

    def as_agentscope_model(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> Any:
        """A genuine AgentScope chat model, of AgentScope 1.x or 2.x."""
        from ajet.gateway.clients.agentscope_model import agentscope_model

        port = self._port(agent_name, target_tag, debug_model)
        max_model_len = self._gateway.engine.max_model_len
        return agentscope_model(port, max_model_len) if port else debug_model

    def as_langchain_model(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> ChatOpenAI:
        """A genuine `langchain_openai.ChatOpenAI`, blocking and asynchronous."""
        from ajet.gateway.clients.langchain_model import langchain_model

        port = self._port(agent_name, target_tag, debug_model)
        return langchain_model(port) if port else debug_model

    def as_oai_baseurl_apikey(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> BaseUrlAndApiKey:
        """Base URL, API key and model name for any HTTP client, in any process and language.

        The first call of a run starts its HTTP server; see the section `interchange_server`.

        Raises:
            ConfigError: nothing can listen on the configured address.
            MissingExtraError: the server's libraries are not installed.
        """
        port = self._port(agent_name, target_tag, debug_model)
        if port is None:
            return cast(BaseUrlAndApiKey, debug_model)
        endpoint = self._gateway.http_endpoint.open(port, MODEL_NAME)
        self._api_keys.append(endpoint.api_key)
        return endpoint

    def close(self) -> None:
        """The episode is over: refuse every later request of its agents, of doors to come too."""
        self._is_closed = True
        for port in self._ports:
            port.closed = True
        for api_key in self._api_keys:
            self._gateway.http_endpoint.revoke(api_key)

    @property
    def debug_calls(self) -> dict[str, int | None]:
        """Requests that debug models answered, by agent; None: a client that we do not see."""
        calls: dict[str, int | None] = dict.fromkeys(self._unseen)
        for agent_name, upstream in self._upstreams:
            calls[agent_name] = (calls.get(agent_name) or 0) + upstream.num_calls
        return calls

    def _port(self, agent_name: str, target_tag: str, debug_model: Any) -> AgentSession | None:
        """Where the agent's requests go; None: to the client that `debug_model` is."""
        targets = self._trainable_targets
        trained = targets is None or target_tag in targets
        port = AgentSession(
            self._gateway,
            self.tracker,
            agent_name=agent_name,
            target_tag=target_tag,
            trained=trained,
        )
        if debug_model is not None and not trained:
            endpoint = debug_endpoint(debug_model)
            if endpoint is None:
                self._unseen.append(agent_name)
                return None
            port.upstream = Upstream(endpoint, self.tracker)
            self._upstreams.append((agent_name, port.upstream))
        elif self._gateway.make_upstream:
            port.upstream = self._gateway.make_upstream(self.tracker, agent_name, target_tag)
        port.closed = self._is_closed
        self._ports.append(port)
        return port
