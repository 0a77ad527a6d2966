"""Several sources as one reader, and the settings of mixture and curriculum.

1. Each source has its own reader and filters; those of the mixture apply to all together.
2. Sources have names; what is wrong names the source.
3. No task is in two sources, be they lists or indices.
4. Settings that make no sense are refused, with their place in the file.
5. An id that is no text is refused before the run starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet.config.loading.load import load_config
from ajet.config.sections.task_reader import MixtureSourceConfig, TaskReaderConfig
from ajet.errors import ConfigError, DataError
from ajet.schema.task import Task
from ajet.task_reader import task_index
from ajet.task_reader.mixed_tasks import MixedTasks
from ajet.task_reader.mixture import MixtureTaskReader, source_names
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_reader.task_index import TaskIndex
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.task_reader.unique_ids import with_unique_ids

READER = """
from ajet import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

class Words(BaseTaskReader):
    def get_training_tasks(self):
        return [Task(task_id=word, main_query=word) for word in self.reader_config.words]
"""


def write(path: Path, *queries: str, **fields: Any) -> dict[str, Any]:
    """A JSONL file, and the settings of a source that reads it."""
    rows = [{"main_query": query, **fields} for query in queries]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "type": "jsonl_dataset_file",
        "jsonl_dataset_file": {"training": {"file_path": str(path)}},
    }


def reader_of(*sources: dict[str, Any], **settings: Any) -> BaseTaskReader:
    config = {"type": "mixture", "mixture": {"sources": list(sources)}, **settings}
    return make_task_reader(TaskReaderConfig.model_validate(config))


def mixed(*sources: dict[str, Any], **settings: Any) -> MixedTasks:
    tasks = training_tasks(reader_of(*sources, **settings))
    assert isinstance(tasks, MixedTasks)
    return tasks


def queries(tasks: Any) -> list[str]:
    return [task.main_query for task in tasks]


# 1. Readers and filters.


def test_each_source_has_its_own_reader_and_filters(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(READER)
    words = {"type": f"{tmp_path}/words.py->Words", "words": ["x", "y"], "weight": 2}
    answered = write(tmp_path / "a.jsonl", "p", "q", answer="1")
    with_open = write(tmp_path / "b.jsonl", "r", answer="")
    both = {**with_open, "filters": ["has_answer"]}
    tasks = mixed(words, answered)
    assert queries(tasks) == ["x", "y", "p", "q"]
    assert queries(tasks[1:3]) == ["y", "p"] and tasks[-1].main_query == "q"
    assert [(part.name, part.start, part.end) for part in tasks.parts] == [
        ("Words", 0, 2),
        ("jsonl_dataset_file", 2, 4),
    ]
    with pytest.raises(DataError, match=r"sources, jsonl_dataset_file_2: .*no training task is"):
        mixed(answered, both)


def test_filters_and_deduplication_of_the_mixture_apply_to_all_together(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", "What is it?", "Who?", answer="1")
    other = write(tmp_path / "b.jsonl", "what  is it?", "Where?", answer="1")
    assert queries(mixed(one, other, deduplication="query")) == ["What is it?", "Who?", "Where?"]
    bad = write(tmp_path / "c.jsonl", "When?")
    with pytest.raises(DataError, match="no task of the source c is left"):
        mixed(one, {**bad, "name": "c"}, filters=["has_answer"])


def test_validation_tasks_are_joined(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", "p")
    dummy = {"type": "random_dummy", "random_dummy": {"num_tasks": 3, "num_validation_tasks": 2}}
    assert len(validation_tasks(reader_of(one, dummy))) == 2
    assert list(validation_tasks(reader_of(one))) == []


def test_an_index_stays_one_in_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", 2)
    large = write(tmp_path / "a.jsonl", *"abcdef", answer="1")
    small = write(tmp_path / "b.jsonl", "x", "y", answer="1")
    tasks = mixed(large, small, filters=["has_answer"])
    assert isinstance(tasks.parts[0].tasks, TaskIndex)
    batches = TaskBatches(tasks, seed=0)
    assert sorted(queries(batches.next_batch(12))[:12:2])
    other = mixed(write(tmp_path / "a.jsonl", *"abcdeg", answer="1"), small)
    assert TaskBatches(other, seed=0).state()["stream"] != batches.state()["stream"]


# 2. Names.


def test_sources_are_named_by_type_and_number() -> None:
    configs = [
        MixtureSourceConfig(type="random_dummy"),
        MixtureSourceConfig(type="random_dummy", name="sums"),
        MixtureSourceConfig(type="random_dummy"),
        MixtureSourceConfig(type="my.readers->Mine"),
    ]
    assert source_names(configs) == ["random_dummy_1", "sums", "random_dummy_2", "Mine"]


def test_a_mixture_needs_services_if_a_source_does() -> None:
    service = {"type": "env_service", "env_service": {"env_type": "shop"}}
    assert reader_of({"type": "random_dummy"}, service).needs_services
    assert not reader_of({"type": "random_dummy"}).needs_services
    assert not MixtureTaskReader.needs_services


# 3. Ids.


@pytest.mark.parametrize("max_in_memory", [0, 10])
def test_a_task_of_two_sources_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_in_memory: int
) -> None:
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", max_in_memory)
    one = write(tmp_path / "a.jsonl", "p", task_id="same")
    other = write(tmp_path / "b.jsonl", "q", task_id="same")
    with pytest.raises(DataError, match="task 'same' is in the sources one and two"):
        mixed({**one, "name": "one"}, {**other, "name": "two"})
    with pytest.raises(DataError, match="is in the sources"):
        mixed(write(tmp_path / "a.jsonl", "p"), write(tmp_path / "b.jsonl", "p"))


# 4. Settings.


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "mixture"}, 'type "mixture" needs mixture.sources'),
        ({"mixture": {"sources": [{"type": "mixture"}]}}, "a source cannot be a mixture"),
        ({"mixture": {"sources": [{"type": "env_service"}]}}, "env_service needs env_type"),
        (
            {
                "mixture": {
                    "sources": [
                        {"type": "env_service", "env_service": {"env_type": "a"}},
                        {
                            "type": "env_service",
                            "env_service": {"env_type": "a", "env_url": "http://127.0.0.1:9"},
                        },
                    ]
                }
            },
            'two services have the env_type "a"',
        ),
        ({"mixture": {"sources": [{"type": "random_dummy", "weight": -1}]}}, "weight"),
        ({"mixture": {"sources": [{"type": "random_dummy", "weight": {}}]}}, "empty schedule"),
        (
            {"mixture": {"sources": [{"type": "random_dummy", "weight": {1: 1.0, 5: 0.0}}]}},
            "at step 5, no source has a weight above 0",
        ),
        ({"mixture": {"sources": [{"type": "jsonl_dataset_file"}]}}, "training.file_path"),
        ({"mixture": {"sources": [{"type": "random_dummy", "weights": 1}]}}, "unknown key"),
        ({"curriculum": {"policy": "hard_first"}}, "curriculum.policy"),
        ({"curriculum": {"hard_up_to": 0.9}}, "hard_up_to .0.9. must be below easy_from"),
        ({"curriculum": {"new_share": 0.8, "retry_share": 0.3}}, "must not be more than 1"),
        ({"curriculum": {"pools": {"medium": 0, "easy": 0, "hard": 0}}}, "at least one share"),
        ({"curriculum": {"polcy": "easy_first"}}, "polcy"),
    ],
)
def test_settings_without_sense_are_refused(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    kind = "mixture" if "mixture" in section else "random_dummy"
    path = tmp_path / "a.yaml"
    ajet = {"rollout": {"user_workflow": "a.b->C"}, "model": {"path": "ajet:calculator"}}
    path.write_text(yaml.safe_dump({"ajet": {**ajet, "task_reader": {"type": kind, **section}}}))
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_file_that_an_unused_section_of_a_source_names_need_not_be_there(tmp_path: Path) -> None:
    unused = {"jsonl_dataset_file": {"training": {"file_path": "not/there.jsonl"}}}
    path = tmp_path / "a.yaml"
    ajet = {"rollout": {"user_workflow": "a.b->C"}, "model": {"path": "ajet:calculator"}}
    sources = [{"type": "random_dummy", **unused}]
    section = {"type": "mixture", "mixture": {"sources": sources}}
    path.write_text(json.dumps({"ajet": {**ajet, "task_reader": section}}))
    assert load_config(path).ajet.task_reader.type == "mixture"
    sources[0]["type"] = "jsonl_dataset_file"
    path.write_text(json.dumps({"ajet": {**ajet, "task_reader": section}}))
    assert "not/there.jsonl" in str(load_config(path).unavailable)


# 5. Ids.


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"here: the task_id 'x\\ud800' has half of a surrogate"):
        with_unique_ids([("here", Task(task_id="x\ud800"))])
