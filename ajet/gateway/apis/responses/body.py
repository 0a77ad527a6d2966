"""The objects of the Responses API's answers: the response and its items."""

from __future__ import annotations

from typing import Any

from ajet.gateway.apis.responses.request import ResponsesRequest
from ajet.gateway.completion import Completion, PendingRequest
from ajet.gateway.gateway import MODEL_NAME


def response_id(pending: PendingRequest) -> str:
    """The id of the response to a request."""
    return f"resp_{pending.name}"


def unfinished_body(
    request: ResponsesRequest, pending: PendingRequest, status: str = "in_progress"
) -> dict[str, Any]:
    """The response object before the answer; it repeats the request's parameters."""
    return {
        "id": response_id(pending),
        "object": "response",
        "created_at": pending.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": MODEL_NAME,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "store": request.store is not False,
        "temperature": pending.completions[0].params.temperature,
        "text": {"format": (request.text and request.text.format) or {"type": "text"}},
        "tool_choice": request.tool_choice or "auto",
        "tools": request.tools or [],
        "top_p": pending.completions[0].params.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def finished_body(
    request: ResponsesRequest, pending: PendingRequest, completion: Completion
) -> dict[str, Any]:
    """The response object with the answer."""
    is_cut = completion.choices[0].finish_reason == "length"
    return {
        **unfinished_body(request, pending, "incomplete" if is_cut else "completed"),
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": _output(completion),
        "usage": {
            "input_tokens": completion.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": completion.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        },
    }


def reasoning_item(name: str, text: str, status: str = "completed") -> dict[str, Any]:
    """An output item for reasoning."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "id": f"rs_{name}",
        "type": "reasoning",
        "summary": [],
        "content": content,
        "status": status,
    }


def message_item(
    name: str, parts: list[dict[str, Any]], status: str = "completed"
) -> dict[str, Any]:
    """An output item for a message."""
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def text_part(text: str) -> dict[str, Any]:
    """The text part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(call: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    """An output item for a tool call."""
    return {
        "id": f"fc_{call['id']}",
        "type": "function_call",
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": call["function"]["arguments"],
        "status": status,
    }


def _output(completion: Completion) -> list[dict[str, Any]]:
    choice = completion.choices[0]
    items = []
    if choice.reasoning:
        items.append(reasoning_item(completion.name, choice.reasoning))
    if choice.content or not choice.tool_calls:
        items.append(message_item(completion.name, [text_part(choice.content)]))
    return items + [call_item(call) for call in choice.tool_calls]
