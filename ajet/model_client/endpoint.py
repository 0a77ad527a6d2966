"""From the settings of a model to a client of the OpenAI SDK: its URL and its key."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ConfigError, ModelCallError
from ajet.model_client.place import PLACE

if TYPE_CHECKING:
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


@cache
def remote_client(endpoint: ModelEndpoint, pid: int) -> AsyncOpenAI:
    """A client of the OpenAI SDK without retries, which are ours to count; call it on its loop.

    It stays as long as the process, with its open connections. A forked child makes its own.
    """
    from openai import AsyncOpenAI, DefaultAioHttpClient

    client = AsyncOpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key,
        max_retries=0,
        # A packed answer could be far larger than what is read of it.
        default_headers={"accept-encoding": "identity"},
        # httpx looks at each open connection twice per call: with 128 questions at a time, a call
        # takes three times the CPU of one with aiohttp.
        http_client=DefaultAioHttpClient(),
    )
    atexit.register(_close, client, asyncio.get_running_loop(), pid)
    return client


def _close(client: AsyncOpenAI, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Close the connections before the process ends: aiohttp warns of those that are open."""
    if pid == os.getpid():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(client.close(), loop).result(CLOSE_S)


def policy_client(session: str) -> AsyncOpenAI:
    """A client of the policy, in process.

    Raises:
        ModelCallError: no policy is there, as in a replay.
    """
    if PLACE.policy is None:
        raise ModelCallError(
            'the model "policy" is the model under training, which is not running here: name '
            "another model, or ask it in a run"
        )
    return PLACE.policy(session)
