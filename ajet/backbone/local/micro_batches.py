"""Packs samples into micro-batches: trees that store each shared prefix once. numpy only.

The last token of a sequence predicts nothing that is trained, so a sequence of L tokens is L - 1
inputs. Models whose attention cannot run over a tree get rows instead (`packed_rows.py`).

Sorting the sequences puts those with a common prefix next to each other. `shared[k]` is the number
of tokens that sequence k takes from its left neighbour. It decides everything: which prefixes are
stored once, where the mini-batch is cut into trees, and what each tree looks like.

Inside a tree, each node is followed by its largest child, so a path of largest children is one run
of positions, a *chain*. Every query then attends to a few runs of keys: its own chain up to itself,
and a prefix of each chain above. Of L leaves, at most log2(L) chains lie above one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ajet.schema.episode import Sample

MAX_LOGITS = 2**24
"""Most logits in memory at once on a CPU: 64 MB in float32, and a few times that while they are
used."""
MAX_LOGITS_ON_GPU = 2**26
"""The same on a GPU. With 150,000 tokens in the vocabulary, a part has 447 rows, so that starting
its kernels and reading the output head take less time than computing."""

PIECES_COST = 4 / 3
"""Cost of a position in a tree above the bound: pieces are computed forward once more."""


class AttentionSpan(NamedTuple):
    """Queries that attend to a run of keys; all four are positions in the tree."""

    query_start: int
    query_end: int
    key_start: int
    key_end: int
    is_causal: bool
    """True: queries and keys are the same run, and no query sees a later key."""


@dataclass(slots=True, kw_only=True)
class PackedTree:
    """The inputs of several sequences as N positions, with shared prefixes stored once."""

    ids: np.ndarray
    """[N] int64: the tokens, depth first, the largest child first."""
    depths: np.ndarray
    """[N] int64: position of each token in its sequences."""
    chains: list[tuple[int, int]]
    """Start and end of each chain; together they are all positions."""
    branches: list[AttentionSpan]
    """Positions of chains that leave another chain, and the part of that chain that they see."""
    predictor: np.ndarray
    """[M] int64: the positions that predict a trained token, in the order of the sequences."""

    def spans(
        self, start: int, end: int, *, causal_block: int | None = None
    ) -> list[AttentionSpan]:
        """What the queries at the positions from `start` to `end` attend to.

        Keys before `start` are in spans of their own, because they were computed earlier.

        Args:
            start: first position.
            end: one beyond the last position.
            causal_block: most queries of a causal span, in long chains; None: no limit.
        """
        spans = []
        for chain_start, chain_end in self.chains:
            first, last = max(start, chain_start), min(end, chain_end)
            if first < last:
                if chain_start < first:
                    spans.append(AttentionSpan(first, last, chain_start, first, is_causal=False))
                spans += _causal_blocks(first, last, causal_block)
        for branch in self.branches:
            first, last = max(start, branch.query_start), min(end, branch.query_end)
            for key_start, key_end in (
                (branch.key_start, min(start, branch.key_end)),
                (max(start, branch.key_start), branch.key_end),
            ):
                if first < last and key_start < key_end:
                    spans.append(AttentionSpan(first, last, key_start, key_end, is_causal=False))
        return spans


def _causal_blocks(start: int, end: int, block: int | None) -> Iterator[AttentionSpan]:
    """A chain's attention to itself, in blocks if it is long."""
    if block is None or end - start < 3 * block:
        block = end - start
    for first in range(start, end, block):
        last = min(first + block, end)
        if start < first:
            yield AttentionSpan(first, last, start, first, is_causal=False)
        yield AttentionSpan(first, last, first, last, is_causal=True)


@dataclass(slots=True, kw_only=True)
class SharedPrefix:
    """The inputs of B sequences whose first P tokens are the same."""

    prefix_ids: np.ndarray
    """[P] int64: the tokens that all sequences begin with."""
    suffix_ids: np.ndarray
    """[B, S] int64: the tokens that follow in each sequence, padded on the right with 0."""
    predictor: np.ndarray
    """[N] int64: the positions that predict a trained token, counted through the prefix and then
    through the rows of `suffix_ids`: in [0, P + B * S)."""
    num_padding: int = 0
    """Positions of `suffix_ids` that are padding."""


