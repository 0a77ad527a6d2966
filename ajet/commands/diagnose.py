"""`ajet doctor` looks at the machine, and `ajet check` at a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ajet.config.backbones import BACKBONES
from ajet.config.loading.load import (
    as_our_yaml,
    load_config,
    read_settings,
    require_available,
)
from ajet.errors import ConfigError

EXIT_BAD = 1


def doctor(
    exp_dir: Annotated[Path, typer.Option(help="Folder in which run folders are made.")] = Path(
        "saved_experiments"
    ),
    online: Annotated[
        bool, typer.Option("--online", help="Also check whether the model hub can be reached.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check this machine and the installed packages; each problem comes with its remedy.

    Exit code 1 if something is bad, otherwise 0.
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
        raise typer.Exit(EXIT_BAD)


def check(
    conf: Annotated[Path, typer.Option(help="The YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help=f"What trains: {', '.join(BACKBONES)}, or a function of yours."),
    ] = None,
    from_agentjet: Annotated[
        bool,
        typer.Option(
            "--from-agentjet",
            help="Keys that are left out have the defaults of modelscope/AgentJet.",
        ),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="With --from-agentjet: write the file under our names, and end."),
    ] = None,
) -> None:
    """Try a configuration without training it.

    Checks the classes, the data, the judge, one episode with made-up answers, and the memory. Exit
    code 2: the configuration is wrong; 1: something else is bad; 0: neither.

    Example: ajet check --conf tutorial/example_math_agent/math_agent_cpu.yaml
    """
    given = [*(overrides or []), *([f"ajet.backbone={json.dumps(backbone)}"] if backbone else [])]
    if write is not None:
        _write_translated(conf, given, write, from_agentjet=from_agentjet)
        return
    config = load_config(conf, given, from_agentjet=from_agentjet)
    require_available(config)
    from ajet.commands.lines import print_findings
    from ajet.diagnostics.check import check as checked
    from ajet.diagnostics.check_inputs import other_defaults
    from ajet.diagnostics.finding import is_bad

    defaults = [] if from_agentjet else other_defaults(read_settings(conf).data)
    findings = [*defaults, *checked(config)]
    print_findings(findings)
    if is_bad(findings):
        raise typer.Exit(EXIT_BAD)


def _write_translated(conf: Path, overrides: list[str], to: Path, *, from_agentjet: bool) -> None:
    if not from_agentjet:
        raise ConfigError("--write needs --from-agentjet")
    if to.exists():
        raise ConfigError(f"{to} exists; --write makes a new file")
    text = as_our_yaml(conf, overrides)
    to.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {to}: {conf} under the names of this project, with all documented defaults")
