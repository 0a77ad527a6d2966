"""The progress bars at the bottom of the terminal: cheap to draw, never wider than the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.text import Text

LABEL_WIDTH = 11
COUNT_WIDTH = 9
TIMES_WIDTH = 22
MAX_BAR_WIDTH = 40
TALL_ENOUGH = 20
"""Number of terminal rows from which the metrics table is shown, too."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Bar:
    """One progress bar."""

    label: str
    done: int
    total: int | None
    """None: the total is unknown, so no bar is drawn."""
    times: str
    """Time taken and time left, as text."""
    style: str


def live_view(console: Console, bars: Sequence[Bar], table: RenderableType | None) -> Group:
    """The metrics table if the terminal is tall enough, then one line per bar."""
    tables = [Text(), table] if table is not None and console.height >= TALL_ENOUGH else []
    return Group(*tables, Text(), *(_row(console, bar) for bar in bars))


def _row(console: Console, bar: Bar) -> Text:
    room = console.width - LABEL_WIDTH - COUNT_WIDTH - TIMES_WIDTH - 1
    width = max(0, min(MAX_BAR_WIDTH, room))
    full, empty = "#-" if console.options.ascii_only else "━─"
    filled = round(width * min(1.0, bar.done / bar.total)) if bar.total else 0
    counted = "" if bar.total is None else f"{bar.done}/{bar.total}"
    return Text.assemble(
        f"{bar.label:<{LABEL_WIDTH}.{LABEL_WIDTH}}",
        (full * filled, bar.style),
        (empty * (width - filled) if bar.total else " " * width, "dim"),
        f"{counted:>{COUNT_WIDTH}}  ",
        (bar.times, "dim"),
        no_wrap=True,
        overflow="crop",
    )
