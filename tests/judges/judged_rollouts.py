"""Rollouts without a model whose episodes are judged: the answer of each is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.config.loading.load import load_config
from ajet.config.sections.root import RootConfig
from ajet.model_client import PLACE, attempts
from ajet.schema.episode import Episode, Group
from ajet.schema.task import Task, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_rollout.rollout import Rollout
from tests.judges.model_server import ModelServer
from tests.unit.config_files import MINIMAL, write
from tests.unit.episode_fakes import ask, runner_of

TASK = Task(main_query="1 + 1", task_id="t", metadata={"answer": "2", "level": "easy"})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The run folder of this test; retries are fast."""
    folder = tmp_path / "experiments" / "run"
    folder.mkdir(parents=True)
    monkeypatch.setattr(PLACE, "run_folder", folder)
    monkeypatch.setattr(PLACE, "experiment_dir", folder.parent)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.01)
    return folder


def config_of(tmp_path: Any, server: ModelServer | None = None, **judge: Any) -> RootConfig:
    """A whole configuration with this judge."""
    import yaml

    config = yaml.safe_load(MINIMAL)
    model = {"model": "scripted", "base_url": server.url} if server else {}
    model |= judge.pop("model", {})
    config["ajet"]["task_judge"] = judge | ({"model": model} if model else {})
    return load_config(write(tmp_path, yaml.safe_dump(config)))


def answering(answers: Sequence[Any]) -> type[Workflow]:
    """A workflow whose repeats give these answers, in this order."""

    class Answering(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: Any) -> WorkflowOutput:
            await ask(tuner, text=workflow_task.task.main_query)
            place = ORDER.setdefault(workflow_task.task_tag, [])
            place.append(workflow_task.episode_uuid)
            answer = answers[len(place) - 1]
            if isinstance(answer, BaseException):
                raise answer
            return WorkflowOutput(metadata={"final_answer": answer})

    return Answering


ORDER: dict[str, list[str]] = {}


def judged(
    config: RootConfig, answers: Sequence[Any], *, max_failure_share: float = 1.0, task: Task = TASK
) -> list[Episode]:
    """The episodes of one task with these answers, judged as in a run."""
    judge = make_judge(config.ajet.task_judge.judge_class, config)
    ORDER.clear()
    rollout = Rollout(
        runner=runner_of(answering(answers), judge=judge),  # type: ignore[arg-type]
        seed=0,
        max_env_worker=1,  # so that the repeats answer in order
        max_failure_share=max_failure_share,
    )
    groups: list[Group] = rollout.run([task], num_repeat=len(answers), tag="train/000001")
    return groups[0].episodes
