"""Task readers: every task has a query and a unique id, otherwise an error names its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.config.sections.task_reader import TaskReaderConfig
from ajet.errors import ConfigError, DataError
from ajet.schema.task import Task
from ajet.task_reader.jsonl_task_reader import JsonlTaskReader, read_jsonl
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.task_reader_base import BaseTaskReader

GOOD = '{"main_query": "1 + 1", "task_id": "a"}'
NESTED = '{{"main_query": "b", "x": {}}}'


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return path


def config_of(
    training: Path | None, validation: Path | None = None, **fields: Any
) -> TaskReaderConfig:
    return TaskReaderConfig.model_validate(
        {
            "jsonl_dataset_file": {
                "training": {"file_path": training and str(training)},
                "validation": {"file_path": validation and str(validation)},
                **fields,
            }
        }
    )


# JSONL.


def test_the_fields_of_a_task_are_read(tmp_path: Path) -> None:
    record = {
        "main_query": "1 + 1",
        "task_id": "a",
        "env_type": "calculator",
        "init_messages": [{"role": "system", "content": "compute"}],
        "metadata": {"answer": "2"},
    }
    assert read_jsonl(write(tmp_path, json.dumps(record)), "main_query") == [Task(**record)]


def test_other_fields_go_to_metadata(tmp_path: Path) -> None:
    line = '{"question": "1 + 1 = π?", "answer": "#### 2", "metadata": {"level": 1}}'
    (task,) = read_jsonl(write(tmp_path, line), "question")
    assert task.main_query == "1 + 1 = π?"
    assert task.metadata == {"answer": "#### 2", "level": 1}


def test_a_missing_id_is_made_from_the_content(tmp_path: Path) -> None:
    lines = ['{"main_query": "a"}', '{"main_query": "b"}']
    first, second = read_jsonl(write(tmp_path, *lines), "main_query")
    again = read_jsonl(write(tmp_path, *reversed(lines)), "main_query")
    assert first.task_id != second.task_id
    assert [task.task_id for task in again] == [second.task_id, first.task_id]


def test_blank_lines_and_a_byte_order_mark_are_skipped(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbf" + GOOD.encode(), "", "  \r", '{"main_query": "b"}\r']
    assert len(read_jsonl(write(tmp_path, *lines), "main_query")) == 2


def test_a_task_may_have_messages_instead_of_a_query(tmp_path: Path) -> None:
    line = '{"init_messages": [{"role": "user", "content": "hi"}]}'
    (task,) = read_jsonl(write(tmp_path, line), "main_query")
    assert task.main_query == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a":}', ":2: not valid JSON: Expecting value (column 6)"),
        (b'{"main_query": "\xff"}', ":2: not valid UTF-8: invalid start byte (byte 16)"),
        ('["a"]', ":2: got a JSON list, expected an object"),
        ('{"question": "b"}', ':2: no query in "main_query" or "init_messages"; '),
        ('{"question": "b"}', "the keys are question"),
        ('{"main_query": ""}', ":2: no query"),
        ("{}", "the keys are none"),
        ('{"main_query": 5}', ":2: main_query: Input should be a valid string, got 5"),
        ('{"main_query": "b", "task_id": 0.5}', ":2: task_id: Input should be a valid string, got"),
        (
            '{"main_query": "b", "task_id": true}',
            ":2: task_id: Input should be a valid string, got",
        ),
        ('{"main_query": "b", "x": 1, "metadata": {"x": 2}}', ':2: "x" is in the object and'),
        (GOOD, ':2: task_id "a" is already used at'),
        (r'{"main_query": "\ud800 hi"}', r":2: a text has half of a surrogate pair ('\ud800')"),
        (r'{"main_query": "hi", "task_id": "b", "x\uD83D": 1}', "half of a surrogate pair"),
        (NESTED.format("[" * 100_000 + "]" * 100_000), ":2: nested too deeply: expected at most"),
        (NESTED.format("[" * 300 + "]" * 300), ":2: nested too deeply: expected at most 200"),
        (NESTED.format("9" * 5000), ":2: not readable: Exceeds the limit (4300 digits)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str | bytes, message: str) -> None:
    path = write(tmp_path, GOOD, line, GOOD)
    with pytest.raises(DataError) as raised:
        read_jsonl(path, "main_query")
    assert str(raised.value).startswith(f"{path}:2:")
    assert message in str(raised.value)


def test_both_lines_of_a_duplicate_id_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "", GOOD)
    with pytest.raises(DataError, match=f"{path}:3: .* already used at {path}:1: give each task"):
        read_jsonl(path, "main_query")


def test_equal_rows_are_numbered_and_one_warning_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row, other = '{"main_query": "a"}', '{"main_query": "b"}'
    path = write(tmp_path, row, row, other, row, other)
    ids = [task.task_id for task in read_jsonl(path, "main_query")]
    a, b = ids[0], ids[2]
    assert ids == [a, f"{a}-2", b, f"{a}-3", f"{b}-2"]
    (record,) = caplog.records
    assert f"3 tasks are equal to earlier ones ({path}:2 equals {path}:1)" in record.getMessage()


def test_null_fields_are_absent_and_integer_ids_are_texts(tmp_path: Path) -> None:
    line = '{"main_query": "a", "task_id": 7, "init_messages": null, "metadata": null, "x": null}'
    (task,) = read_jsonl(write(tmp_path, line), "main_query")
    assert task == Task(main_query="a", task_id="7", metadata={"x": None})
    (task,) = read_jsonl(write(tmp_path, '{"main_query": "a", "task_id": null}'), "main_query")
    assert task.task_id == task.content_id()


def test_a_pair_of_surrogate_escapes_is_a_character(tmp_path: Path) -> None:
    (task,) = read_jsonl(write(tmp_path, r'{"main_query": "\ud83d\ude00"}'), "main_query")
    assert task.main_query == "\N{GRINNING FACE}"


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_file_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(DataError, match="the file has no task"):
        read_jsonl(write(tmp_path, *lines), "main_query")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    reader = JsonlTaskReader(config_of(tmp_path / "nothing.jsonl"))
    with pytest.raises(DataError, match=r"nothing\.jsonl: No such file .*jsonl_dataset_file"):
        reader.get_training_tasks()
    with pytest.raises(DataError, match="Is a directory"):
        read_jsonl(tmp_path, "main_query")


def test_validation_data_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert JsonlTaskReader(config_of(path)).get_validation_tasks() == []
    assert len(JsonlTaskReader(config_of(path, path)).get_validation_tasks()) == 1


# By name, by class path.


def test_every_registered_name_makes_its_reader(tmp_path: Path) -> None:
    config = config_of(write(tmp_path, GOOD))
    assert [task.task_id for task in training_tasks(make_task_reader(config))] == ["a"]
    dummy = make_task_reader(TaskReaderConfig(type="random_dummy"))
    assert len(training_tasks(dummy)) == 1000
    assert len(validation_tasks(dummy)) == 64
    numbers = {task.metadata["random_number"] for task in training_tasks(dummy)}
    assert len(numbers) > 900
    assert all(isinstance(number, int) for number in numbers)


def test_dummy_tasks_are_repeatable_and_differ_from_validation_tasks() -> None:
    config = TaskReaderConfig(type="random_dummy")
    first, second = (make_task_reader(config) for _ in range(2))
    assert first.get_training_tasks() == second.get_training_tasks()
    training = {task.main_query for task in first.get_training_tasks()}
    validation = {task.main_query for task in first.get_validation_tasks()}
    assert training != validation


def test_a_users_reader_is_named_by_its_class_path(tmp_path: Path) -> None:
    file = tmp_path / "my_reader.py"
    file.write_text(
        "from ajet import Task\n"
        "from ajet.task_reader.task_reader_base import BaseTaskReader\n"
        "class Mine(BaseTaskReader):\n"
        "    def get_training_tasks(self):\n"
        "        yield Task(main_query=self.reader_config.greeting)\n"
    )
    reader = make_task_reader(SimpleNamespace(type=f"{file}->Mine", greeting="hi"))
    (task,) = training_tasks(reader)
    assert (task.main_query, task.task_id) == ("hi", task.content_id())
    assert validation_tasks(reader) == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match='got "csv", expected one of jsonl_dataset_file'):
        make_task_reader(SimpleNamespace(type="csv"))


# What a user's reader may do wrong.


def reader_of(tasks: Iterable[Any]) -> BaseTaskReader:
    class Listed(BaseTaskReader):
        def get_training_tasks(self) -> Iterable[Task]:
            return tasks

    return Listed(None)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "returned no task; expected at least one"),
        (
            [Task(task_id="a"), Task(task_id="a")],
            r"\[1\]: task_id \"a\" is already used at .*\[0\]",
        ),
        ([Task(main_query="\ud800")], r"\[0\]: the task cannot be written as JSON"),
        ([{"main_query": "a"}], r"get_training_tasks\(\)\[0\]: got a dict, expected a Task"),
    ],
)
def test_tasks_of_a_users_reader_are_checked(tasks: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        training_tasks(reader_of(tasks))


def test_a_reader_without_tasks_says_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"BaseTaskReader has no get_training_tasks"):
        training_tasks(BaseTaskReader(None))
