"""docs/metrics.md and docs/checkpoints.md against what a run writes.

1. Every metric of a run is on the page of metrics.
2. Every file of a checkpoint is on the page of checkpoints, and the page's lines load it.
3. The job of docs/job.md trains.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME, lines_of
from tests.unit.test_docs_pages import files_of, metrics_on_the_page, page

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp_dir = tmp_path_factory.mktemp("runs")
    steps = ("trainer_common.total_training_steps=2", "rollout.validation.greedy=true")
    ended = train(exp_dir, OPENAI_AGENT, *steps)
    assert ended.code == 0, ended.stderr
    return exp_dir / NAME


def unknown(names: set[str]) -> set[str]:
    known = metrics_on_the_page() | {"step", "time"}
    return {re.sub(r"pass@\d+", "pass@k", name) for name in names} - known


def test_every_metric_of_a_run_is_on_the_page(run_folder: Path) -> None:
    names = {name for line in lines_of(run_folder / "metrics.jsonl") for name in line}
    assert len(names) > 25
    assert unknown(names) == set()
    assert unknown({"reward/median"}) == {"reward/median"}


def test_a_checkpoint_is_as_the_page_says(run_folder: Path) -> None:
    checkpoint = run_folder / "checkpoints" / "step_000002"
    named = set(re.findall(r"`([\w.]+)`", page("checkpoints")))
    assert {path.name for path in checkpoint.iterdir()} <= named
    (code,) = re.findall(r"```python\n(.*?)```", page("checkpoints"), re.DOTALL)
    names: dict[str, Any] = {"checkpoint": checkpoint}
    exec(code, names)
    assert sum(p.numel() for p in names["model"].parameters()) > 400_000
    assert names["tokenizer"].decode(names["tokenizer"].encode("7 + 5")) == "7 + 5"


def test_the_job_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("testing", "job"):
        for file, text in files_of(name).items():
            text = text.replace("tuner.config.capitals.hint", "''")
            short = '{"rollout.max_response_length_in_one_turn": 4, '
            (tmp_path / file).write_text(text.replace("settings={", f"settings={short}"))
    line = '{"main_query": "Capital of Peru?", "metadata": {"answer": "a"}}\n'
    (tmp_path / "train.jsonl").write_text(line * 2)
    job = importlib.import_module("job").job
    assert list((job.tune() / "checkpoints").iterdir())
