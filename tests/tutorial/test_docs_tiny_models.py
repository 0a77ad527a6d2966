"""docs/tiny_models.md: its files make a model that learns its task."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tiny_models.md"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_page_makes_a_model_that_learns(tmp_path: Path) -> None:
    files = re.findall(r"`(\w+\.\w+)`[^`]*:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in files] == [
        "echo_agent.py",
        "echo.yaml",
        "echo_tasks.py",
        "echo_teacher.py",
    ]
    for name, text in files:
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, "echo_tasks.py"], cwd=tmp_path, check=True)
    _run(tmp_path, "tutorial.tiny_models.build", "echo_teacher", "--out", "echo_model")
    recipe = json.loads((tmp_path / "echo_model" / "RECIPE.json").read_text())
    assert recipe["scores"][0]["greedy_success_rate"] >= 0.9
    _run(tmp_path, "ajet.cli", "--conf", "echo.yaml", "--exp-dir", "runs")
    lines = (tmp_path / "runs" / "echo" / "metrics.jsonl").read_text().splitlines()
    scores = [m["eval/success_rate"] for m in map(json.loads, lines) if "eval/success_rate" in m]
    assert scores[-1] >= scores[0] + 0.2


def _run(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, check=True)
