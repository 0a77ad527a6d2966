"""The frozen lake example.

1. A task's number makes its map, and no map is in two splits.
2. The last move that an answer names is made; an answer without a move keeps the player in place.
3. The reward is 1 at the goal and 0 in a hole, in the run's process and behind a service alike.
4. The workflow sends the prompts that the model was trained on.
"""

from pathlib import Path
from typing import Any

import pytest

from ajet import Task
from tests.tutorial.servers import served
from tutorial.example_frozen_lake.maps import (
    Split,
    after,
    describe,
    distances,
    make_map,
    numbers,
)

pytest.importorskip("gymnasium")
ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_frozen_lake" / "frozen_lake_cpu.yaml"
NUMBER = next(n for n in numbers(Split.VALIDATION, 99, 4) if distances(make_map(n, 4))[0, 0] == 6)
TASK = Task(task_id=str(NUMBER), metadata={"random_number": NUMBER})


def a_way(number: int) -> list[str]:
    """Moves to the goal."""
    field, player, moves = make_map(number, 4), (0, 0), []
    left = distances(field)
    while left[player] > 0:
        moves.append(
            next(
                move
                for move in ("right", "down", "left", "up")
                if left.get(after(field, player, move), 99) < left[player]
            )
        )
        player = after(field, player, moves[-1])
    return moves


def a_fall(number: int) -> list[str]:
    """Moves into a hole."""
    field, left = make_map(number, 4), distances(make_map(number, 4))
    player, moves = (0, 0), []
    for move in a_way(number):
        for aside in ("left", "down", "right", "up"):
            if after(field, player, aside) not in left:
                return [*moves, aside]
        moves.append(move)
        player = after(field, player, move)
    pytest.skip("there is no hole beside the way")


# 1. Maps


def test_a_number_fixes_the_map() -> None:
    assert make_map(NUMBER, 4) == make_map(NUMBER, 4)
    assert make_map(NUMBER, 4)[0][0] == "S" and make_map(NUMBER, 4)[3][3] == "G"


def test_no_map_is_in_two_splits() -> None:
    maps = {
        split: {"".join(make_map(number, 4)) for number in numbers(split, 400, 4)}
        for split in Split
    }
    assert all(maps.values())
    assert not maps[Split.WARM_UP] & maps[Split.TRAIN]
    assert not maps[Split.WARM_UP] & maps[Split.VALIDATION]
    assert not maps[Split.TRAIN] & maps[Split.VALIDATION]


def test_other_sizes() -> None:
    assert [len(row) for row in make_map(5, 6)] == [6] * 6
    assert "row 2, column 3" in describe(make_map(5, 6), (1, 2))


# 2. and 3. Moves and rewards


def test_a_walk_to_the_goal_gets_reward_1() -> None:
    episode = _episode(a_way(NUMBER))
    assert (episode.failure, episode.reward, episode.is_success) == (None, 1.0, True)


def test_a_walk_into_a_hole_gets_no_reward() -> None:
    episode = _episode(a_fall(NUMBER))
    assert (episode.failure, episode.reward, episode.is_success) == (None, 0.0, False)
    assert episode.log_metrics["fell"] == 1.0


def test_thoughts_before_the_move_and_answers_without_one() -> None:
    first, *rest = a_way(NUMBER)
    thought = f"Not left, not up. So I go {first.upper()}!"
    episode = _episode(["I wait.", thought, *rest], "rollout.max_response_length_in_one_turn=64")
    assert episode.reward == 1.0
    assert episode.log_metrics["moves"] == len(rest) + 2


def test_slippery_ice_is_an_option() -> None:
    ends = {
        _episode(
            a_way(NUMBER) + ["down", "right"] * 2, f"environment.options.is_slippery={word}"
        ).reward
        for word in ("true", "false")
    }
    assert 1.0 in ends  # the dry walk; the slippery one may end anywhere


def test_the_service_plays_the_same_walk() -> None:
    with served("tutorial.example_frozen_lake.lake") as url:
        episode = _episode(a_way(NUMBER), "environment.type=service", f"environment.url={url}")
    here = _episode(a_way(NUMBER))
    assert (episode.failure, episode.reward) == (None, 1.0)
    assert [list(s.ids) for s in episode.samples] == [list(s.ids) for s in here.samples]


@pytest.mark.parametrize("task_id", ["abc", "-5", "", "1.5"])
def test_a_task_that_the_service_does_not_have(task_id: str) -> None:
    from tutorial.example_frozen_lake.lake import LakeService

    with pytest.raises(ValueError, match="there is no task"):
        LakeService().create(task_id, {})


def _episode(answers: list[str], *overrides: str) -> Any:
    pytest.importorskip("renderers")
    from tests.tutorial.models import run_example

    return run_example(CONF, answers, task=TASK, overrides=overrides)


# 4. Tokens


def test_the_workflow_sends_the_prompts_of_the_demonstrations() -> None:
    pytest.importorskip("torch")
    from tests.tutorial.models import assert_trained_on
    from tutorial.example_frozen_lake.frozen_lake import SYSTEM_PROMPT

    field, player = make_map(NUMBER, 4), (0, 0)
    messages = [{"role": "system", "content": SYSTEM_PROMPT}]
    for move in a_way(NUMBER):
        messages += [
            {"role": "user", "content": describe(field, player, gap="")},
            {"role": "assistant", "content": move},
        ]
        player = after(field, player, move)
    assert_trained_on(CONF, messages, _episode(a_way(NUMBER)))
