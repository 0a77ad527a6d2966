"""Converts samples to an Arrow table and back, without a Python object per token.

Additional columns are for readers and viewers: the episode's `repeat_index`, `reward` and
`is_success` (null: failed); `call_spans`, which name for the trained tokens from `start` to `end`
the call and agent that sampled them, and the call that it continued or why it continued none;
`messages`, the sample's conversation as JSON; and `judge`, the judge's reasons as JSON or null.
Two columns are there only where they are needed: `grammars`, the completions that had to match a
grammar, and `trainer_logprobs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ajet.monitor.step_tables import token_arrays, token_column
from ajet.schema.episode import Call, Episode, GrammarSpan, Sample, conversation

TOKEN_COLUMNS: dict[str, tuple[pa.DataType, type[np.generic]]] = {
    "ids": (pa.int32(), np.int32),
    "loss_mask": (pa.bool_(), np.bool_),
    "logprobs": (pa.float32(), np.float32),
    "call_index": (pa.int32(), np.int32),
    "policy_versions": (pa.int32(), np.int32),
    "temperature": (pa.float32(), np.float32),
    "advantages": (pa.float32(), np.float32),
}
"""Array of a sample -> its type in the table and its numpy type."""

SPAN = pa.struct(
    [("start", pa.int32()), ("end", pa.int32())]
    + [(name, pa.string()) for name in ("agent", "call_id", "parent_id", "new_timeline")]
)


GRAMMAR = pa.struct([("grammar", pa.string()), ("start", pa.int32()), ("stop", pa.int32())])


def table_of(episodes: Iterable[Episode]) -> pa.Table:
    """One row per sample, in the order of the episodes and of their samples."""
    rows = [(episode, sample) for episode in episodes for sample in episode.samples]
    samples = [sample for _, sample in rows]
    columns = {
        "episode_id": pa.array([s.episode_id for s in samples], pa.string()),
        "task_id": pa.array([s.task_id for s in samples], pa.string()),
        "repeat_index": pa.array([e.repeat_index for e, _ in rows], pa.int32()),
        "agent_names": pa.array([s.agent_names for s in samples], pa.list_(pa.string())),
        "reward": pa.array([e.reward for e, _ in rows], pa.float64()),
        "is_success": pa.array([e.is_success for e, _ in rows], pa.bool_()),
        "judge": pa.array([_reasons(e) for e, _ in rows], pa.string()),
        "call_spans": pa.array([_spans(e, s) for e, s in rows], pa.list_(SPAN)),
        "messages": pa.array([_messages(e, s) for e, s in rows], pa.string()),
    }
    for name, (arrow_type, _) in TOKEN_COLUMNS.items():
        columns[name] = token_column([getattr(s, name) for s in samples], arrow_type)
    if any(sample.grammars for sample in samples):
        spans = [[asdict(span) for span in sample.grammars] for sample in samples]
        columns["grammars"] = pa.array(spans, pa.list_(GRAMMAR))
    if any(sample.trainer_logprobs is not None for sample in samples):
        # For viewers: a replay computes them again.
        of_trainer = [sample.trainer_logprobs for sample in samples]
        columns["trainer_logprobs"] = token_column(of_trainer, pa.float32())
    return pa.table(columns)


def samples_of(table: pa.Table) -> list[Sample]:
    """The inverse of `table_of`."""
    plain = {
        name: table.column(name).to_pylist() for name in ("episode_id", "task_id", "agent_names")
    }
    arrays = {
        name: token_arrays(table.column(name).combine_chunks(), dtype)
        for name, (_, dtype) in TOKEN_COLUMNS.items()
    }
    has_grammars = "grammars" in table.column_names
    grammars = table.column("grammars").to_pylist() if has_grammars else [()] * table.num_rows
    return [
        Sample(
            episode_id=plain["episode_id"][row],
            task_id=plain["task_id"][row],
            agent_names=tuple(plain["agent_names"][row]),
            grammars=tuple(GrammarSpan(**span) for span in grammars[row]),
            **{name: column[row] for name, column in arrays.items()},
        )
        for row in range(table.num_rows)
    ]


def _reasons(episode: Episode) -> str | None:
    """The judge's reasons as JSON; None without any."""
    reasons = episode.judge_reasons
    return None if reasons is None else json.dumps(reasons)


def _spans(episode: Episode, sample: Sample) -> list[dict[str, Any]]:
    """The spans of consecutive trained tokens that one call sampled."""
    calls, index = _by_index(episode), sample.call_index
    bounds = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    runs = [
        (start, end, calls[int(index[start])])
        for start, end in pairwise(bounds)
        if start < end and index[start] >= 0
    ]
    return [
        {
            "start": start,
            "end": end,
            "agent": call.agent_name,
            "call_id": call.call_id,
            "parent_id": call.parent_id,
            "new_timeline": call.new_timeline,
        }
        for start, end, call in runs
    ]


def _messages(episode: Episode, sample: Sample) -> str:
    """The conversation of the last call in the sample, as JSON."""
    sampled = sample.call_index[sample.loss_mask]
    last = [_by_index(episode)[int(index)] for index in sampled[-1:]]
    return json.dumps([message for call in last for message in conversation(episode.calls, call)])


def _by_index(episode: Episode) -> dict[int, Call]:
    return {call.index: call for call in episode.calls}
