"""How far a judge can be trusted: measured on labelled samples, or on the episodes of a run.

The judge is asked as in a run. Repeats ask the same questions again, each with kept answers of its
own; orders ask with another seed (`relative`) or with the criteria in another order (`rubric`).
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError, DataError
from ajet.model_client import PLACE
from ajet.monitor.call_store import call_path, read_calls, recorded_steps
from ajet.replay.agreement import Estimate, kappa, mean, ranks, share, spearman
from ajet.replay.rescore import Rescorer, may_be_judged
from ajet.schema.episode import Episode, Group
from ajet.schema.task import Task, WorkflowOutput
from ajet.task_judge import make_judge
from ajet.task_judge.judge_prompt import answer_of

SAMPLES_APART = 1000
"""Between the sample numbers of two repeats; more than a judge has votes."""


@dataclass(slots=True, kw_only=True)
class Labelled:
    """Episodes with the rewards that they should get."""

    groups: list[Group]
    labels: dict[str, float | None]
    """Episode id -> label; None: it has none."""
    source: str
    num_left_out: int = 0
    """Episodes of a run that no judge decided on: they failed before, or failed a check."""


@dataclass(slots=True, kw_only=True)
class JudgeReport:
    """What is measured of a judge."""

    judge: str
    source: str
    num_episodes: int
    failures: dict[str, int]
    """Message of a failed judgement -> how often."""
    estimates: dict[str, Estimate]
    cost: dict[str, float]
    """Means for one episode and one repeat."""
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "judge": self.judge,
            "source": self.source,
            "episodes": self.num_episodes,
            "failures": self.failures,
            **{name: estimate.as_json() for name, estimate in self.estimates.items()},
            "cost_per_episode": self.cost,
            "notes": self.notes,
        }


def read_labelled(path: Path) -> Labelled:
    """Read labelled samples: JSON lines with `main_query`, `metadata`, and a label.

    The agent's answer is `final_answer` and the label `score` (a number, or true and false), each
    at the top or in the metadata. Samples with the same query are one group.

    Raises:
        DataError: a line is not such a sample.
    """
    groups: dict[str, Group] = {}
    labels: dict[str, float | None] = {}
    # Not `splitlines`: texts in JSON may contain what it takes for the end of a line.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            metadata = dict(row.get("metadata") or {})
            query, answer = str(row["main_query"]), row.get("final_answer")
            answer = metadata.pop("final_answer", None) if answer is None else answer
            score = row["score"] if "score" in row else metadata.pop("score")
            label = float(score)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"{path}:{number}: expected a JSON object with main_query, final_answer and score"
            ) from None
        task = Task(main_query=query, metadata=metadata, task_id=str(row.get("task_id", "")))
        task.task_id = task.task_id or task.content_id()
        group = groups.setdefault(query, Group(task=task))
        episode = Episode(
            episode_id=f"line-{number}",
            task=task,
            final_task=task,
            repeat_index=len(group.episodes),
            output=WorkflowOutput(metadata={"final_answer": answer}),
        )
        group.episodes.append(episode)
        labels[episode.episode_id] = label
    if not groups:
        raise DataError(f"{path} has no labelled sample")
    return Labelled(groups=list(groups.values()), labels=labels, source=str(path))


def read_run(run_folder: Path, step: int | None) -> Labelled:
    """The episodes of one step of a run, or of all; their labels are the recorded rewards.

    Episodes that no judge decides on are left out.

    Raises:
        DataError: no such step is recorded, or it has no episode for a judge.
    """
    steps = recorded_steps(run_folder)
    chosen = steps if step is None else [each for each in steps if each == step]
    if not chosen:
        where = "any step" if step is None else f"step {step}"
        raise DataError(f"{run_folder}: no calls are recorded of {where}")
    whole = [group for each in chosen for group in read_calls(call_path(run_folder, each)).groups]
    judged = [replace(g, episodes=[e for e in g.episodes if may_be_judged(e)]) for g in whole]
    groups = [group for group in judged if group.episodes]
    source = f"{run_folder}, step {'all' if step is None else step}"
    if not groups:
        raise DataError(f"{source}: every episode failed before a judge could decide on it")
    labels = {episode.episode_id: episode.reward for g in groups for episode in g.episodes}
    num_left_out = sum(len(group.episodes) for group in whole) - len(labels)
    return Labelled(groups=groups, labels=labels, source=source, num_left_out=num_left_out)


def judge_report(
    config: RootConfig,
    labelled: Labelled,
    *,
    repeats: int = 3,
    success_at: float = 0.5,
    offline: bool = False,
) -> JudgeReport:
    """Ask the configured judge about all episodes, several times, and compare.

    Args:
        config: has the judge.
        labelled: the episodes.
        repeats: how often each question is asked, and in how many orders; 1: no stability.
        success_at: the label from which an episode counts as a success.
        offline: use kept answers only; a question without one fails.

    Raises:
        ConfigError: no judge is configured.
    """
    if config.ajet.task_judge.judge_class is None:
        raise ConfigError("ajet.task_judge: no judge is configured, so there is none to measure")
    PLACE.offline = offline
    try:
        again = [_judged(config, labelled, repeat) for repeat in range(repeats)]
        orders = _orders(config, repeats)
        reordered = [_judged(other, labelled, 0) for other in orders]
    finally:
        PLACE.offline, PLACE.first_sample = False, 0
    first = again[0]
    valid = [episode for episode in first if episode.failure is None]
    estimates = _agreement(valid, labelled.labels, success_at)
    estimates |= _stability("repeats", again) if repeats > 1 else {}
    estimates |= _stability("orders", [first, *reordered]) if reordered else {}
    estimates["length_bias"] = _length_bias(valid, labelled.labels)
    notes = [] if orders or repeats < 2 else ["this judge sees nothing whose order could matter"]
    if labelled.num_left_out:
        reason = "failed before the judge, or failed a check"
        notes.append(f"left out: {labelled.num_left_out} episodes that {reason}")
    return JudgeReport(
        judge=config.ajet.task_judge.judge_class.rpartition("->")[2],
        source=labelled.source,
        num_episodes=len(first),
        failures=_failures([*again, *reordered]),
        estimates=estimates,
        cost=_cost(again),
        notes=notes,
    )


def _judged(config: RootConfig, labelled: Labelled, repeat: int) -> list[Episode]:
    PLACE.first_sample = repeat * SAMPLES_APART
    judge = make_judge(config.ajet.task_judge.judge_class, config)
    groups = [
        replace(group, episodes=[_fresh(episode) for episode in group.episodes])
        for group in labelled.groups
    ]
    rescorer = Rescorer(judge=judge, asks_always=True, task_tag="judge")
    done = rescorer.rewarded_groups(groups, num_threads=config.ajet.rollout.max_env_worker)
    return [episode for group in done for episode in group.episodes]


def _fresh(episode: Episode) -> Episode:
    """A copy with an output of its own, which has no reasons and no cost yet."""
    output = WorkflowOutput.model_construct(**dict(episode.output))
    output.metadata = {k: v for k, v in episode.output.metadata.items() if k != "judge"}
    return replace(episode, output=output, metadata=output.metadata, failure=None)


def _orders(config: RootConfig, repeats: int) -> list[RootConfig]:
    """The configuration with other orders of what the judge sees; empty: it sees no list."""
    judge = config.ajet.task_judge
    changed: Callable[[int], dict[str, Any]]
    if judge.judge_type == "relative":

        def changed(number: int) -> dict[str, Any]:
            seed = judge.relative.seed + number
            return {"relative": judge.relative.model_copy(update={"seed": seed})}

    elif judge.judge_type == "rubric" and len(judge.rubric.criteria) > 1:

        def changed(number: int) -> dict[str, Any]:
            criteria = list(judge.rubric.criteria)
            random.Random(number).shuffle(criteria)
            return {"rubric": judge.rubric.model_copy(update={"criteria": criteria})}

    else:
        return []
    configs = []
    for number in range(1, repeats):
        ajet = config.ajet.model_copy(
            update={"task_judge": judge.model_copy(update=changed(number))}
        )
        configs.append(config.model_copy(update={"ajet": ajet}))
    return configs


def _agreement(
    valid: Sequence[Episode], labels: dict[str, float | None], success_at: float
) -> dict[str, Estimate]:
    pairs = [(e, label) for e in valid if (label := labels[e.episode_id]) is not None]
    said = [bool(episode.is_success) for episode, _ in pairs]
    right = [label >= success_at for _, label in pairs]
    agreed = sum(one == other for one, other in zip(said, right, strict=True))
    rewards = [episode.reward or 0.0 for episode, _ in pairs]
    return {
        "accuracy": share(agreed, len(pairs)),
        "spearman": spearman(rewards, [label for _, label in pairs]),
        "kappa": kappa(said, right),
    }


def _stability(name: str, passes: Sequence[Sequence[Episode]]) -> dict[str, Estimate]:
    """How much the rewards of an episode differ, and how often its success is always the same."""
    rewards, successes = defaultdict(list), defaultdict(list)
    for episodes in passes:
        for episode in episodes:
            if episode.reward is not None:
                rewards[episode.episode_id].append(episode.reward)
                successes[episode.episode_id].append(bool(episode.is_success))
    complete = [key for key, found in rewards.items() if len(found) == len(passes)]
    spreads = [max(rewards[key]) - min(rewards[key]) for key in complete]
    same = sum(len(set(successes[key])) == 1 for key in complete)
    return {
        f"spread_over_{name}": mean(spreads),
        f"same_success_over_{name}": share(same, len(complete)),
    }


def _length_bias(valid: Sequence[Episode], labels: dict[str, float | None]) -> Estimate:
    """Rank correlation of an answer's length with how much its reward ranks above its label.

    Ranks, because labels may have another scale than rewards.
    """
    pairs = [(e, label) for e in valid if (label := labels[e.episode_id]) is not None]
    lengths = [float(len(answer_of(e.output, "final_answer") or "")) for e, _ in pairs]
    by_judge = ranks([episode.reward or 0.0 for episode, _ in pairs])
    by_label = ranks([label for _, label in pairs])
    return spearman(lengths, (by_judge - by_label).tolist())


def _failures(passes: Sequence[Sequence[Episode]]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for episode in (episode for episodes in passes for episode in episodes):
        if episode.failure is not None:
            counts[episode.failure.message] += 1
    return dict(counts)


def _cost(passes: Sequence[Sequence[Episode]]) -> dict[str, float]:
    episodes = [episode for episodes in passes for episode in episodes]
    usage: dict[str, float] = defaultdict(float)
    for episode in episodes:
        for name, value in episode.output.judge_usage.items():
            usage[name] += value
    seconds = [episode.judge_s for episode in episodes if episode.judge_s is not None]
    cost = {name: value / len(episodes) for name, value in sorted(usage.items())}
    return cost | ({"seconds": fmean(seconds)} if seconds else {})
