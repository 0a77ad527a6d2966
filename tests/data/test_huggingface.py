"""Tasks from data sets of the library `datasets`.

1. Every local form of the same rows gives the same tasks.
2. A hub's data set gives them, too; offline, from the cache.
3. Columns become JSON values, or the message names the column.
4. What is missing is named: split, column, configuration, data set, network.
5. Large sets are indexed, not listed.
6. Files may be compressed, and CSV files have any usual separator; no text becomes null.
7. Split expressions mean the same in every form.
8. Chats are read in the shapes of OpenAI and ShareGPT.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ajet.config.sections.task_reader import TaskReaderConfig
from ajet.errors import ConfigError, DataError
from ajet.schema.task import Task
from ajet.task_reader import task_index
from ajet.task_reader.huggingface_dat_repo import HuggingFaceTaskReader
from ajet.task_reader.read_tasks import make_task_reader
from tests.data.hub_server import hub
from tests.end_to_end.command import ROOT

ROWS = [{"question": f"{i} + 1", "solution": str(i + 1), "level": i} for i in range(10)]
SECTION = "ajet.task_reader.huggingface_dat_repo"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def reader_of(path: Path | str, **settings: Any) -> HuggingFaceTaskReader:
    section = {"dataset_path": str(path), **settings}
    config = TaskReaderConfig.model_validate(
        {"type": "huggingface_dat_repo", "huggingface_dat_repo": section}
    )
    reader = make_task_reader(config)
    assert isinstance(reader, HuggingFaceTaskReader)
    return reader


def tasks_of(path: Path | str, **settings: Any) -> list[Task]:
    return list(reader_of(path, **settings).get_training_tasks())


def rows_of(rows: list[dict[str, Any]], folder: Path, **settings: Any) -> list[Task]:
    datasets.Dataset.from_list(rows).save_to_disk(folder / "saved")
    return tasks_of(folder / "saved", **settings)


def write(form: str, folder: Path) -> Path:
    rows = datasets.Dataset.from_list(ROWS)
    path = folder / f"rows.{form}"
    if form == "parquet":
        rows.to_parquet(path)
    elif form == "jsonl":
        rows.to_json(path)
    elif form == "csv":
        rows.to_csv(path, index=False)
    elif form == "tsv":
        rows.to_csv(path, index=False, sep="\t")
    elif form == "arrow":
        with datasets.arrow_writer.ArrowWriter(path=str(path), features=rows.features) as writer:
            writer.write_batch(rows.to_dict())
            writer.finalize()
    elif form == "saved":
        rows.save_to_disk(path)
    elif form == "saved splits":
        datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(path)
    elif form == "folder":
        path.mkdir()
        rows.to_parquet(path / "train.parquet")
        rows.select([0]).to_parquet(path / "test.parquet")
    return path


# 1. Local forms.


@pytest.mark.parametrize(
    "form", ["parquet", "jsonl", "csv", "tsv", "arrow", "saved", "saved splits", "folder"]
)
def test_every_local_form_gives_the_same_tasks(form: str, tmp_path: Path) -> None:
    path = write(form, tmp_path)
    tasks = tasks_of(path, answer_key="solution")
    assert [task.main_query for task in tasks] == [row["question"] for row in ROWS]
    assert [int(task.metadata["answer"]) for task in tasks] == list(range(1, 11))
    assert tasks[3].metadata["level"] == 3
    assert tasks[3].task_id == tasks[3].content_id()
    part = tasks_of(path, training_split="train[2:4]")
    assert [task.main_query for task in part] == ["2 + 1", "3 + 1"]
    (last,) = tasks_of(path, training_split="train[90%:]")
    assert last.main_query == "9 + 1"


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv", "arrow", "folder"])
def test_streamed_rows_are_the_same(form: str, tmp_path: Path) -> None:
    path = write(form, tmp_path)
    assert tasks_of(path, streaming=True) == tasks_of(path)
    part = tasks_of(path, streaming=True, training_split="train[2:4]")
    assert part == tasks_of(path, training_split="train[2:4]")
    with pytest.raises(DataError, match="percentages and sums need streaming: false"):
        tasks_of(path, streaming=True, training_split="train[:10%]")


def test_validation_has_a_split_of_its_own(tmp_path: Path) -> None:
    path = write("saved splits", tmp_path)
    assert reader_of(path).get_validation_tasks() == []
    (task,) = reader_of(path, validation_split="test").get_validation_tasks()
    assert task.main_query == "0 + 1"


def test_the_column_of_the_query_is_found_in_order_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ajet")
    row = {"problem": "a", "prompt": "b", "text": "c"}
    assert rows_of([row], tmp_path)[0].main_query == "b"
    assert 'query from "prompt"' in caplog.text
    assert tasks_of(tmp_path / "saved", query_key="text")[0].main_query == "c"


def test_a_column_task_id_gives_the_ids(tmp_path: Path) -> None:
    rows = [{"query": "a", "task_id": 7}, {"query": "a", "task_id": 8}]
    assert [task.task_id for task in rows_of(rows, tmp_path)] == ["7", "8"]


def test_chat_messages_fill_init_messages_without_the_answer(tmp_path: Path) -> None:
    chat = [{"role": r, "content": r} for r in ("system", "user", "assistant")]
    (task,) = rows_of([{"messages": chat, "level": 1}], tmp_path)
    assert task.init_messages == chat[:2]
    assert task.main_query == "user"
    assert task.metadata == {"messages": chat, "level": 1}


def test_a_prompt_may_be_chat_messages(tmp_path: Path) -> None:
    (task,) = rows_of([{"prompt": [{"role": "user", "content": "hi"}]}], tmp_path)
    assert (task.main_query, len(task.init_messages)) == ("hi", 1)


# 2. The hub.

SCRIPT = """
import json, sys
from ajet.config.sections.task_reader import TaskReaderConfig
from ajet.errors import DataError
from ajet.task_reader.read_tasks import make_task_reader, training_tasks
section = json.loads(sys.argv[1])
config = {"type": "huggingface_dat_repo", "huggingface_dat_repo": section}
reader = make_task_reader(TaskReaderConfig.model_validate(config))
try:
    print(json.dumps([task.main_query for task in training_tasks(reader)]))
