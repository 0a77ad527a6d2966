"""Groups without a gradient are replaced, in a limited number of rounds."""

from __future__ import annotations

import pytest

from ajet.schema.episode import Group
from ajet.schema.task import Task
from ajet.training.no_gradient import resample

pytestmark = pytest.mark.filterwarnings("error")


# Dynamic sampling.


def group_of(name: str) -> Group:
    return Group(task=Task(task_id=name))


def gives_gradient(group: Group) -> bool:
    return group.task.task_id.startswith("good")


def test_groups_without_gradient_are_replaced_by_new_ones() -> None:
    more = iter([[group_of("flat3"), group_of("good4")], [group_of("good5")]])
    asked: list[tuple[int, int]] = []

    def run_more(round_number: int, count: int) -> list[Group]:
        asked.append((round_number, count))
        return next(more)

    groups = [group_of(name) for name in ("flat0", "good1", "flat2")]
    result = resample(groups, gives_gradient=gives_gradient, run_more=run_more, max_rounds=5)
    assert [group.task.task_id for group in result.groups] == ["good4", "good1", "good5"]
    assert [group.task.task_id for group in result.discarded] == ["flat3", "flat0", "flat2"]
    assert asked == [(1, 2), (2, 1)]
    assert result.metrics() == {"rollout/resample_rounds": 2, "rollout/discarded_groups": 3}


def test_resampling_is_limited_and_keeps_groups_that_it_cannot_replace() -> None:
    result = resample(
        [group_of("flat")],
        gives_gradient=gives_gradient,
        run_more=lambda _, count: [group_of("flat")] * count,
        max_rounds=3,
    )
    assert [group.task.task_id for group in result.groups] == ["flat"]
    assert (result.rounds, len(result.discarded)) == (3, 3)


def test_nothing_is_resampled_if_every_group_gives_a_gradient() -> None:
    result = resample(
        [group_of("good")],
        gives_gradient=gives_gradient,
        run_more=lambda *_: pytest.fail("no round is needed"),
        max_rounds=3,
    )
    assert result.rounds == 0
