"""The order of tasks.

1. Every epoch is a permutation of all tasks, given by (seed, epoch) alone.
2. How the stream is cut into batches does not change it.
3. Saved at any point and restored, it goes on as if it had never stopped.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.errors import CheckpointError
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches

counts = st.integers(1, 12)
sizes = st.lists(st.integers(1, 9), max_size=8)
seeds = st.integers(0, 2**40)


def batches_of(count: int, seed: int = 0, *, shuffle: bool = True) -> TaskBatches:
    tasks = [Task(task_id=f"t{i}") for i in range(count)]
    return TaskBatches(tasks, seed=seed, shuffle=shuffle)


def ids(tasks: list[Task]) -> list[str]:
    return [task.task_id for task in tasks]


@settings(deadline=None)
@given(count=counts, seed=seeds, shuffle=st.booleans())
def test_every_epoch_has_every_task_once(count: int, seed: int, shuffle: bool) -> None:
    batches = batches_of(count, seed, shuffle=shuffle)
    for epoch in range(3):
        assert batches.epoch == epoch
        assert Counter(ids(batches.next_batch(count))) == Counter(f"t{i}" for i in range(count))


@settings(deadline=None)
@given(count=counts, seed=seeds, cut=sizes)
def test_batch_sizes_do_not_change_the_stream(count: int, seed: int, cut: list[int]) -> None:
    batches = batches_of(count, seed)
    pieces = [task for size in cut for task in ids(batches.next_batch(size))]
    assert pieces == ids(batches_of(count, seed).next_batch(sum(cut)))


@settings(deadline=None)
@given(count=counts, seed=seeds, before=sizes, after=sizes, shuffle=st.booleans())
def test_a_restored_stream_goes_on_where_it_was(
    count: int, seed: int, before: list[int], after: list[int], shuffle: bool
) -> None:
    original = batches_of(count, seed, shuffle=shuffle)
    for size in before:
        original.next_batch(size)
    state = json.loads(json.dumps(original.state()))
    restored = batches_of(count, seed, shuffle=shuffle)
    restored.restore(state)
    assert restored.epoch == original.epoch
    for size in after:
        assert ids(restored.next_batch(size)) == ids(original.next_batch(size))
    assert restored.state() == original.state()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    batches = batches_of(50)
    orders = [ids(batches.next_batch(50)) for _ in range(3)]
    orders.append(ids(batches_of(50, seed=1).next_batch(50)))
    assert all(a != b for a, b in pairwise(orders))
    assert len({tuple(order) for order in orders}) == 4


def test_without_shuffling_the_order_is_the_readers() -> None:
    assert ids(batches_of(3, shuffle=False).next_batch(5)) == ["t0", "t1", "t2", "t0", "t1"]


@pytest.mark.parametrize(
    "other", [batches_of(4), batches_of(5, seed=1), batches_of(5, shuffle=False)]
)
def test_the_state_of_another_stream_is_refused(other: TaskBatches) -> None:
    with pytest.raises(CheckpointError, match="cannot resume: the training tasks"):
        batches_of(5).restore(other.state())


@pytest.mark.parametrize(
    ("count", "size", "epochs", "steps"),
    [(640, 16, 1, 40), (10, 4, 2, 5), (10, 4, 1, 2), (3, 9, 1, 1)],
)
def test_number_of_batches(count: int, size: int, epochs: int, steps: int) -> None:
    assert batches_of(count).num_batches(size, epochs) == steps