except DataError as error:
    print(json.dumps(str(error)))
"""


class Hub:
    """Reads in a fresh process: the library takes its addresses when it is imported."""

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self.cache = cache

    def read(self, offline: bool = False, **section: Any) -> Any:
        env = {**os.environ, "HF_ENDPOINT": self.url, "HF_HOME": str(self.cache)}
        env |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": str(int(offline))}
        section = {"dataset_path": "someone/sums", **section}
        command = [sys.executable, "-c", SCRIPT, json.dumps(section)]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def a_hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    rows = datasets.Dataset.from_list(ROWS)
    for name, part in (("easy", rows.select(range(4))), ("hard", rows)):
        (folder / name).mkdir()
        part.to_parquet(folder / name / "train.parquet")
    configs = "".join(f"- config_name: {x}\n  data_dir: {x}\n" for x in ("easy", "hard"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with hub(folder, "someone/sums") as server:
        yield Hub(server.url, tmp_path / "cache")


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_read_and_offline_from_the_cache(a_hub: Hub) -> None:
    queries = [row["question"] for row in ROWS]
    first = a_hub.read(dataset_name="hard", training_split="train[:3]")
    assert first == queries[:3]
    assert a_hub.read(dataset_name="easy", streaming=True) == queries[:4]
    away = Hub("http://127.0.0.1:9", a_hub.cache)
    assert away.read(offline=True, dataset_name="hard", training_split="train[:3]") == first


@pytest.mark.slow
def test_what_the_hub_lacks_is_named(a_hub: Hub) -> None:
    assert "dataset_name: cannot read" in a_hub.read(dataset_name="medium")
    assert "there is no data set someone/else" in a_hub.read(dataset_path="someone/else")
    message = a_hub.read(dataset_name="easy", training_split="dev")
    assert message.startswith(f'{SECTION}.training_split: cannot read split "dev"')


@pytest.mark.slow
def test_without_a_network_the_message_says_so(tmp_path: Path) -> None:
    away = Hub("http://127.0.0.1:9", tmp_path)
    assert "Check the network and HF_ENDPOINT" in away.read()
    assert "HF_HUB_OFFLINE forbids to fetch it" in away.read(offline=True)


# 3. Values.


def test_values_become_json(tmp_path: Path) -> None:
    day = datetime.date(2026, 1, 2)
    row = {
        "query": "a",
        "day": day,
        "at": datetime.datetime(2026, 1, 2, 3, 4),
        "took": datetime.timedelta(seconds=90),
        "price": decimal.Decimal("1.50"),
        "vector": np.array([1.5, 2.0]),
        "nested": {"days": [day], "none": None},
    }
    (task,) = rows_of([row], tmp_path)
    assert json.loads(json.dumps(task.metadata)) == task.metadata
    assert task.metadata["day"] == "2026-01-02"
    assert task.metadata["at"] == "2026-01-02T03:04:00"
    assert task.metadata["took"] == 90.0
    assert task.metadata["price"] == "1.50"
    assert task.metadata["vector"] == [1.5, 2.0]
    assert task.metadata["nested"] == {"days": ["2026-01-02"], "none": None}


@pytest.mark.parametrize("kind", [datasets.Image(), datasets.List(datasets.Image())])
def test_images_are_refused_by_column_unless_dropped(kind: Any, tmp_path: Path) -> None:
    features = datasets.Features({"query": datasets.Value("string"), "photo": kind})
    photo = {"bytes": b"x", "path": None}
    value = [[photo]] if isinstance(kind, datasets.List) else [photo]
    rows = datasets.Dataset.from_dict({"query": ["a"], "photo": value}, features=features)
    rows.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r'column "photo" of .* holds images, .*drop_columns'):
        tasks_of(tmp_path / "saved")
    (task,) = tasks_of(tmp_path / "saved", drop_columns=["photo"])
    assert task.metadata == {"query": "a"}


def test_bytes_are_refused_by_row_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'\[0\]: column "raw" holds bytes, which has no JSON'):
        rows_of([{"query": "a", "raw": b"x"}], tmp_path)


# 4. What is missing.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_key": "q"}, 'query_key: .* has no column "q"; the columns are question, sol'),
        ({"answer_key": "a"}, 'answer_key: .* has no column "a"; the columns are'),
        ({"training_split": "dev"}, r'training_split: cannot read split "dev" .*train'),
        ({"drop_columns": ["question"]}, "query_key: .* has none of the columns question, query"),
        ({"query_key": "level"}, r'\[0\]: column "level": Input should be a valid string, got 0'),
        ({"training_split": "train[5:5]"}, r'training_split: .*"train\[5:5\]"'),
    ],
)
def test_what_is_missing_is_named(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write("folder", tmp_path)
    with pytest.raises(DataError, match=message):
        tasks_of(path, **settings)


def test_an_empty_query_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [{"question": "a"}, {"question": None}]
    with pytest.raises(DataError, match=r'\[1\]: no query: column "question" is empty'):
        rows_of(rows, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "rows.parquet"
    broken.write_bytes(b"PAR1 this is no parquet")
    with pytest.raises(DataError, match=r"dataset_path: cannot read .*rows\.parquet: "):
        tasks_of(broken)
    with pytest.raises(DataError, match='got a file ".xlsx", expected one of .parquet'):
        (tmp_path / "rows.xlsx").write_text("")
        tasks_of(tmp_path / "rows.xlsx")
    torn = tmp_path / "rows.jsonl"
    torn.write_text('{"question": "a"}\n{"question": \n')
    with pytest.raises(DataError, match=r"rows.jsonl: JSON parse error: .* in row 1"):
        tasks_of(torn)


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), empty)
    with pytest.raises(DataError, match=r"empty.parquet has no row; expected at least one"):
        tasks_of(empty)


def test_a_path_that_is_no_hub_name_is_refused_by_the_configuration(tmp_path: Path) -> None:
    from ajet.config.loading.load import load_config

    conf = tmp_path / "run.yaml"
    section = "{dataset_path: data/rows.parquet}"
    conf.write_text(
        "ajet:\n  task_reader:\n    type: huggingface_dat_repo\n"
        f"    huggingface_dat_repo: {section}\n"
    )
    with pytest.raises(ConfigError, match=r'"data/rows.parquet" not found'):
        load_config(conf)


# 5. Large sets.


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("extra", [None, datetime.date(2026, 1, 2)])
def test_an_index_has_the_tasks_of_a_list(
    extra: Any, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"extra": extra} for row in [*ROWS, ROWS[4]]]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    expected = tasks_of(tmp_path / "rows.parquet", streaming=streaming)
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", 0)
    tasks = reader_of(tmp_path / "rows.parquet", streaming=streaming).get_training_tasks()
    assert isinstance(tasks, task_index.TaskIndex)
    assert list(tasks) == expected
    assert expected[10].task_id == f"{expected[4].task_id}-2"


@pytest.mark.parametrize("at_most", [0, 10_000])
def test_a_missing_number_and_nan_do_not_give_two_tasks_one_id(
    at_most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": "a", "x": x} for x in (1.5, None, float("nan"), float("inf"))]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", at_most)
    tasks = reader_of(tmp_path / "rows.parquet").get_training_tasks()
    assert len({task.task_id for task in tasks}) == len(rows)


# 6. Forms of files.


@pytest.mark.parametrize("name", ["rows.CSV", "rows.csv.gz", "rows.jsonl.gz", "rows.jsonl.bz2"])
@pytest.mark.parametrize("streaming", [False, True])
def test_compressed_files_and_capitals_are_read(name: str, streaming: bool, tmp_path: Path) -> None:
    import bz2
    import gzip

    text = b"question,n\na,1\n" if "csv" in name.lower() else b'{"question": "a", "n": 1}\n'
    compress = {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(name).suffix, bytes)
    (tmp_path / name).write_bytes(compress(text))
    (task,) = tasks_of(tmp_path / name, streaming=streaming)
    assert (task.main_query, task.metadata["n"]) == ("a", 1)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_a_csv_file_is_found(separator: str, tmp_path: Path) -> None:
    lines = separator.join(["question", "answer"]) + "\r\n" + separator.join(["a b", "1"]) + "\r\n"
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (task,) = tasks_of(tmp_path / "rows.csv")
    assert task.metadata == {"question": "a b", "answer": 1}


@pytest.mark.parametrize("is_folder", [False, True])
def test_words_of_a_csv_file_that_pandas_takes_for_nulls_are_texts(
    is_folder: bool, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,n\nNA,None,1.5\nnull,n/a,\n")
    tasks = tasks_of(tmp_path if is_folder else tmp_path / "rows.csv")
    assert [task.main_query for task in tasks] == ["NA", "null"]
    assert [task.metadata["answer"] for task in tasks] == ["None", "n/a"]
    assert [task.metadata["n"] for task in tasks] == [1.5, None]


def test_csv_rows_that_are_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\nAnn, has 3,5\nSam, has 2,4\n")
    with pytest.raises(DataError, match="the first row has 3 fields, but the header names 2"):
        tasks_of(tmp_path / "rows.csv")


@pytest.mark.parametrize("header", ["question;answer (m, kg)", '"question";"answer, long"'])
def test_a_separator_in_a_name_is_none(header: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\na;1\n")
    (task,) = tasks_of(tmp_path / "rows.csv")
    assert len(task.metadata) == 2 and task.main_query == "a"


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"question,n\n{'x' * 200_000},1\n")
    (task,) = tasks_of(tmp_path / "rows.csv")
    assert len(task.main_query) == 200_000


def test_a_folder_of_csv_files_may_have_configurations(tmp_path: Path) -> None:
    names = "".join(f"- config_name: {x}\n  data_files: {x}.csv\n" for x in ("a", "b"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{names}---\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"question\n{name}\n")
    assert tasks_of(tmp_path, dataset_name="b")[0].main_query == "b"
    with pytest.raises(DataError, match="dataset_name: .*(a|b)"):
        tasks_of(tmp_path)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"question\n" + "grün\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"rows.csv is not UTF-8: save it in that encoding"):
        tasks_of(tmp_path / "rows.csv")


def test_splits_of_a_folder_may_have_different_formats(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    rows.to_parquet(tmp_path / "train.parquet")
    rows.select([0]).to_json(tmp_path / "test.jsonl")
    assert len(tasks_of(tmp_path)) == 10
    (task,) = tasks_of(tmp_path, training_split="test")
    assert task.main_query == "0 + 1"


def test_a_folder_without_data_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no data file; expected one of .parquet"):
        tasks_of(tmp_path)


# 7. Split expressions, the same in every form.

EXPRESSIONS = {
    "train[10%:20%]": [1],
    "train[-2:]": [8, 9],
    "train[:-8]": [0, 1],
    "train[8:100]": [8, 9],
    "train[80%:]+test[:1]": [8, 9, 0],
    "all": [*range(10), 0, 1, 2],
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_split_expressions(expression: str, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    splits = {"train": rows, "test": rows.select(range(3))}
    datasets.DatasetDict({**splits, "none": rows.select([])}).save_to_disk(tmp_path / "saved")
    (tmp_path / "folder").mkdir()
    for name, part in splits.items():
        part.to_parquet(tmp_path / "folder" / f"{name}.parquet")
    for form in ("saved", "folder"):
        tasks = tasks_of(tmp_path / form, training_split=expression)
        assert [task.metadata["level"] for task in tasks] == EXPRESSIONS[expression]


@pytest.mark.parametrize("split", ["none", "train[20:30]", "train[5:5]"])
def test_a_split_without_rows_is_named(split: str, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    saved = {"train": rows, "none": rows.select([])}
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="training_split: split .* has no row"):
        tasks_of(tmp_path / "saved", training_split=split)


@pytest.mark.parametrize("split", ["train[abc]", "train[:200%]", "train[3]", "train[::2]"])
def test_a_malformed_split_expression_names_the_setting(split: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training_split: cannot read split"):
        tasks_of(write("parquet", tmp_path), training_split=split)


# 8. Chats.


def jsonl_of(rows: list[dict[str, Any]], folder: Path, **settings: Any) -> list[Task]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tasks_of(folder / "rows.jsonl", **settings)


def test_sharegpt_chats_get_the_names_of_chat_completions(tmp_path: Path) -> None:
    turns = [("human", "hi"), ("gpt", "yes?"), ("human", "sum"), ("gpt", "3")]
    chat = [{"from": name, "value": value} for name, value in turns]
    (task,) = jsonl_of([{"system": "short", "conversations": chat}], tmp_path)
    assert task.init_messages == [
        {"role": "system", "content": "short"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "sum"},
    ]
    assert task.main_query == "sum"


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOOL_CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "r"},
    {"role": "user", "content": "again"},
]


@pytest.mark.parametrize("form", ["jsonl", "saved"])
@pytest.mark.parametrize("at_most", [0, 10_000])
def test_chats_with_tool_calls_are_as_they_were(
    form: str, at_most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_index, "MAX_IN_MEMORY", at_most)
    read = jsonl_of if form == "jsonl" else rows_of
    rows = [{"messages": [*TOOL_CHAT, {"role": "assistant", "content": "bye"}]}]
    (task,) = read(rows, tmp_path)
    assert task.init_messages == TOOL_CHAT


@pytest.mark.parametrize("form", ["jsonl", "saved"])
def test_the_query_is_the_text_of_content_parts(form: str, tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "a"}},
        {"type": "text", "text": "this?"},
    ]
    read = jsonl_of if form == "jsonl" else rows_of
    (task,) = read([{"messages": [{"role": "user", "content": parts}]}], tmp_path)
    assert task.main_query == "what is\nthis?"
    assert task.init_messages[0]["content"] == parts


def test_lists_of_other_objects_are_no_chats(tmp_path: Path) -> None:
    rows = [{"question": "q", "prompt": [{"a": 1}, {"b": [2]}, {"b": {"c": 3}}, "text"]}]
    (task,) = jsonl_of(rows, tmp_path)
    assert (task.main_query, task.init_messages) == ("q", [])


def test_query_key_may_name_a_column_of_chats(tmp_path: Path) -> None:
    row = {"dialog": [{"role": "user", "content": "x"}], "question": "q"}
    (task,) = jsonl_of([row], tmp_path, query_key="dialog")
    assert (task.main_query, len(task.init_messages)) == ("x", 1)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "assistant", "content": "x"}, "no message is of a user"),
        ({"role": None, "content": "x"}, "expected a message with role and content"),
    ],
)
def test_what_is_no_chat_is_named(message: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf'\[0\]: column "messages": .*{expected}'):
        jsonl_of([{"messages": [message]}], tmp_path)
