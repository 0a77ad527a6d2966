"""Lines with a verdict in front, for commands that report on something."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import typer

from ajet.diagnostics.finding import Finding

COLOURS = {
    "ok": "green",
    "equal": "green",
    "changed": "yellow",
    "warn": "yellow",
    "bad": "red",
    "differs": "red",
    "skipped": None,
}
"""Of the verdicts."""

NO_TERMINAL = 10_000
"""Columns of a file or a pipe."""


class Line(NamedTuple):
    """One line of a report, with what belongs below it."""

    verdict: str
    name: str
    text: str
    below: Sequence[str] = ()


def print_lines(lines: Sequence[Line]) -> None:
    """In columns; wrapped at the width of a terminal, not where output goes elsewhere."""
    verdicts, names = (2 + max(len(line[i]) for line in lines) for i in (0, 1))
    indent = " " * (verdicts + names)
    width = shutil.get_terminal_size((NO_TERMINAL, 0)).columns
    for line in lines:
        typer.secho(line.verdict.ljust(verdicts), fg=COLOURS[line.verdict], nl=False)
        text = textwrap.fill(line.text, width, initial_indent=indent, subsequent_indent=indent)
        typer.echo(line.name.ljust(names) + text.lstrip())
        for below in line.below:
            spaces = indent + " " * (len(below) - len(below.lstrip()))
            typer.echo(textwrap.fill(below, width, initial_indent=indent, subsequent_indent=spaces))


def print_findings(findings: Sequence[Finding]) -> None:
    """Each with its remedy below it."""
    print_lines(
        [
            Line(finding.verdict, finding.name, finding.text, finding.remedy.splitlines())
            for finding in findings
        ]
    )
