"""Checks the tasks of a run, and counts the episodes that it will have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ajet.config.backbones import backbone_entry
from ajet.config.loading.agentjet import differing_defaults, looks_like_agentjet
from ajet.config.loading.agentjet_keys import MARK
from ajet.config.reference import default_of
from ajet.config.sections.root import AjetConfig
from ajet.diagnostics.finding import Finding
from ajet.schema.task import Task

QUERY_SHOWN = 60
"""How many characters of the first task's query are shown."""


def look_at_tasks(
    training: Sequence[Task], validation: Sequence[Task], ajet: AjetConfig
) -> Iterator[Finding]:
    """Findings about the tasks: how many there are, the first one, and tasks without a query."""
    task = training[0]
    query = " ".join(task.main_query.split())
    shown = query if len(query) <= QUERY_SHOWN else f"{query[:QUERY_SHOWN]}..."
    text = f"{len(training):,} training tasks, {len(validation):,} for validation"
    yield Finding("ok", "data", f'{text}; the first, {task.task_id}: "{shown}"')
    empty = [t.task_id for t in training if not t.main_query.strip() and not t.init_messages]
    if empty:
        text = f"{len(empty)} training tasks have neither a query nor messages: {empty[0]}, ..."
        remedy = "check the settings of ajet.task_reader, for example query_key"
        yield Finding("warn", "data", text, remedy)
    if not validation:
        text = "there are no validation tasks, so success is measured on training tasks only"
        yield Finding("warn", "data", text)
    size = ajet.data.train_batch_size
    if len(training) < size:
        yield Finding(
            "warn",
            "data",
            f"a step has {size} tasks but there are only {len(training)}, so some repeat in a step",
            f"set ajet.data.train_batch_size to {len(training)} or less, or add tasks",
        )


def episodes_of_run(steps: int, num_validation: int, ajet: AjetConfig) -> Finding:
    """How many steps and episodes the run will have."""
    if not backbone_entry(ajet.backbone).trains:
        return Finding("ok", "episodes", f"one for each of the first {ajet.debug.num_tasks} tasks")
    common, rollout = ajet.trainer_common, ajet.rollout
    size, repeat = ajet.data.train_batch_size, rollout.num_repeat
    text = f"{steps:,} steps of {size} tasks x {repeat} episodes are {steps * size * repeat:,}"
    if num_validation:
        every = common.test_freq or steps
        times = steps // every + bool(steps % every) + common.val_before_train
        passes = 2 if rollout.validation.greedy else 1
        text += (
            f"; {times} evaluations of {num_validation} tasks, {passes} each, are "
            f"{times * num_validation * passes:,}"
        )
    return Finding("ok", "episodes", text)


def other_defaults(data: dict[str, Any]) -> list[Finding]:
    """One warning with every such default; nothing for a file that is not of AgentJet.

    Args:
        data: what the file says, before it is resolved.
    """
    if not looks_like_agentjet(data):
        return []
    lines = [
        f"{key}: {default_of(key.removeprefix('ajet.'))} here, {json.dumps(value)} in AgentJet"
        for key, value in differing_defaults(data)
    ]
    text = "the file has settings of AgentJet, whose defaults differ in keys that it leaves out"
    remedy = f"`defaults: [{MARK}]` at the top level of the file takes those of AgentJet"
    return [Finding("warn", "defaults", text, "\n".join([*lines, remedy]))] if lines else []
