"""The client of the OpenAI SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import cache, wraps
from typing import Any

import httpx2
from openai import APIError, AsyncOpenAI, OpenAI
from openai._base_client import Platform, get_platform

from ajet.context_tracker.tracker import ContextTracker
from ajet.errors import RequestError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.clients.plain_json import without_walk
from ajet.gateway.clients.transports import BASE_URL, BlockingTransport, InProcessTransport
from ajet.gateway.episode_record import EpisodeRecord
from ajet.gateway.gateway import MODEL_NAME, AgentSession, Gateway


def openai_client(session: AgentSession, http_endpoint: HttpEndpoint | None = None) -> AsyncOpenAI:
    """A genuine client of the OpenAI SDK, in process.

    It does not retry: whether a failed episode is retried is the rollout's decision.
    """
    client = AsyncOpenAI(
        base_url=BASE_URL, api_key="in-process", http_client=http_client(session), max_retries=0
    )
    prepare(client)
    completions = client.chat.completions
    completions.create = _with_defaults(completions.create)  # type: ignore[method-assign]
    completions.parse = _with_defaults(completions.parse)  # type: ignore[method-assign]
    completions.stream = _with_defaults(completions.stream)  # type: ignore[method-assign]
    return client


def untracked_client(gateway: Gateway, episode_id: str) -> AsyncOpenAI:
    """A client of the policy for a judge: nothing that it asks is recorded or trained.

    Args:
        gateway: answers.
        episode_id: of the judged episode, for whose session a lockstep engine waits anyway.
    """
    tracker = ContextTracker(gateway.chat_format, episode_id=episode_id, task_id="judge")
    record = EpisodeRecord(tracker)
    session = AgentSession(gateway, record, agent_name="judge", target_tag="judge", trained=False)
    if gateway.make_upstream:
        session.upstream = gateway.make_upstream(record, "judge", "judge")
    return openai_client(session)


async def streamed_text(
    client: AsyncOpenAI, messages: list[dict[str, str]]
) -> AsyncGenerator[str, None]:
    """The parts of an answer as they come.

    Raises:
        RequestError: the model refuses the request, or fails.
    """
    try:
        stream: Any = await client.chat.completions.create(  # type: ignore[call-overload]
            messages=messages, stream=True
        )
        async for chunk in stream:
            if chunk.choices and (part := chunk.choices[0].delta.content):
                yield part
    except APIError as error:
        raise RequestError(error.message) from error


def _with_defaults(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with an optional `model` and with messages that may be positional.

    Workflows written for AgentJet call it like that; any model name means the policy here.
    """

    @wraps(method)
    def call(*messages: Any, **fields: Any) -> Any:
        if len(messages) == 1:
            fields, messages = {"messages": messages[0], **fields}, ()
        return method(*messages, **{"model": MODEL_NAME, **fields})

    return call


def http_client(session: AgentSession) -> httpx2.AsyncClient:
    """An HTTP client whose requests all go to the session."""
    # No timeout: the gateway has its own limit per call (rollout.call_timeout_s).
    return httpx2.AsyncClient(transport=InProcessTransport(session), trust_env=False, timeout=None)


def blocking_http_client(session: AgentSession) -> httpx2.Client:
    """A blocking HTTP client whose requests all go to the session."""
    return httpx2.Client(transport=BlockingTransport(session), trust_env=False, timeout=None)


def prepare(client: AsyncOpenAI | OpenAI) -> None:
    """Make the requests of an in-process client cheap; what they contain stays the same."""
    completions: Any = client.chat.completions
    completions.create = without_walk(completions.create)
    completions.parse = without_walk(completions.parse)
    responses: Any = client.responses
    responses.create = without_walk(responses.create)
    if isinstance(client, AsyncOpenAI):
        # The value of a header, for which each client would start a thread to find out.
        client._platform = _platform()


@cache
def _platform() -> Platform:
    return get_platform()
