"""No instance outlives its run, however that ends.

1. A run that lives renews its leases, however long the model takes.
2. After SIGKILL the leases end by themselves.
3. `ajet kill RUN` releases at once what a killed run left open, and nothing else.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.cli import app
from ajet.environment.left_open import left_open
from ajet.environment.open_instances import FOLDER, OpenInstance, OpenInstances
from tests.environment.killed_run import NUM_EPISODES
from tests.environment.running_service import (
    ROOT,
    Counting,
    Running,
    Workflow,
    episodes_on,
    running,
    source_of,
)
from tests.processes.service_processes import eventually


@contextmanager
def killed(service: Running, folder: Path) -> Iterator[None]:
    """A rollout that got SIGKILL when all of its instances were open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.environment.killed_run", service.url, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert eventually(lambda: len(opened(folder)) == NUM_EPISODES - 1)  # one is done
        assert service.num_open() >= 1
        process.kill()
        process.wait()
        yield


def opened(folder: Path) -> list[OpenInstance]:
    return [instance for _, instances in left_open(folder) for instance in instances]


def test_leases_end_what_a_killed_run_left(tmp_path: Path) -> None:
    with running("--lease-s", "2") as service, killed(service, tmp_path):
        assert eventually(lambda: service.num_open() == 0)


def test_a_run_that_lives_keeps_its_leases() -> None:
    class Thinking(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            time.sleep(7)
            return await Counting().execute(workflow_task, tuner)

    with running("--lease-s", "3") as service:
        [episode] = episodes_on(source_of(service.url), ["2"], Thinking)
        assert episode.reward == 1.0
        assert service.num_open() == 0


def test_kill_releases_what_a_killed_run_left(tmp_path: Path) -> None:
    with running() as service, killed(service, tmp_path):
        other = source_of(service.url)  # of another run, which goes on

        class Meanwhile(Workflow):
            async def execute(
                self, workflow_task: WorkflowTask, tuner: AjetTuner
            ) -> WorkflowOutput:
                assert service.num_open() == NUM_EPISODES
                result = CliRunner().invoke(app, ["kill", str(tmp_path)])
                assert result.exit_code == 0, result.output
                assert f"released now: {NUM_EPISODES - 1}" in result.output
                assert service.num_open() == 1
                return await Counting().execute(workflow_task, tuner)

        [episode] = episodes_on(other, ["2"], Meanwhile)
        assert episode.reward == 1.0, episode.failure
        assert list((tmp_path / FOLDER).iterdir()) == []


def test_kill_takes_a_service_that_is_gone_for_released(tmp_path: Path) -> None:
    with running() as service, killed(service, tmp_path):
        pass
    result = CliRunner().invoke(app, ["kill", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert opened(tmp_path) == []


def test_a_torn_line_is_not_read(tmp_path: Path) -> None:
    instances = OpenInstances(tmp_path)
    for name in ("a", "b"):
        instances.add(OpenInstance(instance_id=name, url="http://127.0.0.1:1"))
    instances.remove("a")
    [file] = (tmp_path / FOLDER).iterdir()
    file.write_bytes(file.read_bytes() + b'{"open": {"instance_id": "c"')
    assert [instance.instance_id for instance in opened(tmp_path)] == ["b"]


@pytest.mark.parametrize(
    "damaged",
    [
        '{"open": {"instance_id": "c", {"released": "a"}',
        '{"open": {"name": "c"}}',
        '{"open": null}',
        '{"closed": "a"}',
        "7",
        "\0\0\0",
        "[" * 100_000,
    ],
)
def test_kill_names_a_damaged_line_once_and_releases_the_rest(tmp_path: Path, damaged: str) -> None:
    """A disk that is full for a moment tears a line, and the next one is written behind it."""
    (tmp_path / "run.json").write_text('{"processes": []}')
    instances = OpenInstances(tmp_path)
    instances.add(OpenInstance(instance_id="a", url="http://127.0.0.1:1", host=platform.node()))
    [file] = (tmp_path / FOLDER).iterdir()
    file.write_bytes(damaged.encode() + b"\n" + file.read_bytes())
    assert [instance.instance_id for instance in opened(tmp_path)] == ["a"]
    result = CliRunner().invoke(app, ["kill", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{file.name}, line 1 is damaged" in result.output.replace("\n", "")
    assert CliRunner().invoke(app, ["kill", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize("host", ["elsewhere"])
def test_kill_names_what_it_cannot_reach(tmp_path: Path, host: str) -> None:
    (tmp_path / "run.json").write_text('{"processes": []}')
    OpenInstances(tmp_path).add(OpenInstance(instance_id="a", url="http://localhost:1", host=host))
    result = CliRunner().invoke(app, ["kill", str(tmp_path)])
    assert result.exit_code == 1
    assert "its service is on elsewhere" in result.output
