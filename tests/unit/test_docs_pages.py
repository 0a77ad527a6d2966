"""Pages about workflows, judges, readers, jobs, metrics and tests: every code block runs.

A block whose first line is a comment with a file name is that file; the files of a page lie in one
folder. Each page has a test below that uses all of its files.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet import Task
from ajet.commands.init import Client, Template, project_files
from ajet.config.loading.load import load_config
from ajet.monitor.metric_table import GROUPS
from ajet.schema.episode import FailureKind
from ajet.task_reader.read_tasks import make_task_reader
from ajet.testing import run_scripted

ROOT = Path(__file__).parents[2]
ONE_AND_ONE = Task(task_id="t", main_query="1 + 1", metadata={"answer": "2"})


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def files_of(name: str) -> dict[str, str]:
    """File name -> text, of each block that begins with the name of its file."""
    blocks = re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", page(name), re.DOTALL)
    return dict(blocks)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, which can be imported from; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def write(folder: Path, *pages: str) -> None:
    for name in pages:
        for file, text in files_of(name).items():
            (folder / file).write_text(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("testing", {"capitals.py", "capitals.yaml", "test_capitals.py"}),
        ("workflow", {"outputs.py"}),
        ("judges", {"my_judge.py", "judged.yaml", "my_agent.py"}),
        ("data", {"my_reader.py", "sums.yaml", "lines.yaml", "table.yaml", "chosen.yaml"}),
        ("job", {"job.py"}),
    ],
)
def test_a_page_has_these_files(name: str, expected: set[str]) -> None:
    assert expected <= set(files_of(name))


def test_testing_its_tests_pass(folder: Path) -> None:
    write(folder, "testing")
    tests = importlib.import_module("test_capitals")
    names = [name for name in vars(tests) if name.startswith("test_")]
    assert len(names) == 3
    for name in names:
        getattr(tests, name)()


def outputs_yaml(folder: Path, workflow: str) -> Path:
    path = folder / "outputs.yaml"
    path.write_text(
        json.dumps(
            {
                "ajet": {
                    "model": {
                        "path": "ajet:calculator",
                        "renderer": "qwen3",
                        "enable_thinking": False,
                    },
                    "rollout": {"user_workflow": f"outputs.py->{workflow}"},
                    "task_reader": {"type": "random_dummy"},
                }
            }
        )
    )
    return path


def test_workflow_rewards_are_credited_as_the_page_says(folder: Path) -> None:
    write(folder, "workflow")

    def run(workflow: str, answers: list[str]) -> Any:
        return run_scripted(outputs_yaml(folder, workflow), answers, task=ONE_AND_ONE)

    plain = run("plain", ["2"])
    assert (plain.reward, plain.is_success, plain.reward_per) == (1.0, True, "episode")
    per_call = run("PerCall", ["2", "3"])
    assert (per_call.reward, per_call.reward_per) == (0.5, "call")
    assert list(per_call.call_rewards) == [1.0, 0.0]
    per_agent = run("PerAgent", ["3", "2"])
    assert (per_agent.reward, per_agent.is_success) == (0.5, False)
    assert list(per_agent.call_rewards) == [0.0, 1.0]
    assert [call.trained for call in per_agent.calls] == [True, False]
    assert per_agent.log_metrics == {"length": 1}


def test_workflow_names_every_kind_of_failure() -> None:
    for kind in FailureKind.__args__:  # type: ignore[attr-defined]
        assert f"`{kind}`" in page("workflow")


def test_judges_reward_as_written(folder: Path) -> None:
    write(folder, "judges")
    for said, reward in (("2", 1.5), ("it is 2", 1.0), ("3", 0.0)):
        episode = run_scripted("judged.yaml", [said], task=ONE_AND_ONE)
        assert (episode.failure, episode.reward) == (None, reward)
    exact = "task_judge.judge_protocol=my_judge.py->exact"
    episode = run_scripted("judged.yaml", ["it is 2"], task=ONE_AND_ONE, overrides=[exact])
    assert (episode.reward, episode.is_success) == (0.0, False)


def test_data_the_reader_gives_its_tasks(folder: Path) -> None:
    write(folder, "data")
    reader = make_task_reader(load_config(folder / "sums.yaml").ajet.task_reader)
    training, validation = list(reader.get_training_tasks()), list(reader.get_validation_tasks())
    assert (len(training), len(validation)) == (29, 4)
    assert training[0].metadata == {"answer": "2"}
    assert not {task.task_id for task in training} & {task.task_id for task in validation}


def test_job_is_the_same_as_its_yaml(folder: Path) -> None:
    write(folder, "testing", "job")
    (folder / "train.jsonl").write_text('{"main_query": "Capital of Peru?"}\n')
    job = importlib.import_module("job")  # asserts what it says
    assert job.again.config.ajet.data.train_batch_size == 2


def metrics_on_the_page() -> set[str]:
    rows = re.findall(r"^\| (`.*?) \|", page("metrics"), re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", " ".join(rows)))


def test_metrics_has_what_the_table_of_a_run_shows() -> None:
    shown = {metric for group in GROUPS.values() for metric, _, _ in group}
    assert shown <= metrics_on_the_page()


CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "Peru"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "reward"), [("It is Lima.", 1.0), ("Quito", 0.0), ("", 0.0), (CALL, 0.0)]
)
def test_the_readmes_agent_takes_any_answer(folder: Path, answer: str, reward: float) -> None:
    """A small model may call a tool although the request has none; the message then has no text."""
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (task,) = re.findall(r'`(\{"main_query".*?\}\})`', text)
    (folder / "capitals.py").write_text(code)
    settings = re.sub("/models/[^ ]+", "ajet:calculator", settings)
    (folder / "capitals.yaml").write_text(settings)
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text(f"{task}\n")
    episode = run_scripted("capitals.yaml", [answer])
    assert episode.failure is None, episode.failure
    assert episode.reward == reward


@pytest.mark.parametrize(
    "name",
    [
        "testing",
        "workflow",
        "judges",
        "data",
        "job",
        "metrics",
        "checkpoints",
        "tune_your_first_agent",
    ],
)
def test_the_readme_links_each_page(name: str) -> None:
    assert f"docs/{name}.md" in (ROOT / "README.md").read_text()


def test_tune_your_first_agent_names_the_files_of_a_project() -> None:
    text = page("tune_your_first_agent")
    files = project_files("demo", Client.OPENAI, Template.MATH)
    named = set(re.findall(r"`([\w/]+\.(?:py|jsonl|yaml))`|--conf (\S+\.yaml)", text))
    assert named
    for name in filter(None, (name for pair in named for name in pair)):
        assert name in files or name == "saved_experiments/demo/metrics.jsonl"
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    settings = yaml.safe_load(files["demo.yaml"])["ajet"]
    changed = yaml.safe_load(block)["ajet"]
    assert changed["model"].keys() <= settings["model"].keys()
    assert changed["trainer_common"]["optim"].keys() <= settings["trainer_common"]["optim"].keys()


def test_the_tests_that_the_page_of_faults_names_are_there() -> None:
    file = ""
    for path, name in re.findall(r"`([\w/]+\.py)?(?:::(\w+))?`", page("benchmarks/faults")):
        if not (path or name):
            continue
        file = path or file
        text = (ROOT / file).read_text("utf-8")
        assert not name or f"def {name}(" in text, f"{file}::{name}"
