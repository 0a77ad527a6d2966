"""The rules of the game: who sits at the table, who is alive, who has won.

A table is made from a number. The werewolves win when they are as many as the others; the others
win when no werewolf is left.
"""

import random
import zlib
from collections import Counter
from dataclasses import dataclass, field

NAMES = ("Ann", "Bob", "Eve", "Tom", "Mia", "Sam", "Leo", "Zoe", "Max")
ROLES = {
    5: ("werewolf", "seer", "villager", "villager", "villager"),
    9: ("werewolf",) * 3 + ("villager",) * 3 + ("seer", "witch", "hunter"),
}
"""Number of players -> their roles."""
WEREWOLF = "werewolf"


@dataclass(slots=True, kw_only=True)
class Table:
    """The state of a game."""

    roles: dict[str, str]
    """Name -> role, in the order of seats."""
    rng: random.Random
    """Breaks ties."""
    dead: list[str] = field(default_factory=list)
    """In the order of their deaths."""

    @classmethod
    def of(cls, number: int, num_players: int) -> "Table":
        """The table of a number: names, seats and roles are drawn.

        Even and odd numbers never have the same table: the reader gives even ones for training and
        odd ones for validation.
        """
        rng = random.Random(f"werewolves {number}")
        while True:
            names = rng.sample(NAMES, num_players)
            roles = list(ROLES[num_players])
            rng.shuffle(roles)
            table = dict(zip(names, roles, strict=True))
            if zlib.crc32(repr(table).encode()) % 2 == number % 2:
                return cls(roles=table, rng=rng)

    @property
    def alive(self) -> list[str]:
        """Names in the order of seats."""
        return [name for name in self.roles if name not in self.dead]

    def alive_with(self, role: str) -> list[str]:
        """Names of the living with this role."""
        return [name for name in self.alive if self.roles[name] == role]

    def most_chosen(self, choices: list[str | None], allowed: list[str]) -> str | None:
        """The name with most votes; ties are drawn; None if nobody named anyone who is allowed."""
        counts = Counter(choice for choice in choices if choice in allowed)
        if not counts:
            return None
        most = max(counts.values())
        return self.rng.choice([name for name in allowed if counts[name] == most])

    @property
    def winner(self) -> str | None:
        """`werewolves`, `villagers`, or None while the game lasts."""
        wolves = len(self.alive_with(WEREWOLF))
        if wolves == 0:
            return "villagers"
        return "werewolves" if 2 * wolves >= len(self.alive) else None
