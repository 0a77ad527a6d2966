"""Projects of `ajet init`.

1. In every combination of client and template, `ajet check` finds nothing bad, the scripted
   episode trains tokens, and the project's own test passes.
2. The files are formatted, and ruff finds nothing in them.
3. (slow) From an empty folder and the built wheel, the project learns.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ajet.commands.init import Client, Template, write_project
from ajet.config.loading.load import load_config
from ajet.diagnostics.check import check
from tests.end_to_end.init_projects import imported_from, run_its_tests
from tests.end_to_end.run_folders import lines_of

ROOT = Path(__file__).parents[2]

LIBRARIES = {
    Client.OPENAI: "openai",
    Client.AGENTSCOPE: "agentscope",
    Client.LANGCHAIN: "langchain_openai",
    Client.HTTP: "uvicorn",
}


@pytest.mark.parametrize("template", list(Template))
@pytest.mark.parametrize("client", list(Client))
def test_a_project_passes_check_and_its_own_test(
    client: Client, template: Template, tmp_path: Path
) -> None:
    pytest.importorskip(LIBRARIES[client])
    folder = tmp_path / "demo"
    write_project(folder, client, template)
    with imported_from(folder):
        findings = check(load_config(folder / "demo.yaml"))
        assert {finding.verdict for finding in findings} == {"ok"}, findings
        (episode,) = [finding for finding in findings if finding.name == "episode"]
        assert "4 of them trained" in episode.text
        assert len(run_its_tests(folder)) == 3


def test_the_files_are_formatted_and_clean(tmp_path: Path) -> None:
    for client, template in itertools.product(Client, Template):
        write_project(tmp_path / f"{client}_{template}", client, template)
    ruff = [sys.executable, "-m", "ruff"]
    alone = ["--isolated", "--no-cache", "--config", "line-length = 100"]
    sources = ["--config", 'src = ["*"]']  # a project's modules are its own, not a library's
    checked = [*ruff, "check", "--select", "E,F,I,UP,B,SIM,C4", *alone, *sources, "."]
    formatted = [*ruff, "format", "--check", *alone, "."]
    for command in (checked, formatted):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_project_learns_from_the_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.glob("agentjet-*.whl")
    # The libraries of the extra are those of this environment; the package is the wheel's alone.
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    run = {"env": {**os.environ, "PYTHONPATH": str(site)}, "check": True}
    command = [sys.executable, "-P", "-m", "ajet.cli"]
    subprocess.run([*command, "init", "demo"], cwd=tmp_path, **run)  # type: ignore[call-overload]
    demo = tmp_path / "demo"
    subprocess.run([*command, "--conf", "demo.yaml"], cwd=demo, **run)  # type: ignore[call-overload]
    metrics = lines_of(demo / "saved_experiments" / "demo" / "metrics.jsonl")
    success = [line["eval/success_rate"] for line in metrics if "eval/success_rate" in line]
    assert success[-1] >= success[0] + 0.3, success
