"""`ajet view` shows runs in the browser; `ajet report` writes one run as an HTML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ajet.config.sections.root import AjetConfig
from ajet.launcher.viewer import TOKEN_VARIABLE, require_viewer

Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on; only the loopback address is private to this machine."
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free port.")]


def view(
    place: Annotated[
        Path,
        typer.Argument(metavar="[RUN|DIR]", help="A run's folder, or one that holds runs."),
    ] = Path(AjetConfig.model_fields["experiment_dir"].default),
    host: Host = "127.0.0.1",
    port: Port = 0,
) -> None:
    """Show runs in the browser, also while they train.

    Prints a link. Everybody who has the link can see the runs. The folder is only read.

    Example: ajet view saved_experiments/math_agent_cpu
    """
    require_viewer()
    from ajet.viewer.server.serve import serve

    token = os.environ.get(TOKEN_VARIABLE)
    serve(place, host=host, port=port, token=token, on_ready=lambda link: _print(link, token))


def _print(link: str, token: str | None) -> None:
    # Whoever gave the token knows the link; it need not stand in a log as well.
    shown = link if token is None else link.partition("?")[0]
    typer.echo(f"{shown}\nCtrl-C ends the viewer")


def report(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Write one run as an HTML file: curves, examples, settings, how to repeat it.

    The file is complete: it runs no script and loads nothing. Secrets in settings are left out.

    Example: ajet report saved_experiments/math_agent_cpu -o report.html
    """
    from ajet.viewer.report.report import write_report

    write_report(run, out)
    typer.echo(str(out))
