"""What CONTRIBUTING.md says is enough to add something.

1. Each example works by one line in the registry that the page names, and by a class path.
2. The files and registries that the page names exist.

Loss variants, clients and wire APIs need libraries that these tests do without; their examples are
tested in `tests/torch` and `tests/gateway`.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from ajet.algorithm.credit import credit_rule
from ajet.config.backbones import BACKBONES, BackboneEntry
from ajet.config.sections.algorithm import CREDIT
from ajet.config.sections.task_judge import JUDGES
from ajet.config.sections.task_reader import TASK_READERS
from ajet.config.sections.trainer_common import METRIC_SINKS
from ajet.launcher.backbones import load_backbone
from ajet.monitor.sinks import open_sinks
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_reader.read_tasks import make_task_reader, training_tasks
from tests.contributing import PAGE, examples, write_examples
from tests.make_samples import make_episode, make_group
from tests.unit.config_files import MINIMAL, load

ROOT = PAGE.parent


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def names(registry: Any, monkeypatch: pytest.MonkeyPatch, path: str, folder: Path) -> list[str]:
    """The three ways to name an example: registered, as a module, as a file."""
    monkeypatch.setitem(registry, "toy", path)
    module, _, name = path.partition("->")
    return ["toy", path, f"{folder / module}.py->{name}"]


def test_the_page_has_an_example_of_each_kind() -> None:
    rows = re.findall(
        r"^\| ([A-Za-z ]+) \| .* \| `([A-Z_]+)` in `(\S+)` \|", PAGE.read_text(), re.M
    )
    assert len(rows) == len(examples()) == 9
    for _, registry, file in rows:
        assert hasattr(importlib.import_module(file[:-3].replace("/", ".")), registry)


def test_the_files_that_the_pages_name_exist() -> None:
    for page in (PAGE, ROOT / "docs/architecture.md", ROOT / "README.md"):
        text = page.read_text()
        paths = {
            *re.findall(r"`((?:ajet|tests|docs)/[\w/]+\.\w+)`", text),
            *re.findall(r"\]\(((?!http)[^)#]+)\)", text),
        }
        found = [path for path in paths if (ROOT / path).exists() or (page.parent / path).exists()]
        assert sorted(paths) == sorted(found)


@pytest.mark.parametrize("example", ["median->median", "plain_reward->plain_reward"])
def test_credit(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(CREDIT, monkeypatch, example, tmp_path):
        key = f"trainer_common.algorithm.adv_estimator={name}"
        algorithm = load(tmp_path, MINIMAL, key).ajet.trainer_common.algorithm
        episodes = [make_episode(f"e{i}", float(i)) for i in range(3)]
        report = credit_rule(algorithm.adv_estimator)([make_group(*episodes)])
        least = min(sample.advantages.min() for e in episodes for sample in e.samples)
        assert report.num_groups == 1
        assert least == (-1 if example.startswith("median") else 0)


def test_task_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(TASK_READERS, monkeypatch, "counting->CountingReader", tmp_path)[1:]:
        text = MINIMAL.replace("type: random_dummy", f"{{type: '{name}', count: 3}}")
        reader = make_task_reader(load(tmp_path, text).ajet.task_reader)
        assert [task.metadata["answer"] for task in training_tasks(reader)] == ["1", "2", "3"]


def test_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = WorkflowTask(task=Task(metadata={"answer": "4"}), task_id="a", episode_uuid="b")
    for name in names(JUDGES, monkeypatch, "contains->ContainsJudge", tmp_path)[1:]:
        text = f"{MINIMAL}  task_judge: {{judge_protocol: '{name}', points: 2.0}}\n"
        config = load(tmp_path, text)
        judge = make_judge(config.ajet.task_judge.judge_class, config)
        assert judge
        output = WorkflowOutput(metadata={"text": "It is 4."})
        assert judge.compute_reward(task, output) == (2.0, True)


def test_metric_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(METRIC_SINKS, monkeypatch, "csv_sink->CsvSink", tmp_path)[1:]:
        logger = f"trainer_common.logger=[{{type: '{name}', file_name: out.csv}}]"
        [sink] = open_sinks(load(tmp_path, MINIMAL, "project_name=mine", logger), tmp_path)
        sink.write(1, {"reward/mean": 0.5})
        sink.close()
        assert (tmp_path / "out.csv").read_text() == "mine,1,reward/mean,0.5\n"
        (tmp_path / "out.csv").unlink()


def test_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "toy", BackboneEntry(run="dry_run->run"))
    config = load(tmp_path, MINIMAL, f"backbone={tmp_path}/dry_run.py->run")
    for name in ("toy", "dry_run->run", config.ajet.backbone):
        load_backbone(name)(config, tmp_path, False, None)  # type: ignore[arg-type]
        assert "calculator" in (tmp_path / "plan.txt").read_text()
        (tmp_path / "plan.txt").unlink()
