"""The app world example.

1. A call is parsed, never executed; what an app refuses is an error that the agent reads.
2. The score looks at the world's state at the end, not at the text.
3. Every task can be done, and no task is in two splits.
4. The episode's reward is the score, in the run's process and behind a service alike.
5. The workflow sends the prompts that the model was trained on.
"""

from pathlib import Path
from typing import Any

import pytest

from ajet import Task
from tests.tutorial.servers import served
from tutorial.example_appworld.tasks import Split, first_tasks, make_task
from tutorial.example_appworld.world import CallError, World, read_call

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_appworld" / "appworld_cpu.yaml"
NUMBER = Split.VALIDATION.value[0]
DONE = "complete_task()"


@pytest.fixture
def world() -> World:
    return make_task(NUMBER).start()


# 1. Calls


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('notes.read("code")', ("notes.read", ["code"])),
        ("```python\nwallet.send('k1', 'bob', 5)\n```", ("wallet.send", ["k1", "bob", 5])),
        (" complete_task() ", ("complete_task", [])),
    ],
)
def test_read_call(text: str, call: tuple[str, list[Any]]) -> None:
    assert read_call(text) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I log in.",
        "notes.list(); notes.list()",
        "notes.read(title='code')",
        "notes.read(open('/etc/passwd').read())",
        "__import__('os').system('ls')",
        "notes.read(" + "(" * 250 + ")" * 5,
        "x" * 1000,
        "notes.nothing()",
        "notes.read()",
        'notes.read(["code"])',
        'notes.read("nothing")',
        'notes.write("a", ["b"])',
        'wallet.send("k123", "bob", 5)',
        'mail.login("k123")',
        "mail.inbox(None)",
        "notes.__init__()",
        'wallet.login("\' OR 1=1 --")',
        'notes.read("x\'; DROP TABLE notes; --")',
        'notes.read(*["code"])',
        'notes.read(b"code")',
        'notes.read("\\ud800")',  # a text that no request can carry
        'notes.write("a", True)',
        'notes.write("a", 1.5)',
        "complete_task(1)",
    ],
)
def test_what_is_refused(world: World, text: str) -> None:
    before = repr(world.state)
    with pytest.raises(CallError):
        world.call(text)
    assert repr(world.state) == before


def test_no_token_without_the_password_and_no_call_without_the_token(world: World) -> None:
    password, token = world.state.passwords["wallet"], world.state.tokens["wallet"]
    with pytest.raises(CallError, match="wrong token"):
        world.call(f'wallet.balance("{token}")')  # guessed before the login
    assert token in world.call(f'wallet.login("{password}")')
    for wrong in (password, world.state.tokens["mail"], ""):
        with pytest.raises(CallError):
            world.call(f'wallet.balance("{wrong}")')
    assert world.call(f'wallet.balance("{token}")') == str(world.state.balance)


@pytest.mark.parametrize("amount", ["0", "-5", "1000", "True", "2.5", '"5"'])
def test_amounts_that_cannot_be_paid(world: World, amount: str) -> None:
    token = _log_in(world, "wallet")
    with pytest.raises(CallError, match="balance"):
        world.call(f'wallet.send("{token}", "bob", {amount})')
    assert world.state.payments == []


@pytest.mark.parametrize("receiver", ["5", "None", '["bob"]', 'b"bob"'])
def test_receivers_that_are_no_names(world: World, receiver: str) -> None:
    before = world.state.outcome()
    for app, last in (("wallet", "1"), ("mail", '"hello"')):
        token = _log_in(world, app)
        with pytest.raises(CallError, match="wrong arguments"):
            world.call(f'{app}.send("{token}", {receiver}, {last})')
    assert world.state.outcome() == before


def _log_in(world: World, app: str) -> str:
    return world.call(f'{app}.login("{world.state.passwords[app]}")').split()[-1]


def test_documentation_names_every_call(world: World) -> None:
    documented = {
        call.split("(")[0]
        for app in ("notes", "mail", "wallet")
        for call in world.call(f'docs.show("{app}")').split(") ")
    }
    assert documented | {"docs.show", "complete_task"} == set(world._calls)
    assert len(documented) + 2 == 12


# 2. and 3. Tasks


def test_every_task_is_solved_by_its_solution_only() -> None:
    for split in (Split.TRAIN, Split.VALIDATION):
        for task in first_tasks(split, 200):
            world = task.start()
            for call in task.solution:
                world.call(call)
            assert task.score(world) == 0  # not completed
            world.call(DONE)
            assert task.score(world) == 1
            with pytest.raises(CallError, match="complete"):
                world.call('notes.write("code", "1")')
            early = task.start()
            for call in (*task.solution[:-1], DONE):
                early.call(call)
            assert task.score(early) == 0
            world.state.payments.append(("bob", 1))  # something else was done, too
            assert task.score(world) == 0


def test_no_task_is_in_two_splits() -> None:
    tasks = {split: {repr(t.state) for t in first_tasks(split, 2000)} for split in Split}
    assert [len(found) for found in tasks.values()] == [2000] * 3
    assert not tasks[Split.WARM_UP] & tasks[Split.TRAIN]
    assert not tasks[Split.WARM_UP] & tasks[Split.VALIDATION]
    assert not tasks[Split.TRAIN] & tasks[Split.VALIDATION]


# 4. Episodes


def test_reward_of_the_solution_and_of_giving_up() -> None:
    solution = [*make_task(NUMBER).solution, DONE]
    episode = _episode(solution)
    assert (episode.failure, episode.reward, episode.is_success) == (None, 1.0, True)
    episode = _episode(["I cannot.", DONE])
    assert (episode.failure, episode.reward, episode.is_success) == (None, 0.0, False)
    assert episode.log_metrics == {"calls": 2.0, "refused_calls": 1.0}


def test_the_service_gives_the_same_episode() -> None:
    solution = [*make_task(NUMBER).solution, DONE]
    with served("tutorial.example_appworld.app_environment") as url:
        episode = _episode(solution, "environment.type=service", f"environment.url={url}")
    assert (episode.failure, episode.reward) == (None, 1.0)
    here = _episode(solution)
    assert [list(s.ids) for s in episode.samples] == [list(s.ids) for s in here.samples]


@pytest.mark.parametrize("task_id", ["abc", "-5", "", "1.5"])
def test_a_task_that_the_service_does_not_have(task_id: str) -> None:
    from tutorial.example_appworld.app_environment import SmallAppWorldService

    with pytest.raises(ValueError, match="there is no task"):
        SmallAppWorldService().create(task_id, {})


def _episode(answers: list[str], *overrides: str) -> Any:
    pytest.importorskip("renderers")
    from tests.tutorial.models import run_example

    task = Task(task_id=str(NUMBER), env_type="appworld")
    return run_example(CONF, answers, task=task, overrides=overrides)


# 5. Tokens


def test_the_workflow_sends_the_prompts_of_the_demonstrations() -> None:
    pytest.importorskip("torch")
    from tests.tutorial.models import assert_trained_on
    from tutorial.example_appworld.appworld import SYSTEM_PROMPT

    task = make_task(NUMBER)
    solution, world = [*task.solution, DONE], task.start()
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": task.query},
    ]
    for call in solution:
        seen = world.call(call)
        messages += [{"role": "assistant", "content": call}, {"role": "user", "content": seen}]
    assert_trained_on(CONF, messages[:-1], _episode(solution))
