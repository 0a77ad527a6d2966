"""The math judge: which answers are equal, which are not, and that no answer blocks it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.errors import ConfigError, EpisodeError
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_judge import math_verify_process as process_module
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_judge.math_answer_as_judge import (
    MathAnswerAsJudge,
    in_math_mode,
    plain_number,
    stated_answer,
)
from ajet.task_judge.math_verify_process import MathVerifyPool, MathVerifyProcess

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def judge() -> Iterator[MathAnswerAsJudge]:
    yield MathAnswerAsJudge(None)


def verdict(judge: MathAnswerAsJudge, answer: Any, final_answer: Any) -> tuple[float, bool]:
    task = Task(task_id="t", metadata={"answer": answer})
    output = WorkflowOutput(metadata={"final_answer": final_answer})
    return judge.compute_reward(WorkflowTask(task=task), output)


SAME = [
    ("51", "51"),
    ("51", 51),
    (51, "Answer: 51"),
    ("51", "**Answer: 51.**"),
    ("51", "51.0"),
    ("1234", "1,234"),
    ("1,234", "$1234"),
    ("12345", "12 345"),
    ("Ann has 7 + 35.\n#### 42", "The answer is 42."),
    ("-5", "−5"),
    ("3", "٣"),
    ("π", r"\pi"),
    ("é", "e\u0301"),
    ("Zürich", "  zürich "),
]
SAME_BY_MATH_VERIFY = [
    ("3/4", r"\boxed{3/4}"),
    ("0.75", r"So it is \boxed{\frac{3}{4}}."),
    (r"\frac12", "1/2"),
    (r"2\pi", "The answer is 2π"),
    ("2√3", r"$2\sqrt{3}$"),
    ("3×10^5", "300000"),
    ("x^2+1", "1+x²"),
    ("{1,2}", r"\{2,1\}"),
    ("50%", "1/2"),
    ("51", "51 apples"),
    ("51", "Answer: 51\n\nI checked: the answer is right."),
]
DIFFERENT = [
    ("51", "52"),
    ("51", "-51"),
    ("51", ""),
    ("51", None),
    ("1,234", "234"),
    ("café", "cafe"),
    ("2", r"2\pi"),
    (r"2\pi", "2"),
    ("(1,2)", "(2,1)"),
    ("1/3", "0.33"),
    ("51", "{not: [math"),
    ("51", "\x00\ud800"),
]


def test_a_number_may_have_any_length() -> None:
    assert plain_number("1" * 60) == int("1" * 60)
    assert plain_number("-" + "9" * 40 + ".5") != plain_number("-" + "9" * 40)


@pytest.mark.parametrize(("answer", "final_answer"), SAME + SAME_BY_MATH_VERIFY)
def test_the_right_answer_is_rewarded(
    judge: MathAnswerAsJudge, answer: Any, final_answer: Any
) -> None:
    assert verdict(judge, answer, final_answer) == (1.0, True)


@pytest.mark.parametrize(("answer", "final_answer"), DIFFERENT)
def test_a_wrong_answer_is_not_rewarded(
    judge: MathAnswerAsJudge, answer: Any, final_answer: Any
) -> None:
    assert verdict(judge, answer, final_answer) == (0.0, False)


@pytest.mark.parametrize(("answer", "final_answer"), SAME)
def test_plain_answers_need_no_other_process(answer: Any, final_answer: Any) -> None:
    judge = MathAnswerAsJudge(None)
    assert verdict(judge, answer, final_answer) == (1.0, True)
    assert judge._math_verify.num_processes == 0


def test_missing_keys_are_named() -> None:
    judge = MathAnswerAsJudge(None)
    task = WorkflowTask(task=Task(task_id="t7", metadata={"solution": "2"}))
    with pytest.raises(EpisodeError, match=r'metadata\["answer"\].* t7 has the keys solution'):
        judge.compute_reward(task, WorkflowOutput(metadata={"final_answer": "2"}))
    task.task.metadata["answer"] = "2"
    with pytest.raises(EpisodeError, match=r'"final_answer": .*returned no key'):
        judge.compute_reward(task, WorkflowOutput())


def test_an_overflowed_context_is_a_wrong_answer() -> None:
    task = WorkflowTask(task=Task(metadata={"answer": "2"}))
    output = WorkflowOutput(metadata={"ended_by": "context_length_exceeded"})
    assert MathAnswerAsJudge(None).compute_reward(task, output) == (0.0, False)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("The answer is 5. No, the answer is: 6.", "6"),
        ("work #### 1,000", "1,000"),
        ("answer: **7**", "7"),
        ("5", "5"),
    ],
)
def test_the_last_stated_answer_counts(text: str, stated: str) -> None:
    assert stated_answer(text) == stated


@pytest.mark.parametrize("text", ["1e5", "3/4", "51 cm", "1,23", "", "1.", "--1"])
def test_a_text_with_more_than_a_number_is_no_plain_number(text: str) -> None:
    assert plain_number(text) is None


def test_only_bare_formulas_are_put_in_math_mode() -> None:
    assert in_math_mode(r"2\pi") == r"$2\pi$"
    for text in (r"$2\pi$", r"\boxed{2}", r"\(2\)", "two apples"):
        assert in_math_mode(text) == text


# The process.


def test_many_threads_may_compare_at_once(judge: MathAnswerAsJudge) -> None:
    results: list[tuple[float, bool]] = []

    def ask(number: int) -> None:
        results.append(verdict(judge, str(number), f"{number} apples"))
        results.append(verdict(judge, str(number), f"{number + 1} apples"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(0.0, False)] * 8 + [(1.0, True)] * 8


@pytest.mark.slow
@pytest.mark.parametrize("bomb", ["$9^{9^{9}}$", "$10^{10^{10}}$"])
def test_an_endless_comparison_counts_as_wrong_and_does_no_harm(
    judge: MathAnswerAsJudge, bomb: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert verdict(judge, "51", bomb) == (0.0, False)
    assert "too hard to compare" in caplog.text
    assert verdict(judge, "51", "51 apples") == (1.0, True)


def test_a_child_that_was_killed_is_replaced() -> None:
    process = MathVerifyProcess()
    assert process.equal(["51"], ["51 apples"])
    child = process._child
    assert child is not None
    child.kill()
    child.wait()
    assert process.equal(["51"], ["51 apples"])


WAITING = """
import json, pathlib, sys, time
print("ready", flush=True)
for line in sys.stdin:
    wanted = pathlib.Path(json.loads(line)[1][0])
    pathlib.Path(f"{wanted}.asked").touch()
    while not wanted.exists():
        time.sleep(0.01)
    print("true", flush=True)
