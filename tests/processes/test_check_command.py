"""`ajet check` as a command.

1. Every shipped YAML passes. No torch is loaded. The run's services are started for the check.
2. Exit code 2 where the configuration is wrong, 1 where something else is bad, 0 otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ajet.service.probes import listens
from tests.unit.config_files import MINIMAL, write

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "tutorial").rglob("*.yaml"))


def ajet(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys\nfrom ajet.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch loaded:', 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, "check", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


NEEDS = {
    "countdown": "data/countdown/train.jsonl",
    "learn_to_ask": "data/realmedconv/train.jsonl",
    "appworld": "AppWorld is not installed: run  pip install appworld",
    "werewolves": "agentjet[verl]",
}
"""Shipped configurations that need data, a service or a model that this test has not."""


@pytest.mark.parametrize("stem", NEEDS)
def test_a_shipped_configuration_says_what_it_needs(stem: str) -> None:
    (path,) = [path for path in SHIPPED if path.stem == stem]
    ended = ajet("--conf", str(path))
    assert ended.returncode != 0
    assert NEEDS[stem] in ended.stdout + ended.stderr
    assert "torch loaded: False" in ended.stdout


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.stem not in NEEDS], ids=lambda path: path.stem
)
def test_every_shipped_configuration_passes_without_torch(path: Path, tmp_path: Path) -> None:
    arguments = []
    if "gsm8k" in path.read_text():
        data = tmp_path / "gsm8k.jsonl"
        data.write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
        arguments = [
            f"task_reader.jsonl_dataset_file.{part}.file_path={data}"
            for part in ("training", "validation")
        ]
    ended = ajet("--conf", str(path), *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[-1] == "torch loaded: False"
    assert not any(line.startswith("bad") for line in lines)
    if path.stem == "math_agent_cpu":
        assert {line.split()[0] for line in lines[:-1] if line[0] != " "} == {"ok"}


SERVED = """\
from urllib.request import urlopen

from ajet import Workflow, WorkflowOutput


class Served(Workflow):
    async def execute(self, workflow_task, tuner):
        messages = [{"role": "user", "content": "hello"}]
        client = tuner.as_raw_openai_sdk_client()
        await client.chat.completions.create(model="policy", messages=messages)
        url = tuner.config.ajet.task_runner.services[0].ready_url
        open("url", "w").write(url)
        return WorkflowOutput(reward=float(urlopen(url).status == 200))
"""


def test_services_run_for_the_check_and_end_with_it(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    service = {
        "name": "server",
        "command": f"{sys.executable} -m http.server --bind 127.0.0.1 ${{free_port:server}}",
        "ready_url": "http://127.0.0.1:${free_port:server}/",
    }
    text = MINIMAL.replace("agent.py->Agent", "served.py->Served")
    path = write(tmp_path, f"{text}  task_runner: {json.dumps({'services': [service]})}\n")
    ended = ajet("--conf", str(path), cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "started for this check: server" in ended.stdout
    assert "reward 1" in ended.stdout
    url = urlsplit((tmp_path / "url").read_text())
    assert not listens("127.0.0.1", url.port or 0)


def test_exit_codes(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert ajet("--conf", str(path), "rollout.temprature=1").returncode == 2
    (tmp_path / "agent.py").write_text("import nowhere\n")
    assert ajet("--conf", str(path)).returncode == 1
