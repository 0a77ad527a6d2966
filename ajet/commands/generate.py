"""`ajet generate`: lets a model write tasks, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ajet.commands.import_traces import reader_config
from ajet.config.loading.load import read_settings
from ajet.errors import ConfigError

EXIT_INCOMPLETE = 1


def generate(
    conf: Annotated[
        Path,
        typer.Option(help="A YAML file with ajet.task_reader.data_generation.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make tasks that are there already anew.")
    ] = False,
) -> None:
    """Write tasks about documents and in the manner of examples, by a model.

    The result is a folder with tasks.jsonl and validation_tasks.jsonl, which you can edit. What the
    model said is kept on disk: a generation that was stopped continues where it was. Exit code 1:
    it ended early, for example because its budget is used up.

    Example: ajet generate --conf documents.yaml
    """
    config = reader_config(read_settings(conf), conf, overrides or [])
    settings = config.task_reader.data_generation
    if not settings.model.model:
        raise ConfigError(f"{conf}: task_reader.data_generation.model_client.model is not set")
    from ajet.data_generation.task_files import TaskFiles
    from ajet.model_client import PLACE

    PLACE.experiment_dir = Path(config.experiment_dir)
    report = TaskFiles(settings).make(overwrite=overwrite)
    for line in report.lines():
        typer.echo(line)
    if report.stopped:
        raise typer.Exit(EXIT_INCOMPLETE)
