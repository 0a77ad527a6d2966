"""Finds the recorded call that a request continues, in one trie of messages per agent.

A request repeats the whole conversation. Normalizing all of it again would make each call of an
episode more expensive than the one before. Therefore the latest requests are kept in raw form: a
request that begins like one of them is compared with it at once, and only the rest is normalized.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ajet.errors import RequestError

Messages = list[dict[str, Any]]

MAX_HEADS = 8
"""Conversations per agent whose latest request is kept; other requests only cost more time."""
MAX_DEPTH = 200
"""Deepest nesting of a tool call's arguments; Python's JSON takes a few times as much."""


@dataclass(slots=True, eq=False)
class _MessageNode:
    """A message after the messages on the path from the root, which stands for no message."""

    parent: _MessageNode | None = None
    depth: int = 0
    """Messages from the root to here."""
    children: dict[Hashable, _MessageNode] = field(default_factory=dict)
    call_id: str | None = None
    """The latest call whose request and answer form the path to this node."""

    def follow(self, message: dict[str, Any]) -> _MessageNode:
        """The child for a message, which is created if there is none."""
        key = history_key(message)
        child = self.children.get(key)
        if child is None:
            child = self.children[key] = _MessageNode(self, self.depth + 1)
        return child


@dataclass(slots=True, kw_only=True, frozen=True)
class Match:
    """A request and the longest recorded history that it begins with."""

    raw: Messages
    """The request's messages as the client sent them."""
    messages: Messages
    """The request's messages, normalized."""
    known: _MessageNode
    """The node of the last leading message that was seen before, answered or not."""
    covered: _MessageNode
    """The node of the answer that the request continues; the root if there is none."""

    @property
    def call_id(self) -> str | None:
        """The call that the request continues, if there is one."""
        return self.covered.call_id

    @property
    def num_messages(self) -> int:
        """Leading messages that the continued call's request and answer cover; 0 without a call."""
        return self.covered.depth

    @property
    def num_known(self) -> int:
        """Leading messages that were seen before, answered or not."""
        return self.known.depth


class History:
    """The message histories of one agent."""

    def __init__(self) -> None:
        self._root = _MessageNode()
        self._heads: dict[_MessageNode, Match] = {}
        """Node of the last message -> recorded request; the latest is last."""

    @property
    def empty(self) -> bool:
        """Whether no call has been recorded."""
        return not self._root.children

    def find(self, raw: Messages) -> Match:
        """Normalize a request and follow its messages as far as they are known.

        Raises:
            RequestError: a message is malformed or not text.
        """
        messages, node = [], self._root
        for end, head in self._heads.items():
            if end.depth > node.depth and raw[: end.depth] == head.raw:
                raw = (
                    head.raw + raw[end.depth :]
                )  # share the equal messages instead of keeping two copies
                messages, node = head.messages, end
        messages = messages + normalize_messages(raw, start=len(messages))
        for message in messages[node.depth :]:
            child = node.children.get(history_key(message))
            if child is None:
                break
            node = child
        covered = node
        while covered.call_id is None and covered.parent is not None:
            covered = covered.parent
        return Match(raw=raw, messages=messages, known=node, covered=covered)

    def add(self, match: Match, response: dict[str, Any], call_id: str) -> None:
        """Record that `call_id` answered the request with the normalized `response`."""
        node = match.known
        for message in match.messages[node.depth :]:
            node = node.follow(message)
        node.follow(response).call_id = call_id
        self._keep(node, match)

    def _keep(self, end: _MessageNode, match: Match) -> None:
        """Keep the raw request, instead of the one that it continues."""
        self._heads.pop(match.covered.parent or end, None)
        self._heads.pop(end, None)
        self._heads[end] = match
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]


_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ROLES |= {"tool": "tool", "function": "tool"}


