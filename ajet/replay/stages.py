"""What a replay finds, stage by stage: what the run has on record against what comes out now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ajet.algorithm.credit import CreditReport
from ajet.algorithm.registry import credit_rule
from ajet.monitor.call_table import StoredStep
from ajet.schema.episode import Episode
from ajet.schema.sample import Sample

Outcome = Literal["equal", "changed", "differs", "skipped"]

COMPARED = ("ids", "loss_mask", "logprobs", "call_index", "policy_versions", "temperature")


@dataclass(slots=True, kw_only=True)
class Stage:
    """One part of a replay."""

    name: str
    summary: str
    differences: list[str] = field(default_factory=list)
    """One line each; none: what is on record came out again."""
    is_asked_for: bool = False
    """Another judge or other settings: differences are what the replay is for."""
    is_skipped: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    """More of it, for the JSON file."""

    @property
    def outcome(self) -> Outcome:
        """`differs` is the only one that means a fault."""
        if self.is_skipped:
            return "skipped"
        if not self.differences:
            return "equal"
        return "changed" if self.is_asked_for else "differs"


def compare_samples(stored: Mapping[str, Sequence[Sample]], episodes: Sequence[Episode]) -> Stage:
    """The samples on record, by episode id, against those that calls were merged into now."""
    differences = [
        line
        for episode in episodes
        for line in _sample_differences(episode, stored.get(episode.episode_id, ()))
    ]
    unknown = stored.keys() - {episode.episode_id for episode in episodes}
    differences += [f"episode {name}: samples on record, but no calls" for name in sorted(unknown)]
    samples = [sample for episode in episodes for sample in episode.samples]
    tokens = sum(len(sample) for sample in samples)
    return Stage(
        name="merge",
        summary=f"{sum(len(e.calls) for e in episodes):,} calls of {len(episodes):,} episodes are "
        f"{len(samples):,} samples of {tokens:,} tokens",
        differences=differences,
    )


def compare_rewards(before: Sequence[Episode], now: Sequence[Episode], judge: str | None) -> Stage:
    """Episodes on record against the same ones with the rewards that they get now."""
    pairs = list(zip(before, now, strict=True))
    changed = [(old, new) for old, new in pairs if _verdict(old) != _verdict(new)]
    mean, successes = _mean_reward(before), f"{_successes(before)}"
    if changed:
        mean, successes = f"{mean}, now {_mean_reward(now)}", f"{successes}, now {_successes(now)}"
    return Stage(
        name="rewards",
        summary=f"{(judge or 'no judge').rpartition('->')[2]}: {len(changed)} of {len(pairs):,} "
        f"changed; mean {mean}; successes {successes}",
        differences=[f"{_name(old)}: {_shown(old)}, now {_shown(new)}" for old, new in changed],
        data={"changed": [_reward_row(old, new) for old, new in changed]},
    )


def compare_advantages(
    stored: Mapping[str, Sequence[Sample]], step: StoredStep, estimator: str
) -> tuple[Stage, CreditReport]:
    """Credit the episodes as they are now; the report has what would be trained."""
    credit = credit_rule(estimator)
    report = credit(step.groups)
    if credit.needs_critic:
        return _advantages_of_a_critic(stored, step, estimator), report
    for group in step.discarded:
        credit([group])
    differences, largest = [], 0.0
    for episode in (e for e in step.episodes if e.failure is None):
        old_samples = stored.get(episode.episode_id, ())
        for number, (old, new) in enumerate(zip(old_samples, episode.samples, strict=False)):
            change = _largest_change(old, new)
            if change:
                largest = max(largest, change)
                differences.append(f"{_name(episode)}, sample {number}: by up to {change:.3g}")
    trained = sum(sample.num_trained for sample in report.samples)
    with_gradient = report.num_groups - report.zero_variance_groups
    return Stage(
        name="advantages",
        summary=f"{estimator}: {with_gradient} of {report.num_groups} groups give a gradient, "
        f"{trained:,} tokens to train; largest change {largest:.3g}",
        differences=differences,
        data={"largest_change": largest},
    ), report


def _advantages_of_a_critic(
    stored: Mapping[str, Sequence[Sample]], step: StoredStep, estimator: str
) -> Stage:
    """Its values are not on record: what was made of them is taken from there."""
    for episode in (e for e in step.episodes if e.failure is None):
        for old, new in zip(stored.get(episode.episode_id, ()), episode.samples, strict=False):
            new.advantages = old.advantages
    why = (
        f"{estimator}: the critic's values are not on record; the advantages on record are trained"
    )
    return Stage(name="advantages", summary=why, is_skipped=True)


def _sample_differences(episode: Episode, stored: Sequence[Sample]) -> Iterator[str]:
    if len(stored) != len(episode.samples):
        yield f"{_name(episode)}: {len(stored)} samples on record, now {len(episode.samples)}"
        return
    for number, (old, new) in enumerate(zip(stored, episode.samples, strict=True)):
        for column in COMPARED:
            one, other = getattr(old, column), getattr(new, column)
            if one.tobytes() != other.tobytes():
                yield f"{_name(episode)}, sample {number}: {column} {_where(one, other)}"


def _where(old: np.ndarray, new: np.ndarray) -> str:
    if len(old) != len(new):
        return f"has {len(old)} tokens on record, now {len(new)}"
    places = np.flatnonzero(old != new)
    first = int(places[0]) if len(places) else 0
    return (
        f"differ at {len(places)} of {len(old)} tokens; first at {first}: {old[first]} on record, "
        f"now {new[first]}"
    )


def _largest_change(old: Sample, new: Sample) -> float:
    """Of an advantage; none on record is 0. Of other tokens it is `compare_samples` that tells."""
    if len(old) != len(new) or new.advantages is None:
        return 0.0
    before = np.float32(0) if old.advantages is None else old.advantages
    return float(np.abs(before - new.advantages).max())


def _verdict(episode: Episode) -> tuple[Any, ...]:
    rewards = None if episode.call_rewards is None else episode.call_rewards.tolist()
    failure = episode.failure.kind if episode.failure else None
    return episode.reward, rewards, episode.reward_per, episode.is_success, failure


def _reward_row(old: Episode, new: Episode) -> dict[str, Any]:
    names = ("reward", "call_rewards", "reward_per", "is_success", "failure")
    return {
        "episode_id": old.episode_id,
        "task_id": old.task.task_id,
        "repeat_index": old.repeat_index,
        "before": dict(zip(names, _verdict(old), strict=True)),
        "now": dict(zip(names, _verdict(new), strict=True)),
        "cause": new.failure.message if new.failure else None,
    }


def _name(episode: Episode) -> str:
    return f"task {episode.task.task_id}, repeat {episode.repeat_index}"


def _shown(episode: Episode) -> str:
    if episode.failure is not None:
        return f"{episode.failure.kind} ({episode.failure.message})"
    return f"{episode.reward:g}{' (success)' if episode.is_success else ''}"


def _mean_reward(episodes: Sequence[Episode]) -> str:
    rewards = [episode.reward for episode in episodes if episode.reward is not None]
    return f"{np.mean(rewards):.3f}" if rewards else "none"


def _successes(episodes: Sequence[Episode]) -> int:
    return sum(bool(episode.is_success) for episode in episodes)
