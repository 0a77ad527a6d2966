"""Tasks of the small world: what is asked, and how the world must look at the end.

A number determines a task. Splits take their numbers from ranges that do not overlap.
"""

import copy
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tutorial.example_appworld.world import State, World, make_state

PEOPLE = ("ann", "bob", "eve", "tom", "mia", "sam", "leo", "zoe")
NUM_TRAIN = 640
NUM_VALIDATION = 256


class Split(Enum):
    """The use of a task; the value is the range of its numbers."""

    WARM_UP = range(0, 1_000_000)
    TRAIN = range(1_000_000, 2_000_000)
    VALIDATION = range(2_000_000, 3_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTask:
    """A query, the world in which it is asked, and calls that do it."""

    number: int
    query: str
    state: State
    solution: tuple[str, ...]
    """Calls in order, without `complete_task()`."""

    def start(self) -> World:
        """A fresh world."""
        return World(copy.deepcopy(self.state))

    def wanted(self) -> dict[str, Any]:
        """The outcome of the solution."""
        world = self.start()
        for call in self.solution:
            world.call(call)
        return world.state.outcome()

    def score(self, world: World) -> float:
        """1 if the world looks as it should, and nothing else was changed; otherwise 0."""
        return float(world.is_complete and world.state.outcome() == self.wanted())


def make_task(number: int) -> AppTask:
    """The task of this number."""
    rng = random.Random(f"apps {number}")
    state = make_state(rng, PEOPLE)
    kind = rng.choice((_pay, _pay_by_mail, _mail_note, _note_balance))
    query, solution = kind(state, rng)
    return AppTask(number=number, query=query, state=state, solution=tuple(solution))


def first_tasks(split: Split, count: int) -> list[AppTask]:
    """The first tasks of a split."""
    return [make_task(number) for number in split.value[:count]]


def _pay(state: State, rng: random.Random) -> tuple[str, list[str]]:
    person, amount = rng.choice(PEOPLE), rng.randint(10, 59)
    calls = [*_log_in(state, "wallet"), _pays(state, person, amount)]
    return f"pay {person} {amount}", calls


def _pay_by_mail(state: State, rng: random.Random) -> tuple[str, list[str]]:
    person = rng.choice(sorted(state.inbox))
    token = state.tokens["mail"]
    calls = [
        *_log_in(state, "mail"),
        f'mail.inbox("{token}")',
        f'mail.read("{token}", "{person}")',
        f'wallet.login("{state.passwords["wallet"]}")',
        _pays(state, person, int(state.inbox[person].split()[-1])),
    ]
    return f"pay {person} what the mail asks for", calls


def _mail_note(state: State, rng: random.Random) -> tuple[str, list[str]]:
    person = rng.choice(PEOPLE)
    send = f'mail.send("{state.tokens["mail"]}", "{person}", "{state.notes["code"]}")'
    return f"mail {person} the note code", ['notes.read("code")', *_log_in(state, "mail"), send]


def _note_balance(state: State, rng: random.Random) -> tuple[str, list[str]]:
    title = rng.choice(("money", "bank", "today"))
    calls = [
        *_log_in(state, "wallet"),
        f'wallet.balance("{state.tokens["wallet"]}")',
        f'notes.write("{title}", "{state.balance}")',
    ]
    return f"write the balance into the note {title}", calls


def _log_in(state: State, app: str) -> list[str]:
    return ['notes.read("passwords")', f'{app}.login("{state.passwords[app]}")']


def _pays(state: State, person: str, amount: int) -> str:
    return f'wallet.send("{state.tokens["wallet"]}", "{person}", {amount})'
