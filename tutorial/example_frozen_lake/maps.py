"""Maps of the frozen lake, made from a number by Gymnasium, and their splits.

A map belongs to the split of its content. Different numbers can make the same map, but no map is
in two splits. Symbols: `P` the player, `_` ice, `O` a hole, `G` the goal.
"""

import zlib
from enum import Enum
from itertools import count, islice

Position = tuple[int, int]
"""Row and column, from 0."""
MOVES = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
"""In the order of Gymnasium's actions."""
ICE_SHARE = 0.8


class Split(Enum):
    """The use of a map; the value is the range of its hash, modulo 10."""

    WARM_UP = range(0, 4)
    TRAIN = range(4, 7)
    VALIDATION = range(7, 10)


def make_map(number: int, size: int) -> list[str]:
    """The map of a number, as Gymnasium writes it: `S` start, `F` ice, `H` hole, `G` goal."""
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    return list(generate_random_map(size=size, p=ICE_SHARE, seed=number))


def split_of(field: list[str]) -> Split:
    """The split of a map."""
    key = zlib.crc32("\n".join(field).encode()) % 10
    return next(split for split in Split if key in split.value)


def numbers(split: Split, amount: int, size: int) -> list[int]:
    """The first numbers whose maps belong to a split."""
    return list(islice((n for n in count() if split_of(make_map(n, size)) is split), amount))


def describe(field: list[str], player: Position, gap: str = " ") -> str:
    """The lake as the agent sees it, with `gap` between the cells of a row."""
    symbols = {"S": "_", "F": "_", "H": "O", "G": "G"}
    rows = []
    for number, row in enumerate(field):
        cells = [symbols[cell] for cell in row]
        if number == player[0]:
            cells[player[1]] = "P"
        rows.append(f"{number + 1} {gap.join(cells)}")
    return "\n".join([*rows, f"You are in row {player[0] + 1}, column {player[1] + 1}."])


def after(field: list[str], player: Position, move: str) -> Position:
    """Where a move leads when the ice is not slippery."""
    row, column = player[0] + MOVES[move][0], player[1] + MOVES[move][1]
    size = len(field)
    return (row, column) if 0 <= row < size and 0 <= column < size else player


def distances(field: list[str]) -> dict[Position, int]:
    """Moves from each position to the goal, around the holes."""
    goal = (len(field) - 1, len(field) - 1)
    found, queue = {goal: 0}, [goal]
    for position in queue:
        for row, column in MOVES.values():
            near = (position[0] - row, position[1] - column)
            inside = 0 <= near[0] <= goal[0] and 0 <= near[1] <= goal[1]
            if inside and near not in found and field[near[0]][near[1]] != "H":
                found[near] = found[position] + 1
                queue.append(near)
    return found
