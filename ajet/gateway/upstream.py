"""Models that answer an agent instead of the policy, behind an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ajet.background_loop import start
from ajet.context_tracker.tracker import EpisodeRecord
from ajet.errors import EngineError
from ajet.gateway.completion import Reply

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

MAX_RETRIES = 4
"""New attempts at a request after a transport error or a busy server, with growing pauses."""


class UpstreamModel(BaseModel):
    """A model behind an OpenAI-compatible URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    base_url: str | None = None
    """None: the environment variable `OPENAI_BASE_URL`, or else OpenAI's own URL."""
    api_key: str | None = Field(default=None, repr=False)
    """None: no key if `base_url` is set, else the environment variable `OPENAI_API_KEY`."""


def debug_endpoint(debug_model: Any) -> UpstreamModel | None:
    """The model that a `debug_model` names; None if it is a client object of some library."""
    if isinstance(debug_model, str):
        return UpstreamModel(model=debug_model)
    if isinstance(debug_model, dict | UpstreamModel):
        return UpstreamModel.model_validate(debug_model)
    return None


class Upstream:
    """Forwards one agent's requests to another model; none of its tokens is recorded."""

    def __init__(self, model: UpstreamModel, record: EpisodeRecord) -> None:
        self.num_calls = 0
        self._model = model
        self._record = record

    async def forward(self, path: str, body: dict[str, Any]) -> Reply:
        """Answer a request; a streamed answer arrives in one piece.

        Raises:
            EngineError: the model could not be reached; the episode may be retried. It may be
                retried too if the server is still busy or broken after all attempts and the agent
                fails because of it.
        """
        self.num_calls += 1
        body = {**body, "model": self._model.model}
        try:
            # On the background loop, because the shared client's connections belong to it.
            response = await asyncio.wrap_future(start(_post(self._model, path, body)))
        except EngineError as error:
            self._record.add_engine_error(error)
            raise
        if response.status_code == 429 or response.status_code >= 500:
            fault = EngineError(f"debug model {self._model.model}: HTTP {response.status_code}")
            self._record.add_engine_error(fault)
        return Reply(
            status=response.status_code,
            headers={"content-type": response.headers.get("content-type", "application/json")},
            body=response.content,
        )


async def _post(model: UpstreamModel, path: str, body: dict[str, Any]) -> httpx2.Response:
    import httpx2
    from openai import APIStatusError, OpenAIError

    base_url, api_key = model.base_url, model.api_key or "none"
    if base_url is None:
        base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        api_key = model.api_key or os.environ.get("OPENAI_API_KEY", "")
    try:
        client = _client(base_url, api_key, os.getpid())
        return await client.post(path.removeprefix("/v1"), body=body, cast_to=httpx2.Response)
    except APIStatusError as error:
        return error.response
    except OpenAIError as error:
        raise EngineError(f"debug model {model.model} at {base_url}: {error}") from error


@cache
def _client(base_url: str, api_key: str, pid: int) -> AsyncOpenAI:
    """One client for all episodes of a process, used on its background loop only."""
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=MAX_RETRIES)
