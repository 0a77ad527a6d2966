"""A generation as a whole, against a scripted model.

1. Questions about documents become validation tasks, tasks like the examples become training tasks;
   each has an answer, and an excerpt that really stands in the document.
2. What cannot be trusted is dropped and counted.
3. Nothing is asked twice: not after an edit, a budget, a failure or a kill.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from ajet.data_generation.task_files import TaskFiles
from ajet.errors import DataError, ModelCallError
from ajet.model_client import PLACE
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from tests.data_generation.writer import (
    NAMES,
    changed,
    is_check,
    is_imitation,
    said,
    settings,
    write,
    write_document,
)
from tests.judges.model_server import ModelServer, Reply, serving


@pytest.fixture(autouse=True)
def _place(monkeypatch):
    monkeypatch.setattr(PLACE, "run_folder", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "documents").mkdir()
    write_document(tmp_path / "documents" / "towers.txt")
    return tmp_path


def bodies(server: ModelServer) -> list[str]:
    return [json.dumps(request, sort_keys=True) for request in server.requests]


def test_tasks_have_an_answer_and_an_excerpt_from_the_document(folder):
    with serving(write) as server:
        files = TaskFiles(settings(folder, server.url))
        report = files.make()
    assert (report.training, report.validation) == (6, 20)
    text = (folder / "documents" / "towers.txt").read_text()
    for task in files.validation():
        assert task.metadata["excerpt"] in text
        assert task.metadata["answer"] in task.metadata["excerpt"]
        assert (task.metadata["document"], task.metadata["chunk"]) == ("towers.txt", "0")
    assert all(task.metadata["origin"] == "example" for task in files.training())
    assert report.num_questions == len(server.requests) == 1 + 20 + 6 + 6
    calls = (folder / "generated" / "model_calls.jsonl").read_text().splitlines()
    assert len(calls) == len(server.requests)
    assert all(json.loads(line)["purpose"] == "data_generation" for line in calls)


def test_examples_of_the_user_are_imitated_and_validated_on(folder):
    example = {"main_query": "Is Rome older than Paris?", "answer": "yes", "task_id": "mine"}
    (folder / "examples.jsonl").write_text(json.dumps(example))
    reader = {"jsonl_dataset_file": {"training": {"file_path": str(folder / "examples.jsonl")}}}
    with serving(write) as server:
        files = TaskFiles(settings(folder, server.url, query_reader=reader, num_examples=20))
        files.make()
        shown = [b for b in server.requests if is_imitation(b)]
    assert "mine" in [task.task_id for task in files.validation()]
    text = "Is Rome older than Paris?\nAnswer: yes"
    assert sum(text in said(body) for body in shown) >= len(shown) / 2


def test_without_documents_only_examples_are_imitated(tmp_path):
    lines = [json.dumps({"main_query": f"{i} + 1?", "answer": str(i + 1)}) for i in (300, 301)]
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    reader = {"jsonl_dataset_file": {"training": {"file_path": str(tmp_path / "examples.jsonl")}}}
    with serving(write) as server:
        files = TaskFiles(settings(tmp_path, server.url, query_reader=reader))
        report = files.make()
    assert [task.main_query for task in files.training()][:2] == ["1 + 1?", "2 + 2?"]
    assert (report.training, report.validation, len(server.requests)) == (6, 2, 6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"excerpt": "The Orla tower is 99 metres high."}, "the excerpt is not in the document"),
        ({"excerpt": ""}, "the excerpt is not in the document"),
        ({"answer": " "}, "no question or no answer"),
        ({"question": ""}, "no question or no answer"),
        ({"answer": "1000"}, "the answer is wrong"),
    ],
)
def test_what_cannot_be_trusted_is_dropped_and_counted(fields, reason, folder):
    with serving(changed(**fields)) as server:
        given = {"deduplication_filter": {"enabled": False}}
        report = TaskFiles(settings(folder, server.url, **given)).make()
    assert (report.training, report.validation) == (0, 0) and report.dropped[reason] >= 19


def test_the_same_question_again_is_dropped_also_without_the_filter(folder):
    with serving(changed(question="How high is it?")) as server:
        given = {"deduplication_filter": {"enabled": False}, "check_answers": False}
        files = TaskFiles(settings(folder, server.url, **given))
        report = files.make()
    assert (len(files.training()), len(files.validation())) == (1, 1)
    assert report.dropped["the same question again"] > 19


def test_a_number_is_an_answer(folder):
    with serving(changed(answer=40)) as server:
        files = TaskFiles(settings(folder, server.url, check_answers=False))
        files.make()
        assert {task.metadata["answer"] for task in files.training()} == {"40"}


def test_an_excerpt_that_does_not_answer_is_dropped(folder):
    question = {"question": "How old is the Zyx tower and who built it?", "answer": "70"}
    with serving(changed(**question)) as server:
        report = TaskFiles(settings(folder, server.url)).make()
        assert report.dropped["the excerpt does not answer it"] >= 1
        unchecked = settings(folder, server.url, check_answers=False, output_dir=f"{folder}/2")
        assert TaskFiles(unchecked).make().validation == 1  # the negative control


def test_filters_of_the_user_and_the_language_decide(folder):
    filters = [{"type": "pattern", "params": {"keep": ["Orla|Bek|Cimbri"]}}]
    with serving(write) as server:
        given = {"filters": filters, "document_reader": {"languages": ["eng"]}}
        files = TaskFiles(settings(folder, server.url, **given))
        report = files.make()
        assert report.validation == 3 and report.dropped["pattern"] >= 17
        given = {"document_reader": {"languages": ["deu"]}, "output_dir": f"{folder}/2"}
        report = TaskFiles(settings(folder, server.url, **given)).make()
        assert report.validation == 0 and report.dropped["language"] >= 19


def test_a_second_start_asks_nothing_and_keeps_edits(folder):
    with serving(write) as server:
        files = TaskFiles(settings(folder, server.url))
        files.make()
        asked = len(server.requests)
        path = folder / "generated" / "tasks.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
        again = TaskFiles(settings(folder, server.url)).make()
        assert not again.is_new and again.training == 2
        more = TaskFiles(settings(folder, server.url, task_num=7)).make()
        assert len(server.requests) == asked + 2  # one more task, and its check
    assert more.training == 7 and "is kept as" in more.lines()[-1]
    assert len((folder / "generated" / "tasks.edited_1.jsonl").read_text().splitlines()) == 2


def test_another_document_asks_only_about_that(folder):
    with serving(write) as server:
        given = {"task_num": 20, "questions_per_chunk": 20}
        TaskFiles(settings(folder, server.url, **given)).make()
        first = Counter(bodies(server))
        (folder / "documents" / "zoo.txt").write_text("A text without any fact about towers.")
        TaskFiles(settings(folder, server.url, **given)).make()
        assert max(Counter(bodies(server)).values()) == 1 == max(first.values())


def test_a_budget_stops_it_with_the_tasks_so_far_and_it_continues(folder):
    with serving(write) as server:
        few = {"model_client": {"max_calls": 9}, "num_workers": 1}
        report = TaskFiles(settings(folder, server.url, **few)).make()
        assert len(server.requests) == 9
        assert (report.training, report.validation) == (0, 8)
        assert "max_calls 9" in report.stopped and report.dropped["not checked"] == 12
        reader = make_task_reader_of(settings(folder, server.url, **few))
        with pytest.raises(DataError, match="continues when it is started again"):
            training_tasks(reader)
        report = TaskFiles(settings(folder, server.url, num_workers=1)).make()
        assert (report.training, report.validation, report.stopped) == (6, 20, "")
    assert max(Counter(bodies(server)).values()) == 1


def test_some_unusable_answers_are_left_out_and_many_end_it(folder):
    def sometimes(body, number):
        is_bad = is_check(body) and "Orla" in json.dumps(body)
        return Reply(content="no JSON") if is_bad else write(body, number)

    with serving(sometimes) as server:
        report = TaskFiles(settings(folder, server.url)).make()
        assert report.validation == 19 and report.dropped["not checked"] >= 1
    with serving(Reply(status=401, content="bad key")) as server:
        with pytest.raises(ModelCallError, match="bad key"):
            TaskFiles(settings(folder, server.url, output_dir=f"{folder}/2")).make()
        assert len(server.requests) == 1


def make_task_reader_of(config):
    section = type("Section", (), {"type": "data_generation", "data_generation": config})()
    return make_task_reader(section)


def test_the_reader_makes_the_tasks_once_and_warns_of_changes(folder, caplog):
    with serving(write) as server:
        reader = make_task_reader_of(settings(folder, server.url))
        assert reader.not_ready() and reader.needs_services
        assert (len(training_tasks(reader)), len(validation_tasks(reader))) == (6, 20)
        asked = len(server.requests)
        other = make_task_reader_of(settings(folder, server.url, task_num=9))
        assert other.not_ready() is None and len(training_tasks(other)) == 6
        assert len(server.requests) == asked
    assert "have changed since the tasks were made" in caplog.text


def run_command(folder: Path, url: str, *overrides: str) -> subprocess.Popen[str]:
    (folder / "generate.yaml").write_text(
        "ajet:\n  task_reader:\n    type: data_generation\n    data_generation:\n"
        "      document_reader: {document_path: documents, chunk_size: 200}\n"
        "      task_num: 12\n      questions_per_chunk: 2\n      output_dir: generated\n"
        "      llm_model: writer\n      num_workers: 2\n"
        f"      model_client: {{base_url: '{url}', cache_dir: cache}}\n"
    )
    command = [sys.executable, "-m", "ajet.cli", "generate", "--conf", "generate.yaml", *overrides]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_generation_resumes_without_a_repeated_call(folder):
    write_document(folder / "documents" / "towers.txt", NAMES, gap="\n\n")
    answered: list[str] = []
    waiting, is_dead = threading.Semaphore(0), threading.Event()

    def script(body, number):
        if number >= 15 and not is_dead.is_set():  # in flight when the process dies
            waiting.release()
            is_dead.wait(60)
            return Reply(hangs_up=True)
        answered.append(json.dumps(body, sort_keys=True))
        return write(body, number)

    with serving(script) as server:
        process = run_command(folder, server.url)
        for _ in range(2):  # both workers, so that every answer before is kept
            assert waiting.acquire(timeout=240)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        is_dead.set()
        assert not (folder / "generated" / "tasks.jsonl").exists()
        before = len(answered)
        ended = run_command(folder, server.url)
        out, errors = ended.communicate(timeout=240)
        assert ended.returncode == 0, errors
        assert max(Counter(answered).values()) == 1
        total = len(answered)
        assert "12 tasks" in out and total > before == 15
