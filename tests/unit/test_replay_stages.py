"""A replay compares the recorded samples and advantages with those that are computed now."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from ajet.algorithm.credit import credit_rule
from ajet.monitor.call_table import StoredStep
from ajet.replay.stages import Stage, compare_advantages, compare_samples
from ajet.schema.episode import Episode, Group, Sample
from tests.unit.monitor_records import make_episode

ESTIMATOR = "reinforce_plus_plus"
"""Looks at all groups together."""


def group_of(name: str, *rewards: float) -> Group:
    episodes = []
    for index, reward in enumerate(rewards):
        episode = make_episode(repeat_index=index)
        episode.episode_id = f"{name}{index}"
        episode.reward = reward
        episode.call_rewards = np.full(len(episode.calls), reward)
        episodes.append(episode)
    return Group(task=episodes[0].task, episodes=episodes)


def recorded() -> tuple[StoredStep, dict[str, list[Sample]]]:
    """A step as a run would have credited it, and its samples by episode."""
    step = StoredStep(
        groups=[group_of("a", 0.0, 1.0), group_of("b", 0.5, 3.0)],
        discarded=[group_of("c", 7.0, 7.0)],
    )
    credit = credit_rule(ESTIMATOR)
    credit(step.groups)
    credit(step.discarded)
    return step, copy.deepcopy({e.episode_id: e.samples for e in step.episodes})


def advantages(step: StoredStep, samples: dict[str, list[Sample]]) -> Stage:
    return compare_advantages(samples, step, ESTIMATOR)[0]


def merged(samples: dict[str, list[Sample]], episodes: Sequence[Episode]) -> Stage:
    return compare_samples(samples, episodes)


def test_groups_that_were_discarded_do_not_count_for_the_others() -> None:
    step, samples = recorded()
    assert advantages(step, samples).outcome == "equal"
    step.groups, step.discarded = [*step.groups, *step.discarded], []
    assert advantages(step, samples).outcome == "differs"


def test_an_advantage_that_is_not_on_record_differs() -> None:
    step, samples = recorded()
    missing = np.abs(samples["a1"][0].advantages).max()
    samples["a1"][0].advantages = None
    assert advantages(step, samples).differences == [
        f"task calculator-1, repeat 1, sample 0: by up to {missing:.3g}"
    ]


def test_samples_are_compared_bit_for_bit() -> None:
    step, samples = recorded()
    assert merged(samples, step.episodes).outcome == "equal"
    samples["b0"][0].temperature[4] = np.nextafter(np.float32(1), np.float32(2))
    (difference,) = merged(samples, step.episodes).differences
    assert difference.startswith("task calculator-1, repeat 0, sample 0: temperature differ at 1 ")


def test_samples_that_are_missing_or_too_many_differ() -> None:
    step, samples = recorded()
    samples["b0"] = []
    samples["zzz"] = samples["a0"]
    assert merged(samples, step.episodes).differences == [
        "task calculator-1, repeat 0: 0 samples recorded, now 1",
        "episode zzz: samples recorded, but no calls",
    ]
