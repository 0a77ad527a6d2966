"""`ajet.environment`: which environment the episodes of a configuration get.

1. Nothing is configured: none. The reader env_service brings its own service.
2. A name, a class path, or what is neither: the error says which.
3. Keys beside a class path are its keyword arguments; beside a name they are mistakes.
4. The environment's judge has the documented rule, and needs no environment to score again.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.environment.in_process import InProcessSource
from ajet.environment.registry import make_source
from ajet.environment.service_environment import ServiceSource
from ajet.errors import ConfigError, EpisodeError
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge.env_service_as_judge import EnvServiceJudge
from tests.unit.config_files import MINIMAL, load, problems

WORLD = """
from ajet.environment import Environment

class World(Environment):
    def __init__(self, task, *, size):
        super().__init__(task, size=size)

class NoWorld:
    pass
"""


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_world.py").write_text(WORLD)
    monkeypatch.syspath_prepend(tmp_path)


def source(folder: Path, *overrides: str) -> Any:
    return make_source(load(folder, MINIMAL, *overrides).ajet, None)


def test_without_settings_there_is_no_environment(tmp_path: Path) -> None:
    assert source(tmp_path) is None


def test_the_reader_brings_its_service(tmp_path: Path) -> None:
    service = source(tmp_path, "task_reader.type=env_service")
    assert isinstance(service, ServiceSource)
    assert service.client.url == "http://127.0.0.1:8080"
    own = source(tmp_path, "environment.type=service", "environment.url=http://env:9/x/")
    assert own.client.url == "http://env:9/x"


def test_a_class_path_gets_the_keys_beside_it(tmp_path: Path) -> None:
    made = source(tmp_path, "environment={type: toy_world->World, size: 4}")
    assert isinstance(made, InProcessSource)
    environment = made._cls(Task(), **made._options)
    assert environment.options == {"size": 4}
    with pytest.raises(ConfigError, match=r"NoWorld is neither .*Environment nor a gymnasium.Env"):
        source(tmp_path, "environment.type=toy_world->NoWorld")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("environment={type: gymnasium}", "needs id, for example FrozenLake-v1"),
        ("environment={type: gymnasion, id: X}", 'did you mean "gymnasium"?'),
        ("environment={type: gymnasium, id: X, size: 4}", "unknown key"),
        ("environment={type: service, url: localhost}", "expected an address"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, override: str, words: str) -> None:
    assert words in "\n".join(problems(tmp_path, MINIMAL, override))


@pytest.mark.parametrize(("score", "reward"), [(0.0, 0.0), (0.5, 0.25), (1.0, 1.5), (1.2, 1.6)])
def test_the_judge_has_the_documented_rule(score: float, reward: float) -> None:
    asked: list[Any] = []

    def evaluate(episode_uuid: str, params: dict[str, Any]) -> float:
        asked.append((episode_uuid, params))
        return score

    output = WorkflowOutput()
    task = WorkflowTask(task=Task(), episode_uuid="e", gym_env=SimpleNamespace(evaluate=evaluate))
    verdict = (pytest.approx(reward), score >= 1)
    assert EnvServiceJudge(None).compute_reward(task, output) == verdict
    assert asked == [("e", {"sparse": False})]

    again = WorkflowTask(task=Task(), episode_uuid="e")
    assert EnvServiceJudge(None).compute_reward(again, output) == verdict
    with pytest.raises(EpisodeError, match="this episode has none"):
        EnvServiceJudge(None).compute_reward(again, WorkflowOutput())


def test_a_workflow_task_has_the_fields_that_existing_workflows_read() -> None:
    task = WorkflowTask(task=Task())
    assert (task.observation_window, task.llm_inference_fn) == (None, None)
    assert (task.task_thread_index, task.task_batch_index, task.gym_env) == (0, 0, None)
