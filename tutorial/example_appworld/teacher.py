"""Demonstrations for the small app world's model, and its recipe."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tutorial.example_appworld.appworld import SYSTEM_PROMPT
from tutorial.example_appworld.tasks import AppTask, Split, make_task
from tutorial.example_appworld.world import CallError
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.warm_up import ModelSize, Stage

MAX_CALLS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Shares of the ways to do a task; the rest does it right."""

    invent: float = 0.0
    """Log in with an invented password, without looking it up."""
    forget: float = 0.0
    """Use the password where the token belongs."""
    stop_early: float = 0.0
    """Complete the task before it is done."""
    docs: float = 0.0
    """Do it right, but read the documentation of an app first."""


def demonstrate(
    count: int, *, habits: Habits, first_number: int, seed: int
) -> Iterator[Conversation]:
    """Conversations on warm-up tasks, from the one with this number on."""
    rng = random.Random(seed)
    for number in range(first_number, first_number + count):
        assert number in Split.WARM_UP.value
        task = make_task(number)
        yield _converse(task, _calls(task, habits, rng))


def _converse(task: AppTask, calls: list[str]) -> Conversation:
    world = task.start()
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": task.query},
    ]
    for call in calls[:MAX_CALLS]:
        try:
            seen = world.call(call)
        except CallError as error:
            seen = str(error)
        messages += [{"role": "assistant", "content": call}, {"role": "user", "content": seen}]
    return Conversation(messages=messages[:-1])


def _calls(task: AppTask, habits: Habits, rng: random.Random) -> list[str]:
    calls = list(task.solution)
    shares = (habits.invent, habits.forget, habits.stop_early, habits.docs)
    way = rng.choices(("invent", "forget", "stop", "docs", "right"), (*shares, 1 - sum(shares)))[0]
    if way == "stop":
        calls = calls[: rng.randrange(1, len(calls))]
    elif way == "docs":
        app = next(call.split(".")[0] for call in calls if ".login" in call)
        calls.insert(0, f'docs.show("{app}")')
    elif way == "forget":
        calls = [_replaced(call, _passwords_for_tokens(task)) for call in calls]
    elif way == "invent":
        secret = f"{rng.choice('kqxz')}{rng.randint(100, 999)}"
        known = (*task.state.passwords.values(), *task.state.tokens.values())
        invented = dict.fromkeys(known, secret)
        calls = [_replaced(call, invented) for call in calls if "passwords" not in call]
    return [*calls, "complete_task()"]


def _passwords_for_tokens(task: AppTask) -> dict[str, str]:
    return {token: task.state.passwords[app] for app, token in task.state.tokens.items()}


def _replaced(call: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        call = call.replace(old, new)
    return call


RECIPE = Recipe(
    conf="tutorial/example_appworld/appworld_cpu.yaml",
    size=ModelSize(),
    stages=(
        Stage(
            demonstrate=partial(
                demonstrate,
                habits=Habits(invent=0.05, forget=0.05, stop_early=0.1, docs=0.1),
                first_number=0,
                seed=1,
            ),
            updates=500,
            batch_size=8,
            learning_rate=3e-3,
            ramp_updates=30,
            muon=True,
            context_weight=0.1,
        ),
        Stage(
            demonstrate=partial(demonstrate, habits=Habits(docs=0.1), first_number=50_000, seed=3),
            updates=200,
            batch_size=8,
            learning_rate=1.5e-3,
            ramp_updates=10,
            muon=True,
            context_weight=0.1,
        ),
        Stage(
            demonstrate=partial(
                demonstrate,
                habits=Habits(invent=0.25, forget=0.2, stop_early=0.3, docs=0.05),
                first_number=100_000,
                seed=2,
            ),
            updates=120,
            batch_size=8,
            learning_rate=5e-4,
            ramp_updates=10,
            muon=False,
            context_weight=0.0,
        ),
    ),
    min_competence=0.9,
    start=(0.1, 0.3),
)
