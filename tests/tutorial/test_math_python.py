"""The math example with the Python tool.

1. A call runs the program; what goes wrong is a text that the agent reads, and a wrong call.
2. The reward is for the final answer; calls and wrong calls are counted.
3. The workflow sends the prompts that the model was trained on.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ajet import Task
from tutorial.example_math_agent.python_tool import NAME, NO_OUTPUT, PYTHON_TOOL, answer_call

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_math_agent" / "math_agent_python_cpu.yaml"
TASK = Task(main_query="Sam has 19 pens, gives 4. How many now?", metadata={"answer": "15"})
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


# 1. Calls


def test_a_program_that_prints() -> None:
    result = answer_call(NAME, json.dumps({"code": "x = 19; x -= 4; print(x)"}))
    assert (result.text, result.is_wrong_call) == ("15", False)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        (NAME, json.dumps({"code": "x = 19; x - 4"}), NO_OUTPUT),
        (NAME, json.dumps({"code": "print(x)"}), "NameError"),
        (NAME, json.dumps({"code": "print(19 - 4"}), "SyntaxError"),
        (NAME, json.dumps({"code": "print(open('/etc/passwd').read())"}), "PermissionError"),
        (NAME, json.dumps({"code": "while True: pass"}), "limit"),
        (NAME, json.dumps({"code": 5}), "expected execute_python_code"),
        (NAME, json.dumps(["print(15)"]), "expected execute_python_code"),
        (NAME, json.dumps({"code": "import os; os._exit(1)"}), "exit status 1"),
        (NAME, json.dumps({"code": "print('\ud800')"}), "UnicodeEncodeError"),
        (NAME, json.dumps({"code": "print('x' * 3000)"}), "limit of output"),
        (NAME, json.dumps({"code": "import ctypes; ctypes.string_at(0)"}), "crashed"),
        (NAME, "{", "expected execute_python_code"),
        (NAME, "[" * 100_000, "expected execute_python_code"),
        ("calculator", json.dumps({"code": "print(15)"}), "expected execute_python_code"),
    ],
)
def test_wrong_calls(name: str, arguments: str, text: str) -> None:
    result = answer_call(name, arguments)
    assert result.is_wrong_call
    assert text in result.text


# 2. Rewards


def _call(code: str) -> str:
    arguments = json.dumps({"code": code})
    return f'<tool_call>\n{{"name": "{NAME}", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answers", "reward", "calls", "wrong"),
    [
        ([_call("print(19 - 4)"), "Answer: 15"], 1.0, 1, 0),
        ([_call("19 - 4"), _call("print(19 - 4)"), "Answer: 15"], 1.0, 2, 1),
        ([_call("19 - 4"), "Answer: 16"], 0.0, 1, 1),
        (["Answer: 15"], 1.0, 0, 0),
        ([_call("print(1)")] * 3, 0.0, 3, 0),
    ],
)
def test_reward(answers: list[str], reward: float, calls: int, wrong: int) -> None:
    episode = _episode(answers)
    assert (episode.failure, episode.reward) == (None, reward)
    assert episode.log_metrics == {"calls": calls, "wrong_calls": wrong}


def _episode(answers: list[str]) -> Any:
    pytest.importorskip("renderers")
    from tests.tutorial.models import run_example

    overrides = ("rollout.max_response_length_in_one_turn=512",)
    return run_example(CONF, answers, task=TASK, overrides=overrides)


# 3. Tokens


def test_the_workflow_sends_the_prompts_of_the_demonstrations() -> None:
    pytest.importorskip("torch")
    from tests.tutorial.models import assert_trained_on
    from tutorial.example_math_agent.python_tool import SYSTEM_PROMPT

    code = "x = 19; x -= 4; print(x)"
    function = {"name": NAME, "arguments": json.dumps({"code": code})}
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": TASK.main_query},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": function}],
        },
        {"role": "tool", "content": "15"},
        {"role": "assistant", "content": "Answer: 15"},
    ]
    episode = _episode([_call(code), "Answer: 15"])
    assert_trained_on(CONF, messages, episode, tools=[PYTHON_TOOL])
