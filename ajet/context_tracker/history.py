"""Which recorded call a request continues: a trie of messages, one for each agent."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.messages import history_key


@dataclass(slots=True)
class _Node:
    children: dict[Hashable, _Node] = field(default_factory=dict)
    call_id: str | None = None
    """The latest call whose request and answer are the path to this node."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Match:
    """The longest recorded history at the head of a request."""

    call_id: str | None
    """The call that the request continues, if there is one."""
    num_messages: int
    """Messages that this call's request and answer cover; 0 where there is none."""
    num_known: int
    """Messages at the head of the request that were seen before, answered or not."""


class History:
    """The message histories of one agent."""

    def __init__(self) -> None:
        self._root = _Node()

    @property
    def empty(self) -> bool:
        """No call has been recorded."""
        return not self._root.children

    def find(self, messages: list[dict[str, Any]]) -> Match:
        """Walk down as far as the messages are known; linear in the number of messages."""
        node, known, call_id, covered = self._root, 0, None, 0
        for message in messages:
            child = node.children.get(history_key(message))
            if child is None:
                break
            node, known = child, known + 1
            if node.call_id is not None:
                call_id, covered = node.call_id, known
        return Match(call_id=call_id, num_messages=covered, num_known=known)

    def add(self, messages: list[dict[str, Any]], response: dict[str, Any], call_id: str) -> None:
        """Remember that `call_id` answered `messages` with `response` (both normalized)."""
        node = self._root
        for message in [*messages, response]:
            node = node.children.setdefault(history_key(message), _Node())
        node.call_id = call_id
