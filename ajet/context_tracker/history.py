"""Which recorded call a request continues: a trie of messages, one for each agent.

A request repeats everything that was said before. Reading all of it again would make each call of
an episode dearer than the one before, so the latest requests are kept as they came: one that
begins like one of them is compared with it at once, and only what follows is looked at.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.messages import history_key, normalize_messages

Messages = list[dict[str, Any]]

MAX_HEADS = 8
"""Conversations of one agent whose latest request is kept; others cost more, that is all."""


@dataclass(slots=True, eq=False)
class _Node:
    """A message after those before it; the root is none."""

    parent: _Node | None = None
    depth: int = 0
    """Messages from the root to here."""
    children: dict[Hashable, _Node] = field(default_factory=dict)
    call_id: str | None = None
    """The latest call whose request and answer are the path to this node."""

    def follow(self, message: dict[str, Any]) -> _Node:
        """The node of a message after this one, made if there is none."""
        key = history_key(message)
        child = self.children.get(key)
        if child is None:
            child = self.children[key] = _Node(self, self.depth + 1)
        return child


@dataclass(slots=True, kw_only=True, frozen=True)
class Match:
    """A request, and the longest recorded history at its head."""

    raw: Messages
    """Its messages as the client sent them."""
    messages: Messages
    """The same, normalized."""
    known: _Node
    """Of the last message at the head that was seen before, answered or not."""
    covered: _Node
    """Of the answer that the request continues; the root where there is none."""

    @property
    def call_id(self) -> str | None:
        """The call that the request continues, if there is one."""
        return self.covered.call_id

    @property
    def num_messages(self) -> int:
        """Messages that this call's request and answer cover; 0 where there is none."""
        return self.covered.depth

    @property
    def num_known(self) -> int:
        """Messages at the head of the request that were seen before, answered or not."""
        return self.known.depth


class History:
    """The message histories of one agent."""

    def __init__(self) -> None:
        self._root = _Node()
        self._heads: dict[_Node, Match] = {}
        """Last message -> a recorded request, the latest last."""

    @property
    def empty(self) -> bool:
        """No call has been recorded."""
        return not self._root.children

    def find(self, raw: Messages) -> Match:
        """Normalize a request and walk down as far as its messages are known.

        Raises:
            RequestError: a message that a text model cannot take.
        """
        messages, node = [], self._root
        for end, head in self._heads.items():
            if end.depth > node.depth and raw[: end.depth] == head.raw:
                raw = head.raw + raw[end.depth :]  # one copy of what is the same
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
        """Remember that `call_id` answered the request with `response`, which is normalized."""
        node = match.known
        for message in match.messages[node.depth :]:
            node = node.follow(message)
        node.follow(response).call_id = call_id
        self._keep(node, match)

    def _keep(self, end: _Node, match: Match) -> None:
        """Keep the request in place of the one that it goes on from."""
        self._heads.pop(match.covered.parent or end, None)
        self._heads.pop(end, None)
        self._heads[end] = match
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]
