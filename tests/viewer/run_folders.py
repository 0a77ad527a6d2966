"""Run folders for the viewer, written by the run's own writers."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ajet.monitor.call_store import CallStore
from ajet.monitor.episode_log import EpisodeLog
from ajet.monitor.metrics_log import MetricsLog
from ajet.monitor.rollout_store import RolloutStore
from ajet.schema.episode import Call, Episode, Failure, Group, Sample
from ajet.schema.task import Task, WorkflowOutput

TOKENIZER = Path(__file__).parents[2] / "ajet/tiny_model/calculator/tokenizer.json"

HOSTILE = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
    " \x1b[31mred\x1b[0m \u202egnirts\u202c \u200bzero \ud800 lone \udfff \x00\r\n{{7*7}} `${1}`"
)
"""Everything that must be shown as text: markup, ANSI, direction marks, lone surrogates."""


def a_call(
    index: int,
    messages: list[dict[str, object]],
    answer: str,
    *,
    agent: str = "solver",
    parent: Call | None = None,
    reason: str | None = None,
    seed: int = 0,
) -> Call:
    """A call with 6 new prompt tokens and 4 sampled ones."""
    rng = np.random.default_rng(1000 * seed + index)
    before = parent.prompt_length + len(parent.completion_ids) if parent else 0
    return Call(
        call_id=f"c{index}",
        index=index,
        agent_name=agent,
        target_tag=agent,
        trained=True,
        parent_id=parent.call_id if parent else None,
        new_timeline=None if parent else (reason or "first_call"),  # type: ignore[arg-type]
        prompt_length=before + 6,
        delta_ids=np.arange(20, 26, dtype=np.int32) + (index if parent else 0),
        completion_ids=rng.integers(20, 200, 4).astype(np.int32),
        logprobs=-rng.exponential(1.0, 4).astype(np.float32),
        policy_versions=np.full(4, 3, np.int32),
        temperature=1.0,
        finish_reason="stop",
        messages=messages,
        response={"role": "assistant", "content": answer},
    )


def an_episode(
    number: int,
    *,
    task: str = "task-1",
    reward: float = 1.0,
    says: str = "It is 42.",
    seed: int = 0,
) -> Episode:
    """Two agents; the solver's second call is asked twice, so its timeline forks."""
    opening: list[dict[str, object]] = [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "What is six times seven?"},
    ]
    tool: list[dict[str, object]] = [{"role": "tool", "name": "calc", "content": "42"}]
    first = a_call(0, opening, "let me see", seed=seed)
    second = a_call(1, tool, says, parent=first, seed=seed)
    again = a_call(2, tool, "Forty-two.", parent=first, seed=seed)
    critic = a_call(3, opening, "Right.", agent="critic", seed=seed)
    calls = [first, second, again, critic]
    identity = f"e-{seed}-{task}-{number}"
    samples = [
        a_sample(identity, task, chain, reward - 0.5)
        for chain in ([first, second], [first, again], [critic])
    ]
    samples[1].loss_mask[: first.prompt_length + 4] = False
    return Episode(
        episode_id=identity,
        task=Task(task_id=task, main_query="What is six times seven?"),
        final_task=Task(task_id=task, main_query="What is six times seven?"),
        repeat_index=number,
        calls=calls,
        samples=samples,
        reward=reward,
        call_rewards=np.full(len(calls), reward),
        is_success=reward > 0.5,
        output=WorkflowOutput(metadata={"judge_reason": "The number is right."}),
        started_s=1000.0,
        ended_s=1002.5,
    )


def a_sample(identity: str, task: str, chain: Sequence[Call], advantage: float) -> Sample:
    """The timeline of calls that continue each other."""
    ids = np.concatenate([piece for c in chain for piece in (c.delta_ids, c.completion_ids)])
    sample = Sample(
        episode_id=identity,
        task_id=task,
        agent_names=tuple(dict.fromkeys(c.agent_name for c in chain)),
        ids=ids,
        loss_mask=np.zeros(len(ids), bool),
        logprobs=np.zeros(len(ids), np.float32),
        call_index=np.full(len(ids), -1, np.int32),
        policy_versions=np.full(len(ids), -1, np.int32),
        temperature=np.ones(len(ids), np.float32),
        advantages=np.zeros(len(ids), np.float32),
    )
    for call in chain:
        here = slice(call.prompt_length, call.prompt_length + len(call.completion_ids))
        sample.loss_mask[here], sample.call_index[here] = True, call.index
        sample.logprobs[here], sample.policy_versions[here] = call.logprobs, call.policy_versions
        assert sample.advantages is not None
        sample.advantages[here] = advantage
    return sample


class RunWriter:
    """Writes steps into a run's folder, as training does."""

    def __init__(self, folder: Path, *, with_tokenizer: bool = True) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._metrics, self._episodes = MetricsLog(folder), EpisodeLog(folder)
        self._rollouts, self._calls = RolloutStore(folder), CallStore(folder)
        write_config(folder)
        write_record(folder)
        if with_tokenizer:
            (folder / "tokenizer").mkdir()
            shutil.copy(TOKENIZER, folder / "tokenizer" / "tokenizer.json")

    def step(self, step: int, groups: Sequence[Group] | None = None) -> list[Group]:
        """Write one training step."""
        groups = groups if groups is not None else [a_group(step, t) for t in ("task-1", "task-2")]
        episodes = [episode for group in groups for episode in group.episodes]
        self._calls.write(step, groups)
        self._rollouts.write(step, episodes)
        self._episodes.write(step, "train", episodes)
        reward = float(np.mean([e.reward for e in episodes if e.reward is not None]))
        self._metrics.write(
            step,
            {"reward/mean": reward, "policy/loss": -0.1 / step, "time/rollout_s": 2.0},
        )
        return groups


def a_group(step: int, task: str) -> Group:
    """Three episodes that differ in reward, and one that failed."""
    episodes = [an_episode(n, task=task, reward=n / 2, seed=step) for n in range(3)]
    failure = Failure(kind="workflow_error", message="ValueError: no", traceback="Traceback: no")
    failed = Episode(
        episode_id=f"e-{step}-{task}-3", task=Task(task_id=task), repeat_index=3, failure=failure
    )
    return Group(task=Task(task_id=task), episodes=[*episodes, failed])


def write_config(folder: Path, lr: float = 1e-4) -> None:
    """A resolved configuration, with secrets in it."""
    (folder / "config.yaml").write_text(
        "ajet:\n  project_name: demo\n  backbone: local\n"
        "  model: {path: /models/tiny}\n"
        f"  trainer_common: {{total_training_steps: 9, optim: {{lr: {lr}}}}}\n"
        "  task_runner:\n    services:\n"
        "    - {name: bank, env: {BANK_KEY: hush-1}}\n"
        "  judge: {api_key: hush-2, model: gpt}\n"
    )


def write_record(folder: Path, outcome: str = "finished") -> None:
    """A `run.json` of a process that is gone."""
    process = {
        "pid": 4_000_000,
        "start_ticks": 1,
        "started_at": "2026-01-02T03:04:05+00:00",
        "ended_at": None if outcome == "running" else "2026-01-02T04:04:05+00:00",
        "outcome": outcome,
        "command": ["ajet", "--conf", "x.yaml", "ajet.judge.api_key=hush-3"],
        "host": platform.node(),
        "python": "3.11.7",
        "versions": {"torch": "2.13.0"},
        "git_revision": "0123456789abcdef",
        "services": [],
    }
    (folder / "run.json").write_text(json.dumps({"processes": [process]}))
