"""A dry run of a configuration: everything but the model's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ajet.backbone.model_folder import chat_format_of
from ajet.backbone.training_run import TrainingData
from ajet.class_path import load_class
from ajet.config.ignored import ignored_settings
from ajet.config.notices import notices
from ajet.config.root import AjetConfig, RootConfig
from ajet.errors import AjetError
from ajet.launcher.check_episode import TRACEBACK_LINES, findings_of, run_scripted
from ajet.launcher.check_inputs import episodes_of_run, look_at_tasks
from ajet.launcher.finding import Finding, Verdict
from ajet.launcher.machine import this_machine
from ajet.launcher.memory_estimate import GB, ModelSize, estimate, size_of
from ajet.launcher.torch_facts import ask_torch
from ajet.schema.episode import Failure
from ajet.task_judge import make_judge
from ajet.task_reader import make_task_reader
from ajet.task_reader.read_tasks import training_tasks
from ajet.task_runner.user_code import tried
from ajet.workflow import Workflow

T = TypeVar("T")


def check(config: RootConfig) -> list[Finding]:
    """Look at everything that a run will need, without training and without a model's weights."""
    return _Check(config).run()


class _Check:
    def __init__(self, config: RootConfig) -> None:
        self._config = config
        self._ajet = config.ajet
        self._findings: list[Finding] = []

    def run(self) -> list[Finding]:
        ajet = self._ajet
        engine = "" if ajet.backbone == "debug" else f", engine {ajet.rollout.name}"
        self._add("ok", "configuration", f"backbone {ajet.backbone}{engine}")
        for path in ignored_settings(self._config, ajet.backbone):
            self._add("warn", "ignored", f"{path} has no effect with the backbone {ajet.backbone}")
        for notice in notices(ajet):
            self._add("warn", "notice", notice)
        workflow = self._try("workflow", self._workflow)
        judge = ajet.task_judge.judge_protocol
        makes_judge = self._try("judge", lambda: (make_judge(judge, self._config),))
        data = self._try("data", lambda: TrainingData.read(ajet))
        tasks = self._try("data", lambda: training_tasks(make_task_reader(ajet.task_reader))) if data else None
        if data and tasks:
            self._findings += look_at_tasks(tasks, data.validation, ajet)
            self._findings.append(episodes_of_run(data.total_steps, len(data.validation), ajet))
        return self._findings
