"""The lines that move, drawn a few times a second: cheap, and never wider than the terminal."""

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
"""Terminal rows from which on the table of metrics is shown as well."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Bar:
    """Something that is partly done."""

    label: str
    done: int
    total: int | None
    """None: not counted, so no bar is drawn."""
    times: str
    """Time taken, and left."""
    style: str


def live_view(console: Console, bars: Sequence[Bar], table: RenderableType | None) -> Group:
    """The table of metrics where there is room for it, then one line a bar."""
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
