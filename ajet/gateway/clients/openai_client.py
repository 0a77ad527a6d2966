"""The door of the OpenAI SDK."""

from __future__ import annotations

from functools import cache

import httpx2
from openai import AsyncOpenAI
from openai._base_client import Platform, get_platform

from ajet.gateway.clients.blocking_transport import BlockingTransport
from ajet.gateway.clients.in_process_transport import BASE_URL, InProcessTransport
from ajet.gateway.gateway import AgentSession


def openai_client(port: AgentSession) -> AsyncOpenAI:
    """A genuine client of the OpenAI SDK. It does not retry: the rollout decides on that."""
    client = AsyncOpenAI(
        base_url=BASE_URL, api_key="in-process", http_client=http_client(port), max_retries=0
    )
    tell_platform(client)
    return client


def http_client(port: AgentSession) -> httpx2.AsyncClient:
    """An HTTP client whose every request goes to `port`."""
    return httpx2.AsyncClient(transport=InProcessTransport(port), trust_env=False, timeout=None)


def blocking_http_client(port: AgentSession) -> httpx2.Client:
    """The same for code that blocks."""
    return httpx2.Client(transport=BlockingTransport(port), trust_env=False, timeout=None)


def tell_platform(client: AsyncOpenAI) -> None:
    """Spare the client its question, in a thread started for it, which platform this is."""
    client._platform = _platform()


@cache
def _platform() -> Platform:
    return get_platform()
