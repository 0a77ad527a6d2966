"""A function that asks another model, as judges of projects written for AgentJet use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ajet.errors import EngineError

DASHSCOPE_URL = "https://dashscope.aliyuncs.com/compatible-mode/v1"


def create_external_llm_fn(
    alien_llm_model: str, alien_llm_response_length: int
) -> Callable[..., dict[str, Any]]:
    """A blocking function `(messages, sampling_params_override={}, request_id="")`.

    It returns the answer as a message, `{"role": "assistant", "content": ...}`. The model is asked
    at `DASHSCOPE_BASE_URL`, by default DashScope's own address, with the key in
    `DASHSCOPE_API_KEY`; any OpenAI-compatible server will do. Failed requests are tried again by
    the OpenAI client.

    Args:
        alien_llm_model: the model's name there.
        alien_llm_response_length: tokens of an answer at most.
    """

    def ask(
        messages: Sequence[Mapping[str, Any]],
        sampling_params_override: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> dict[str, Any]:
        del request_id  # part of AgentJet's signature
        return _ask(
            {
                "model": alien_llm_model,
                "max_tokens": alien_llm_response_length,
                **(sampling_params_override or {}),
                "messages": [dict(message) for message in messages],
            }
        )

    return ask


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    from openai import OpenAI, OpenAIError

    base_url = os.environ.get("DASHSCOPE_BASE_URL", DASHSCOPE_URL)
    key = os.environ.get("DASHSCOPE_API_KEY", "none")
    try:
        # A client for each call: judges run in many threads, and a client's pool is not theirs.
        with OpenAI(base_url=base_url, api_key=key, max_retries=3) as client:
            answer = client.chat.completions.create(**request)
    except OpenAIError as error:
        raise EngineError(f"{request['model']} at {base_url} gave no answer: {error}") from error
    return {"role": "assistant", "content": answer.choices[0].message.content or ""}
