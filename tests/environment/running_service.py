"""Services of the tests, each in a process of its own; and workflows that act on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.environment.client import EnvironmentClient
from ajet.environment.open_instances import OpenInstances
from ajet.environment.service_environment import ServiceSource
from ajet.schema.episode import Episode
from ajet.service.probes import answers, free_ports
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_rollout.rollout import Rollout
from tests.processes.service_processes import eventually
from tests.unit.episode_fakes import rollout_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(slots=True, kw_only=True)
class Running:
    """A service's process."""

    process: subprocess.Popen[bytes]
    url: str

    def num_open(self) -> int:
        """Open instances, by its health route."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=60) as answer:
            return int(json.load(answer)["open_instances"])


@contextmanager
def running(
    *options: str, script: str = "counting_service.py", env: dict[str, str] | None = None
) -> Iterator[Running]:
    """Start a service of the tests and wait until it answers."""
    command = [sys.executable, str(HERE / script), *options]
    service = _started(command, {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})})
    with service.process as process:
        try:
            yield service
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _started(command: list[str], env: dict[str, str]) -> Running:
    """On a free port; on another one if a program was faster to take that."""
    for _ in range(3):
        port = free_ports(1)[0]
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=env, stderr=subprocess.DEVNULL
        )
        service = Running(process=process, url=f"http://127.0.0.1:{port}")
        assert eventually(partial(_answers_or_has_ended, service), 120)
        if process.poll() is None:
            return service
    raise AssertionError(f"the service ends at once: {command}")


def _answers_or_has_ended(service: Running) -> bool:
    return answers(f"{service.url}/health") or service.process.poll() is not None


def source_of(url: str, run_folder: Path | None = None, **options: Any) -> ServiceSource:
    """Environments of a service, for a rollout."""
    options["open_instances"] = OpenInstances(run_folder)
    limits = {name: options.pop(name) for name in ("timeout_s", "max_tries") if name in options}
    return ServiceSource(EnvironmentClient(url, **limits), **options)


def rollout_on(
    source: Any,
    workflow_class: type[Workflow],
    judge: BaseJudge | None = None,
    **limits: Any,
) -> Rollout:
    """Many episodes with environments, on an engine that answers at once."""
    rollout = rollout_of(workflow_class, **{"max_failure_share": 1.0, **limits})
    return replace(rollout, runner=replace(rollout.runner, environments=source, judge=judge))


def episodes_on(
    source: Any,
    task_ids: list[str],
    workflow_class: type[Workflow] | None = None,
    judge: BaseJudge | None = None,
    **limits: Any,
) -> list[Episode]:
    """One episode per task."""
    tasks = [Task(task_id=task_id, env_type="counting") for task_id in task_ids]
    rollout = rollout_on(source, workflow_class or Counting, judge, **limits)
    groups = rollout.run(tasks, num_repeat=1, tag="test")
    return [episode for group in groups for episode in group.episodes]


class Counting(Workflow):
    """Says "next" until the environment says that it is over; the reward is the sum."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        total, is_over = 0.0, False
        for _ in range(50):
            if is_over:
                break
            action = {"role": "assistant", "content": "next"}
            _, reward, is_over, _ = workflow_task.gym_env.step(action)
            total += reward
        return WorkflowOutput(reward=total, metadata={"query": workflow_task.task.main_query})