@dataclass(slots=True, kw_only=True)
class ConstrainedCompletion:
    """A completion that had to match a grammar, and where its trained tokens are."""

    grammar: str
    ids: np.ndarray
    """[C]: the completion, from its first token on."""
    columns: np.ndarray
    """[T] int64: positions of the trained tokens in `ids`."""
    rows: np.ndarray
    """[T] int64: positions of the same tokens among the N of the micro-batch."""


@dataclass(slots=True, kw_only=True)
class MicroBatch:
    """Sequences for one forward pass, and their N trained tokens in the order of `predictor`."""

    inputs: SharedPrefix | PackedTree
    samples: list[Sample]
    """The packed samples, in the order of `sample_index`."""
    targets: np.ndarray
    """[N] int64: the trained tokens."""
    old_logprobs: np.ndarray
    """[N] float32: under the sampling policy."""
    advantages: np.ndarray
    """[N] float32."""
    weights: np.ndarray
    """[N] float32: weight of each token in the loss."""
    temperature: np.ndarray
    """[N] float32, above 0: divides the logits."""
    policy_versions: np.ndarray
    """[N] int32."""
    sample_index: np.ndarray
    """[N] int64, from 0: which of the packed samples a token belongs to."""
    constrained: list[ConstrainedCompletion]
    """The completions with a grammar; usually none."""
    forbidden: np.ndarray | None = None
    """[N, V] bool: the tokens that the engine could not sample; None: it could sample all."""

    @property
    def num_positions(self) -> int:
        """Positions that are computed, padding included."""
        if isinstance(self.inputs, PackedTree):
            return len(self.inputs.ids)
        return len(self.inputs.prefix_ids) + self.inputs.suffix_ids.size

    @property
    def num_padding(self) -> int:
        """Positions that are computed for no token; a tree has none."""
        return 0 if isinstance(self.inputs, PackedTree) else self.inputs.num_padding


def pack_as_tree(weighted: Sequence[tuple[Sample, np.ndarray]], plan: TreePlan) -> MicroBatch:
    """Put the samples of a plan, each with its loss weights [L], into one micro-batch."""
    chosen = [weighted[row] for row in plan.rows]
    inputs = [sample.ids[:-1] for sample, _ in chosen]
    return with_targets(pack_tree(inputs, plan.shared, predictors(chosen)), chosen)


def predictors(weighted: Sequence[tuple[Sample, np.ndarray]]) -> list[np.ndarray]:
    """For each sample, the inputs that predict a trained token."""
    assert not any(sample.loss_mask[0] for sample, _ in weighted), "nothing predicts a first token"
    return [np.flatnonzero(sample.loss_mask) - 1 for sample, _ in weighted]


def with_targets(
    inputs: SharedPrefix | PackedTree, weighted: Sequence[tuple[Sample, np.ndarray]]
) -> MicroBatch:
    samples = [sample for sample, _ in weighted]

    def trained(arrays: Sequence[np.ndarray]) -> np.ndarray:
        rows = zip(arrays, samples, strict=True)
        return np.concatenate([array[sample.loss_mask] for array, sample in rows])

    temperature = trained([sample.temperature for sample in samples])
    return MicroBatch(
        inputs=inputs,
        samples=samples,
        targets=trained([sample.ids for sample in samples]).astype(np.int64),
        old_logprobs=trained([sample.logprobs for sample in samples]),
        advantages=trained([_advantages(sample) for sample in samples]),
        weights=trained([weights for _, weights in weighted]),
        # A greedy completion's logprobs are those of the logits themselves.
        temperature=np.where(temperature == 0, np.float32(1), temperature),
        policy_versions=trained([sample.policy_versions for sample in samples]),
        sample_index=np.repeat(np.arange(len(samples)), [s.num_trained for s in samples]),
        constrained=list(_constrained(samples)),
    )


