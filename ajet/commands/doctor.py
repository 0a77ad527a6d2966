"""`ajet doctor`: is this machine fit for a run?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    exp_dir: Annotated[Path, typer.Option(help="Where runs go.")] = Path("saved_experiments"),
    online: Annotated[
        bool, typer.Option("--online", help="Also ask whether the model hub can be reached.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Look at machine, versions and extras; each line has its remedy.

    Exit code 1 if something is bad, else 0.
    """
    from ajet.commands.lines import print_findings
    from ajet.diagnostics.doctor import diagnose
    from ajet.diagnostics.doctor_facts import gather
    from ajet.diagnostics.finding import is_bad

    findings = diagnose(gather(exp_dir, online=online))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        print_findings(findings)
    if is_bad(findings):
        raise typer.Exit(1)
