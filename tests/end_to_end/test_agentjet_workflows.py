"""Projects that were written for AgentJet, run as their users would.

The settings are those of AgentJet's own files, with the sizes of a tiny model on a CPU in place of
those of a GPU; the data, the environment and the other models are on this machine.

1. Each workflow runs under `debug`, and trains a step under `local`: rewards differ, tokens are
   trained, the weights change.
2. An agent that is not trained is answered by its `debug_model`, and only the others are trained.
3. `ajet check` finds nothing bad in the files of three of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ajet.config.loading.load import load_config
from ajet.diagnostics.check import check
from ajet.launcher.launch import launch
from tests.end_to_end.command import ROOT
from tests.end_to_end.run_folders import lines_of
from tests.environment.running_service import running
from tests.gateway.openai_server import serving

pytest.importorskip("agentscope")

HERE = "tests.end_to_end.agentjet_workflows"
FILES = json.loads((ROOT / "tests/unit/agentjet_settings.json").read_text())

SMALL = {
    "backbone": "local",
    "experiment_name": "run",
    "model": {"path": "ajet:calculator", "renderer": "qwen3", "enable_thinking": False},
    "data": {"train_batch_size": 2},
    "rollout": {
        "name": "embedded",
        "num_repeat": 4,
        "max_env_worker": 8,
        "max_response_length_in_one_turn": 16,
        "max_model_len": 1024,
        "compute_madness_checklist": [],
        "multi_turn": {"max_steps": 3},
        "validation": {"num_tasks": 1, "greedy": False},
    },
    "debug": {"debug_first_n_tasks": 2},
    "trainer_common": {
        "total_training_steps": 1,
        "val_before_train": False,
        "test_freq": None,
        "logger": "console",
    },
}
"""What a tiny model on a CPU needs, over the settings of any of AgentJet's files."""

MATH_ROWS = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(4)]
COUNTDOWN_ROWS = [{"question": f"{n}", "target": n + 5, "nums": [n, 2, 3]} for n in range(4)]
LEARN_ROWS = [
    {
        "main_query": "case",
        "init_messages": [{"role": "user", "content": f"Patient {number}: my knee hurts."}],
        "metadata": {"decision_truth": "continue", "diagn": "knee", "info_truth": "since when"},
    }
    for number in range(4)
]


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for name, value in over.items():
        mine = both.get(name)
        both[name] = merged(mine, value) if isinstance(mine, dict) and value else value
    return both


class Project:
    """A folder with the YAML of one of AgentJet's projects."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.folder = folder
        self.urls = urls

    def write(self, name: str) -> Path:
        """The YAML file of the project."""
        file, over, extra = getattr(self, f"_{name}")()
        data = FILES[file]
        ajet = merged(merged(data["ajet"], SMALL), over)
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({**data, "ajet": ajet, **extra}))
        return path

    def _rows(self, name: str, rows: list[dict[str, Any]]) -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def _hub(self, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        file = self._rows(name, rows)
        dataset = {"dataset_path": file, "training_split": "train", "validation_split": "train"}
        return {"huggingface_dat_repo": dataset}

    def _math_agent(self) -> Any:
        over = {
            "rollout": {"user_workflow": f"{HERE}.math_agent->ExampleMathLearn"},
            "task_reader": self._hub("gsm8k.jsonl", MATH_ROWS),
            "task_judge": {"judge_protocol": f"{HERE}.math_agent->MathAnswerAsJudge"},
        }
        return "tutorial/example_math_agent/math_agent.yaml", over, {}

    def _app_world(self) -> Any:
        over = {
            "rollout": {"user_workflow": f"{HERE}.app_world->ExampleAgentScopeWorkflow"},
            "task_reader": {"env_service": {"env_url": self.urls["environment"]}},
        }
        return "tutorial/example_appworld/appworld.yaml", over, {}

    def _werewolves(self) -> Any:
        over = {"rollout": {"user_workflow": f"{HERE}.werewolves->ExampleWerewolves"}}
        debug_model = {"model": "gpt-x", "base_url": self.urls["models"]}
        file = "tutorial/example_frozenlake/frozenlake_easy.yaml"  # the same reader
        return file, over, {"game": {"debug_model": debug_model}}

    def _learn2ask(self) -> Any:
        file = self._rows("cases.jsonl", LEARN_ROWS)
        paths = {part: {"file_path": file} for part in ("training", "validation")}
        over = {
            "rollout": {"user_workflow": f"{HERE}.learn2ask->ExampleLearn2Ask"},
            "task_reader": {"dataset_file": paths},
        }
        return "tutorial/example_learn2ask/learn2ask.yaml", over, {}

    def _countdown(self) -> Any:
        over = {
            "rollout": {"user_workflow": f"{HERE}.countdown->ExampleCountdownLearn"},
            "task_reader": self._hub("countdown.jsonl", COUNTDOWN_ROWS),
            "task_judge": {"judge_protocol": f"{HERE}.countdown->CountdownAnswerAsJudge"},
        }
        return "tutorial/example_countdown/countdown.yaml", over, {}

    def _frozenlake(self) -> Any:
        over = {"rollout": {"user_workflow": f"{HERE}.frozenlake->FrozenLakeWorkflow"}}
        return "tutorial/example_frozenlake/frozenlake_easy.yaml", over, {}


NAMES = ("math_agent", "app_world", "werewolves", "learn2ask", "countdown", "frozenlake")


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    script = "../end_to_end/agentjet_workflows/app_world_service.py"
    with serving() as models, running(script=script) as service:
        yield {"models": models.url, "environment": service.url}


@pytest.fixture
def project(tmp_path: Path, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DASHSCOPE_BASE_URL", urls["models"])
    monkeypatch.setenv("DASHSCOPE_API_KEY", "key")
    return Project(tmp_path, urls)


def run(project: Project, name: str, backbone: str) -> Path:
    """Run a project in this process, which has its libraries loaded already."""
    overrides = [f"experiment_dir={project.folder / 'runs'}", f"backbone={backbone}"]
    return launch(load_config(project.write(name), overrides), command=["ajet"])


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_trained(name: str, project: Project) -> None:
    folder = run(project, name, "local")
    (metrics,) = lines_of(folder / "metrics.jsonl")
    assert metrics["reward/std"] > 0
    assert metrics["policy/grad_norm"] > 0
    assert metrics["tokens/trained_sequence"] > 0
    if name == "werewolves":
        for episode in pq.read_table(folder / "calls" / "step_000001.parquet").to_pylist():
            assert {call["target_tag"] for call in episode["calls"]} == {"werewolf"}
            assert len(json.loads(episode["debug_calls"])) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_debug_run_has_no_failure(name: str, project: Project) -> None:
    folder = run(project, name, "debug")
    episodes = lines_of(folder / "episodes.jsonl")
    assert len(episodes) == 2
    assert [episode["outcome"] for episode in episodes] == ["ok", "ok"]
    assert all(episode["reward"] is not None for episode in episodes)


@pytest.mark.parametrize("name", ["math_agent", "app_world", "countdown"])
def test_check_finds_nothing_bad(name: str, project: Project) -> None:
    findings = check(load_config(project.write(name)), builds_model=False)
    assert "bad" not in {finding.verdict for finding in findings}, findings
    (episode,) = [finding for finding in findings if finding.name == "episode"]
    assert episode.verdict == "ok", episode
