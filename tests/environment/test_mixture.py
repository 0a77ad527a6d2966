"""A mixture with the tasks of a service.

1. A task of the service gets an instance; a task of another source gets none.
2. All instances are released, and none is noted as open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.config.sections.root import RootConfig
from ajet.environment.registry import make_source
from ajet.task_reader.read_tasks import make_task_reader, training_tasks
from ajet.task_reader.task_batches import TaskBatches
from tests.environment.running_service import Counting, rollout_on, running


class CountingOrNot(Counting):
    """Takes the reward -1 where there is no environment."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        if workflow_task.gym_env is None:
            return WorkflowOutput(reward=-1.0)
        return await super().execute(workflow_task, tuner)


def config_of(url: str) -> RootConfig:
    service = {"env_type": "counting", "env_url": url, "training_split": "dev"}
    sources: list[dict[str, Any]] = [
        {"type": "env_service", "env_service": service},
        {"type": "random_dummy", "random_dummy": {"num_tasks": 4}},
    ]
    return RootConfig.model_validate(
        {
            "ajet": {
                "backbone": "local",
                "experiment_name": "mixture",
                "model": {"path": "ajet:calculator"},
                "rollout": {"user_workflow": "a.b->C"},
                "task_reader": {"type": "mixture", "mixture": {"sources": sources}},
            }
        }
    )


def test_only_the_tasks_of_the_service_get_an_instance(tmp_path: Path) -> None:
    with running() as service:
        ajet = config_of(service.url).ajet
        batches = TaskBatches(training_tasks(make_task_reader(ajet.task_reader)), seed=0)
        tasks = batches.next_batch(8)
        source = make_source(ajet, tmp_path)
        groups = rollout_on(source, CountingOrNot).run(tasks, num_repeat=2, tag="test")
        assert service.num_open() == 0
    rewards = {group.task.task_id: [e.reward for e in group.episodes] for group in groups}
    assert {task_id for task_id in rewards if rewards[task_id] == [-1.0, -1.0]} == {
        task.task_id for task in tasks if task.env_type == ""
    }
    assert {task.env_type for task in tasks} == {"counting", ""}
    assert all(reward is not None for group in rewards.values() for reward in group)
    assert not list((tmp_path / "environments").glob("*"))
