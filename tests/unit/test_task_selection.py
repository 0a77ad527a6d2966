"""Filters and deduplication.

1. A task is used if every filter keeps it, in the reader's order, with the same id.
2. Of equal queries the first is used.
3. An index stays an index, and its fingerprint says which tasks were chosen.
4. What leaves no task, or is no filter, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.config.sections.task_reader import TaskReaderConfig
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader import task_index
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.selection import select_tasks
from ajet.task_reader.task_index import TaskIndex

FILTERS = """
def easy(task):
    return task.metadata["level"] < 3

class Shorter:
    def __init__(self, reader_config):
        self.limit = reader_config.longest
    def __call__(self, task):
        return len(task.main_query) <= self.limit

def broken(task):
    return task.metadata["depth"] > 1

class Unmakeable:
    def __call__(self, task):
        return True

def careless(task):
    return task.metadata.get("nothing")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_filters.py"
    path.write_text(FILTERS)
    return path


def tasks_of(*queries: str, **metadata: Any) -> list[Task]:
    return [
        Task(main_query=query, task_id=f"t{i}", metadata={"level": i, **metadata})
        for i, query in enumerate(queries)
    ]


def ids(tasks: Sequence[Task]) -> list[str]:
    return [task.task_id for task in tasks]


def select(tasks: Sequence[Task], *filters: str, **settings: Any) -> Sequence[Task]:
    return select_tasks(tasks, SimpleNamespace(filters=list(filters), **settings), "training")


def test_every_filter_must_keep_a_task(file: Path) -> None:
    tasks = tasks_of("aaaa", "b", "c", "d")
    assert ids(select(tasks, f"{file}->easy")) == ["t0", "t1", "t2"]
    assert ids(select(tasks, f"{file}->easy", f"{file}->Shorter", longest=1)) == ["t1", "t2"]
    assert select(tasks) is tasks


def test_has_answer_is_a_name() -> None:
    tasks = [*tasks_of("a", answer="1"), *tasks_of("b", answer=""), *tasks_of("c")]
    assert [task.main_query for task in select(tasks, "has_answer")] == ["a"]
    assert [task.main_query for task in select(tasks_of("z", answer=0), "has_answer")] == ["z"]


def test_of_equal_queries_the_first_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ajet")
    tasks = tasks_of("What is  1?", "what is 1?", "What is 2?")
    assert ids(select(tasks, deduplication="query")) == ["t0", "t2"]
    assert "2 of 3 tasks are used; deduplication dropped 1" in caplog.text
    talks = [
        Task(task_id=f"t{i}", init_messages=[{"role": "user", "content": text}])
        for i, text in enumerate("aba")
    ]
    assert ids(select(talks, deduplication="query")) == ["t0", "t1"]


def test_the_settings_apply_to_both_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"main_query": f"q{i % 5}", "level": i} for i in range(10)]
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    split = {"file_path": str(path)}
    section = {"jsonl_dataset_file": {"training": split, "validation": split}}

    def read(**settings: Any) -> Sequence[Task]:
        config = TaskReaderConfig.model_validate(section | settings)
        assert len(validation_tasks(make_task_reader(config))) == (5 if settings else 10)
        return training_tasks(make_task_reader(config))

    expected = read()[:5]
    assert read(deduplication="query") == expected
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", 0)
    every, chosen = read(), read(deduplication="query")
    assert isinstance(every, TaskIndex)
    assert isinstance(chosen, TaskIndex)
    assert list(chosen) == expected
    assert chosen.fingerprint != every.fingerprint
    assert chosen[-1] == expected[-1]


def test_what_leaves_no_task_is_refused() -> None:
    with pytest.raises(DataError, match="no training task is left of 2: has_answer dropped 2"):
        select(tasks_of("a", "b"), "has_answer")


def test_a_filter_that_answers_neither_yes_nor_no_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match="careless returned None for task t0; expected True"):
        select(tasks_of("a"), f"{file}->careless")


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r'got "has_anwser", expected "has_answer", or'):
        TaskReaderConfig.model_validate({"type": "random_dummy", "filters": ["has_anwser"]})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", r"my_filters.py:\d+: KeyError: 'depth'"),
        ("Unmakeable", "TypeError: Unmakeable.. takes no arguments"),
    ],
)
def test_a_filter_that_raises_is_named_with_its_line(file: Path, name: str, words: str) -> None:
    path = file.parent / "tasks.jsonl"
    path.write_text(json.dumps({"main_query": "q"}) + "\n")
    section = {"training": {"file_path": str(path)}}
    config = TaskReaderConfig.model_validate(
        {"jsonl_dataset_file": section, "filters": [f"{file}->{name}"]}
    )
    with pytest.raises(DataError, match=f"^ajet.task_reader.filters failed at .*{words}"):
        training_tasks(make_task_reader(config))
