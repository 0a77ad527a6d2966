"""Demonstrations for the countdown model, and its recipe."""

import random
from collections.abc import Iterator
from functools import partial
from itertools import islice

from tutorial.example_countdown.countdown import SYSTEM_PROMPT, question
from tutorial.example_countdown.tasks import Attempt, CountdownTask, Split, attempts, generate
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.tokenizer import NUMBER_PATTERN
from tutorial.tiny_models.warm_up import Stage

MAX_ATTEMPTS = 16
NUM_EARLY = 5


def demonstrate(
    count: int, *, give_up: float, seed: int, early: float = 0.0
) -> Iterator[Conversation]:
    """Conversations on warm-up tasks.

    The teacher cannot see the answer either: it tries one expression after the other, and says of
    each whether it makes the target, until one does, or until it gives up and answers with the
    last one. Without the "yes" and "no", a tiny model does not learn to compare a value with the
    target: it did not stop at 20 of 23 values that were right.

    Args:
        count: number of conversations.
        give_up: chance to give up after each attempt.
        seed: of the teacher's choices.
        early: share of the tasks whose target one of the first attempts makes. They are short, so
            more of the teacher's words are a "yes".
    """
    rng = random.Random(seed)
    for task in islice(generate(Split.WARM_UP), count):
        if rng.random() < early:
            first = rng.choice(attempts(task.numbers)[:NUM_EARLY])
            task = CountdownTask(numbers=task.numbers, target=first.value)
        tried = _tried(task, rng, give_up)
        lines = [f"{a.steps} {'yes' if a.value == task.target else 'no'}" for a in tried]
        lines.append(rf"\boxed{{{tried[-1].expression}}}")
        yield Conversation(
            messages=[
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": question(list(task.numbers), task.target)},
                {"role": "assistant", "content": "\n".join(lines)},
            ]
        )


def _tried(task: CountdownTask, rng: random.Random, give_up: float) -> list[Attempt]:
    ways = attempts(task.numbers)
    for count, way in enumerate(ways, start=1):
        if way.value == task.target or count == MAX_ATTEMPTS or rng.random() < give_up:
            return ways[:count]
    raise AssertionError("every task can be solved")


RECIPE = Recipe(
    conf="tutorial/example_countdown/countdown_cpu.yaml",
    pattern=NUMBER_PATTERN,
    stages=(
        Stage(
            demonstrate=partial(demonstrate, give_up=0.0, seed=1),
            updates=600,
            batch_size=16,
            learning_rate=3e-3,
            ramp_updates=30,
            muon=True,
            context_weight=0.1,
            window=8,
        ),
        Stage(
            demonstrate=partial(demonstrate, give_up=0.0, early=0.6, seed=3),
            updates=900,
            batch_size=16,
            learning_rate=2e-3,
            ramp_updates=10,
            muon=True,
            context_weight=0.1,
            window=8,
        ),
        Stage(
            demonstrate=partial(demonstrate, give_up=0.8, seed=2),
            updates=100,
            batch_size=16,
            learning_rate=5e-4,
            ramp_updates=10,
            muon=False,
            context_weight=0.0,
        ),
    ),
    min_competence=0.6,
    start=(0.1, 0.25),
)
