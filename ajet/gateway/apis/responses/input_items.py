"""The items of `input` as chat messages.

One turn of the assistant may be several items (reasoning, a message, function calls); they become
one message again, as the gateway answered it, so that its history is recognised.
"""

from __future__ import annotations

from typing import Any

from ajet.gateway.parameters import invalid, unsupported


def messages_of(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages.

    Raises:
        RequestError: names an item that is not supported.
    """
    messages: list[dict[str, Any]] = []
    for position, item in enumerate(items):
        message = _message(item, f"input[{position}]")
        if messages and _continues(messages[-1], message):
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return messages


def _message(item: dict[str, Any], where: str) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            raise invalid(f"{where}.call_id", call_id, "the id of a function call")
        return {"role": "tool", "tool_call_id": call_id, "content": item.get("output")}
    if kind == "reasoning":
        parts = item.get("content") or item.get("summary")
        return {"role": "assistant", "content": None, "reasoning_content": parts}
    raise unsupported(f"{where}.type", kind, "leave such items out")


def _continues(last: dict[str, Any], message: dict[str, Any]) -> bool:
    """Whether both are parts of one turn: reasoning first, then text, then calls."""
    if last["role"] != "assistant" or message["role"] != "assistant":
        return False
    if "reasoning_content" in message:
        return False
    return "tool_calls" in message or (last["content"] is None and "tool_calls" not in last)


def _joined(last: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    joined = {**last, **message}
    if "tool_calls" in message:
        joined["content"] = last["content"]
        joined["tool_calls"] = [*last.get("tool_calls", []), *message["tool_calls"]]
    return joined
