"""Shows a transcript on the console, with a colour per role."""

from __future__ import annotations

import re

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

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters except tab and newline: sampled text must not control the terminal."""


def transcript_view(transcript: Transcript, title: str) -> RenderableType:
    """Title, one row per message, and the outcome."""
    head = Text.assemble((title, "bold"), (f"  task {transcript.task_id}", "dim"))
    colour = "bold green" if transcript.is_success else "bold red"
    outcome = Text(f"= {printable(transcript.outcome)}", style=colour)
    return Group(head, turns_view(transcript), outcome)


def turns_view(transcript: Transcript) -> RenderableType:
    """One row per message."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for turn in transcript.turns:
        label = f"{turn.role} ({turn.agent})" if turn.agent else turn.role
        style = STYLES.get(turn.role, "")
        rows.add_row(Text(label, style=f"bold {style}"), Text(_shown(turn), style=style))
    return rows


def printable(text: str) -> str:
    """The text with escapes for control characters."""
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _shown(turn: Turn) -> str:
    text = printable(turn.text)
    rest = len(text) - MAX_CHARACTERS
    return text if rest <= 0 else f"{text[:MAX_CHARACTERS]} … ({rest:,} more characters)"
