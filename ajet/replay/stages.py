"""The stages of a replay: each compares the record of the run with what is computed now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ajet.algorithm.credit import CreditReport, credit_rule
from ajet.monitor.call_table import StoredStep
from ajet.schema.episode import Episode, Sample

Outcome = Literal["equal", "changed", "differs", "skipped"]

COMPARED = ("ids", "loss_mask", "logprobs", "call_index", "policy_versions", "temperature")


@dataclass(slots=True, kw_only=True)
class Stage:
    """The result of one stage of a replay."""

    name: str
    summary: str
    differences: list[str] = field(default_factory=list)
    """One line for each difference; empty: the result equals the record."""
    is_asked_for: bool = False
    """Differences are expected, because the user gave another judge or other settings."""
    is_skipped: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    """Further results for the JSON file."""

    @property
    def outcome(self) -> Outcome:
        """The word in front of the stage's line; only `differs` means that something is wrong."""
        if self.is_skipped:
            return "skipped"
        if not self.differences:
            return "equal"
        return "changed" if self.is_asked_for else "differs"


def compare_samples(stored: Mapping[str, Sequence[Sample]], episodes: Sequence[Episode]) -> Stage:
    """Compare the recorded samples, by episode id, with those that the calls merge into now."""
    differences = [
        line
        for episode in episodes
        for line in _sample_differences(episode, stored.get(episode.episode_id, ()))
    ]
    unknown = stored.keys() - {episode.episode_id for episode in episodes}
    differences += [f"episode {name}: samples recorded, but no calls" for name in sorted(unknown)]
    samples = [sample for episode in episodes for sample in episode.samples]
    tokens = sum(len(sample) for sample in samples)
    return Stage(
        name="merge",
        summary=f"{sum(len(e.calls) for e in episodes):,} calls of {len(episodes):,} episodes are "
        f"{len(samples):,} samples of {tokens:,} tokens",
        differences=differences,
    )


def compare_rewards(before: Sequence[Episode], now: Sequence[Episode], judge: str | None) -> Stage:
    """Compare the recorded rewards of the episodes with those that they get now."""
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
    """Credit the episodes again and compare their advantages with the recorded ones.

    Returns:
        The stage, and the report with the samples that would be trained.
    """
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
    """Take the recorded advantages, because the critic's values that led to them are not stored."""
    for episode in (e for e in step.episodes if e.failure is None):
        for old, new in zip(stored.get(episode.episode_id, ()), episode.samples, strict=False):
            new.advantages = old.advantages
    why = (
        f"{estimator}: the critic's values are not recorded, so the recorded advantages are trained"
    )
    return Stage(name="advantages", summary=why, is_skipped=True)


def _sample_differences(episode: Episode, stored: Sequence[Sample]) -> Iterator[str]:
    if len(stored) != len(episode.samples):
        yield f"{_name(episode)}: {len(stored)} samples recorded, now {len(episode.samples)}"
        return
    for number, (old, new) in enumerate(zip(stored, episode.samples, strict=True)):
        for column in COMPARED:
            one, other = getattr(old, column), getattr(new, column)
            # Bytes, because NaN is not equal to itself but must count as unchanged.
            if one.tobytes() != other.tobytes():
                yield f"{_name(episode)}, sample {number}: {column} {_where(one, other)}"


def _where(old: np.ndarray, new: np.ndarray) -> str:
    if len(old) != len(new):
        return f"has {len(old)} tokens recorded, now {len(new)}"
    places = np.flatnonzero(old != new)
    first = int(places[0]) if len(places) else 0
    return (
        f"differ at {len(places)} of {len(old)} tokens; first at {first}: {old[first]} recorded, "
        f"now {new[first]}"
    )


def _largest_change(old: Sample, new: Sample) -> float:
    """Largest change of any advantage; a missing one counts as 0.

    If the tokens themselves differ, the result is 0: `compare_samples` reports that.
    """
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
