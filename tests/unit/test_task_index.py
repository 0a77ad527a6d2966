"""Large sources: an index stands for the list, and nothing else changes.

1. The tasks, their ids and their order are those of a list.
2. Equal rows are numbered, ids that occur twice refused, wherever they stand.
3. Batches of an index are those of the list; its position is restored.
4. A file that changes under the run is refused.
"""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ajet.errors import CheckpointError, DataError
from ajet.schema.task import Task
from ajet.task_reader import task_index
from ajet.task_reader.jsonl_task_reader import read_jsonl
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_reader.task_index import TaskIndex

ROWS: list[dict[str, Any]] = [{"main_query": f"q{i}", "level": i} for i in range(50)]


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    return path


def indexed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Task]:
    with monkeypatch.context() as patch:
        patch.setattr(task_index, "MAX_IN_MEMORY", 0)
        tasks = read_jsonl(path, "main_query")
    assert isinstance(tasks, TaskIndex)
    return tasks


# 1. A list and an index.


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        [row | {"task_id": f"t{i}"} for i, row in enumerate(ROWS)],
        [row | ({"task_id": i} if i % 2 else {}) for i, row in enumerate(ROWS)],
        [{"main_query": "a", "metadata": {"x": 1}}, {"main_query": "b", "env_type": "e"}],
        [{"init_messages": [{"role": "user", "content": "hi"}]}],
        [ROWS[0], ROWS[1], ROWS[0], ROWS[0], ROWS[1]],
        [{"main_query": "a", "x": 1}, {"x": 1, "main_query": "a"}],
        [{"main_query": "a", "x": 1}, {"main_query": "a", "metadata": {"x": 1}}],
        [{"main_query": "a", "x": x} for x in (None, math.nan, math.inf, -math.inf, "NaN")],
        [{"main_query": "a", "x": math.nan}, {"main_query": "a", "metadata": {"x": None}}],
    ],
)
def test_an_index_has_the_tasks_of_a_list(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, rows)
    tasks = indexed(path, monkeypatch)
    expected = read_jsonl(path, "main_query")
    assert isinstance(expected, list)
    assert list(map(repr, tasks)) == list(map(repr, expected))  # NaN equals nothing
    assert len(tasks) == len(rows) == len({task.task_id for task in tasks})
    assert repr(tasks[1:3]) == repr(expected[1:3])
    assert repr(tasks[-1]) == repr(expected[-1])
    assert repr(list(pickle.loads(pickle.dumps(tasks)))) == repr(expected)


def test_few_tasks_are_a_list(tmp_path: Path) -> None:
    assert isinstance(read_jsonl(write(tmp_path, ROWS), "main_query"), list)


# 2. Ids.


def test_an_id_that_occurs_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"task_id": f"t{i % 49}"} for i, row in enumerate(ROWS)]
    path = write(tmp_path, rows)
    with pytest.raises(DataError, match=f'{path}:99: task_id "t0" is already used at {path}:1:'):
        indexed(path, monkeypatch)


def test_an_id_may_not_be_that_of_another_rows_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content_id = Task(main_query="q1", metadata={"level": 1}).content_id()
    path = write(tmp_path, [ROWS[0] | {"task_id": content_id}, ROWS[1]])
    with pytest.raises(DataError, match=f'task_id "{content_id}" is already used'):
        indexed(path, monkeypatch)


def test_equal_rows_are_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    indexed(write(tmp_path, [*ROWS, ROWS[3], ROWS[3]]), monkeypatch)
    (record,) = caplog.records
    assert "2 tasks are equal to earlier ones" in record.getMessage()


# 3. Batches.


def test_batches_and_their_position_are_those_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, ROWS)
    tasks = indexed(path, monkeypatch)
    batches = TaskBatches(tasks, seed=3)
    expected = TaskBatches(list(tasks), seed=3)
    assert batches.next_batch(70) == expected.next_batch(70)
    restored = TaskBatches(indexed(path, monkeypatch), seed=3)
    restored.restore(json.loads(json.dumps(batches.state())))
    assert restored.next_batch(70) == expected.next_batch(70)


def test_the_order_is_that_of_a_shuffled_list(tmp_path: Path) -> None:
    tasks = read_jsonl(write(tmp_path, ROWS), "main_query")
    order = list(tasks)
    random.Random("task order 3 0").shuffle(order)
    assert TaskBatches(tasks, seed=3).next_batch(len(order)) == order


def test_the_position_of_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = TaskBatches(indexed(write(tmp_path, ROWS), monkeypatch), seed=3).state()
    other = [*ROWS[:-1], ROWS[-1] | {"level": -1}]
    batches = TaskBatches(indexed(write(tmp_path, other), monkeypatch), seed=3)
    with pytest.raises(CheckpointError, match="the training tasks"):
        batches.restore(state)


# 4. Changes.


def test_a_file_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ROWS)
    tasks = indexed(path, monkeypatch)
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match=f"{path}:3: the file changed while"):
        tasks[1]
    path.unlink()
    with pytest.raises(DataError, match=f"{path}:3: No such file"):
        tasks[1]