def _constrained(samples: Sequence[Sample]) -> Iterator[ConstrainedCompletion]:
    first_row = 0
    for sample in samples:
        row_of = first_row + np.cumsum(sample.loss_mask) - 1
        for span in sample.grammars:
            part = slice(span.start, span.stop)
            columns = np.flatnonzero(sample.loss_mask[part])
            yield ConstrainedCompletion(
                grammar=span.grammar,
                ids=sample.ids[part],
                columns=columns,
                rows=row_of[part][columns],
            )
        first_row += sample.num_trained


def _advantages(sample: Sample) -> np.ndarray:
    assert sample.advantages is not None, "credit comes before training"
    return sample.advantages


@dataclass(slots=True, kw_only=True)
class TreePlan:
    """One tree: some of the sequences, and what each takes from its left neighbour."""

    rows: list[int]
    """Indices of the sequences, in the order of packing."""
    shared: np.ndarray
    """[len(rows)] int64: tokens that each row shares with the row before it; 0 for the first."""


def plan_trees(
    sequences: Sequence[np.ndarray],
    *,
    max_positions: int,
    branch_cost: float,
    share: bool = True,
    fixed_cost: int = 64,
) -> list[TreePlan]:
    """Plan the trees of a mini-batch; each is one micro-batch.

    Args:
        sequences: token ids [L_i], each of at least 2 tokens. The last token is no input.
        max_positions: bound on the positions of a tree. One above it is computed in pieces, which
            happens to sequences that are longer than the bound.
        branch_cost: overhead of one more branch, in positions. A prefix that saves less than this
            is computed for each sequence.
        share: False: every sequence is computed by itself.
        fixed_cost: overhead of one more micro-batch, in positions.
    """
    order = sorted(range(len(sequences)), key=lambda row: (sequences[row][:-1].tobytes(), row))
    inputs = [sequences[row][:-1] for row in order]
    shared = np.zeros(len(order), dtype=np.int64)
    if share:
        shared[1:] = [common_prefix_length(*pair) for pair in zip(inputs, inputs[1:], strict=False)]
        _drop_small_branches(shared, branch_cost)
    lengths = np.array([len(ids) for ids in inputs], dtype=np.int64)
    plans = []
    for start, end in _cut(lengths, shared, max_positions, fixed_cost):
        part = shared[start:end].copy()
        part[0] = 0
        plans.append(TreePlan(rows=order[start:end], shared=part))
    return plans


def common_prefix_length(a: np.ndarray, b: np.ndarray) -> int:
    """How many ids two sequences have in common from their start."""
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def _drop_small_branches(shared: np.ndarray, branch_cost: float) -> None:
    """Lower entries of `shared` in place where a prefix saves less than it costs.

    Entries of one height between lower ones are one node of the tree. A node is stored once instead
    of once more for each entry. Nodes are closed from the leaves up, because the entries of a node
    that is dropped count for the node above it.
    """
    open_nodes: list[tuple[int, list[int]]] = []
    for index in range(1, len(shared) + 1):
        height = int(shared[index]) if index < len(shared) else 0
        entries = [index] if height else []
        while open_nodes and open_nodes[-1][0] > height:
            top, members = open_nodes.pop()
            below = max(height, open_nodes[-1][0] if open_nodes else 0)
            if len(members) * (top - below) >= branch_cost:
                continue
            shared[members] = below
            if below == height:
                entries += members if below else []
            else:
                open_nodes[-1][1].extend(members)
        if height and open_nodes and open_nodes[-1][0] == height:
            open_nodes[-1][1].extend(entries)
        elif height:
            open_nodes.append((height, entries))


def _cut(
    lengths: np.ndarray, shared: np.ndarray, max_positions: int, fixed_cost: int
) -> list[tuple[int, int]]:
    """The cheapest way to cut the sorted sequences into runs, by dynamic programming.

    A cut costs the prefix that is then computed on both sides. A run above the bound costs more for
    each position, so it is kept together only if its prefixes are long.
    """
    count = len(lengths)
    added = np.concatenate([[0], np.cumsum(lengths - shared)])
    best = np.zeros(count + 1)
    start = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        positions = added[end] - added[:end] + shared[:end]
        cost = np.where(positions <= max_positions, positions, PIECES_COST * positions)
        total = best[:end] + cost + fixed_cost
        start[end] = int(total.argmin())
        best[end] = total[start[end]]
    runs = []
    end = count
    while end:
        runs.append((int(start[end]), end))
        end = int(start[end])
    return runs[::-1]


