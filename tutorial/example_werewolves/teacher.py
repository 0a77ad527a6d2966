"""Demonstrations for the werewolves' model, and its recipe.

The teacher knows how to play, and not how to win: whom it chooses and what it says is drawn at
random.
"""

import asyncio
import random
import re
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from ajet.gateway.response_format import with_instruction
from tutorial.example_werewolves.game import Game
from tutorial.example_werewolves.player import TURN_FORMAT, Player, Turn, role_sheet
from tutorial.example_werewolves.scripted_players import MODERATOR, SILENT
from tutorial.example_werewolves.table import WEREWOLF, Table
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.warm_up import Stage

FIRST_NUMBER = 10_000_000
"""Of the teacher's games, which have even numbers, and twice as much for the second stage; the
numbers of training and validation are below a million."""
PHRASES = (
    "I am a villager.",
    "I suspect {}.",
    "I trust {}.",
    "Let us vote for {}.",
    "I am the seer. {} is a werewolf.",
    "I am the seer. {} is no werewolf.",
)


class TeacherModel:
    """Called like a chat model of AgentScope."""

    def __init__(self, rng: random.Random, *, silence: float) -> None:
        self.rng = rng
        self.silence = silence

    async def __call__(
        self, messages: list[dict[str, str]], response_format: dict[str, Any]
    ) -> SimpleNamespace:
        """A legal turn at random."""
        lines = messages[-1]["content"].splitlines()
        asked = [x.removeprefix(MODERATOR) for x in lines if x.startswith(MODERATOR)][-1]
        name = messages[0]["content"].split("You are ")[1].split(",")[0]
        heard = "\n".join(message["content"] for message in messages)
        alive = re.findall(r"Alive: ([\w, ]+)\.", heard)
        others = [x for x in (alive[-1].split(", ") if alive else []) if x != name]
        if "hoose" in asked:
            offered = asked.rpartition(": ")[2].rstrip(".").split(", ")
            turn = Turn(say="", choose=self.rng.choice([x for x in offered if x != name]))
        else:
            is_silent = self.rng.random() < self.silence
            phrase = self.rng.choice(SILENT if is_silent else PHRASES)
            turn = Turn(say=phrase.format(self.rng.choice(others)), choose=None)
        return SimpleNamespace(content=[{"type": "text", "text": turn.model_dump_json()}])


def demonstrate(count: int, *, silence: float, first_number: int) -> Iterator[Conversation]:
    """The conversations of the werewolf and of one other player of each game."""
    made, number = 0, first_number
    while True:
        rng = random.Random(number)
        table = Table.of(number, 5)
        players = {
            name: Player(name, role_sheet(name, role, []), TeacherModel(rng, silence=silence))
            for name, role in table.roles.items()
        }
        asyncio.run(Game(table, players).play())
        for name in sorted(players, key=lambda name: table.roles[name] != WEREWOLF)[:2]:
            messages = players[name].messages
            while messages[-1]["role"] != "assistant" and len(messages) > 1:
                messages.pop()
            if len(messages) > 1:
                yield Conversation(messages=with_instruction(messages, TURN_FORMAT, "prompt"))
                made += 1
            if made == count:
                return
        number += 2  # odd numbers have the tables of the validation


def _stage(silence: float, first_number: int, **settings: Any) -> Stage:
    return Stage(
        demonstrate=partial(demonstrate, silence=silence, first_number=first_number),
        batch_size=8,
        **settings,
    )


_SKILLS = _stage(
    0.2,
    FIRST_NUMBER,
    updates=800,
    learning_rate=3e-3,
    ramp_updates=30,
    muon=True,
    context_weight=0.2,
)
_SILENCE = _stage(
    0.6,
    2 * FIRST_NUMBER,
    updates=100,
    learning_rate=5e-4,
    ramp_updates=10,
    muon=False,
    context_weight=0.0,
)
RECIPE = Recipe(
    conf="tutorial/example_werewolves/werewolves_cpu.yaml",
    stages=(_SKILLS, _SILENCE),
    min_competence=0.3,
    start=(0.2, 0.7),
    max_vocab_size=1024,  # the constant lines are long, and their merges come first
)