def normalize_messages(messages: list[dict[str, Any]], start: int = 0) -> list[dict[str, Any]]:
    """Normalize a request's messages from position `start` on.

    Raises:
        RequestError: a message is malformed or not text; the error names it.
    """
    if not messages:
        raise RequestError("messages: empty; expected at least one message", param="messages")
    return [_normalize(message, i) for i, message in enumerate(messages[start:], start)]


def history_key(message: dict[str, Any]) -> Hashable:
    """A key that two normalized messages share if they are the same turn.

    Reasoning is no part of it, because clients rarely send it back; the recorded ids contain it.
    Nor is the name of an assistant, which clients add to an answer that had none.
    """
    calls = message.get("tool_calls")
    name = message.get("name") if message["role"] != "assistant" else None
    key = (message["role"], message["content"], message.get("tool_call_id"), name)
    return key if not calls else (*key, tuple(_tool_call_key(call) for call in calls))


def _normalize(message: dict[str, Any], position: int) -> dict[str, Any]:
    where = f"messages[{position}]"
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise RequestError(
            f"{where}.role: got {message.get('role')!r}; expected system, developer, user, "
            "assistant or tool",
            param=f"{where}.role",
        )
    # Parts of a tool's result are outputs of their own; of other messages, pieces of one text.
    between = "\n" if role == "tool" else ""
    content = _text(message.get("content"), f"{where}.content", between)
    if message.get("audio"):
        raise RequestError(f"{where}.audio: only text is supported", param=f"{where}.audio")
    if not content and message.get("refusal"):
        content = _text(message["refusal"], f"{where}.refusal")
    normal: dict[str, Any] = {"role": role, "content": content}
    # Some chat formats write the name of the speaker in place of the role, or next to it.
    for optional in ("tool_call_id", "reasoning_content", "name"):
        if message.get(optional):
            normal[optional] = _text(message[optional], f"{where}.{optional}")
    if message.get("tool_calls"):
        normal["tool_calls"] = _tool_calls(message["tool_calls"], f"{where}.tool_calls")
    elif message.get("function_call"):  # the API's form before there were several calls in a turn
        call = {"function": message["function_call"]}
        normal["tool_calls"] = [_normalize_tool_call(call, f"{where}.function_call")]
    return normal


def _text(content: Any, where: str, between: str = "") -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(
            f"{where}: got {type(content).__name__}; expected text or a list of parts",
            param=where,
        )
    return between.join(_text_of_part(part, where) for part in content)


def _text_of_part(part: Any, where: str) -> str:
    text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise RequestError(f"{where}: a part of type {kind!r}; only text is supported", param=where)
    return text


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise RequestError(f"{where}: got {type(calls).__name__}; expected a list", param=where)
    return [_normalize_tool_call(call, where) for call in calls]


def _normalize_tool_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestError(
            f"{where}: got {call!r}; expected "
            '{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}',
            param=where,
        )
    arguments = function.get("arguments")
    if not isinstance(arguments, str) and is_too_deep(arguments):
        raise RequestError(
            f"{where}: arguments with more than {MAX_DEPTH} levels of lists and objects",
            param=where,
        )
    return {
        "id": _text(call.get("id"), f"{where}.id") or None,
        "type": "function",
        "function": {"name": function["name"], "arguments": _arguments(arguments)},
    }


def _arguments(arguments: Any) -> Any:
    """Arguments, parsed if they are JSON: clients serialise the same object in different ways."""
    if not isinstance(arguments, str):
        return arguments if arguments is not None else {}
    if not arguments.strip():  # what clients send for a call without arguments
        return {}
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return arguments if is_too_deep(parsed) else parsed


def is_too_deep(value: Any) -> bool:
    """True if lists and objects have more than `MAX_DEPTH` levels, which JSON may fail to write."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
    return depth > MAX_DEPTH


def _tool_call_key(call: dict[str, Any]) -> Hashable:
    function = call["function"]
    arguments = json.dumps(function["arguments"], sort_keys=True, ensure_ascii=False)
    return (call["id"], function["name"], arguments)
