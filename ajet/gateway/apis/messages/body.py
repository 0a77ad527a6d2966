"""The objects of the Messages API's answers: the message, its blocks, its errors."""

from __future__ import annotations

import json
from typing import Any

from ajet.errors import AjetError, EngineError, RequestError
from ajet.gateway.completion import Choice, Completion
from ajet.gateway.gateway import MODEL_NAME

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def empty_message(name: str, prompt_tokens: int) -> dict[str, Any]:
    """The message before anything was sampled."""
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": MODEL_NAME,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": prompt_tokens, "output_tokens": 0},
    }


def message_body(completion: Completion) -> dict[str, Any]:
    """The whole message."""
    choice = completion.choices[0]
    blocks = []
    if choice.reasoning:
        blocks.append(thinking_block(choice.reasoning))
    if choice.content or not choice.tool_calls:
        blocks.append(text_block(choice.content))
    message = empty_message(completion.name, completion.prompt_tokens)
    message["content"] = blocks + [tool_use_block(call) for call in choice.tool_calls]
    message["usage"]["output_tokens"] = completion.completion_tokens
    return {**message, **stop_fields(choice)}


def thinking_block(text: str) -> dict[str, Any]:
    """A block of reasoning; its signature is empty, because nothing signs it."""
    return {"type": "thinking", "thinking": text, "signature": ""}


def text_block(text: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": text}


def tool_use_block(call: dict[str, Any]) -> dict[str, Any]:
    """A block for a tool call.

    The API demands an object as input: arguments of another kind are wrapped in one, under the key
    `arguments`.
    """
    arguments = call["function"]["arguments"]
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        given = arguments
    return {
        "type": "tool_use",
        "id": call["id"],
        "name": call["function"]["name"],
        "input": given if isinstance(given, dict) else {"arguments": given},
    }


def stop_fields(choice: Choice) -> dict[str, Any]:
    """The fields that say why the message ended."""
    by_string = choice.stop is not None and not choice.tool_calls
    return {
        "stop_reason": "stop_sequence" if by_string else _STOP_REASONS[choice.finish_reason],
        "stop_sequence": choice.stop if by_string else None,
    }


def error_body(error: AjetError) -> tuple[int, dict[str, Any]]:
    """HTTP status and the Messages API's error object."""
    if isinstance(error, RequestError):
        other = "invalid_request_error" if error.status < 500 else "api_error"
        status, kind = error.status, _ERROR_TYPES.get(error.status, other)
    else:
        status, kind = 503 if isinstance(error, EngineError) else 500, "api_error"
    return status, {"type": "error", "error": {"type": kind, "message": str(error)}}
