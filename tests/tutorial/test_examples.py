"""What all examples have in common.

1. Each model is what its RECIPE.json says, leaves room for RL, and all of them are small.
2. Each YAML loads, the one for a GPU too.
3. (slow) Each example trains a step through the command line, on this CPU.
4. The pages' tables say what docs/benchmarks/examples.json says.
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet.config.loading.load import load_config
from benchmarks.example_curves import RESULTS, by_example, folder_of
from benchmarks.examples import EXAMPLES, result_of

ROOT = Path(__file__).parents[2]
TEACHERS = {
    path.parent.parent.name: path.parent for path in sorted(ROOT.glob("tutorial/*/*/RECIPE.json"))
}
"""Example -> the folder of its model."""
MODULES = {"example_math_agent": "python_teacher"}
MAX_BYTES_TOGETHER = 8_000_000


# 1. Models


@pytest.mark.parametrize("name", TEACHERS)
def test_recipe_tells_the_checksum_of_every_file(name: str) -> None:
    folder = TEACHERS[name]
    files = {path.name: path for path in folder.iterdir() if path.name != "RECIPE.json"}
    checksums = {n: hashlib.sha256(path.read_bytes()).hexdigest() for n, path in files.items()}
    assert json.loads((folder / "RECIPE.json").read_text())["sha256"] == checksums


@pytest.mark.parametrize("name", TEACHERS)
def test_scores_are_those_that_the_recipe_asks_for(name: str) -> None:
    pytest.importorskip("torch")
    module = f"tutorial.{name}.{MODULES.get(name, 'teacher')}"
    recipe = importlib.import_module(module).RECIPE
    scores = json.loads((TEACHERS[name] / "RECIPE.json").read_text())["scores"]
    low, high = recipe.start
    assert low <= scores[-1]["success_rate"] <= high
    if len(recipe.stages) > 1:
        assert scores[-2]["greedy_success_rate"] >= recipe.min_competence


def test_all_models_together_are_small() -> None:
    folders = [ROOT / "ajet/tiny_model/calculator", *TEACHERS.values()]
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir()]
    assert sum(sizes) < MAX_BYTES_TOGETHER


# 2. Settings


@pytest.mark.parametrize("path", sorted(ROOT.glob("tutorial/*/*.yaml")), ids=lambda p: p.stem)
def test_every_yaml_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not path.stem.endswith("_cpu"):  # the user's own downloads
        for name in ("gsm8k", "countdown", "realmedconv"):
            (tmp_path / "data" / name).mkdir(parents=True)
            for file in ("train", "test", "validation"):
                (tmp_path / "data" / name / f"{file}.jsonl").touch()
        (tmp_path / "tutorial").symlink_to(ROOT / "tutorial")
        monkeypatch.chdir(tmp_path)
    model = str(yaml.safe_load(path.read_text())["ajet"]["model"]["path"])
    if model.startswith("tutorial/") and not (ROOT / model).exists():
        pytest.skip("there is no model: make tiny-models")
    config = load_config(path)
    assert config.ajet.rollout.user_workflow


# 3. Training


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute, on a machine that may be busy
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_step_of_training(name: str, tmp_path: Path) -> None:
    model = str(yaml.safe_load((ROOT / EXAMPLES[name].conf).read_text())["ajet"]["model"]["path"])
    if not (ROOT / model).exists():
        pytest.skip("there is no model: make tiny-models")
    command = [sys.executable, "-m", "ajet.cli", "--conf", EXAMPLES[name].conf, "--backbone=local"]
    command += ["--exp-dir", str(tmp_path), "ajet.experiment_name=run"]
    command += ["trainer_common.total_training_steps=1", "data.train_batch_size=4"]
    command += ["rollout.num_repeat=4", "rollout.validation.num_tasks=8"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    result: dict[str, Any] = result_of(name, 0, [json.loads(line) for line in lines])
    assert result["steps"] == 1
    assert set(result["sampled"]) == {0, 1}
    assert all(values for values in result["watched"].values())


# 4. Pages


def test_tables_are_the_recorded_results() -> None:
    page = (ROOT / "docs" / "benchmarks" / "examples.md").read_text()
    for name, results in by_example(json.loads(RESULTS.read_text())).items():
        folder = folder_of(name)
        assert (folder / "curve.svg").is_file()
        for result in results:
            scores = " | ".join(f"{score:.2f}" for score in result["sampled"].values())
            row = f"| {result['seed']} | {scores} |"
            assert row in page, f"{name}: {row}"
            assert row in (folder / "README.md").read_text(), f"{name}: {row}"
