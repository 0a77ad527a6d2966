"""Which tasks a curriculum chooses, and the mixture of sources.

1. Stopped after any step and restored from its state and the results, it goes on as if it had never
   stopped, and the order in which a step's results come does not matter.
2. No task is chosen twice while it runs, as long as there are others.
3. New, known and set-aside tasks get their shares; each policy chooses by the success rate.
4. A task that is solved every time is set aside, tried again now and then, and comes back if it
   fails.
5. Failed episodes say nothing about a task.
6. Sources are mixed by their weights at the step, and each keeps its own order.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.config.sections.task_reader import CurriculumConfig, weight_at
from ajet.errors import CheckpointError, DataError
from ajet.schema.episode import Episode, Failure, Group, TaskResult
from ajet.schema.task import Task
from ajet.task_reader.curriculum import pick
from ajet.task_reader.mixed_tasks import MixedPart, MixedTasks
from ajet.task_reader.task_batches import TaskBatches

POLICIES = ("easy_first", "target_success", "difficulty_pools")
policies = st.sampled_from(POLICIES)


def tasks_of(count: int, prefix: str = "t", **metadata: Any) -> list[Task]:
    return [Task(task_id=f"{prefix}{i}", metadata={"level": -i, **metadata}) for i in range(count)]


def batches_of(
    count: int, *, seed: int = 0, tasks: Sequence[Task] | None = None, **settings: Any
) -> TaskBatches:
    curriculum = CurriculumConfig(**settings)
    return TaskBatches(tasks or tasks_of(count), seed=seed, curriculum=curriculum)


def ids(tasks: Sequence[Task]) -> list[str]:
    return [task.task_id for task in tasks]


def number_of(task: Task) -> int:
    return int(task.task_id.lstrip("abt"))


Results = list[tuple[int, TaskResult]]


def run_step(
    batches: TaskBatches, step: int, size: int, solved: Callable[[Task], int], episodes: int = 4
) -> tuple[list[Task], Results, dict[str, float]]:
    tasks = batches.next_batch(size, step)
    indices = batches.indices_of(tasks)
    results = [
        TaskResult(task_id=t.task_id, index=i, episodes=episodes, solved=solved(t))
        for t, i in zip(tasks, indices, strict=True)
    ]
    return tasks, [(step, result) for result in results], batches.observe(step, results)


def by_number(task: Task) -> int:
    """Task 0 is never solved, tasks 1, 2, 3 by some of 4 episodes, task 4 always, and so on."""
    return number_of(task) % 5


# 1. Resuming.


@settings(deadline=None)
@given(policy=policies, seed=st.integers(0, 99), stop=st.integers(1, 6), mixed=st.booleans())
def test_a_restored_curriculum_goes_on_as_if_it_had_never_stopped(
    policy: str, seed: int, stop: int, mixed: bool
) -> None:
    tasks = (
        MixedTasks(
            [
                MixedPart(name="a", tasks=tasks_of(9, "a"), schedule={1: 3.0, 5: 1.0}),
                MixedPart(name="b", tasks=tasks_of(7, "b"), schedule={1: 1.0}),
            ]
        )
        if mixed
        else None
    )
    original = batches_of(16, seed=seed, policy=policy, set_aside_after=4, tasks=tasks)
    kept: Results = []
    for step in range(1, stop + 1):
        kept += run_step(original, step, 5, by_number)[1]
    state = json.loads(json.dumps(original.state()))
    restored = batches_of(16, seed=seed, policy=policy, set_aside_after=4, tasks=tasks)
    shuffled = list(kept)
    random.Random(seed).shuffle(shuffled)
    restored.restore(state, sorted(shuffled, key=lambda pair: pair[0]))
    for step in range(stop + 1, stop + 5):
        expected, _, metrics = run_step(original, step, 5, by_number)
        found, _, again = run_step(restored, step, 5, by_number)
        assert ids(found) == ids(expected)
        assert again == metrics
    assert restored.state() == original.state()


def test_a_batch_is_the_same_however_it_is_cut() -> None:
    whole, parts = batches_of(30, policy="target_success"), batches_of(30, policy="target_success")
    for step in range(1, 5):
        tasks, _, _ = run_step(whole, step, 6, by_number)
        pieces = [*parts.next_batch(2, step), *parts.next_batch(4, step)]
        results = [
            TaskResult(task_id=t.task_id, index=i, episodes=4, solved=by_number(t))
            for t, i in zip(pieces, parts.indices_of(pieces), strict=True)
        ]
        parts.observe(step, results)
        assert ids(pieces) == ids(tasks)


def test_missing_results_are_refused() -> None:
    batches = batches_of(10, policy="easy_first")
    _, results, _ = run_step(batches, 1, 4, by_number)
    with pytest.raises(CheckpointError, match="3 results of tasks, but the curriculum had 4"):
        batches_of(10, policy="easy_first").restore(batches.state(), results[1:])


def test_a_curriculum_can_begin_or_end_where_a_run_is_resumed() -> None:
    plain = TaskBatches(tasks_of(10), seed=0)
    plain.next_batch(4)
    begun = batches_of(10, policy="easy_first")
    begun.restore(plain.state())
    assert len(run_step(begun, 2, 4, by_number)[0]) == 4
    ended = TaskBatches(tasks_of(10), seed=0)
    ended.restore(begun.state())
    assert len(ended.next_batch(4)) == 4


# 2. No task twice.


@settings(deadline=None)
@given(policy=policies, seed=st.integers(0, 99), size=st.integers(1, 12))
def test_no_task_is_chosen_twice_in_a_step(policy: str, seed: int, size: int) -> None:
    batches = batches_of(12, seed=seed, policy=policy, set_aside_after=4)
    for step in range(1, 9):
        tasks, _, _ = run_step(batches, step, size, by_number)
        assert len({task.task_id for task in tasks}) == size


@pytest.mark.parametrize("policy", POLICIES)
def test_a_step_may_be_larger_than_the_data(policy: str) -> None:
    batches = batches_of(3, policy=policy)
    for step in range(1, 4):
        tasks, _, _ = run_step(batches, step, 8, lambda task: 4)
        assert set(Counter(ids(tasks)).values()) <= {2, 3, 4}


def test_tasks_that_run_are_not_chosen_again_before_their_results() -> None:
    batches = batches_of(20, policy="difficulty_pools")
    first = batches.next_batch(8, 1)
    second = batches.next_batch(8, 2)  # an asynchronous run reads before the first results
    assert not set(ids(first)) & set(ids(second))


# 3. Shares and policies.


def shares_after(steps: int, size: int = 20, **settings: Any) -> tuple[TaskBatches, Counter[int]]:
    batches = batches_of(2000, **settings)
    counts: Counter[int] = Counter()
    for step in range(1, steps + 1):
        tasks, _, _ = run_step(batches, step, size, by_number)
        if step > steps // 2:
            counts.update(by_number(task) for task in tasks)
    return batches, counts


def test_pools_get_their_shares() -> None:
    batches = batches_of(5000, policy="difficulty_pools", set_aside_after=10**6)
    for step in range(1, 40):
        _, _, metrics = run_step(batches, step, 40, by_number)
    assert metrics["curriculum/drawn_new"] == pytest.approx(0.3, abs=0.05)
    assert metrics["curriculum/drawn_medium"] == pytest.approx(0.57, abs=0.06)  # of 0.52, and 0.05
    assert metrics["curriculum/drawn_hard"] == pytest.approx(0.065, abs=0.05)
    assert metrics["curriculum/drawn_easy"] == pytest.approx(0.065, abs=0.05)
    assert metrics["curriculum/drawn_set_aside"] == 0
    assert metrics["curriculum/success_mean"] == pytest.approx(0.5, abs=0.05)
    assert sum(metrics[f"curriculum/{p}"] for p in ("new", "hard", "medium", "easy")) == 5000


def test_easy_first_takes_the_easiest_that_is_not_set_aside() -> None:
    _, counts = shares_after(10, policy="easy_first", set_aside_after=4, new_share=0.3)
    assert counts[3] > counts[2] > counts[1] - 5
    assert counts[3] > 3 * counts[0]


def test_target_success_takes_those_near_the_target() -> None:
    _, counts = shares_after(20, policy="target_success", target=0.25, new_share=0.2)
    assert counts[1] > 1.5 * counts[3]
    assert counts[0] > counts[3], "at a distance of 0.25 against 0.5"


def test_new_tasks_come_in_the_order_of_a_number() -> None:
    batches = batches_of(50, policy="easy_first", difficulty_key="level")
    assert ids(batches.next_batch(5)) == ["t49", "t48", "t47", "t46", "t45"]
    with pytest.raises(DataError, match="difficulty_key: task t0 has None"):
        batches_of(5, policy="easy_first", difficulty_key="depth")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 5), min_size=1), st.integers(0, 99))
def test_a_pick_has_its_share_in_every_stretch(shares: dict[str, float], start: int) -> None:
    counts = Counter(pick(shares, number) for number in range(start, start + 100))
    for name, share in shares.items():
        assert counts[name] == pytest.approx(100 * share / sum(shares.values()), abs=5)


# 4. Set aside.


def test_what_is_solved_every_time_is_set_aside_and_comes_back_when_it_fails() -> None:
    settings = {"policy": "difficulty_pools", "set_aside_after": 8, "retry_share": 0.1}
    batches = batches_of(40, **settings)
    tried: Counter[str] = Counter()
    for step in range(1, 61):
        tasks, _, metrics = run_step(batches, step, 10, lambda t: 4 if number_of(t) < 20 else 2)
        if step > 30:
            tried.update(ids(tasks))
    assert metrics["curriculum/set_aside"] == 20
    assert metrics["curriculum/drawn_set_aside"] == pytest.approx(0.1, abs=0.1)
    aside = [tried[f"t{i}"] for i in range(20)]
    assert min(aside) >= 1 and max(aside) <= 2, "each is tried again, the longest set aside first"
    assert min(tried[f"t{i}"] for i in range(20, 40)) > 2 * max(aside)
    run_step(batches, 61, 40, lambda task: 0)
    _, _, metrics = run_step(batches, 62, 10, by_number)
    assert metrics["curriculum/set_aside"] == 0


# 5. Failed episodes.


def test_failed_episodes_say_nothing_about_a_task() -> None:
    task = Task(task_id="t0")
    group = Group(
        task=task,
        episodes=[
            Episode(episode_id="a", task=task, repeat_index=0, reward=1.0, is_success=True),
            Episode(
                episode_id="b",
                task=task,
                repeat_index=1,
                failure=Failure(kind="environment_error", message="gone"),
            ),
        ],
    )
    result = TaskResult.of(group, 0)
    assert (result.episodes, result.solved) == (1, 1)


def test_a_task_whose_episodes_all_failed_is_not_tried_for_ever() -> None:
    batches = batches_of(100, policy="difficulty_pools")
    counts: Counter[str] = Counter()
    for step in range(1, 11):
        tasks = batches.next_batch(8, step)
        counts.update(ids(tasks))
        results = [
            TaskResult(task_id=t.task_id, index=i, episodes=0, solved=0)
            for t, i in zip(tasks, batches.indices_of(tasks), strict=True)
        ]
        metrics = batches.observe(step, results)
    assert "curriculum/success_mean" not in metrics
    assert len(counts) > 60


# 6. Mixtures.


def mixture(**schedules: dict[int, float]) -> MixedTasks:
    return MixedTasks(
        [
            MixedPart(name=name, tasks=tasks_of(50, name), schedule=schedule)
            for name, schedule in schedules.items()
        ]
    )


def test_sources_are_mixed_by_their_weights_and_keep_their_own_order() -> None:
    batches = TaskBatches(mixture(a={1: 3.0}, b={1: 1.0}), seed=0)
    tasks = batches.next_batch(160)
    counts = Counter(task.task_id[0] for task in tasks)
    assert counts == {"a": 120, "b": 40}
    from_a = [task for task in tasks if task.task_id[0] == "a"]
    assert Counter(ids(from_a[:50])) == Counter(f"a{i}" for i in range(50))
    assert ids(from_a[:50]) != ids(from_a[50:100])


def test_weights_follow_their_schedule() -> None:
    schedule = {10: 1.0, 20: 0.0, 30: 0.5}
    found = [weight_at(schedule, step) for step in (1, 10, 15, 20, 25, 30, 99)]
    assert found == [1.0, 1.0, 0.5, 0.0, 0.25, 0.5, 0.5]
    batches = TaskBatches(mixture(a={1: 1.0, 11: 0.0}, b={1: 0.0, 11: 1.0}), seed=0)
    shares = []
    for step in (1, 6, 11):
        tasks, _, metrics = run_step(batches, step, 40, by_number)
        share = sum(task.task_id[0] == "a" for task in tasks) / 40
        assert metrics == {"curriculum/from/a": share, "curriculum/from/b": 1 - share}
        shares.append(share)
    assert shares == [1.0, pytest.approx(0.5, abs=0.05), 0.0]


def test_a_task_of_two_sources_is_refused() -> None:
    tasks = MixedTasks(
        [
            MixedPart(name="a", tasks=tasks_of(5), schedule={1: 1.0}),
            MixedPart(name="b", tasks=tasks_of(3), schedule={1: 1.0}),
        ]
    )
    with pytest.raises(DataError, match="task 't0' is in the sources a and b, and 2 more"):
        tasks.refuse_shared_ids()
    mixture(a={1: 1.0}, b={1: 1.0}).refuse_shared_ids()
