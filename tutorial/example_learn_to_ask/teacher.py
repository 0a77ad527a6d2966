"""Demonstrations for the assistant's model, and its recipe."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tutorial.example_learn_to_ask.cases import QUESTIONS, Case, Split, generate
from tutorial.example_learn_to_ask.learn_to_ask import STOP, SYSTEM_PROMPT
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.warm_up import ModelSize, Stage

VAGUE = "Tell me more."


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Shares of the ways to answer; the rest asks what is missing, or stops if nothing is."""

    any_question: float
    """Ask about any fact, known or not, needed or not."""
    vague: float
    """Ask for nothing in particular."""
    stop: float
    """Stop, whatever is missing."""
    no_choices: float
    """Share of all questions that come without choices."""


def demonstrate(count: int, *, habits: Habits, seed: int) -> Iterator[Conversation]:
    """Conversations on warm-up cases."""
    rng = random.Random(seed)
    for case, _ in zip(generate(Split.WARM_UP), range(count), strict=False):
        yield Conversation(
            messages=[
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": case.conversation},
                {"role": "assistant", "content": _answer(case, habits, rng)},
            ]
        )


def _answer(case: Case, habits: Habits, rng: random.Random) -> str:
    shares = (habits.any_question, habits.vague, habits.stop)
    way = rng.choices(("any", "vague", "stop", "right"), (*shares, 1 - sum(shares)))[0]
    if way == "vague":
        return VAGUE
    if way == "stop" or (way == "right" and not case.missing):
        return STOP
    fact = rng.choice(list(QUESTIONS) if way == "any" else case.missing)
    question, choices = QUESTIONS[fact]
    return question if rng.random() < habits.no_choices else f"{question} {choices}"


RECIPE = Recipe(
    conf="tutorial/example_learn_to_ask/learn_to_ask_cpu.yaml",
    size=ModelSize(),
    stages=(
        Stage(
            demonstrate=partial(
                demonstrate,
                habits=Habits(any_question=0.1, vague=0.0, stop=0.05, no_choices=0.1),
                seed=1,
            ),
            updates=500,
            batch_size=16,
            learning_rate=3e-3,
            ramp_updates=30,
            muon=True,
            context_weight=0.05,
        ),
        Stage(
            demonstrate=partial(
                demonstrate,
                habits=Habits(any_question=0.45, vague=0.32, stop=0.2, no_choices=0.85),
                seed=2,
            ),
            updates=120,
            batch_size=16,
            learning_rate=5e-4,
            ramp_updates=10,
            muon=False,
            context_weight=0.0,
        ),
    ),
    min_competence=0.85,
    start=(0.1, 0.35),
)
