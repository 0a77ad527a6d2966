"""Prints reports: one line per finding, with its verdict in front."""

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
"""Verdict -> the colour in which it is printed."""

NO_TERMINAL = 10_000
"""Width when the output is not a terminal: no line is wrapped."""


class ReportLine(NamedTuple):
    """One line of a report, with further lines that are printed below it."""

    verdict: str
    name: str
    text: str
    below: Sequence[str] = ()


def print_lines(lines: Sequence[ReportLine]) -> None:
    """Print the lines in columns, wrapped at the terminal's width; a file or pipe gets no wraps."""
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
    """Print each finding with its remedy below it."""
    print_lines(
        [
            ReportLine(finding.verdict, finding.name, finding.text, finding.remedy.splitlines())
            for finding in findings
        ]
    )
