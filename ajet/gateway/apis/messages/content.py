"""Messages of content blocks as chat messages.

A user's message with tool results becomes a chat message for each result, and one for its text.
"""

from __future__ import annotations

from typing import Any

from ajet.gateway.parameters import invalid, unsupported

_Message = dict[str, Any]


def messages_of(messages: list[_Message]) -> list[_Message]:
    """Chat messages.

    Raises:
        RequestError: names a block that is not supported.
    """
    found: list[_Message] = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise invalid(f"{where}.role", role, "user, assistant or system")
        if not isinstance(content, list):
            found.append({"role": role, "content": content})
        elif role == "assistant":
            found.append(_assistant(content, f"{where}.content"))
        else:
            found += _others(role, content, f"{where}.content")
    return found


def _assistant(blocks: list[Any], where: str) -> _Message:
    message: _Message = {"role": "assistant", "content": []}
    reasoning, calls = [], []
    for position, block in enumerate(blocks):
        kind = _kind(block, f"{where}[{position}]")
        if kind == "text":
            message["content"].append(block)
        elif kind == "thinking":
            reasoning.append({"text": block.get("thinking")})
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input")}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind != "redacted_thinking":
            raise unsupported(f"{where}[{position}].type", kind, "leave such blocks out")
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _others(role: str, blocks: list[Any], where: str) -> list[_Message]:
    messages: list[_Message] = []
    for position, block in enumerate(blocks):
        kind = _kind(block, f"{where}[{position}]")
        if kind == "tool_result" and role == "user":
            call_id = block.get("tool_use_id")
            if not isinstance(call_id, str):
                raise invalid(f"{where}[{position}].tool_use_id", call_id, "a tool use's id")
            result = {"role": "tool", "tool_call_id": call_id, "content": block.get("content")}
            messages.append(result)
        elif kind != "text":
            raise unsupported(f"{where}[{position}].type", kind, "leave such blocks out")
        elif messages and messages[-1]["role"] == role:
            messages[-1]["content"].append(block)
        else:
            messages.append({"role": role, "content": [block]})
    return messages or [{"role": role, "content": []}]


def _kind(block: Any, where: str) -> Any:
    if not isinstance(block, dict):
        raise invalid(where, block, "a content block")
    return block.get("type")
