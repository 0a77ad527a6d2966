"""Shows a transcript on the console, with a colour per role."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ajet.monitor.transcript import Transcript, Turn

MAX_CHARACTERS = 600
"""Maximum length of one shown message; the rollout store has all of it."""

STYLES = {
    "system": "dim",
    "user": "cyan",
    "assistant": "green",
    "thinking": "dim green",
    "tool": "yellow",
    "note": "magenta",
}

CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters except tab and newline, marks of text direction, and halves of characters:
sampled text must not control the terminal."""


def transcript_view(transcript: Transcript, title: str) -> RenderableType:
    """Title, one row per message, and the outcome."""
    head = Text.assemble((title, "bold"), (f"  task {transcript.task_id}", "dim"))
    colour = "bold green" if transcript.is_success else "bold red"
    outcome = Text(f"= {printable(transcript.outcome)}", style=colour)
    return Group(head, turns_view(transcript.turns), outcome)


def turns_view(turns: Sequence[Turn], *, max_characters: int = MAX_CHARACTERS) -> RenderableType:
    """One row per message; longer ones are cut."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for turn in turns:
        label = f"{turn.role} ({turn.agent})" if turn.agent else turn.role
        style = STYLES.get(turn.role, "")
        rows.add_row(
            Text(label, style=f"bold {style}"), Text(_shown(turn, max_characters), style=style)
        )
    return rows


def printable(text: str) -> str:
    """The text with escapes for control characters."""
    return CONTROL.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _shown(turn: Turn, max_characters: int) -> str:
    text = printable(turn.text)
    rest = len(text) - max_characters
    return text if rest <= 0 else f"{text[:max_characters]} … ({rest:,} more characters)"
