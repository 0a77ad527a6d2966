"""Lines with a verdict in front, for commands that report on something."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ajet.launcher.finding import Finding

STYLES = {
    "ok": "green",
    "equal": "green",
    "changed": "yellow",
    "warn": "yellow",
    "bad": "bold red",
    "differs": "bold red",
    "skipped": "dim",
}
"""Verdicts and how they look."""


class Line(NamedTuple):
    """One line of a report, with what belongs below it."""

    verdict: str
    name: str
    text: str
    below: Sequence[str] = ()


def print_lines(lines: Sequence[Line]) -> None:
    """In columns, wrapped at the terminal's width; plain text where it is no terminal."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        verdict = Text(line.verdict, STYLES[line.verdict])
        grid.add_row(verdict, line.name, Text(line.text))
        for text in line.below:
            grid.add_row("", "", Text(text, "dim"))
    Console(file=sys.stdout, highlight=False).print(grid)


def print_findings(findings: Sequence[Finding]) -> None:
    """Each with its remedy below it."""
    print_lines(
        [
            Line(finding.verdict, finding.name, finding.text, finding.remedy.splitlines())
            for finding in findings
        ]
    )
