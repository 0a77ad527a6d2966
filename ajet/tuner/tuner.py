"""What a workflow gets: one tracked model behind several doors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ajet.context_tracker.tracker import ContextTracker
from ajet.tuner.gateway import MODEL_NAME, AgentPort, Gateway
from ajet.tuner.http_door import BaseUrlAndApiKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class AjetTuner:
    """The model under training, as the clients of well-known libraries.

    `agent_name` names the agent in logs and credit; `target_tag` is what a workflow's
    `trainable_targets` selects on. An agent that is not selected answers with its `debug_model`,
    or, where it has none, with the policy, and is not trained.
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
        self._ports: list[AgentPort] = []
        self._api_keys: list[str] = []

    def as_raw_openai_sdk_client(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: AsyncOpenAI | None = None,
    ) -> AsyncOpenAI:
        """A genuine `openai.AsyncOpenAI` whose transport is in process; any `model` name works."""
        from ajet.tuner.openai_door import openai_client

        if debug_model is not None and not self._is_trained(target_tag):
            return debug_model
        return openai_client(self._port(agent_name, target_tag))

    def as_agentscope_model(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: Any = None,
    ) -> Any:
        """A genuine AgentScope chat model; `debug_model` is another one."""
        from ajet.tuner.agentscope_door import agentscope_model

        if debug_model is not None and not self._is_trained(target_tag):
            return debug_model
        return agentscope_model(self._port(agent_name, target_tag))

    def as_oai_baseurl_apikey(
        self,
        agent_name: str = "agent",
        target_tag: str = "default",
        debug_model: BaseUrlAndApiKey | None = None,
    ) -> BaseUrlAndApiKey:
        """Base URL, API key and model name for any HTTP client, in any process and language.

        The first call of a run starts its HTTP server; see the section `interchange_server`.

        Raises:
            ConfigError: nothing can listen on the configured address.
            MissingExtraError: the server's libraries are not installed.
        """
        if debug_model is not None and not self._is_trained(target_tag):
            return debug_model
        port = self._port(agent_name, target_tag)
        endpoint = self._gateway.http_door.open(port, MODEL_NAME)
        self._api_keys.append(endpoint.api_key)
        return endpoint

    def close(self) -> None:
        """The episode is over: refuse every later request of its agents."""
        for port in self._ports:
            port.closed = True
        for api_key in self._api_keys:
            self._gateway.http_door.revoke(api_key)

    def _is_trained(self, target_tag: str) -> bool:
        return self._trainable_targets is None or target_tag in self._trainable_targets

    def _port(self, agent_name: str, target_tag: str) -> AgentPort:
        port = AgentPort(
            self._gateway,
            self.tracker,
            agent_name=agent_name,
            target_tag=target_tag,
            trained=self._is_trained(target_tag),
        )
        self._ports.append(port)
        return port
