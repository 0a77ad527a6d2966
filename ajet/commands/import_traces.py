"""`ajet import-traces`: makes tasks of the logs of agents in use, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ajet.config.loading.load import read_settings, require_available, resolve
from ajet.config.loading.yaml_file import Settings
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError

UNUSED = {
    "model": {"path": "ajet:calculator"},
    "rollout": {"user_workflow": "ajet.workflow->Workflow"},
}
"""Sections that a run needs and these commands do not."""
KEY = "task_reader.tracing"


def import_traces(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LOG]... [KEY.PATH=VALUE]...",
            help="Files and folders with logs, besides those of the YAML file; settings.",
        ),
    ] = None,
    conf: Annotated[
        Path | None,
        typer.Option(help="A YAML file with ajet.task_reader.tracing.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="The JSONL file that the tasks are added to.", show_default=False
        ),
    ] = None,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Read the logs from their beginning, not what is new."),
    ] = False,
) -> None:
    """Add the tasks of what is new in logs to a JSONL file.

    Logs are OpenTelemetry's JSON, databases of AgentScope Studio, logs of requests to OpenAI's or
    Anthropic's API, and folders of our own runs. Secrets and e-mail addresses are left out.

    Example: ajet import-traces logs/ -o tasks.jsonl
    """
    given = arguments or []
    sources = [argument for argument in given if "=" not in argument or Path(argument).exists()]
    overrides = [argument for argument in given if argument not in sources]
    settings = read_settings(conf) if conf else Settings(data={"ajet": {}}, source="command line")
    tracing = reader_config(settings, conf, overrides).task_reader.tracing
    update: dict[str, Any] = {"sources": [*sources, *tracing.sources]}
    if out is not None:
        update["train_output_path"] = str(out)
    tracing = tracing.model_copy(update=update)
    if not tracing.all_sources:
        raise ConfigError(f"no logs are named: give their paths, or set {KEY}.sources")
    from ajet.tracing.import_traces import import_traces as imported

    for line in imported(tracing, from_start=from_start).lines():
        typer.echo(line)


def reader_config(settings: Settings, conf: Path | None, overrides: list[str]) -> AjetConfig:
    """The configuration of a file that may lack what only a run needs.

    Raises:
        ConfigError: with a line for every problem.
    """
    ajet = settings.data.get("ajet")
    if isinstance(ajet, dict):
        for name, section in UNUSED.items():
            ajet.setdefault(name, section)
        if isinstance(reader := ajet.setdefault("task_reader", {}), dict):
            reader["type"] = "random_dummy"  # what the file trains on makes no difference here
    config = resolve(settings, conf or Path("command_line.yaml"), overrides)
    require_available(config)
    return config.ajet
