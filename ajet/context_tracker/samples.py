"""Builds training samples from the token tree.

Each path of the tree is a timeline and becomes at most one sample. A sampled token has loss in the
first timeline that contains it and nowhere else. Tokens that a rule drops are counted under the
rule's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ajet.schema.episode import Call, GrammarSpan, Sample


@dataclass(slots=True, kw_only=True, frozen=True)
class SampleLimits:
    """Limits of an episode's samples; None is no limit."""

    max_prompt_length: int | None = None
    """Tokens before the first trained one; a sample with more is dropped."""
    max_response_length: int | None = None
    """Tokens from the first trained one on; the rest is cut off."""
    max_samples: int | None = None
    """Samples per episode; later ones are dropped."""


def build_samples(
    calls: Iterable[Call], episode_id: str, task_id: str, limits: SampleLimits | None = None
) -> tuple[list[Sample], dict[str, int]]:
    """Merge an episode's calls into training sequences.

    Returns:
        The samples, and the number of trained tokens that each rule dropped.
    """
    limits = limits or SampleLimits()
    dropped: dict[str, int] = {}
    claimed: set[Node] = set()
    samples: list[Sample] = []
    for path in TokenTree(calls).paths():
        sample = _sample_of_path(path, claimed, episode_id, task_id)
        if sample is not None:
            kept = _limit(sample, len(samples), limits, dropped)
            samples.extend(kept)
    return samples, dropped


def _sample_of_path(
    path: list[Node], claimed: set[Node], episode_id: str, task_id: str
) -> Sample | None:
    """The timeline up to its last token with loss; None if no token has loss here."""
    own = [node for node in path if _is_trained(node) and node not in claimed]
    if not own:
        return None
    claimed.update(own)
    path = path[: path.index(own[-1]) + 1]
    length = sum(len(node.ids) for node in path)
    sample = Sample(
        episode_id=episode_id,
        task_id=task_id,
        agent_names=tuple(dict.fromkeys(node.call.agent_name for node in own if node.call)),
        ids=np.concatenate([node.ids for node in path]).astype(np.int32),
        loss_mask=np.zeros(length, np.bool_),
        logprobs=np.zeros(length, np.float32),
        call_index=np.full(length, -1, np.int32),
        policy_versions=np.full(length, -1, np.int32),
        temperature=np.ones(length, np.float32),
    )
    start, trained = 0, set(own)
    spans: dict[int, GrammarSpan] = {}
    for node in path:
        if node in trained:
            _write(sample, start, node)
            spans.update(_span_of(node, start))
        start += len(node.ids)
    sample.grammars = tuple(spans.values())
    return sample


def _is_trained(node: Node) -> bool:
    return node.call is not None and node.call.trained


def _write(sample: Sample, start: int, node: Node) -> None:
    call = node.call
    assert call is not None
    here = slice(start, start + len(node.ids))
    there = slice(node.offset, node.offset + len(node.ids))
    sample.loss_mask[here] = True
    sample.logprobs[here] = call.logprobs[there]
    sample.call_index[here] = call.index
    sample.policy_versions[here] = call.policy_versions[there]
    sample.temperature[here] = call.temperature


def _span_of(node: Node, start: int) -> dict[int, GrammarSpan]:
    """The completion up to the node's end, by its first token; empty without a grammar."""
    assert node.call is not None
    first, stop = start - node.offset, start + len(node.ids)
    grammar = node.call.grammar
    return {first: GrammarSpan(grammar=grammar, start=first, stop=stop)} if grammar else {}


def _limit(
    sample: Sample, num_before: int, limits: SampleLimits, dropped: dict[str, int]
) -> list[Sample]:
    """A list with the sample after the limits are applied; empty if they drop it."""

    def drop(rule: str, tokens: int) -> None:
        dropped[rule] = dropped.get(rule, 0) + tokens

    prompt_length = int(np.argmax(sample.loss_mask))
    if limits.max_samples is not None and num_before >= limits.max_samples:
        drop("max_sample_per_task", sample.num_trained)
        return []
    if limits.max_prompt_length is not None and prompt_length > limits.max_prompt_length:
        drop("max_prompt_length", sample.num_trained)
        return []
    if limits.max_response_length is not None:
        end = prompt_length + limits.max_response_length
        lost = int(sample.loss_mask[end:].sum())
        if lost:
            drop("max_response_length", lost)
            return [_cut(sample, end)]
    return [sample]


def _cut(sample: Sample, end: int) -> Sample:
    end = int(np.flatnonzero(sample.loss_mask[:end])[-1]) + 1
    for name in ("ids", "loss_mask", "logprobs", "call_index", "policy_versions", "temperature"):
        setattr(sample, name, getattr(sample, name)[:end])
    for span in sample.grammars:
        span.stop = min(span.stop, end)
    sample.grammars = tuple(span for span in sample.grammars if span.start < span.stop)
    return sample


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
    by_first_id: dict[int, list[Node]] = field(default_factory=dict)
    """The children by the first of their tokens: a root may have hundreds."""

    def add(self, child: Node) -> None:
        """Append a child."""
        self.children.append(child)
        self.by_first_id.setdefault(int(child.ids[0]), []).append(child)

    def split(self, length: int) -> None:
        """Keep the first `length` tokens here and move the rest into a single child."""
        rest = Node(
            ids=self.ids[length:],
            call=self.call,
            offset=self.offset + length,
            children=self.children,
            by_first_id=self.by_first_id,
        )
        self.ids, self.children, self.by_first_id = self.ids[:length], [], {}
        self.add(rest)


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
        # One path that is changed in place: a copy for each node would be quadratic in a timeline.
        path: list[Node] = []
        stack = [(0, child) for child in reversed(self.root.children)]
        while stack:
            depth, node = stack.pop()
            path[depth:] = [node]
            if not node.children:
                yield path.copy()
            stack.extend((depth + 1, child) for child in reversed(node.children))

    def _insert(self, call: Call) -> None:
        start = self.root if call.parent_id is None else self._last_node[call.parent_id]
        node = self._walk(start, call.delta_ids)
        assert len(call.completion_ids), "the tracker records no call without a token"
        sampled = Node(ids=call.completion_ids, call=call)
        node.add(sampled)
        self._last_node[call.call_id] = sampled

    def _walk(self, node: Node, ids: np.ndarray) -> Node:
        """Follow `ids` down from the end of `node`, and add nodes for the missing part."""
        while len(ids):
            child, shared = _best_child(node, ids)
            if child is None:
                child, shared = Node(ids=ids), len(ids)
                node.add(child)
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
    for child in node.by_first_id.get(int(ids[0]), ()):
        shared = _common_prefix(child.ids, ids)
        if shared > most:
            best, most = child, shared
    return best, most


def _common_prefix(left: np.ndarray, right: np.ndarray) -> int:
    length = min(len(left), len(right))
    different = np.flatnonzero(left[:length] != right[:length])
    return int(different[0]) if len(different) else length