@dataclass(slots=True, eq=False)
class _Run:
    """A node while the tree is built: the depths from `start` to `end` of sequence `row`."""

    start: int
    end: int
    row: int
    parent: _Run | None = None
    children: list[_Run] = field(default_factory=list)
    size: int = 0
    """Positions of the node and everything below it."""
    at: int = 0
    """Position of its first token."""


def pack_tree(
    inputs: Sequence[np.ndarray], shared: np.ndarray, predictors: Sequence[np.ndarray]
) -> PackedTree:
    """Pack sequences in the order of a plan.

    Args:
        inputs: token ids [L_i] that are computed, without the last token of the sequence.
        shared: [len(inputs)] how many tokens each takes from the one before it.
        predictors: for each sequence, the inputs that predict a trained token.
    """
    roots, ends = _build(inputs, shared)
    order = _preorder(roots)
    for node in reversed(order):
        node.size = node.end - node.start + sum(child.size for child in node.children)
    chains, branches, placed = _place(roots)
    depths = np.concatenate([np.arange(node.start, node.end) for node in placed])
    return PackedTree(
        ids=np.concatenate([inputs[n.row][n.start : n.end] for n in placed]).astype(np.int64),
        depths=depths.astype(np.int64),
        chains=chains,
        branches=branches,
        predictor=np.concatenate(
            [_path(node)[own] for node, own in zip(ends, predictors, strict=True)]
        ),
    )


def _build(inputs: Sequence[np.ndarray], shared: np.ndarray) -> tuple[list[_Run], list[_Run]]:
    """The roots, and for each sequence the node in which it ends."""
    top = _Run(0, 0, -1)
    path = [top]  # from the root to the end of the sequence before
    ends: list[_Run] = []
    for row, ids in enumerate(inputs):
        depth = int(shared[row])
        while len(path) > 1 and path[-1].start >= depth:
            path.pop()
        if path[-1].end > depth:
            path[-1] = _head_of(path[-1], depth)
        if depth < len(ids):
            leaf = _Run(depth, len(ids), row, path[-1])
            path[-1].children.append(leaf)
            path.append(leaf)
        ends.append(path[-1])
    for root in top.children:
        root.parent = None
    return top.children, ends


def _head_of(node: _Run, depth: int) -> _Run:
    """A new node above this one that takes its tokens up to `depth`."""
    assert node.parent is not None
    head = _Run(node.start, depth, node.row, node.parent, [node])
    node.parent.children[-1] = head  # a node that is still extended is the newest child
    node.start, node.parent = depth, head
    return head


def _preorder(roots: list[_Run]) -> list[_Run]:
    """All nodes, each before its children. No recursion: a tree can be as deep as an episode."""
    order, stack = [], list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.children)
    return order


def _place(roots: list[_Run]) -> tuple[list[tuple[int, int]], list[AttentionSpan], list[_Run]]:
    """Chains, branches, and the nodes in the order of their positions."""
    chains: list[tuple[int, int]] = []
    branches: list[AttentionSpan] = []
    placed: list[_Run] = []
    end = 0
    stack = [(root, True) for root in reversed(roots)]
    while stack:
        node, starts_chain = stack.pop()
        chain_start = end if starts_chain else chains[-1][0]
        node.at, end = end, end + node.end - node.start
        if not starts_chain:
            chains.pop()
        chains.append((chain_start, end))
        placed.append(node)
        if node.children:
            largest = max(node.children, key=lambda child: child.size)
            others = [child for child in node.children if child is not largest]
            if others:
                first = end + largest.size
                last = first + sum(child.size for child in others)
                branches.append(AttentionSpan(first, last, chain_start, end, is_causal=False))
            stack.extend((child, True) for child in reversed(others))
            stack.append((largest, False))
    return chains, branches, placed


def _path(node: _Run | None) -> np.ndarray:
    """Positions of all tokens from the root to the end of the node."""
    parts = []
    while node is not None:
        parts.append(np.arange(node.at, node.at + node.end - node.start))
        node = node.parent
    return np.concatenate(parts[::-1])
