"""The calls of an episode as one radix tree of token ids.

A node is a run of tokens of one origin: a call's completion, or a prompt. Prompts with equal ids
share nodes. A completion always gets nodes of its own, so two calls that happened to sample the
same ids stay separate: they were sampled twice and are trained twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ajet.schema.call import Call


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A run of tokens. A path from the root is a context."""

    ids: np.ndarray
    """[n] int32."""
    call: Call | None = None
    """The call that sampled these tokens; None for prompt tokens."""
    offset: int = 0
    """Position in the call's completion at which the run starts."""
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
    """A tree that depends only on the set of calls, not on their order or repetition.

    Building it is linear in the tokens that the calls add: a call that continues another is
    inserted at that call's end, so no prompt is compared twice.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self.root = Node(ids=np.zeros(0, np.int32))
        self._last_node: dict[str, Node] = {}
        unique = {call.call_id: call for call in calls}
        for call in sorted(unique.values(), key=lambda call: call.index):
            self._insert(call)

    def paths(self) -> Iterator[list[Node]]:
        """All paths from the root to a leaf, depth first, children in the order of arrival."""
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
        """Follow `ids` down from the end of `node`, and add nodes for the missing part."""
        while len(ids):
            child, shared = _best_child(node, ids)
            if child is None:
                child, shared = Node(ids=ids), len(ids)
                node.children.append(child)
            if shared < len(child.ids):
                child.split(shared)
                self._update_last_node(child)
            node, ids = child, ids[shared:]
        return node

    def _update_last_node(self, node: Node) -> None:
        """After a split, the end of a completion is in the only child of `node`."""
        if node.call is not None and self._last_node[node.call.call_id] is node:
            self._last_node[node.call.call_id] = node.children[0]


def _best_child(node: Node, ids: np.ndarray) -> tuple[Node | None, int]:
    """The child with the longest common prefix, the first among equals; None if none has one."""
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
