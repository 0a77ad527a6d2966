"""The answer of `POST /v1/chat/completions`, from token ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat, ParsedMessage
from ajet.context_tracker.tracker import Prompt
from ajet.schema.generation import Generation, SamplingParams


@dataclass(slots=True, kw_only=True)
class Choice:
    """One completion as the client will see it."""

    message: dict[str, Any]
    finish_reason: str
    logprobs: dict[str, Any] | None
    num_tokens: int


def make_choice(
    chat_format: ChatFormat,
    prompt: Prompt,
    generation: Generation,
    params: SamplingParams,
    *,
    call_name: str,
    with_logprobs: bool,
) -> Choice:
    """Parse a completion into an assistant message.

    Args:
        call_name: unique in the episode; tool-call ids are made of it, so that a message which
            comes back in a later request is recognised for certain.
    """
    parsed = chat_format.parse(generation.token_ids, prompt.ids, prompt.tools)
    content = _before_stop(parsed.content, params.stop)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if parsed.reasoning is not None:
        message["reasoning_content"] = parsed.reasoning
    if parsed.tool_calls:
        message["tool_calls"] = _tool_calls(parsed, call_name)
        message["content"] = content or None
    finish_reason: str = generation.finish_reason
    if parsed.tool_calls and finish_reason == "stop":
        finish_reason = "tool_calls"
    return Choice(
        message=message,
        finish_reason=finish_reason,
        logprobs=_logprobs(chat_format, generation) if with_logprobs else None,
        num_tokens=len(generation.token_ids),
    )


def completion_body(
    completion_id: str, model: str, created: int, prompt_tokens: int, choices: list[Choice]
) -> dict[str, Any]:
    """The response object; `usage` counts the tokens that were really sampled."""
    completion_tokens = sum(choice.num_tokens for choice in choices)
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": choice.message,
                "finish_reason": choice.finish_reason,
                "logprobs": choice.logprobs,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _before_stop(content: str, stop: tuple[str, ...]) -> str:
    """The text before the first stop string, as the API promises."""
    ends = [content.find(text) for text in stop if text in content]
    return content[: min(ends)] if ends else content


def _tool_calls(parsed: ParsedMessage, call_name: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{call_name}_{position}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments
                if isinstance(arguments, str)
                else json.dumps(arguments, ensure_ascii=False),
            },
        }
        for position, (name, arguments) in enumerate(parsed.tool_calls)
    ]


def _logprobs(chat_format: ChatFormat, generation: Generation) -> dict[str, Any]:
    texts = [chat_format.tokenizer.decode(token) for token in generation.token_ids]
    return {
        "content": [
            {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
            for text, logprob in zip(texts, generation.logprobs, strict=True)
        ]
    }
