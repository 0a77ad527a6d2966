"""The countdown example.

1. Expressions are parsed, never evaluated; what is not arithmetic is wrong.
2. The reward: 1 for a right answer, 0.1 for another box, 0 without a box.
3. No two splits share a multiset of numbers, and the shipped tasks are the generated ones.
4. The workflow sends the prompt that the model was trained on.
"""

from pathlib import Path

import pytest

from ajet import Task
from ajet.task_judge.countdown_judge import boxed
from tutorial.example_countdown.countdown import SYSTEM_PROMPT, question
from tutorial.example_countdown.expression import evaluate, solves
from tutorial.example_countdown.tasks import Split, attempts, generate, main, unique

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_countdown" / "countdown_cpu.yaml"
TASK = Task(main_query=question([7, 5, 3], 36), metadata={"target": 36, "nums": [7, 5, 3]})

# 1. Expressions


@pytest.mark.parametrize(
    "expression",
    ["(7 + 5) * 3", "3*(5+7)", r"(7 + 5) \times 3", "(7 + 5) * 3 = 36", "-3 * (-7 - 5)"],
)
def test_right_expressions(expression: str) -> None:
    assert solves(expression, [3, 5, 7], 36)


@pytest.mark.parametrize(
    "expression",
    [
        "7 * 5 + 1",  # another number
        "(7 + 5) * 3 + 5 - 5",  # a number twice
        "36",
        "7 + 5 * 3",  # 22
        "6 ** 2",
        "(7 + 5)(3)",
        "(7 + 5 * 3",
        "7 + + 5",
        "",
        "abs(7) + 5",
        "__import__('os').getcwd()",
        "9" * 600,
        "(" * 400 + "7" + ")" * 400,
        "-" * 400 + "7",
        "7 / (5 - 5)",
        "(٧ + ٥) * ٣",
        "(７ + 5) * 3",
        "(7.0 + 5) * 3",
        "(7 + 5) ^ 3",
        "[7 + 5] * 3",
        "(7 + 5) * 3 # yes",
        "36 = (7 + 5) * 3",
    ],
)
def test_wrong_expressions(expression: str) -> None:
    assert not solves(expression, [7, 5, 3], 36)


def test_division_is_exact() -> None:
    assert solves("8 / (3 - 8 / 3)", [3, 3, 8, 8], 24)
    assert sorted(evaluate("1 / 3 * 3").used) == [1, 3, 3]


def test_the_last_box_counts() -> None:
    assert boxed(r"\boxed{1 + 2} no, \boxed{3 * 4}") == "3 * 4"
    assert boxed("36") is None


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{\boxed{3 * 4}}", "3 * 4"),
        (r"\boxed{\frac{8}{4} * 6}", r"\frac{8}{4} * 6"),
        (r"} \boxed {3 * 4} and \boxed{5", "3 * 4"),
        (r"{ \boxed{\{3\}}", r"\{3\}"),
        (r"\boxed{}", ""),
        (r"\boxed{3 * 4", None),
        (r"\boxed 5, \fbox{5}, boxed{5}", None),
        (r"\boxed{" * 20_000, None),
        (r"\boxed{" * 20_000 + "}" * 20_000, ""),
    ],
)
def test_what_a_box_is(text: str, content: str | None) -> None:
    assert boxed(text) == content


# 2. The reward


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("7 + 5 = 12, 12 * 3 = 36\n\\boxed{(7 + 5) * 3}", 1.0),
        (r"\boxed{7 + 5 + 3}", 0.1),
        (r"\boxed{\frac{7}{5} + 3}", 0.1),
        (r"\boxed{(7 + 5) * 3} or \boxed{36}", 0.1),
        ("(7 + 5) * 3", 0.0),
    ],
)
def test_reward_of_an_episode(answer: str, reward: float) -> None:
    pytest.importorskip("renderers")
    from tests.tutorial.models import run_example

    episode = run_example(CONF, [answer], task=TASK)
    assert (episode.failure, episode.reward) == (None, reward)
    assert episode.is_success == (reward == 1.0)


# 3. The tasks


def test_no_two_splits_share_numbers() -> None:
    numbers = {
        split: {
            tuple(sorted(task.numbers))
            for task, _ in zip(generate(split), range(4000), strict=False)
        }
        for split in Split
    }
    assert all(numbers.values())
    assert not numbers[Split.WARM_UP] & numbers[Split.TRAIN]
    assert not numbers[Split.WARM_UP] & numbers[Split.VALIDATION]
    assert not numbers[Split.TRAIN] & numbers[Split.VALIDATION]


def test_every_task_can_be_solved() -> None:
    for task in unique(Split.VALIDATION, 256):
        ways = [way for way in attempts(task.numbers) if way.value == task.target]
        assert ways
        for way in ways:
            assert solves(way.expression, list(task.numbers), task.target)


def test_the_shipped_tasks_are_the_generated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tasks", str(tmp_path)])
    main()
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / name).read_bytes() == (CONF.parent / "data" / name).read_bytes()


# 4. Tokens


def test_the_workflow_sends_the_prompt_of_the_demonstrations() -> None:
    pytest.importorskip("torch")
    from tests.tutorial.models import assert_trained_on, run_example

    answer = "7 + 5 = 12, 12 * 3 = 36\n\\boxed{(7 + 5) * 3}"
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": TASK.main_query},
        {"role": "assistant", "content": answer},
    ]
    assert_trained_on(CONF, messages, run_example(CONF, [answer], task=TASK))
