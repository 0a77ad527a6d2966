"""The boundary around user code: whatever it raises or returns is data, or one sentence.

1. Any exception of a workflow or judge is its episode's failure, whatever its class, `__str__`,
   attributes, causes or size. Code that stops its event loop ends nothing.
2. A failure's traceback begins at the user's first frame. Equal failures are counted as one. A
   group of exceptions names the first of them. What is shared across event loops is explained.
3. A workflow is an ordinary Python class: constants, properties, an `__init__`, a plain
   `def execute`, which may run an event loop of its own; so may a judge.
4. A workflow that cannot be run is refused at the start.
5. A reader that raises, returns nothing or never ends is refused by one sentence that names it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ajet.config.loading.load import load_config
from ajet.errors import ConfigError, DataError
from ajet.schema.episode import Episode, Failure, Group
from ajet.schema.task import Task, WorkflowOutput
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_reader import read_tasks
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.task_rollout.rollout import check_failures
from ajet.task_runner.failures import MAX_MESSAGE, MAX_TRACEBACK, failure_of
from ajet.training.inputs import UserCode
from ajet.workflow import Workflow, load_workflow
from tests.unit.episode_fakes import (
    FixedJudge,
    ask,
    attempt_of,
    returning,
    rollout_of,
    run_episode,
    runner_of,
    tasks_of,
)


class Panic(BaseException):
    """As compiled libraries raise it: not an `Exception`."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def failure_from(error: BaseException) -> Failure:
    class Raising(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            raise error

    failure = run_episode(Raising).failure
    assert failure is not None
    return failure


# 1. Any exception.


def test_a_base_exception_is_the_episodes_failure() -> None:
    assert failure_from(Panic("index out of bounds")).message == "Panic: index out of bounds"


def test_an_exception_whose_text_fails_is_recorded() -> None:
    failure = failure_from(Unprintable())
    assert failure.message == "Unprintable: (its __str__ failed with RuntimeError)"
    assert "in execute" in failure.traceback


def test_a_huge_message_is_cut_in_the_middle() -> None:
    failure = failure_from(ValueError("a" * 1_000_000 + "z"))
    assert len(failure.message) < MAX_MESSAGE + 100
    assert len(failure.traceback) < MAX_TRACEBACK + 100
    assert failure.message.startswith("ValueError: aaa")
    assert failure.message.endswith("aaz")
    assert "characters left out" in failure.message


def test_a_message_that_no_file_can_hold_is_escaped() -> None:
    assert failure_from(ValueError("half \ud800 pair")).message == r"ValueError: half \ud800 pair"


def test_a_workflow_that_cancels_every_task_ends_only_its_episode() -> None:
    class CancelsAll(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if workflow_task.task.task_id == "t1":
                for task in asyncio.all_tasks():
                    task.cancel()
                await asyncio.sleep(1)
            return WorkflowOutput(reward=1.0)

    groups = rollout_of(CancelsAll, max_failure_share=1.0).run(tasks_of(3), num_repeat=1, tag="x")
    failed = [group.episodes[0].failure is not None for group in groups]
    assert failed == [False, True, False]


@pytest.mark.parametrize(
    "output",
    [
        WorkflowOutput(reward=1e308),
        WorkflowOutput(reward=1.0, log_metrics={"m\ud800": 1.0}),
        WorkflowOutput(reward=1.0, log_metrics={"seconds": 1e308}),
        WorkflowOutput(reward=1.0, log_metrics={"many": [1.0] * 2_000_000}),
        WorkflowOutput(reward=1.0, log_metrics={f"of call {i}": 1.0 for i in range(2_000)}),
        WorkflowOutput(reward=1.0, log_metrics={"m" * 1_000: 1.0}),
        WorkflowOutput(reward=1.0, metadata={"page": "x" * 20_000_000}),
        WorkflowOutput(reward=1.0, metadata={"pages": [{"page": "x" * 500_000}] * 20}),
        WorkflowOutput(reward=1.0, metadata={"array": np.zeros(2_000_000)}),
    ],
)
def test_numbers_and_names_that_cannot_be_recorded_are_invalid(output: WorkflowOutput) -> None:
    class Returns(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            return output

    failure = run_episode(Returns).failure
    assert failure is not None
    assert failure.kind == "invalid_output"


def caused_by_itself() -> BaseException:
    error = ValueError("odd answer")
    error.__cause__ = error  # as `raise error from error` sets it
    return error


class Guarded(Exception):
    """Its attributes fail, as properties of a client library can."""

    @property
    def code(self) -> str:
        raise RuntimeError("there was no response")

    status_code = response = code


@pytest.mark.parametrize("error", [caused_by_itself(), Guarded("odd answer")])
def test_an_error_with_odd_causes_or_attributes_is_recorded(error: BaseException) -> None:
    class Raising(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            raise error

    failure = run_episode(Raising, judge=FixedJudge((1.0, True))).failure
    assert failure is not None
    assert failure.message.endswith(": odd answer")
    assert judged(FixedJudge(error), retries=1).message == failure.message


def judged(judge: BaseJudge, retries: int = 0) -> Failure:
    """The failure of an episode with this judge."""
    runner = replace(runner_of(returning(WorkflowOutput()), judge=judge), judge_retries=retries)
    failure = asyncio.run(runner.run(attempt_of())).failure
    assert failure is not None
    assert failure.kind == "judge_error"
    return failure


def test_a_generators_exit_ends_one_episode() -> None:
    assert failure_from(GeneratorExit("closed")).message == "GeneratorExit: closed"
    assert judged(FixedJudge(GeneratorExit("closed"))).message == "GeneratorExit: closed"


def test_an_overflow_in_a_task_group_is_an_overflow() -> None:
    class Together(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask(tuner, text="x" * 300))

    episode = run_episode(Together, judge=FixedJudge((0.5, False)))
    assert episode.failure is None, episode.failure
    assert episode.output.metadata == {"ended_by": "context_length_exceeded"}


class StopsItsLoop(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return WorkflowOutput(reward=1.0)


class StopsTheJudgesLoop(BaseJudge):
    """An awaited task also lets SystemExit out of the loop of all judges."""

    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        await asyncio.gather(self.exit(), return_exceptions=True)
        return 1.0, True

    async def exit(self) -> None:
        raise SystemExit(1)


def test_code_that_stops_its_event_loop_ends_nothing() -> None:
    groups = rollout_of(StopsItsLoop).run(tasks_of(3), num_repeat=1, tag="x")
    assert [group.episodes[0].reward for group in groups] == [1.0, 1.0, 1.0]
    for _ in range(2):
        episode = run_episode(returning(WorkflowOutput()), judge=StopsTheJudgesLoop(None))
        assert episode.reward == 1.0


# 2. Tracebacks and counts.


def test_a_traceback_begins_at_the_users_frame() -> None:
    first = failure_from(ValueError("x")).traceback.splitlines()[1]
    assert __file__ in first


def test_our_own_error_from_our_own_code_needs_no_traceback() -> None:
    with pytest.raises(ConfigError) as caught:
        load_workflow("no_such_module->Agent")
    ours = caught.value.with_traceback(caught.tb.tb_next)  # without this test's own frame
    assert failure_of(ours, "judge_error").traceback.count("\n") == 1
    assert "Traceback" in failure_from(ConfigError("raised by user code")).traceback


def test_failures_that_differ_in_addresses_are_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"<Session object at 0x7f00{i:08x}> is closed" for i in range(3)]
    episodes = [
        Episode(
            episode_id=str(i),
            task=Task(),
            repeat_index=i,
            failure=failure_of(ValueError(text), "workflow_error"),
        )
        for i, text in enumerate(texts)
    ]
    check_failures([Group(task=Task(), episodes=episodes)], max_failure_share=1.0)
    assert "3 x workflow_error: ValueError: <Session object at 0x...> is closed" in caplog.text


def test_a_group_of_exceptions_names_the_first() -> None:
    group = ExceptionGroup("2 tools failed", [ValueError("no such file"), KeyError("x")])
    assert failure_from(group).message == (
        "ExceptionGroup: 2 tools failed (2 sub-exceptions): ValueError: no such file"
    )


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_lock_of_all_episodes_is_explained(is_wrapped: bool) -> None:
    lock = asyncio.Lock()

    class Shares(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            try:
                await asyncio.gather(self.hold(), self.hold())
            except RuntimeError as error:
                raise (ConnectionError("no answer") if is_wrapped else error) from error
            return WorkflowOutput(reward=1.0)

        async def hold(self) -> None:
            async with lock:
                await asyncio.sleep(0)

    assert run_episode(Shares).failure is None
    failure = run_episode(Shares).failure
    assert failure is not None
    assert failure.message.endswith(
        "make asynchronous clients and locks in execute(), not once for all episodes)"
    )


# 3. Ordinary classes.


class Ordinary(Workflow):
    system_prompt = "Be brief."
    name = "ordinary"
    trainable_targets = ["solver"]
    _limit = 5

    def __init__(self) -> None:
        self.tools = [self._limit]

    def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:  # type: ignore[override]
        assert self.tools == [5]
        return WorkflowOutput(reward=float(len(self.system_prompt)))


def test_constants_an_init_and_a_plain_execute_work() -> None:
    episode = run_episode(Ordinary)
    assert episode.failure is None, episode.failure
    assert episode.reward == 9.0


def test_overridden_fields_keep_their_type_and_constants_are_no_fields() -> None:
    made = Ordinary()
    assert (made.name, made.trainable_targets) == ("ordinary", ["solver"])
    assert "system_prompt" not in Ordinary.model_fields


class OwnLoop(Workflow):
    trainable_targets = "solver"  # type: ignore[assignment]

    def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:  # type: ignore[override]
        asyncio.run(self.ask_both(tuner))
        return WorkflowOutput()

    async def ask_both(self, tuner: Any) -> None:
        await asyncio.gather(ask(tuner, "solver"), ask(tuner, "sol"))


class OwnLoopJudge(BaseJudge):
    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        return asyncio.run(asyncio.sleep(0, (1.0, True)))


def test_plain_functions_may_run_a_loop_and_a_text_is_one_target() -> None:
    episode = run_episode(OwnLoop, judge=OwnLoopJudge(None))
    assert episode.reward == 1.0, episode.failure
    assert {call.agent_name: call.trained for call in episode.calls} == {
        "solver": True,
        "sol": False,
    }


class Computed(Workflow):
    @property
    def trainable_targets(self) -> list[str]:  # type: ignore[override]
        return ["solver"]

    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner, "solver")
        return WorkflowOutput(reward=1.0)


def test_properties_may_override_fields() -> None:
    episode = run_episode(Computed)
    assert episode.failure is None
    assert episode.calls[0].trained


class Static(Workflow):
    @staticmethod
    async def execute(workflow_task: Any, tuner: Any) -> WorkflowOutput:  # type: ignore[override]
        await ask(tuner)
        return WorkflowOutput(reward=1.0)


class OfTheClass(Workflow):
    @classmethod
    async def execute(cls, workflow_task: Any, tuner: Any) -> WorkflowOutput:  # type: ignore[override]
        await ask(tuner)
        return WorkflowOutput(reward=1.0)


@pytest.mark.parametrize("workflow", [Static, OfTheClass])
def test_execute_may_need_no_object(workflow: type[Workflow]) -> None:
    load_workflow(f"{__name__}->{workflow.__name__}")
    assert run_episode(workflow).reward == 1.0


# 4. Refusals at the start.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("class W(Workflow):\n    pass", "has no execute()"),
        ("class W(Workflow):\n    def execute(self, task): ...", "too many positional"),
        (
            "class W(Workflow):\n    @staticmethod\n    def execute(task): ...",
            "too many positional",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass W(Workflow):\n    size: int = 3\n"
            "    def execute(self, task, tuner): ...",
            "is a @dataclass, which takes the defaults of its fields away",
        ),
        (
            "class W(Workflow):\n    def __init__(self, url): ...\n"
            "    def execute(self, task, tuner): ...",
            "missing a required argument: 'url'",
        ),
        (
            "class W(Workflow):\n    url: str\n    def execute(self, task, tuner): ...",
            "missing a required argument: 'url'",
        ),
        ("def W(task):\n    ...", "too many positional"),
        (
            "from abc import ABC, abstractmethod\nclass W(Workflow, ABC):\n"
            "    def execute(self, task, tuner): ...\n    @abstractmethod\n    def ask(self): ...",
            "is abstract: define ask",
        ),
        (
            "class W(Workflow):\n    tool: 'Tool' = None\n    def execute(self, task, tuner): ...",
            "the annotation Tool is not defined",
        ),
    ],
)
def test_a_workflow_that_cannot_be_run_is_refused(tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "flow.py"
    file.write_text(f"from ajet import Workflow\n{body}\n")
    with pytest.raises(ConfigError, match="user_workflow") as caught:
        load_workflow(f"{file}->W")
    assert message in str(caught.value)


CONF = """\
ajet:
  model: {path: "ajet:calculator"}
  rollout: {user_workflow: FILE->W}
  task_judge: {judge_protocol: JUDGE}
  task_reader: {type: random_dummy}
"""
W = "from ajet import *\nclass W(Workflow):\n    async def execute(self, task, tuner): ...\n"
JUDGE = "from ajet.task_judge.base_judge import BaseJudge\nclass J(BaseJudge):\n    def "


@pytest.mark.parametrize(
    ("code", "judge", "message"),
    [
        (f"{W}{{}}['x']", "null", "FILE->W cannot be loaded: FILE:4: KeyError: 'x'"),
        (f"{W}class P(BaseException): ...\nraise P('b\\nc')", "null", "FILE:5: P: b c"),
        (f"{W}{JUDGE}__init__(self, c): {{}}['key']", "FILE->J", "FILE:6: KeyError: 'key'"),
        (f"{W}{JUDGE}__init__(self): ...", "FILE->J", "(config) cannot be called: too many pos"),
    ],
)
def test_code_that_fails_when_it_is_loaded_is_one_line(
    tmp_path: Path, code: str, judge: str, message: str
) -> None:
    file = tmp_path / "flow.py"
    file.write_text(code)
    text = CONF.replace("JUDGE", judge).replace("FILE", str(file))
    (tmp_path / "conf.yaml").write_text(text)
    config = load_config(tmp_path / "conf.yaml")
    with pytest.raises(ConfigError) as caught:
        UserCode.load(config)
    assert message.replace("FILE", str(file)) in str(caught.value)
    assert "\n" not in str(caught.value)


# 5. Readers.


class Nothing(BaseTaskReader):
    def get_training_tasks(self) -> Any:
        pass

    def get_validation_tasks(self) -> Any:
        return 3


class Broken(BaseTaskReader):
    def get_training_tasks(self) -> Any:
        raise ConnectionError("no\ndata server")

    def get_validation_tasks(self) -> Any:
        yield Task(task_id="a")
        raise SystemExit(0)


class Endless(BaseTaskReader):
    def get_training_tasks(self) -> Iterator[Task]:
        number = 0
        while True:
            number += 1
            yield Task(task_id=str(number))


def test_a_reader_that_returns_no_tasks_is_named() -> None:
    with pytest.raises(DataError, match=r"Nothing.get_training_tasks\(\) returned None, expected"):
        training_tasks(Nothing(None))
    with pytest.raises(DataError, match=r"returned a int, expected"):
        validation_tasks(Nothing(None))


def test_a_readers_error_is_one_line_with_its_place() -> None:
    with pytest.raises(DataError) as caught:
        training_tasks(Broken(None))
    assert str(caught.value).startswith(f"Broken.get_training_tasks() failed at {__file__}:")
    assert str(caught.value).endswith("ConnectionError: no data server")
    with pytest.raises(DataError, match="SystemExit: 0"):
        validation_tasks(Broken(None))


def test_a_reader_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "reader.py"
    file.write_text(
        "from ajet.task_reader.task_reader_base import BaseTaskReader\n"
        "class R(BaseTaskReader):\n    def __init__(self, config): raise OSError('no disk')\n"
    )
    with pytest.raises(DataError, match=r"R\(\) failed at .*reader.py:3: OSError: no disk"):
        make_task_reader(SimpleNamespace(type=f"{file}->R"))


def test_a_reader_whose_error_has_no_text_is_named() -> None:
    class NoText(BaseTaskReader):
        def get_training_tasks(self) -> Any:
            raise Unprintable

    with pytest.raises(DataError, match=r"Unprintable: \(its __str__ failed with RuntimeError\)"):
        training_tasks(NoText(None))


def test_a_reader_need_not_call_the_init_of_its_base(tmp_path: Path) -> None:
    file = tmp_path / "reader.py"
    file.write_text(
        "from ajet.task_reader.task_reader_base import BaseTaskReader\n"
        "class R(BaseTaskReader):\n    def __init__(self, config): pass\n"
    )
    config = SimpleNamespace(type=f"{file}->R")
    assert make_task_reader(config).reader_config is config


def test_a_generator_may_fill_one_task_again_and_again() -> None:
    class Refills(BaseTaskReader):
        def get_training_tasks(self) -> Iterator[Task]:
            task = Task()
            for number in range(3):
                task.task_id, task.metadata["number"] = str(number), number
                yield task

    tasks = training_tasks(Refills(None))
    assert [(task.task_id, task.metadata["number"]) for task in tasks] == [
        ("0", 0),
        ("1", 1),
        ("2", 2),
    ]


def test_a_task_that_no_episode_can_copy_is_refused() -> None:
    class Locks(BaseTaskReader):
        def get_training_tasks(self) -> list[Task]:
            return [Task(task_id="a", metadata={"lock": threading.Lock()})]

    with pytest.raises(DataError, match=r"Locks.*\[0\]: the task cannot be copied.*'_thread.lock'"):
        training_tasks(Locks(None))


def test_a_reader_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_tasks, "MAX_ITERATED", 1_000)
    with pytest.raises(DataError, match="has given 1,000 tasks and has not ended"):
        training_tasks(Endless(None))


def test_a_slow_reader_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(read_tasks, "REPORT_EVERY_S", 0.0)
    monkeypatch.setattr(read_tasks, "MAX_ITERATED", 3)
    with caplog.at_level("INFO"), pytest.raises(DataError):
        training_tasks(Endless(None))
    assert "Endless.get_training_tasks(): 2 tasks so far" in caplog.text
