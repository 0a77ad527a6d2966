"""Readers, judges and workflows of a user's own.

1. A new reader or judge of AgentJet is one file and one line in its registry.
2. Wherever a registered name is accepted, a class path is; a plain function may be a workflow or a
   judge.
3. Settings beside a class path reach the class. Beside a registered name, they are mistakes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.config.sections.task_judge import JUDGES, TaskJudgeConfig
from ajet.config.sections.task_reader import TASK_READERS
from ajet.errors import ConfigError
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_reader.read_tasks import make_task_reader, training_tasks
from ajet.task_rollout.workers import run_in_new_loop
from ajet.task_runner.judging import ask_judge
from ajet.workflow import Workflow, load_workflow
from tests.unit.config_files import MINIMAL, load, problems

READER = """
from ajet import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

class Reader(BaseTaskReader):
    def get_training_tasks(self):
        own = self.reader_config
        return [Task(main_query=f"{getattr(own, 'word', 'hello')} {i}") for i in range(3)]
"""
JUDGE = """
from ajet.task_judge.base_judge import BaseJudge

class Judge(BaseJudge):
    def compute_reward(self, workflow_task, workflow_output):
        own = self.config.ajet.task_judge
        return own.scale * 1.0, own.rules.is_strict

def always(workflow_task, workflow_output):
    return 0.5, True

async def later(workflow_task, workflow_output):
    return 0.25, False
"""
WORKFLOW = """
from ajet import WorkflowOutput

async def solve(workflow_task, tuner):
    return WorkflowOutput(reward=len(workflow_task.task.main_query))
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"toy_reader": READER, "toy_judge": JUDGE, "toy_workflow": WORKFLOW}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def queries(config: Any) -> list[str]:
    return [task.main_query for task in training_tasks(make_task_reader(config.ajet.task_reader))]


def verdict(config: Any) -> tuple[float, bool]:
    judge = make_judge(config.ajet.task_judge.judge_class, config)
    assert judge
    task = WorkflowTask(task=Task(), task_id="a", episode_uuid="b")
    return run_in_new_loop(ask_judge(judge, task, WorkflowOutput()))


def test_a_new_reader_is_one_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASK_READERS, "toy", "toy_reader->Reader")
    assert queries(load(tmp_path, MINIMAL, "task_reader.type=toy"))[0] == "hello 0"


def test_a_users_reader_has_settings_of_its_own(tmp_path: Path) -> None:
    text = MINIMAL.replace("type: random_dummy", "{type: toy_reader.py->Reader, word: hi}")
    assert queries(load(tmp_path, text)) == ["hi 0", "hi 1", "hi 2"]
    assert queries(load(tmp_path, text, "task_reader.word=bye"))[0] == "bye 0"


def test_a_new_judge_is_one_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(JUDGES, "toy", "toy_judge->always")
    assert verdict(load(tmp_path, MINIMAL, "task_judge.judge_type=toy")) == (0.5, True)


@pytest.mark.parametrize("key", ["judge_type", "judge_protocol"])
def test_a_users_judge_has_settings_of_its_own(tmp_path: Path, key: str) -> None:
    text = (
        f"{MINIMAL}  task_judge: {{{key}: toy_judge.py->Judge, scale: 3, rules: {{is_strict: 1}}}}"
    )
    assert verdict(load(tmp_path, text)) == (3.0, 1)


@pytest.mark.parametrize(("name", "expected"), [("always", (0.5, True)), ("later", (0.25, False))])
def test_a_judge_may_be_a_plain_function(
    tmp_path: Path, name: str, expected: tuple[float, bool]
) -> None:
    config = load(tmp_path, MINIMAL, f"task_judge.judge_protocol=toy_judge.py->{name}")
    assert verdict(config) == expected


def test_a_workflow_may_be_a_plain_function(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "rollout.user_workflow=toy_workflow.py->solve")
    workflow = load_workflow(config.ajet.rollout.user_workflow)
    assert issubclass(workflow, Workflow)
    assert workflow().name == "solve"
    task: Any = SimpleNamespace(task=Task(main_query="four"))
    assert asyncio.run(workflow().execute(task, None)).reward == 4  # type: ignore[arg-type]


def test_the_shipped_judge_is_chosen_by_its_name(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "task_judge.judge_type=math_answer")
    judge = make_judge(config.ajet.task_judge.judge_class, config)
    assert type(judge).__name__ == "MathAnswerAsJudge"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task_reader.wrod=hi", "ajet.task_reader.wrod: unknown key"),
        ("task_judge.scale=3", "ajet.task_judge.scale: unknown key"),
        ("task_reader.type=random_dumy", 'did you mean "random_dummy"?'),
        ("task_judge.judge_type=math_anser", 'did you mean "math_answer"?'),
    ],
)
def test_mistakes_beside_a_registered_name_are_refused(
    tmp_path: Path, override: str, message: str
) -> None:
    [problem] = problems(tmp_path, MINIMAL, override)
    assert message in problem


def test_two_judges_are_refused(tmp_path: Path) -> None:
    both = ("task_judge.judge_type=math_answer", "task_judge.judge_protocol=toy_judge.py->always")
    [problem] = problems(tmp_path, MINIMAL, *both)
    assert 'judge_protocol needs judge_type "customized_protocol", got "math_answer"' in problem


def test_no_judge_is_no_judge() -> None:
    assert make_judge(TaskJudgeConfig().judge_class, None) is None


def test_a_class_that_is_not_a_judge_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a subclass of BaseJudge"):
        make_judge("ajet.schema.task->Task", None)
