"""`ajet report RUN -o report.html`: a run as one file for a colleague."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Write what a run did as one HTML file: curves, examples, settings, how to repeat it.

    The file needs nothing else, runs no script and loads nothing; secrets in settings are left out.

    Example: ajet report saved_experiments/math_agent_cpu -o report.html
    """
    from ajet.viewer.report.report import write_report

    write_report(run, out)
    typer.echo(str(out))
