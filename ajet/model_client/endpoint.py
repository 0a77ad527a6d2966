"""From the settings of a model to the requests that the OpenAI SDK would send: URL, key, headers.

The SDK makes each request anew: it walks through the types of the parameters, merges and checks
headers, and parses the URL. That costs more than everything else in a call, and judges ask while
the engine needs the processor. So a request of the SDK is made once per server, and the requests
that are sent differ from it in their body only.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ConfigError, ModelCallError
from ajet.model_client.place import PLACE

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

POLICY = "policy"
"""The name of the model under training."""
DASHSCOPE_URL = "https://dashscope.aliyuncs.com/compatible-mode/v1"
OPENAI_URL = "https://api.openai.com/v1"
CLOSE_S = 1.0
_DASHSCOPE_NAME = re.compile(r"dashscope/.+|(?:qwen|qwq|qvq)[\w.-]*", re.IGNORECASE)


@dataclass(slots=True, kw_only=True, frozen=True)
class ModelEndpoint:
    """Where a model is asked."""

    url: str
    key: str = field(repr=False)
    """Never written to a file or a message."""

    def without_key(self, text: str) -> str:
        """The text with asterisks in place of the key, which some servers quote in errors."""
        return text.replace(self.key, "***") if len(self.key) > len("none") else text


def endpoint_of(config: ModelClientConfig) -> ModelEndpoint:
    """The URL and the key of a model.

    Raises:
        ConfigError: no model is named, or the variable with the key is not set.
    """
    if not config.model:
        raise ConfigError('a model is asked, but none is named: set its "model"')
    if config.base_url is not None:
        return ModelEndpoint(url=config.base_url, key=_key(config, None))
    if _DASHSCOPE_NAME.fullmatch(config.model):
        url = os.environ.get("DASHSCOPE_BASE_URL") or DASHSCOPE_URL
        return ModelEndpoint(url=url, key=_key(config, "DASHSCOPE_API_KEY"))
    url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    return ModelEndpoint(url=url, key=_key(config, "OPENAI_API_KEY"))


def _key(config: ModelClientConfig, default: str | None) -> str:
    variable = config.api_key_env or default
    if variable is None:
        return "none"  # a server of one's own usually asks for no key, the client for any
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"model {config.model}: its key is read from the environment variable {variable}, "
            f"which is not set: export {variable}=..., or set base_url to a server without a key"
        )
    return key


@dataclass(slots=True, kw_only=True, frozen=True)
class ChatSender:
    """Sends bodies of chat requests to one server."""

    http: httpx2.AsyncClient
    first: httpx2.Request
    """A request as the SDK makes it."""

    async def send(self, body: bytes) -> httpx2.Response:
        """The response, whose body has not been read; the caller closes it.

        Raises:
            httpx2.RequestError: no connection, or it broke.
        """
        import httpx2

        made = self.first
        request = httpx2.Request(
            made.method, made.url, headers=made.headers, content=body, extensions=made.extensions
        )
        # Known already: else all headers are decoded to find it out, for each request.
        request.headers.encoding = made.headers.encoding
        return await self.http.send(request, stream=True)


async def remote_sender(endpoint: ModelEndpoint) -> ChatSender:
    """Sends to a server; call it on the loop of all clients.

    It stays as long as the process, with its open connections. A forked child makes its own.

    Raises:
        ModelCallError: the environment has a proxy or certificates that cannot be used.
    """
    from httpx2 import InvalidURL
    from openai import OpenAIError

    place = endpoint, os.getpid()
    if place not in _remote:
        _remote[place] = asyncio.create_task(_remote_sender(endpoint))
    try:
        # Shielded: others wait for it, too.
        return await asyncio.shield(_remote[place])
    except (OSError, ValueError, InvalidURL, OpenAIError) as error:
        _remote.pop(place, None)
        raise ModelCallError(
            endpoint.without_key(
                f"{endpoint.url} cannot be asked: {type(error).__name__}: {error}; expected usable "
                f"values of {', '.join(_variables()) or 'the environment'}"
            )
        ) from None


def _variables() -> list[str]:
    """The variables of the environment that the client reads, without those with a key."""
    ends = ("_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    return sorted(name for name in os.environ if name.upper().endswith(ends))


async def policy_sender(session: str) -> ChatSender:
    """Sends to the policy, in process; call it on the loop of all clients.

    Raises:
        ModelCallError: no policy is there, as in a replay.
    """
    if PLACE.policy is None:
        raise ModelCallError(
            'the model "policy" is the model under training, which is not running here: name '
            "another model, or ask it in a run"
        )
    client, pid = PLACE.policy(session), os.getpid()
    if pid not in _policy_requests:
        _policy_requests[pid] = asyncio.create_task(_request_of(client))
    request = await asyncio.shield(_policy_requests[pid])
    return ChatSender(http=client._client, first=request)


# Tasks, because many questions come first at the same time, and a client takes a while to make.
_remote: dict[tuple[ModelEndpoint, int], asyncio.Task[ChatSender]] = {}
_policy_requests: dict[int, asyncio.Task[httpx2.Request]] = {}


async def _remote_sender(endpoint: ModelEndpoint) -> ChatSender:
    client = _remote_client(endpoint)
    sender = ChatSender(http=client._client, first=await _request_of(client))
    atexit.register(_close, sender.http, asyncio.get_running_loop(), os.getpid())
    return sender


def _remote_client(endpoint: ModelEndpoint) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return AsyncOpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key,
        # A packed answer could be far larger than what is read of it.
        default_headers={"accept-encoding": "identity"},
        # httpx looks at each open connection twice per call: with 128 questions at a time, a call
        # takes three times the CPU of one with aiohttp.
        http_client=DefaultAioHttpClient(),
    )


async def _request_of(client: AsyncOpenAI) -> httpx2.Request:
    """A chat request as the client makes it, which is not sent."""
    import httpx2

    made: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        made.append(request)
        return httpx2.Response(200, json={})

    nowhere = httpx2.MockTransport(keep)
    async with httpx2.AsyncClient(transport=nowhere, trust_env=False) as http_client:
        copied = client.with_options(http_client=http_client)
        await copied.chat.completions.create(model="", messages=[])
    request = made[0]
    del request.headers["content-length"]  # that of each body takes its place
    return request


def _close(client: httpx2.AsyncClient, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Close the connections before the process ends: aiohttp warns of those that are open."""
    if pid == os.getpid():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(CLOSE_S)
