"""Turns samples into a batch for verl: rows of prompt and response, ordered by rank and update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from ajet.errors import TrainingError
from ajet.schema.episode import Sample
from ajet.training.updates import WeightedSample

Row = dict[str, torch.Tensor]


def arrange(
    parts: Sequence[Sequence[WeightedSample]], num_ranks: int
) -> tuple[list[WeightedSample | None], int]:
    """Order the samples so that verl finds each update's samples on each rank.

    verl cuts a batch into one contiguous part per rank and each part into updates of equal size.
    Samples are dealt to the ranks by length, so that all ranks have similar work.

    Args:
        parts: the samples of each update.
        num_ranks: the number of ranks among which verl divides the batch.

    Returns:
        The rows, where None is padding, and the number of rows per update over all ranks.
    """
    by_rank = []
    for part in parts:
        by_length = sorted(part, key=lambda weighted: -len(weighted[0]))
        by_rank.append([by_length[rank::num_ranks] for rank in range(num_ranks)])
    size = max(len(rows) for part in by_rank for rows in part)
    order: list[WeightedSample | None] = []
    for rank in range(num_ranks):
        for part_rows in by_rank:
            rows = part_rows[rank]
            order += [*rows, *[None] * (size - len(rows))]
    return order, size * num_ranks


def make_batch(rows: Sequence[WeightedSample | None], temperature: float) -> TensorDict:
    """Build verl's fields of a batch; each is a nested tensor [rows, length].

    Raises:
        TrainingError: a token was sampled at another temperature than `temperature`.
    """
    filled = [_padding() if row is None else _row(*row, temperature) for row in rows]
    fields: dict[str, Any] = {
        name: torch.nested.as_nested_tensor([row[name] for row in filled], layout=torch.jagged)
        for name in filled[0]
    }
    return TensorDict(fields, batch_size=[len(filled)])


def keep_logprobs(rows: Sequence[WeightedSample | None], logprobs: torch.Tensor) -> None:
    """Give each sample the trainer's logprobs of its tokens.

    Args:
        rows: as `arrange` returns them.
        logprobs: [T] of the response tokens of all rows, concatenated.
    """
    values, start = logprobs.float().cpu().numpy(), 0
    for row in rows:
        if row is None:
            start += 1  # padding has one response token
            continue
        mask = row[0].loss_mask[int(row[0].loss_mask.argmax()) :]
        row[0].keep_trainer_logprobs(values[start : start + len(mask)][mask])
        start += len(mask)
    assert start == len(values), "the rows have other tokens than were computed"


def _row(sample: Sample, weights: np.ndarray, temperature: float) -> Row:
    _check_temperature(sample, temperature)
    prompt = int(sample.loss_mask.argmax())
    assert prompt > 0, "a sampled token always follows a prompt"
    ids = torch.from_numpy(sample.ids.astype(np.int64))
    mask = torch.from_numpy(sample.loss_mask[prompt:].astype(np.int64))
    credit = {"advantages": sample.advantages, "rewards": sample.rewards}
    given = {name: array for name, array in credit.items() if array is not None}
    assert given, "a sample needs advantages or rewards before it is trained"
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
    """A row of two tokens that are neither trained nor counted."""
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
            f"trains at ajet.rollout.temperature ({temperature:g}) only; remove the temperature "
            "from the workflow's requests"
        )
