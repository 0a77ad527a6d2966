"""The installation lines of docs/installation.md, typed for real on a machine without a GPU.

1. `uv venv` and `uv pip install -e '.[EXTRA]'` give an environment with vLLM's CUDA build, torch,
   the backbone and AgentScope, on Python 3.11 and 3.12.
2. `ajet doctor` finds nothing bad there, and `ajet check --backbone=...` accepts the demo.
3. Everything that our files ask of the backbone's libraries is there (see `contract`).
4. pip gives the same versions from the lock file.
5. In an empty folder and an environment of its own, the wheel is enough: `ajet init` writes a
   project, and the project learns.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.install.contract import problems

ROOT = Path(__file__).resolve().parents[2]
DEMO = "tutorial/example_math_agent/math_agent_cpu.yaml"
SHOWN = ("agentjet", "agentscope", "numpy", "ray", "torch", "transformers", "trinity-rft", "verl",
         "vllm")  # fmt: skip

pytestmark = [pytest.mark.install, pytest.mark.timeout(1800)]


def run(*command: str | Path, environment: Path | None = None, folder: Path | None = None) -> str:
    """The command's output; it must end well. In another folder it does not see our sources."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    if folder:
        env.pop("PYTHONPATH")
    if environment:
        env["VIRTUAL_ENV"] = str(environment)
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder or ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture(autouse=True)
def _all_pythons(monkeypatch):
    """Where pyenv manages the Pythons, make each of its 3.11 and 3.12 visible to uv."""
    if shutil.which("pyenv"):
        versions = run("pyenv", "versions", "--bare").split()
        wanted = [version for version in versions if version.startswith(("3.11.", "3.12."))]
        monkeypatch.setenv("PYENV_VERSION", ":".join(wanted))


def show_versions(environment: Path, title: str) -> dict[str, str]:
    code = (
        "from importlib.metadata import distributions\n"
        "for d in distributions(): print(d.metadata['Name'].lower(), d.version)"
    )
    versions = dict(
        line.split() for line in run(environment / "bin/python", "-c", code).splitlines()
    )
    shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    sys.stdout.write(f"\n{title}: {shown}\n")
    return versions


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("backbone", ["trinity", "verl"])
def test_uv_installs_a_whole_environment(backbone, python, tmp_path):
    environment = tmp_path / "venv"
    run("uv", "venv", "--quiet", f"--python={python}", environment)
    run("uv", "pip", "install", "--quiet", "-e", f".[{backbone}]", environment=environment)
    versions = show_versions(environment, f"uv, Python {python}, {backbone}")
    assert {"vllm", "torch", "agentscope", "ray", "verl"} <= set(versions)
    assert "+cpu" not in versions["torch"]
    bin_folder = environment / "bin"
    assert "bad " not in run(bin_folder / "ajet", "doctor")
    check = run(bin_folder / "ajet", "check", "--conf", DEMO, f"--backbone={backbone}")
    assert f"backbone {backbone}" in check
    assert "0 problems" in run(bin_folder / "python", "-m", "tests.install.contract", backbone)


@pytest.mark.parametrize("backbone", ["trinity", "verl"])
def test_pip_installs_the_same_from_the_lock_file(backbone, tmp_path):
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment)
    pip = (environment / "bin/pip", "install", "--quiet", "--no-compile", "--no-deps")
    run(*pip, "--requirement", f"locks/{backbone}-gpu.txt")
    run(*pip, "--editable", ".")
    versions = show_versions(environment, f"pip, {backbone}")
    assert {"vllm", "torch", "agentscope", "ray", "verl"} <= set(versions)
    assert "bad " not in run(environment / "bin/ajet", "doctor")


def test_the_wheel_alone_trains_a_project_in_an_empty_folder(tmp_path):
    wheels, environment = tmp_path / "wheels", tmp_path / "venv"
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT)
    run(sys.executable, "-m", "pip", *build)
    (wheel,) = wheels.glob("agentjet-*.whl")
    run(sys.executable, "-m", "venv", environment)
    # Only where a CPU build of torch is at hand does the constraint keep pip from the CUDA build.
    constraint = ("--constraint", ROOT / "constraints.txt")
    folder = tmp_path / "empty"
    folder.mkdir()
    # Not from our folder, in which pip would find the sources and take them for installed.
    pip = (environment / "bin/pip", "install", "--quiet")
    run(*pip, *constraint, f"{wheel}[local]", folder=folder)
    show_versions(environment, "pip, wheel")
    ajet = environment / "bin/ajet"
    run(ajet, "init", "demo", folder=folder)
    run(ajet, "--conf", "demo.yaml", folder=folder / "demo")
    lines = (folder / "demo/saved_experiments/demo/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    success = [line["eval/success_rate"] for line in metrics if "eval/success_rate" in line]
    sys.stdout.write(f"\nsuccess of the project, by evaluation: {success}\n")
    assert success[-1] >= success[0] + 0.3


def test_the_contract_sees_a_name_and_an_argument_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.install.contract.ROOT", tmp_path)
    monkeypatch.setattr("tests.install.contract.LIBRARIES", ("numpy",))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "missing_name.py").write_text("from numpy import no_such_thing\n")
    (tmp_path / "wrong_call.py").write_text(
        "from numpy.lib.stride_tricks import as_strided\n"
        "def f(x): return as_strided(x, shapes=(1,))\n"
    )
    assert "no_such_thing" in next(problems(tmp_path / "missing_name.py"))
    assert "shapes" in next(problems(tmp_path / "wrong_call.py"))