"""
"""A child that answers once the file exists whose path it was given, so it holds the line."""


def test_a_hard_comparison_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(WAITING)
    monkeypatch.setattr(process_module, "_CHILD", child)
    monkeypatch.setattr(process_module, "MOST_PROCESSES", 2)
    monkeypatch.setattr(process_module, "ANSWER_S", 60.0)
    pool = MathVerifyPool()
    quick, hard = tmp_path / "quick", tmp_path / "hard"
    quick.touch()
    assert all(pool.equal(["1"], [str(quick)]) for _ in range(3))
    assert pool.num_processes == 1
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(pool.equal, ["1"], [str(hard)])
        while not Path(f"{hard}.asked").exists():
            time.sleep(0.01)
        assert pool.equal(["1"], [str(quick)])
        assert not answer.done() and pool.num_processes == 2
        hard.touch()
        assert answer.result()


TAKEN_ONCE = """
import os, pathlib, signal, sys
mark = pathlib.Path(__file__).with_suffix(".mark")
def take(where):
    if where == WHERE and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.NUMBER)
take("start")
print("ready", flush=True)
for line in sys.stdin:
    take("comparison")
    print("true", flush=True)
"""
"""A child that gets a signal the first time that it is somewhere."""


@pytest.mark.parametrize(
    ("number", "where"),
    [
        ("SIGKILL", "start"),
        ("SIGKILL", "comparison"),
        ("SIGSTOP", "start"),
        ("SIGSTOP", "comparison"),
    ],
)
def test_a_child_that_is_killed_or_stopped_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, where: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(TAKEN_ONCE.replace("NUMBER", number).replace("WHERE", repr(where)))
    monkeypatch.setattr(process_module, "_CHILD", child)
    if number == "SIGSTOP":  # it is waited for in vain, and the next one may be slow
        limit, seconds = {"start": ("START_S", 5.0), "comparison": ("ANSWER_S", 2.0)}[where]
        monkeypatch.setattr(process_module, limit, seconds)
    assert MathVerifyProcess().equal(["51"], ["51 apples"])


def test_a_child_that_is_killed_each_time_it_starts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(process_module, "_CHILD", child)
    with pytest.raises(EpisodeError, match="ended by SIGKILL each time it started"):
        MathVerifyProcess().equal(["51"], ["51 apples"])


def test_the_child_ends_with_its_owner() -> None:
    process = MathVerifyProcess()
    assert process.equal(["51"], ["51 apples"])
    child = process._child
    assert isinstance(child, subprocess.Popen)
    del process
    assert child.poll() is not None


def test_a_child_that_cannot_start_is_an_error_and_not_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit")
    monkeypatch.setattr(process_module, "_CHILD", broken)
    with pytest.raises(EpisodeError, match="cannot be started"):
        MathVerifyProcess().equal(["51"], ["51 apples"])


# Naming a judge.


def test_a_judge_is_named_by_its_class_path() -> None:
    config = SimpleNamespace()
    judge = make_judge("ajet.task_judge.math_answer_as_judge->MathAnswerAsJudge", config)
    assert isinstance(judge, MathAnswerAsJudge)
    assert judge.config is config
    assert make_judge(None, config) is None


def test_another_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ajet\.task_judge\.judge_protocol: .*BaseJudge"):
        make_judge("ajet.schema.task->Task", None)


def test_a_judge_without_compute_reward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="BaseJudge has no compute_reward"):
        BaseJudge(None).compute_reward(WorkflowTask(task=Task()), WorkflowOutput())


@pytest.mark.parametrize("answer", ["Answer: 73 - 7 - 17", "7*7", "7 \\times 7", "(40)+(9)"])
def test_a_calculation_is_no_answer_where_a_number_was_asked_for(
    judge: MathAnswerAsJudge, answer: str
) -> None:
    assert verdict(judge, "49", answer) == (0.0, False)


@pytest.mark.parametrize(("gold", "answer"), [("2000", "2 \\times 10^3"), ("0.75", "3/4")])
def test_a_number_may_be_written_in_other_ways(
    judge: MathAnswerAsJudge, gold: str, answer: str
) -> None:
    assert verdict(judge, gold, answer) == (1.0, True)
