"""Filters that need a library or a model.

1. Similar queries are found without a model, or by embeddings that are asked for once.
2. Texts in other languages are dropped, where the language can be told.
3. A model's verdict decides, and what a text says to the model does not.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any

import pytest

from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.task_filters import TaskFilterConfig
from ajet.errors import ConfigError, ModelBudgetError
from ajet.model_client import PLACE
from ajet.schema.task import Task
from ajet.task_filters.filtering import TaskFilters
from tests.judges.model_server import Reply, serving


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(PLACE, "experiment_dir", tmp_path)
    monkeypatch.setattr(PLACE, "run_folder", None)


def kept(queries: list[str], kind: str, client: ModelClientConfig | None = None, **params: Any):
    config = TaskFilterConfig.model_validate({"type": kind, "params": params})
    filters = TaskFilters.load([config], client or ModelClientConfig(), "filters")
    tasks = [Task(task_id=str(i), main_query=query) for i, query in enumerate(queries)]
    return [task.main_query for task in filters.kept(tasks)]


def test_of_similar_queries_the_first_is_kept():
    queries = [
        "How do I reset my password in the app?",
        "how do i reset my password in the  app",
        "How do I reset my password in this app?",
        "How do I delete my account?",
        "What is 17 + 25?",
        "What is 17 + 26?",
        "",
    ]
    assert kept(queries, "deduplication") == [queries[i] for i in (0, 3, 4, 5, 6)]
    assert kept(queries, "deduplication", similarity_threshold=1.0) == [
        queries[i] for i in (0, 1, 2, 3, 4, 5, 6)
    ]


def test_short_answers_that_differ_tell_similar_queries_apart():
    query = "What is the capital of {}, and how is its name spelt in the language of its people?"
    answers = [("France", "Paris"), ("Spain", "Madrid"), ("france", "paris"), ("Francia", "Paris")]
    tasks = [
        Task(task_id=str(i), main_query=query.format(place), metadata={"answer": answer})
        for i, (place, answer) in enumerate(answers)
    ]
    config = TaskFilterConfig.model_validate({"type": "deduplication"})
    filters = TaskFilters.load([config], ModelClientConfig(), "filters")
    assert [task.task_id for task in filters.kept(tasks)] == ["0", "1"]


def test_tasks_of_an_earlier_import_count_as_first():
    config = TaskFilterConfig.model_validate({"type": "deduplication"})
    filters = TaskFilters.load([config], ModelClientConfig(), "filters")
    filters.remember([Task(main_query="How do I reset my password in the app?")])
    new = [Task(main_query="How do I reset my password in the app, please?")]
    assert filters.kept(new) == [] and filters.dropped["deduplication"] == 1


def embedding_reply(body: dict[str, Any], number: int) -> Reply:
    vectors = {"a": [1.0, 0.0], "A": [2.0, 0.1], "b": [0.0, 1.0]}
    data = [
        {"object": "embedding", "index": i, "embedding": vectors[text[0]]}
        for i, text in enumerate(body["input"])
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    answer = {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}
    return Reply(raw=json.dumps(answer).encode())


def test_with_a_model_embeddings_are_compared_and_asked_for_once(tmp_path):
    queries = ["a cat", "A dog", "b fish", "b big fish"]
    with serving(embedding_reply) as server:
        params = {"model": "e", "base_url": server.url, "db_path": str(tmp_path / "db")}
        for _ in range(2):
            assert kept(queries, "deduplication", **params) == ["a cat", "b fish"]
        assert [request["input"] for request in server.requests] == [queries]


def test_a_key_in_the_file_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="api_key_env") as caught:
        TaskFilterConfig.model_validate(
            {"type": "deduplication", "params": {"api_key": "sk-secret", "modle": "x"}}
        )
    message = str(caught.value.errors()[0]["msg"])
    assert 'unknown key "modle"; did you mean "model"?' in message and "sk-secret" not in message


@pytest.mark.parametrize("codes", [["en"], ["eng"], ["EN", "deu"]])
def test_queries_in_other_languages_are_dropped(codes):
    german = "Wie viele Monde hat der Planet Mars eigentlich?"
    queries = [
        "How many moons does the planet Mars have?",
        german,
        "火星到底有几个卫星呢？请告诉我它们的名字。还有它们的大小和发现的年份分别是多少？",
        "3 + 4?",
        "Was nun?",
    ]
    expected = [queries[0], *([german] if "deu" in codes else []), *queries[3:]]
    assert kept(queries, "language", languages=codes) == expected


def test_an_unknown_language_is_an_error_that_lists_the_known():
    with pytest.raises(ConfigError, match='got "klingon", expected ISO 639 codes'):
        kept(["x"], "language", languages=["klingon"])


def verdict(body: dict[str, Any], number: int) -> Reply:
    is_bad = any("nonsense" in message["content"] for message in body["messages"])
    result = {"reason": "it has no sense" if is_bad else "fine", "result": "GOOD"}
    return Reply(content=json.dumps(result | ({"result": "BAD"} if is_bad else {})))


@contextmanager
def model(**settings: Any):
    with serving(verdict) as server:
        yield server, ModelClientConfig(model="m", base_url=server.url, **settings)


def test_a_models_verdict_decides_and_is_asked_for_once(caplog):
    caplog.set_level("INFO")
    queries = ["good question", "nonsense", "another good one"]
    with model() as (server, config):
        for _ in range(2):
            assert kept(queries, "llm_evaluate", config, custom_rubrics="No cats.") == [
                "good question",
                "another good one",
            ]
        assert len(server.requests) == 3
        [system, user] = server.requests[0]["messages"][:2]
        assert "No cats." in system["content"] and "never follow" in system["content"]
        assert user["content"].startswith("<query>")
    assert "llm_evaluate drops 1: it has no sense" in caplog.text


def test_a_budget_ends_it_and_what_was_answered_stays():
    queries = [f"question {i}" for i in range(5)]
    with model(max_calls=2, max_concurrent=1) as (server, config):
        with pytest.raises(ModelBudgetError):
            kept(queries, "llm_evaluate", config)
        assert len(server.requests) == 2
        more = config.model_copy(update={"max_calls": 3})
        assert kept(queries, "llm_evaluate", more) == queries
        assert len(server.requests) == 5


def test_the_model_must_be_named():
    with pytest.raises(ConfigError, match="none is named"):
        kept(["x"], "llm_evaluate")
