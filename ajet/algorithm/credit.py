"""From rewards to advantages: the baseline of a group, and what each trained token gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np

from ajet.class_path import load_function
from ajet.config.sections.algorithm import CREDIT
from ajet.errors import TrainingError
from ajet.schema.episode import Call, Episode, Group, Sample


@dataclass(slots=True, kw_only=True)
class CreditReport:
    """The samples to train on, and which groups give no gradient."""

    samples: list[Sample] = field(default_factory=list)
    """Samples with trained tokens, of groups that give a gradient, in the order of the groups."""
    is_zero_variance: list[bool] = field(default_factory=list)
    """One per group: True if all advantages of its samples are 0."""

    @property
    def num_groups(self) -> int:
        """Number of groups that got credit."""
        return len(self.is_zero_variance)

    @property
    def zero_variance_groups(self) -> int:
        """Number of groups that give no gradient."""
        return sum(self.is_zero_variance)


@dataclass(slots=True, kw_only=True, frozen=True)
class CreditRule:
    """Gives credit to the tokens of a step, with or without comparing the episodes of a group."""

    assign: Callable[[Sequence[Group]], CreditReport]
    """Fills the samples' `advantages`, or their `rewards` where a critic makes advantages of them.
    Raises TrainingError where a reward or advantage is NaN or infinite."""
    needs_critic: bool = False
    """Only for backbones that train a critic."""

    def __call__(self, groups: Sequence[Group]) -> CreditReport:
        return self.assign(groups)


@dataclass(slots=True, kw_only=True)
class _Comparison:
    """Episodes of one group that share a baseline, and the calls to which it applies."""

    agent_name: str | None
    """The agent whose calls these are; None: all calls."""
    members: list[tuple[Episode, np.ndarray]]
    """Each episode with [K] positions in its `calls`."""


def credit(groups: Sequence[Group], estimator: AdvantageEstimator) -> CreditReport:
    """Fill `Sample.advantages` of every valid episode.

    The advantage of a call is (its reward - center) / scale, and each of its tokens has it. The
    baseline (center, scale) comes from one reward an episode, so neither calls nor samples make an
    episode weigh more:

    - reward per episode: all calls have the episode's reward, compared within the group;
    - reward per call: each trained call's own reward against the baseline of the episodes' means
      of them, the spread within episodes being part of the scale;
    - reward per agent: each agent is compared with itself, in those episodes of the group that
      contain it. A group is treated so as soon as one of its episodes has a reward per agent.

    Raises:
        TrainingError: an advantage is NaN or infinite.
    """
    with np.errstate(invalid="ignore"):  # NaN is refused in `_fill`, which names the episode
        advantages = _call_advantages(groups, estimator)
    report = CreditReport()
    for group in groups:
        samples = []
        for episode in group.valid:
            _fill(episode, advantages[episode.episode_id])
            samples += [sample for sample in episode.samples if sample.num_trained]
        gives_nothing = not any(np.any(sample.advantages) for sample in samples)
        report.is_zero_variance.append(gives_nothing)
        if not gives_nothing:
            report.samples += samples
    return report


def _call_advantages(
    groups: Sequence[Group], estimator: AdvantageEstimator
) -> dict[str, np.ndarray]:
    """Episode id -> [number of calls] float64."""
    advantages = {e.episode_id: np.zeros(len(e.calls)) for group in groups for e in group.valid}
    by_agent: dict[str | None, list[_Comparison]] = defaultdict(list)
    for group in groups:
        for comparison in _comparisons(group):
            by_agent[comparison.agent_name].append(comparison)
    # One call per agent: an estimator over the whole batch must not mix agents.
    for comparisons in by_agent.values():
        baselines = estimator([_rewards(comparison) for comparison in comparisons])
        for comparison, baseline in zip(comparisons, baselines, strict=True):
            for i, (episode, calls) in enumerate(comparison.members):
                above = _call_rewards(episode)[calls] - baseline.center[i]
                advantages[episode.episode_id][calls] = above / baseline.scale[i]
    return advantages


def _comparisons(group: Group) -> list[_Comparison]:
    if not group.valid:
        return []
    if all(episode.reward_per != "agent" for episode in group.valid):
        members = [(episode, _trained_calls(episode)) for episode in group.valid]
        # An episode without trained calls has no call reward to compare.
        members = [(e, calls) for e, calls in members if len(calls) or e.reward_per == "episode"]
        return [_Comparison(agent_name=None, members=members)] if members else []
    by_agent: dict[str, _Comparison] = {}
    for episode in group.valid:
        names = np.array([call.agent_name for call in episode.calls], dtype=object)
        for name in dict.fromkeys(names):
            comparison = by_agent.setdefault(name, _Comparison(agent_name=name, members=[]))
            comparison.members.append((episode, np.flatnonzero(names == name)))
    return list(by_agent.values())


def _rewards(comparison: _Comparison) -> GroupRewards:
    """One reward per episode, and the variance of its call rewards around it."""
    rewards = np.zeros(len(comparison.members))
    variance_within = np.zeros(len(comparison.members))
    for i, (episode, calls) in enumerate(comparison.members):
        call_rewards = _call_rewards(episode)[calls]
        if comparison.agent_name is None and episode.reward_per == "episode":
            assert episode.reward is not None, "a valid episode has a reward"
            rewards[i] = episode.reward
        else:
            rewards[i] = exact_mean(call_rewards)
        if len(calls):
            variance_within[i] = ((call_rewards - rewards[i]) ** 2).mean()
    return GroupRewards(
        rewards=rewards,
        variance_within=variance_within,
        calls=[[episode.calls[i] for i in calls] for episode, calls in comparison.members],
    )


def _trained_calls(episode: Episode) -> np.ndarray:
    """[K] positions of the trained calls."""
    return np.flatnonzero([call.trained for call in episode.calls])


def _call_rewards(episode: Episode) -> np.ndarray:
    assert episode.call_rewards is not None, "a valid episode has a reward for each call"
    return episode.call_rewards


def _fill(episode: Episode, advantages: np.ndarray) -> None:
    """Copy the advantage [number of calls] of each call to its tokens in the samples."""
    if not np.isfinite(advantages).all():
        raise TrainingError(
            f"episode {episode.episode_id} of task {episode.task.task_id}: the advantages of its "
            f"calls are {advantages.tolist()}, from rewards {_call_rewards(episode).tolist()}"
        )
    by_index = np.zeros(1 + max((call.index for call in episode.calls), default=0), np.float32)
    by_index[[call.index for call in episode.calls]] = advantages
    for sample in episode.samples:
        sample.advantages = np.where(sample.loss_mask, by_index[sample.call_index], np.float32(0))


def exact_mean(values: np.ndarray) -> float:
    """Mean of N >= 1 values; exactly the common value if all are equal.

    With a rounded mean, a group of equal rewards would have tiny advantages, and so a gradient.
    """
    return float(values[0] + (values - values[0]).mean())


@dataclass(slots=True, kw_only=True)
class GroupRewards:
    """The rewards and calls of G >= 1 episodes that are compared with each other."""

    rewards: np.ndarray
    """[G] float64: one reward per episode, however many calls or samples it has."""
    variance_within: np.ndarray
    """[G] float64: variance of the call rewards within each episode; 0 where they are equal."""
    calls: Sequence[Sequence[Call]]
    """The calls of each of the G episodes that the reward is for, in order of arrival; none where
    a reward is for an episode without trained calls."""

    @property
    def num_tokens(self) -> np.ndarray:
        """[G] int64: sampled tokens of each episode's calls."""
        return np.array([sum(len(c.completion_ids) for c in calls) for calls in self.calls], int)

    def mean(self) -> float:
        """Mean reward; every episode has the same weight."""
        return exact_mean(self.rewards)

    def std(self) -> float:
        """Standard deviation of a call's reward; every episode has the same weight.

        The variance between episodes (unbiased: over G - 1) plus the mean variance within them.
        Without the second part, the scale would be 0 where episodes have equal means but their
        calls have different rewards.
        """
        deviations = self.rewards - self.mean()
        between = float((deviations**2).sum()) / max(1, len(self.rewards) - 1)
        return float(np.sqrt(between + self.variance_within.mean()))


@dataclass(slots=True, kw_only=True)
class Baseline:
    """Center and scale of the rewards of a group's G episodes.

    The advantage of a reward is (reward - center) / scale.
    """

    center: np.ndarray
    """[G] float64."""
    scale: np.ndarray
    """[G] float64, above 0."""


AdvantageEstimator = Callable[[Sequence[GroupRewards]], list[Baseline]]
"""Maps all groups of a step to one baseline each, in the same order."""


def credit_rule(name: str) -> CreditRule:
    """How the configured `adv_estimator` gives credit to the tokens of a step.

    A `CreditRule` is used as it is. Any other function is an advantage estimator, which compares
    the episodes of a group with each other.

    Args:
        name: a registered name or a class path.

    Raises:
        ConfigError: a class path names no function, or its import fails.
    """
    found = load_function(CREDIT.get(name, name), "ajet.trainer_common.algorithm.adv_estimator")
    if isinstance(found, CreditRule):
        return found
    return CreditRule(assign=partial(credit, estimator=cast(AdvantageEstimator, found)))
