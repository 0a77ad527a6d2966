"""The calls of an episode as one radix tree of token ids.

A node is a run of tokens with one author: a call's completion, or text that nobody sampled.
Prompts share what they have in common by ids alone. A completion always gets a node of its own,
so calls that happened to sample the same ids stay two (they are trained twice, as sampled twice).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ajet.schema.call import Call


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A run of tokens; a path from the root is a context."""

    ids: np.ndarray
    """[n] int32."""
    call: Call | None = None
    """The call that sampled these tokens; None for prompt tokens."""
    offset: int = 0
    """Where in the call's completion the run starts."""
    children: list[Node] = field(default_factory=list)

    def split(self, length: int) -> None:
        """Keep the first `length` tokens here and move the rest into a single child."""
        rest = Node(
            ids=self.ids[length:],
            call=self.call,
            offset=self.offset + length,
            children=self.children,
        )
        self.ids, self.children = self.ids[:length], [rest]


class TokenTree:
    """Built from a set of calls: their order and repetition do not matter.

    Cost is linear in the tokens that calls add; a call that continues another starts where that
    one ended, and no prompt is compared twice.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self.root = Node(ids=np.zeros(0, np.int32))
        self._last_node: dict[str, Node] = {}
        unique = {call.call_id: call for call in calls}
        for call in sorted(unique.values(), key=lambda call: call.index):
            self._insert(call)

    def paths(self) -> Iterator[list[Node]]:
        """Every path from the root to a leaf, depth first, children in order of arrival."""
        stack = [[child] for child in reversed(self.root.children)]
        while stack:
            path = stack.pop()
            children = path[-1].children
            if not children:
                yield path
            stack.extend([*path, child] for child in reversed(children))

    def _insert(self, call: Call) -> None:
        start = self.root if call.parent_id is None else self._last_node[call.parent_id]
        node = self._walk(start, call.delta_ids)
        assert len(call.completion_ids), "the tracker records no call without a token"
        sampled = Node(ids=call.completion_ids, call=call)
        node.children.append(sampled)
        self._last_node[call.call_id] = sampled

    def _walk(self, node: Node, ids: np.ndarray) -> Node:
        """Follow `ids` down from the end of `node`, adding what is missing."""
        while len(ids):
            child, shared = _best_child(node, ids)
            if child is None:
                child, shared = Node(ids=ids), len(ids)
                node.children.append(child)
            if shared < len(child.ids):
                child.split(shared)
                self._moved_down(child)
            node, ids = child, ids[shared:]
        return node

    def _moved_down(self, node: Node) -> None:
        """The end of a completion is no longer in `node` but in its only child."""
        if node.call is not None and self._last_node[node.call.call_id] is node:
            self._last_node[node.call.call_id] = node.children[0]


def _best_child(node: Node, ids: np.ndarray) -> tuple[Node | None, int]:
    """The child that shares most ids with `ids`, the first of equals; None if none shares any."""
    best, most = None, 0
    for child in node.children:
        if child.ids[0] == ids[0]:
            shared = _common_prefix(child.ids, ids)
            if shared > most:
                best, most = child, shared
    return best, most


def _common_prefix(left: np.ndarray, right: np.ndarray) -> int:
    length = min(len(left), len(right))
    different = np.flatnonzero(left[:length] != right[:length])
    return int(different[0]) if len(different) else length
