"""Debug runs against a running server: by token ids for vLLM with our vocabulary, else by text."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ajet.config.sections.root import AjetConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import EpisodeRecord
from ajet.engine.base import Engine
from ajet.engine.scripted import ScriptedEngine
from ajet.engine.vllm.engine import VllmEngine
from ajet.errors import ServiceError
from ajet.gateway.recorded_upstream import RecordedUpstream, TextOnly
from ajet.gateway.upstream import Upstream, UpstreamModel
from ajet.training.model_folder import chat_format_of

PROBE = 'Answer: 12 + 30 = "42"\n'
"""A text that different vocabularies tokenize differently."""

ASSUMED_MODEL_LEN = 32768
"""Context length for agents if the configuration gives none."""


@dataclass(slots=True, kw_only=True, frozen=True)
class DebugPolicyModel:
    """An engine with its chat format, or a server of which only the text is known."""

    engine: Engine
    chat_format: ChatFormat
    title: str
    """Names the engine in the log."""
    make_upstream: Callable[[EpisodeRecord, str, str], Upstream] | None = None
    """For `Gateway.make_upstream`: another server answers. None: the engine answers."""


@contextmanager
def open_remote(ajet: AjetConfig) -> Iterator[DebugPolicyModel]:
    """Open the model behind the URL in `debug.engine`.

    Raises:
        ServiceError: nothing answers at the URL, or it is no OpenAI-compatible server.
    """
    base_url = _base_url(ajet.debug.engine)
    api_key = os.environ.get(ajet.debug.api_key_env)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx2.Client(base_url=base_url, headers=headers, timeout=30.0) as http:
        first = _first_model(http, ajet.debug.api_key_env)
        name = ajet.debug.model or first["id"]
        # The client of vLLM asks for the first model.
        chat_format = _format_in_common(ajet, first, http) if name == first["id"] else None
    if chat_format is None:
        yield _as_text(ajet, UpstreamModel(model=name, base_url=base_url, api_key=api_key))
        return
    engine = VllmEngine(urls=[base_url], api_key=api_key, max_model_len=ajet.rollout.max_model_len)
    try:
        title = f"{name} at {base_url}, a vLLM with the vocabulary of {ajet.model.path}"
        yield DebugPolicyModel(engine=engine, chat_format=chat_format, title=title)
    finally:
        asyncio.run(engine.aclose())


def _first_model(http: httpx2.Client, key_variable: str) -> dict[str, Any]:
    """The first entry of the server's list of models."""
    url = f"{http.base_url}models"
    try:
        response = http.get(url)
        if response.status_code in (401, 403):
            given = "with this key" if "authorization" in http.headers else "without a key"
            raise ServiceError(
                f"ajet.debug.engine: {url} refuses requests {given}: HTTP {response.status_code}; "
                f"expected its key in the environment variable {key_variable}, which "
                "ajet.debug.api_key_env names"
            )
        listed = response.raise_for_status().json()["data"]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ServiceError(f"ajet.debug.engine: GET {url}: {reason}") from error
    if not listed:
        raise ServiceError(f"ajet.debug.engine: {url} lists no model")
    first: dict[str, Any] = listed[0]
    return first


def _format_in_common(
    ajet: AjetConfig, model: dict[str, Any], http: httpx2.Client
) -> ChatFormat | None:
    """Our chat format if the server is a vLLM that tokenizes like our model; else None."""
    folder = Path(ajet.model.path)
    if model.get("owned_by") != "vllm" or not folder.is_dir():
        return None
    chat_format = chat_format_of(ajet.model, folder)
    url = f"{str(http.base_url).removesuffix('/v1/')}/tokenize"
    body = {"model": model["id"], "prompt": PROBE, "add_special_tokens": False}
    response = http.post(url, json=body)
    expected = chat_format.tokenizer.encode(PROBE)
    is_same = response.is_success and response.json()["tokens"] == expected
    return chat_format if is_same else None


def _as_text(ajet: AjetConfig, endpoint: UpstreamModel) -> DebugPolicyModel:
    return DebugPolicyModel(
        engine=ScriptedEngine([], max_model_len=ajet.rollout.max_model_len or ASSUMED_MODEL_LEN),
        chat_format=TextOnly(),
        title=f"{endpoint.model} at {endpoint.base_url}, by text only: it gives no token ids, so "
        "there are no samples",
        make_upstream=lambda record, agent_name, target_tag: RecordedUpstream(
            endpoint, record, agent_name, target_tag
        ),
    )


def _base_url(url: str) -> str:
    """The URL, with the path `/v1` if it has none."""
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"
