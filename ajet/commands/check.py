"""`ajet check --conf x.yaml`: a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ajet.config.backbones import BACKBONES
from ajet.config.loading.load import load_config


def check(
    conf: Annotated[Path, typer.Option(help="The YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"What trains: {', '.join(BACKBONES)}.")
    ] = None,
) -> None:
    """Try a configuration without training it.

    Looks at classes, data, judge, one episode with made-up answers, and memory. Exit code 2: the
    configuration is wrong; 1: something else is bad; else 0.

    Example: ajet check --conf tutorial/example_math_agent/math_agent_cpu.yaml
    """
    given = [f"ajet.backbone={json.dumps(backbone)}"] if backbone else []
    config = load_config(conf, [*(overrides or []), *given])
    from ajet.commands.lines import print_findings
    from ajet.diagnostics.check import check as checked
    from ajet.diagnostics.finding import is_bad

    findings = checked(config)
    print_findings(findings)
    if is_bad(findings):
        raise typer.Exit(1)
