"""Converts a step's episodes with all their calls to an Arrow table and back, one row per episode.

The table has what a replay needs: the task as the workflow left it, the workflow's output, the
rewards, and the ids, logprobs and messages of every call. It has no times, so equal runs make equal
files. The column `not_stored` names values of the task or output that JSON cannot hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ajet.monitor.step_tables import list_offsets, token_arrays, token_column
from ajet.schema.episode import Call, Episode, Failure, Group
from ajet.schema.task import Task, WorkflowOutput

_CALL_FIELDS: dict[str, pa.DataType] = {
    "call_id": pa.string(),
    "index": pa.int32(),
    "agent_name": pa.string(),
    "target_tag": pa.string(),
    "trained": pa.bool_(),
    "parent_id": pa.string(),
    "new_timeline": pa.string(),
    "prompt_length": pa.int32(),
    "temperature": pa.float64(),
    "finish_reason": pa.string(),
    "grammar": pa.string(),
    "failed_checks": pa.list_(pa.string()),
}
_CALL_JSON = ("messages", "tools", "response")
_CALL_ARRAYS: dict[str, tuple[pa.DataType, type[np.generic]]] = {
    "delta_ids": (pa.int32(), np.int32),
    "completion_ids": (pa.int32(), np.int32),
    "logprobs": (pa.float32(), np.float32),
    "policy_versions": (pa.int32(), np.int32),
}

_LOST = object()
"""Stands for a value that JSON cannot hold."""


@dataclass(slots=True, kw_only=True)
class StoredStep:
    """The episodes of one training step."""

    groups: list[Group] = field(default_factory=list)
    """The groups that were trained on, in order; their episodes have no samples yet."""
    discarded: list[Group] = field(default_factory=list)
    """The groups that dynamic sampling discarded."""
    not_stored: dict[str, list[str]] = field(default_factory=dict)
    """Episode id -> paths of values that JSON cannot hold: `output.metadata.environment`."""

    @property
    def episodes(self) -> list[Episode]:
        """The episodes of all groups, discarded ones included."""
        return [e for group in [*self.groups, *self.discarded] for e in group.episodes]


def table_of_groups(groups: Sequence[Group], discarded: Sequence[Group]) -> pa.Table:
    """One row per episode, in the order of the groups and of their episodes."""
    numbered = list(enumerate([*groups, *discarded]))
    rows = [(number, episode) for number, group in numbered for episode in group.episodes]
    episodes = [episode for _, episode in rows]
    given = [_given(episode) for episode in episodes]
    failures = [episode.failure for episode in episodes]
    return pa.table(
        {
            "group": pa.array([number for number, _ in rows], pa.int32()),
            "is_discarded": pa.array([number >= len(groups) for number, _ in rows], pa.bool_()),
            "episode_id": pa.array([e.episode_id for e in episodes], pa.string()),
            "repeat_index": pa.array([e.repeat_index for e in episodes], pa.int32()),
            "task": pa.array([task for task, _, _ in given], pa.string()),
            "output": pa.array([output for _, output, _ in given], pa.string()),
            "not_stored": pa.array([lost for _, _, lost in given], pa.list_(pa.string())),
            "reward": pa.array([e.reward for e in episodes], pa.float64()),
            "reward_per": pa.array([e.reward_per for e in episodes], pa.string()),
            "call_rewards": token_column([e.call_rewards for e in episodes], pa.float64()),
            "is_success": pa.array([e.is_success for e in episodes], pa.bool_()),
            "failure": pa.array([f.kind if f else None for f in failures], pa.string()),
            "cause": pa.array([_utf8(f.message) if f else None for f in failures], pa.string()),
            "debug_calls": pa.array([json.dumps(e.debug_calls) for e in episodes], pa.string()),
            "calls": _calls_column([episode.calls for episode in episodes]),
        }
    )


def step_of(table: pa.Table) -> StoredStep:
    """The inverse of `table_of_groups`."""
    step, groups = StoredStep(), dict[int, Group]()
    calls = _calls_of(table.column("calls").combine_chunks())
    call_rewards = token_arrays(table.column("call_rewards").combine_chunks(), np.float64)
    rows = table.drop_columns(["calls", "call_rewards"]).to_pylist()
    for row, its_calls, rewards in zip(rows, calls, call_rewards, strict=True):
        episode = _episode(row, its_calls, rewards)
        group = groups.get(row["group"])
        if group is None:
            group = groups[row["group"]] = Group(task=episode.task)
            (step.discarded if row["is_discarded"] else step.groups).append(group)
        group.episodes.append(episode)
        if row["not_stored"]:
            step.not_stored[episode.episode_id] = row["not_stored"]
    return step


def _given(episode: Episode) -> tuple[str, str, list[str]]:
    """Task and output as JSON, and the paths of values that are missing there."""
    # A workflow may assign any object to `workflow_task.task`.
    task = episode.final_task if isinstance(episode.final_task, Task) else episode.task
    task_json, lost_of_task = _stored_json(dict(task))
    output_json, lost_of_output = _stored_json(dict(episode.output))
    lost = [f"task.{path}" for path in lost_of_task]
    lost += [f"output.{path}" for path in lost_of_output]
    return task_json, output_json, [_utf8(path) for path in lost]


def _utf8(text: str) -> str:
    """The text with escapes for what UTF-8 cannot hold, such as an undecodable file name."""
    return text.encode(errors="backslashreplace").decode()


def _episode(row: dict[str, Any], calls: list[Call], call_rewards: np.ndarray | None) -> Episode:
    # Without validation: a workflow may have assigned values of other types.
    task = Task.model_construct(**json.loads(row["task"]))
    output = WorkflowOutput.model_construct(**json.loads(row["output"]))
    failure = row["failure"] and Failure(kind=row["failure"], message=row["cause"])
    return Episode(
        episode_id=row["episode_id"],
        task=task,
        final_task=task,
        repeat_index=row["repeat_index"],
        calls=calls,
        output=output,
        metadata=output.metadata,
        reward=row["reward"],
        reward_per=row["reward_per"],
        call_rewards=call_rewards,
        debug_calls=json.loads(row.get("debug_calls") or "{}"),
        is_success=row["is_success"],
        failure=failure,
    )


def _calls_column(calls_of_episodes: Sequence[list[Call]]) -> pa.Array:
    calls = [call for calls in calls_of_episodes for call in calls]
    columns = {
        name: pa.array([getattr(call, name) for call in calls], arrow_type)
        for name, arrow_type in _CALL_FIELDS.items()
    }
    for name in _CALL_JSON:
        texts = [json.dumps(getattr(call, name)) for call in calls]
        columns[name] = pa.array(texts, pa.string())
    for name, (arrow_type, _) in _CALL_ARRAYS.items():
        columns[name] = token_column([getattr(call, name) for call in calls], arrow_type)
    structs = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    return pa.ListArray.from_arrays(list_offsets([len(c) for c in calls_of_episodes]), structs)


def _calls_of(lists: pa.ListArray) -> Iterable[list[Call]]:
    structs, bounds = lists.values, lists.offsets.to_pylist()
    # A file of an earlier version lacks columns for which `Call` has a default.
    present = [name for name in _CALL_FIELDS if structs.type.get_field_index(name) >= 0]
    columns: dict[str, list[Any]] = {name: structs.field(name).to_pylist() for name in present}
    for name in _CALL_JSON:
        columns[name] = [json.loads(text) for text in structs.field(name).to_pylist()]
    for name, (_, dtype) in _CALL_ARRAYS.items():
        columns[name] = token_arrays(structs.field(name), dtype)
    rows = zip(*columns.values(), strict=True)
    calls = [Call(**dict(zip(columns, row, strict=True))) for row in rows]
    return [calls[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _stored_json(values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The values as JSON, and the paths of those left out, such as `metadata.environment`.

    Never fails: writing a record must not end a run. A mapping keeps the entries that JSON can
    hold.
    """
    lost: list[str] = []
    kept = {}
    for name, value in values.items():
        if isinstance(value, dict):
            # A copy: the thread of an abandoned workflow may still change the mapping.
            entries = list(value.items())
            kept[name] = _without_lost({k: _kept(v, f"{name}.{k}", lost) for k, v in entries})
        else:
            kept[name] = _kept(value, name, lost)
    return json.dumps(_without_lost(kept)), lost


def _kept(value: Any, path: str, lost: list[str]) -> Any:
    try:
        return json.loads(json.dumps(value))
    # RuntimeError: nested too deep, or changed by another thread during the dump.
    except (TypeError, ValueError, RuntimeError):
        lost.append(path)
        return _LOST


def _without_lost(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items() if value is not _LOST}
