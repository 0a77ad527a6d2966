"""Samples as rows of verl's queue: a prompt and a response, in the order of ranks and updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from ajet.errors import TrainingError
from ajet.schema.sample import Sample
from ajet.training.updates import WeightedSample

Row = dict[str, torch.Tensor]


def arrange(
    parts: Sequence[Sequence[WeightedSample]], num_ranks: int
) -> tuple[list[WeightedSample | None], int]:
    """The order in which verl finds each update's samples on each rank, and how many it takes.

    verl cuts the rows into one piece a rank and each piece into updates of equal length. None is
    a row of padding. The samples are dealt out by length, so that the ranks have like work.

    Returns:
        All rows, and the number of them in one update, all ranks together.
    """
    dealt = []
    for part in parts:
        by_length = sorted(part, key=lambda weighted: -len(weighted[0]))
        dealt.append([by_length[rank::num_ranks] for rank in range(num_ranks)])
    size = max(len(rows) for part in dealt for rows in part)
    order: list[WeightedSample | None] = []
    for rank in range(num_ranks):
        for part_rows in dealt:
            rows = part_rows[rank]
            order += [*rows, *[None] * (size - len(rows))]
    return order, size * num_ranks


def table(rows: Sequence[WeightedSample | None], temperature: float) -> TensorDict:
    """The fields of the rows, each nested [number of rows, length].

    Raises:
        TrainingError: a token was sampled at another temperature than `temperature`.
    """
    filled = [_padding() if row is None else _row(*row, temperature) for row in rows]
    fields: dict[str, Any] = {
        name: torch.nested.as_nested_tensor([row[name] for row in filled], layout=torch.jagged)
        for name in filled[0]
    }
    return TensorDict(fields, batch_size=[len(filled)])


def _row(sample: Sample, weights: np.ndarray, temperature: float) -> Row:
    _check_temperature(sample, temperature)
    prompt = int(sample.loss_mask.argmax())
    assert prompt > 0, "nothing is sampled without a prompt"
    ids = torch.from_numpy(sample.ids.astype(np.int64))
    mask = torch.from_numpy(sample.loss_mask[prompt:].astype(np.int64))
    credit = {"advantages": sample.advantages, "rewards": sample.rewards}
    given = {name: array for name, array in credit.items() if array is not None}
    assert given, "samples are trained after credit was given"
    return {
        **{name: torch.from_numpy(array[prompt:]) for name, array in given.items()},
        "prompts": ids[:prompt],
        "responses": ids[prompt:],
        "input_ids": ids,
        "position_ids": torch.arange(len(ids)),
        "response_mask": mask,
        "loss_mask": mask,
        "rollout_log_probs": torch.from_numpy(sample.logprobs[prompt:]),
        "loss_weights": torch.from_numpy(weights[prompt:]),
    }


def _padding() -> Row:
    """Two tokens, neither trained nor counted."""
    nothing, zero = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
    return {
        "prompts": nothing,
        "responses": nothing,
        "input_ids": torch.zeros(2, dtype=torch.int64),
        "position_ids": torch.arange(2),
        "response_mask": nothing,
        "loss_mask": nothing,
        "rollout_log_probs": zero,
        "advantages": zero,
        "rewards": zero,
        "loss_weights": zero,
    }


def _check_temperature(sample: Sample, temperature: float) -> None:
    used = sample.temperature[sample.loss_mask]
    other = used[~np.isclose(used, temperature)]
    if len(other):
        raise TrainingError(
            f"task {sample.task_id}: tokens were sampled at temperature {other[0]:g}, but verl "
            f"trains at ajet.rollout.temperature ({temperature:g}) only; let the workflow's "
            "requests name no other temperature"
        )
