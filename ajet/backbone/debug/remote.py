"""A server that is there already: exact where it is a vLLM with our vocabulary, else text."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ajet.backbone.debug.model import DebugPolicyModel
from ajet.config.sections.root import AjetConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.engine.scripted import ScriptedEngine
from ajet.engine.vllm.engine import VllmEngine
from ajet.errors import ServiceError
from ajet.gateway.recorded_upstream import RecordedUpstream, TextOnly
from ajet.gateway.upstream import UpstreamModel
from ajet.training.model_folder import chat_format_of

PROBE = 'Answer: 12 + 30 = "42"\n'
"""A text that vocabularies cut differently."""

ASSUMED_MODEL_LEN = 32768
"""Told to agents where the configuration does not say how long the context is."""


@contextmanager
def open_remote(ajet: AjetConfig) -> Iterator[DebugPolicyModel]:
    """The model behind the URL that `debug.engine` is.

    Raises:
        ServiceError: nothing answers there, or not as an OpenAI-compatible server.
    """
    base_url = _base_url(ajet.debug.engine)
    api_key = os.environ.get(ajet.debug.api_key_env)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx2.Client(base_url=base_url, headers=headers, timeout=30.0) as http:
        first = _first_model(http)
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


def _first_model(http: httpx2.Client) -> dict[str, Any]:
    """The first model that a server lists."""
    url = f"{http.base_url}models"
    try:
        listed = http.get(url).raise_for_status().json()["data"]
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        raise ServiceError(f"ajet.debug.engine: GET {url}: {error}") from error
    if not listed:
        raise ServiceError(f"ajet.debug.engine: {url} lists no model")
    first: dict[str, Any] = listed[0]
    return first


def _format_in_common(
    ajet: AjetConfig, model: dict[str, Any], http: httpx2.Client
) -> ChatFormat | None:
    """Our model's chat format, where a vLLM cuts text into the same ids as our tokenizer."""
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
        title=f"{endpoint.model} at {endpoint.base_url}, as text: it says nothing of tokens, so "
        "there are no samples",
        make_upstream=lambda record, agent_name, target_tag: RecordedUpstream(
            endpoint, record, agent_name, target_tag
        ),
    )


def _base_url(url: str) -> str:
    """With the path `/v1` where it has none."""
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"
