"""Judges by a rule.

1. Each kind of rule accepts right answers, in the forms that models write, and no others.
2. Nothing in an answer is searched or computed for longer than the limit.
3. Countdown: 0 without a box, a little for a box, 1 for every number once and the target.
4. A program runs in the sandbox (tests/processes/test_sandbox.py), and what its tests expect is not
   inside.
5. A task without a right answer is a failed episode that says what is missing.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from ajet.config.sections.task_judge import RuleJudgeConfig, TaskJudgeConfig
from ajet.errors import EpisodeError
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge.countdown_judge import Arithmetic, CountdownAnswerAsJudge
from ajet.task_judge.rule_judge import RuleJudge

pytestmark = pytest.mark.filterwarnings("error")


def config_of(**judge: Any) -> Any:
    return SimpleNamespace(ajet=SimpleNamespace(task_judge=TaskJudgeConfig(**judge)))


def reward(kind: str, right: Any, answer: Any, **settings: Any) -> float:
    judge = RuleJudge(config_of(judge_type="rule", rule={"kind": kind, **settings}))
    metadata = {} if right is None else {"answer": right}
    task = WorkflowTask(task=Task(task_id="t", metadata=metadata))
    output = WorkflowOutput(metadata={"final_answer": answer})
    value, is_success = judge.compute_reward(task, output)
    assert is_success == (value == 1)
    assert output.metadata["judge"]["words"]
    return value


EMAIL = r"\b[\w.]+@[\w.]+\b"


@pytest.mark.parametrize(
    ("kind", "settings", "right", "good", "bad"),
    [
        ("math", {}, "3/4", ["0.75", r"\boxed{\frac{3}{4}}"], ["3", "", None]),
        ("exact", {}, "New  York", ["new york", " New\nYork "], ["york", "New York!", None]),
        ("exact", {"ignore_case": False}, "A", ["A", " A "], ["a"]),
        ("regex", {"pattern": r"Answer: (\w+)"}, "B", ["Answer: A\nAnswer: b"], ["B", "Answer: A"]),
        ("regex", {"pattern": EMAIL}, None, ["write to a@b.de"], ["a b", ""]),
        (
            "expression",
            {},
            "24",
            ["(1+2)*8", "2**3*3", "4·6", "```\n48/2\n```"],
            ["23", "x", "9/0"],
        ),
        ("expression", {}, 0.5, ["1/2", r"\frac{1}{2}"], ["0.4999"]),
        (
            "json_fields",
            {},
            {"name": "Ann", "age": 7},
            ['{"age": 7.0, "name": " Ann"}', '```json\n{"name": "Ann", "age": 7, "x": 1}\n```'],
            ["[]", "Ann, 7", '{"name": "ann"}', '{"name": 7, "age": "7"}'],
        ),
        ("json_fields", {"fields": ["a"]}, '{"a": true, "b": 1}', ['{"a": true}'], ['{"a": 1}']),
    ],
)
def test_right_answers_are_right_and_others_are_not(kind, settings, right, good, bad):
    for answer in good:
        assert reward(kind, right, answer, **settings) == 1, answer
    for answer in bad:
        assert reward(kind, right, answer, **settings) == 0, answer


def test_a_share_of_the_fields_is_a_share_of_the_reward():
    right = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert reward("json_fields", right, '{"a": 1, "b": 2, "c": 0}') == 0.5
    assert reward("json_fields", right, '{"a": 1, "b": 2, "c": 0}', partial=False) == 0


def test_a_search_that_takes_too_long_is_wrong():
    started_s = time.monotonic()
    pattern = r"(a+)+$"
    answer = "a" * 60 + "b"
    assert reward("regex", "x", answer, pattern=pattern, time_limit_s=0.3) == 0
    assert time.monotonic() - started_s < 60  # it would take years


def test_a_pattern_must_be_one():
    with pytest.raises(ValidationError, match="not a regular expression"):
        RuleJudgeConfig(kind="regex", pattern="(")
    with pytest.raises(ValidationError, match="needs pattern"):
        RuleJudgeConfig(kind="regex")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "9**9**9",
        "1" * 5000,
        "(" * 3000,
        "1+",
        "True",
        "'a'*9",
        "1 if 1 else 2",
        "10**400",
        "1e400",
        "\x00",
        "１+f(2)",
    ],
)
def test_only_arithmetic_is_arithmetic_and_it_stays_small(text):
    started_s = time.thread_time()
    with pytest.raises(ValueError):
        Arithmetic(text, powers=True)
    assert time.thread_time() - started_s < 1


COUNTDOWN = {"nums": [25, 3, 4, "4"], "target": 100}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"\boxed{25*4*(4-3)}", 1.0),
        (r"So: \boxed{25 \times 4 \times \left(4 - 3\right) = 100}.", 1.0),
        (r"\boxed{1} no, \boxed{(4-3)*4*25}", 1.0),
        (r"\boxed{25*4}", 0.1),
        (r"\boxed{25*4+3-4}", 0.1),
        (r"\boxed{25*4*4/4}", 0.1),
        (r"\boxed{100}", 0.1),
        (r"\boxed{__import__('os')}", 0.1),
        (r"\boxed{25/(4-4)+3}", 0.1),
        (r"\boxed{25*4", 0.0),
        ("25*4*(4-3)", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_countdown(answer, expected):
    judge = CountdownAnswerAsJudge(config_of(judge_type="countdown"))
    task = WorkflowTask(task=Task(task_id="t", metadata=COUNTDOWN))
    output = WorkflowOutput(metadata={"final_answer": answer})
    assert judge.compute_reward(task, output) == (expected, expected == 1)
    assert output.metadata["judge"]["words"]


def test_countdown_needs_numbers_and_a_target():
    judge = CountdownAnswerAsJudge(config_of(judge_type="countdown"))
    task = WorkflowTask(task=Task(task_id="t7", metadata={"nums": [1]}))
    with pytest.raises(EpisodeError, match=r'metadata\["target"\].*t7'):
        judge.compute_reward(task, WorkflowOutput())


ADD = "```python\ndef add(a, b):\n    return a + b\n```"
SUB = "```python\ndef add(a, b):\n    return a - b\n```"
TESTS = ["assert add(1, 2) == 3", {"call": "add(0, 0)", "returns": 0}, "assert add(2, 2) > 3"]


def test_programs_are_judged_by_their_tests():
    assert reward("code", TESTS, f"Here:\n{ADD}\nDone.") == 1
    assert reward("code", TESTS, SUB) == pytest.approx(1 / 3)
    assert reward("code", TESTS, SUB, partial=False) == 0
    assert reward("code", TESTS[0], ADD) == 1
    echo = "n = int(input())\nprint(n * 2)"
    assert reward("code", [{"input": "21\n", "output": "42"}], echo) == 1
    assert reward("code", [{"input": "21\n", "output": "41"}], echo) == 0


@pytest.mark.parametrize(
    "program",
    [
        "print(sum(map(int, input().split())))\nexit()",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nsys.exit(0)",
        "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))",
        "import sys\nsys.stdout.buffer.write(b'%d' % sum(map(int, input().split())))",
        "import sys\ninput = sys.stdin.readline\nprint(sum(map(int, input().split())))\nquit()",
    ],
)
def test_a_program_may_read_write_and_end_in_all_common_ways(program):
    assert reward("code", [{"input": "1 2\n", "output": "3"}], program) == 1
    assert reward("code", [{"input": "1 2\n", "output": "4"}], program) == 0


def test_a_program_that_ends_with_an_error_code_fails():
    source = "import sys\nprint(3)\nsys.exit(1)"
    assert reward("code", [{"input": "", "output": "3"}], source) == 0


def test_values_of_json_are_compared_as_such():
    source = "def f():\n    return (0.1 + 0.2, [1, 'a'])"
    assert reward("code", [{"call": "f()", "returns": [0.3, [1, "a"]]}], source) == 1
    assert reward("code", [{"call": "f()", "returns": [0.4, [1, "a"]]}], source) == 0
    assert reward("code", "assert f() == (0.3, [1, 'a'])", source) == 1
    assert reward("code", "assert f() == [0.3, [1, 'a']]", source) == 0
    nested = '{"total": {"price": 0.30000000000000004, "names": ["a "]}}'
    assert reward("json_fields", {"total": {"price": 0.3, "names": ["a"]}}, nested) == 1
    assert reward("json_fields", {"total": {"price": 0.3, "names": []}}, nested) == 0


HUGE = 10**400


@pytest.mark.parametrize(
    ("kind", "right", "answer"),
    [
        ("code", "assert f() == 1.5", "def f(): return 10**400"),
        ("code", {"call": "f()", "returns": 1.5}, "def f(): return -10**400"),
        ("code", "assert f() == 3", "class A:\n  def __repr__(self): return '{[]: 1}'\nf = A"),
        ("json_fields", {"a": 1.5}, f'{{"a": {HUGE}}}'),
        ("json_fields", {"a": 1.5}, f'{{"a": [{HUGE}]}}'),
    ],
)
def test_no_answer_makes_the_judge_fail(kind, right, answer):
    assert reward(kind, right, answer) == 0


@pytest.mark.parametrize(
    "end", ["exit()", "import sys\nsys.exit()", "raise SystemExit", "import os\nos._exit(0)"]
)
def test_a_program_cannot_end_before_its_tests(end):
    assert reward("code", "assert add(1, 2) > 7", f"def add(a, b): return 0\n{end}") == 0


@pytest.mark.parametrize(
    "cheat",
    [
        "import os\ndef add(a, b):\n    os._exit(0)",
        "import sys\ndef add(a, b):\n    sys.exit(0)",
        "class Equal:\n    def __eq__(self, other): return True\ndef add(a, b): return Equal()",
        "import os\ndef add(a, b):\n    os.write(1, b'ready')",
        "class Yes(int):\n    def __eq__(self, o): return True\ndef add(a, b): return Yes(9)",
        "print('True')",
        "",
    ],
)
def test_a_program_cannot_claim_to_pass(cheat):
    assert reward("code", TESTS[:2], cheat) == 0


def test_a_test_must_be_one():
    with pytest.raises(EpisodeError, match="a test is 7"):
        reward("code", [7], ADD)


@pytest.mark.parametrize("kind", ["math", "exact", "json_fields", "expression", "code"])
def test_a_task_without_an_answer_is_no_wrong_answer(kind):
    with pytest.raises(EpisodeError, match=r'needs metadata\["answer"\].*task t'):
        reward(kind, None, "1")


@pytest.mark.parametrize(("kind", "right"), [("expression", "seven"), ("json_fields", "[1]")])
def test_a_right_answer_that_the_rule_cannot_use_is_named(kind, right):
    with pytest.raises(EpisodeError, match="needs a"):
        reward(kind, right, "1")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def add(a, b): return a / 0", "ZeroDivisionError"),
        ("def add(a, b): return (", "SyntaxError"),
        ("def add(a, b):\n    while True: pass", "limit"),
        ("def add(a, b): return open('/etc/passwd').read()", "PermissionError"),
        ("def add(a, b): return 'x' * 10**10", "memory"),
        ("def other(): pass", "NameError"),
    ],
)
def test_why_a_program_fails_is_said(source, words):
    limit_s = 1.0 if words == "limit" else 30.0  # on a busy machine, the others may take a while
    judge = RuleJudge(config_of(judge_type="rule", rule={"kind": "code", "time_limit_s": limit_s}))
    task = WorkflowTask(task=Task(task_id="t", metadata={"answer": TESTS[:1]}))
    output = WorkflowOutput(metadata={"final_answer": source})
    assert judge.compute_reward(task, output) == (0.0, False)
    assert words in output.metadata["judge"]["words"]
