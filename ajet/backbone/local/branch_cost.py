"""What one more branch in a packed tree costs, in positions: the constant of the plan's cost model.

A branch adds a few small kernel calls to each layer. A large model needs about as long for a few
positions, and a tiny one for tens of them.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.backbone.local.forward import trained_hidden
from ajet.backbone.local.micro_batches import PackedTree, pack_tree
from ajet.backbone.local.tree_attention import tree_attention

# Of one thread of a server's CPU, and of an H100 in bfloat16.
_SECONDS_PER_LAYER = {"cpu": 2e-4, "cuda": 1e-4}
_FLOPS_PER_SECOND = {"cpu": 5e10, "cuda": 3e14}

_ROUNDS = 5


def branch_cost(model: PreTrainedModel, setting: float | Literal["estimate", "measure"]) -> float:
    """The cost in positions: as it is set, estimated from the model's size, or measured now.

    The estimate is the default because it is always the same: a plan that depends on a measurement
    can differ between two runs, and with it the last digits of all results.
    """
    if setting == "measure":
        return _measured(model)
    if setting == "estimate":
        return _estimated(model)
    return float(setting)


def _estimated(model: PreTrainedModel) -> float:
    kind = model.device.type if model.device.type in _FLOPS_PER_SECOND else "cuda"
    config = model.config.get_text_config()
    embeddings = 2 * int(config.vocab_size) * int(config.hidden_size)
    per_layer = max(1, model.num_parameters() - embeddings) / int(config.num_hidden_layers)
    # Two operations for each weight, and twice as many in the backward pass.
    seconds_per_position = 6 * per_layer / _FLOPS_PER_SECOND[kind]
    return max(1.0, _SECONDS_PER_LAYER[kind] / seconds_per_position)


def _measured(model: PreTrainedModel, *, length: int = 64, branches: int = 8) -> float:
    """Seconds of one more branch over seconds of one more position."""
    one, two = _chain(length), _chain(2 * length)
    forked = _fork(length, branches)
    _seconds(model, two)  # the first pass allocates memory
    rounds = [[_seconds(model, tree) for tree in (one, two, forked)] for _ in range(_ROUNDS)]
    # The fastest of each: other programs on the machine only ever make a pass slower.
    short, longer, fork = (min(each[kind] for each in rounds) for kind in range(3))
    if longer <= short:  # a machine that is too busy to measure anything
        return _estimated(model)
    return max(1.0, (fork - short) / branches / ((longer - short) / length))


def _chain(length: int) -> PackedTree:
    ids = np.arange(length) % 7
    return pack_tree([ids], np.zeros(1, dtype=np.int64), [np.arange(length)])


def _fork(length: int, branches: int) -> PackedTree:
    """As many positions as a chain of this length, on a trunk with branches at different depths."""
    own = length // (2 * (branches + 1))
    trunk = np.zeros(length - branches * own, dtype=np.int64)
    depths = [len(trunk) // 2 - index for index in range(branches)]
    rows = [trunk, *(np.append(trunk[:depth], np.ones(own, np.int64)) for depth in depths)]
    return pack_tree(
        rows, np.array([0, *depths]), [np.arange(len(row) - own, len(row)) for row in rows]
    )


def _seconds(model: PreTrainedModel, tree: PackedTree) -> float:
    started = time.perf_counter()
    with tree_attention(model):
        trained_hidden(model, tree).sum().backward()  # type: ignore[no-untyped-call]
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    for parameter in model.parameters():
        parameter.grad = None
    return seconds
