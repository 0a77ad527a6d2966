"""Checks the tasks of a run, and counts the episodes that it will have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ajet.algorithm.credit import credit_rule
from ajet.config.backbones import backbone_entry
from ajet.config.loading.agentjet import differing_defaults, looks_like_agentjet
from ajet.config.loading.agentjet_keys import MARK
from ajet.config.reference import default_of
from ajet.config.sections.root import AjetConfig
from ajet.diagnostics.finding import Finding
from ajet.schema.episode import Call, Episode, Group, Sample
from ajet.schema.task import Task

MOST_COMPARED = 20_000
"""Training tasks that are compared with the validation tasks: a source may have a million."""
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
    if empty and not ajet.environment.type:  # an environment's first observation is the query
        text = f"{len(empty)} training tasks have neither a query nor messages: {empty[0]}, ..."
        remedy = "check the settings of ajet.task_reader, for example query_key"
        yield Finding("warn", "data", text, remedy)
    if not validation:
        text = "there are no validation tasks, so success is measured on training tasks only"
        yield Finding("warn", "data", text)
    yield from _known_tasks(training, validation)
    size = ajet.data.train_batch_size
    if len(training) < size:
        yield Finding(
            "warn",
            "data",
            f"a step has {size} tasks but there are only {len(training)}, so some repeat in a step",
            f"set ajet.data.train_batch_size to {len(training)} or less, or add tasks",
        )


def _known_tasks(training: Sequence[Task], validation: Sequence[Task]) -> Iterator[Finding]:
    """Validation tasks that are training tasks as well, whatever their ids are."""
    asked = {_content(task): task.task_id for task in validation}
    compared = training[:MOST_COMPARED]
    known = {key: asked[key] for key in map(_content, compared) if key in asked}
    if known:
        first = next(iter(known.values()))
        of = "" if len(compared) == len(training) else f" (compared with {len(compared):,})"
        yield Finding(
            "warn",
            "data",
            f"{len(known):,} of {len(asked):,} validation tasks are training tasks, too{of}, for "
            f"example {first}: their results say how well the model remembers",
            "split the tasks, for example by task_reader's settings of training and validation",
        )


def _content(task: Task) -> str:
    """What the agent sees of a task; its id where that is nothing, as with many environments."""
    if not task.main_query.strip() and not task.init_messages:
        return f"{task.env_type} {task.task_id}"
    return json.dumps([task.main_query, task.init_messages, task.env_type], default=str)


def credit_of_one_episode(ajet: AjetConfig) -> Iterator[Finding]:
    """Whether anything can be learned where a group is a single episode.

    Raises:
        ConfigError: the estimator cannot be loaded.
    """
    name = ajet.trainer_common.algorithm.adv_estimator
    if ajet.rollout.num_repeat > 1 or not backbone_entry(ajet.backbone).trains:
        return
    rule = credit_rule(name)
    if rule.needs_critic:
        return
    report = rule([_group_of_one(number, reward) for number, reward in enumerate((0.0, 1.0))])
    if report.zero_variance_groups == report.num_groups:
        yield Finding(
            "bad",
            "configuration",
            f"rollout.num_repeat is 1, and {name} compares the episodes of one task with each "
            "other: no step would have a gradient",
            "set rollout.num_repeat to 2 or more; 8 is usual",
        )


def _group_of_one(number: int, reward: float) -> Group:
    """A group with one episode of one call, which samples one token."""
    name, task = f"check-{number}", Task(task_id=f"check-{number}")
    one, two = np.ones(1, np.float32), np.ones(2, np.float32)
    call = Call(
        call_id=name,
        index=0,
        agent_name="agent",
        target_tag="agent",
        trained=True,
        parent_id=None,
        new_timeline="first_call",
        prompt_length=1,
        delta_ids=np.zeros(1, np.int32),
        completion_ids=np.zeros(1, np.int32),
        logprobs=-one,
        policy_versions=np.zeros(1, np.int32),
        temperature=1.0,
        finish_reason="stop",
    )
    sample = Sample(
        episode_id=name,
        task_id=name,
        agent_names=("agent",),
        ids=np.zeros(2, np.int32),
        loss_mask=np.array([False, True]),
        logprobs=-two,
        call_index=np.array([-1, 0], np.int32),
        policy_versions=np.array([-1, 0], np.int32),
        temperature=two,
    )
    episode = Episode(
        episode_id=name,
        task=task,
        repeat_index=0,
        calls=[call],
        samples=[sample],
        reward=reward,
        call_rewards=np.array([reward]),
    )
    return Group(task=task, episodes=[episode])


def episodes_of_run(steps: int, num_validation: int, ajet: AjetConfig) -> Finding:
    """How many steps and episodes the run will have."""
    if not backbone_entry(ajet.backbone).trains:
        return Finding("ok", "episodes", f"one for each of the first {ajet.debug.num_tasks} tasks")
    common, rollout = ajet.trainer_common, ajet.rollout
    size, repeat = ajet.data.train_batch_size, rollout.num_repeat
    of_steps = f"{steps:,} step{'s' if steps != 1 else ''} of {size} tasks x {repeat} episodes"
    text = f"{of_steps} are {steps * size * repeat:,}"
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
