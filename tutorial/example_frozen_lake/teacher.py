"""Demonstrations for the frozen lake model, and its recipe."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial

from tutorial.example_frozen_lake.frozen_lake import SYSTEM_PROMPT
from tutorial.example_frozen_lake.lake import SIZE
from tutorial.example_frozen_lake.maps import (
    MOVES,
    Position,
    Split,
    after,
    describe,
    distances,
    make_map,
    numbers,
)
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.warm_up import ModelSize, Stage

NUM_MAPS = 3000
MAX_MOVES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Shares of the ways to choose a move; the rest of the moves is on a shortest way."""

    straight: float = 0.0
    """To the right edge and then down, whatever lies there."""
    wander: float = 0.0
    """Any direction, whatever lies there."""
    detour: float = 0.0
    """Any direction without a hole. Not trained: it only leads to other positions."""


@cache
def _maps() -> list[list[str]]:
    return [make_map(number, SIZE) for number in numbers(Split.WARM_UP, NUM_MAPS, SIZE)]


def demonstrate(count: int, *, habits: Habits, seed: int) -> Iterator[Conversation]:
    """Walks on warm-up maps, each to its end."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _walk(rng.choice(_maps()), habits, rng)


def _walk(field: list[str], habits: Habits, rng: random.Random) -> Conversation:
    player: Position = (0, 0)
    left = distances(field)
    messages = [{"role": "system", "content": SYSTEM_PROMPT}]
    ignored = set()
    for number in range(MAX_MOVES):
        messages.append({"role": "user", "content": describe(field, player, gap="")})
        way = rng.choices(
            ("straight", "wander", "detour", "careful"),
            (
                habits.straight,
                habits.wander,
                habits.detour,
                1 - habits.straight - habits.wander - habits.detour,
            ),
        )[0]
        if way == "detour":
            ignored.add(number)
        move = _move(way, field, player, left, rng)
        messages.append({"role": "assistant", "content": move})
        player = after(field, player, move)
        if left.get(player, 0) == 0:  # the goal, or a hole
            break
    return Conversation(messages=messages, ignored=frozenset(ignored))


def _move(
    way: str, field: list[str], player: Position, left: dict[Position, int], rng: random.Random
) -> str:
    if way == "straight":
        return "right" if player[1] < len(field) - 1 else "down"
    if way == "wander":
        return rng.choice(list(MOVES))
    reached = {move: after(field, player, move) for move in MOVES}
    safe = [move for move, position in reached.items() if position in left]
    if way == "detour":
        return rng.choice(safe)
    return rng.choice([move for move in safe if left[reached[move]] < left[player]])


RECIPE = Recipe(
    conf="tutorial/example_frozen_lake/frozen_lake_cpu.yaml",
    size=ModelSize(),
    stages=(
        Stage(
            demonstrate=partial(demonstrate, habits=Habits(detour=0.25), seed=1),
            updates=600,
            batch_size=8,
            learning_rate=3e-3,
            ramp_updates=30,
            muon=True,
            context_weight=0.05,
        ),
        Stage(
            demonstrate=partial(demonstrate, habits=Habits(straight=0.78, wander=0.08), seed=2),
            updates=120,
            batch_size=8,
            learning_rate=5e-4,
            ramp_updates=10,
            muon=False,
            context_weight=0.0,
        ),
    ),
    min_competence=0.9,
    start=(0.2, 0.45),
)
