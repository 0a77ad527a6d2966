"""Finds the recorded call that a request continues, in one trie of messages per agent.

A request repeats the whole conversation. Normalizing all of it again would make each call of an
episode more expensive than the one before. Therefore the latest requests are kept in raw form: a
request that begins like one of them is compared with it at once, and only the rest is normalized.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.messages import history_key, normalize_messages

Messages = list[dict[str, Any]]

MAX_HEADS = 8
"""Conversations per agent whose latest request is kept; other requests only cost more time."""


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
