"""`ajet judge`: how far a judge can be trusted, on labelled samples or on the episodes of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ajet.errors import ConfigError

EXIT_FAILED_JUDGE = 1
NUM_SHOWN = 3
"""How many kinds of failure are printed; the JSON has all of them."""


def judge(
    conf: Annotated[
        Path | None, typer.Option(help="The YAML with the judge; by default that of the run.")
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="JSONL file: main_query, final_answer, score, and metadata."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder of a run; its rewards are the labels.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="One step of the run; by default all.")] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="How often each question is asked, for the stability.")
    ] = 3,
    success_at: Annotated[
        float, typer.Option(help="The label from which an episode is a success.")
    ] = 0.5,
    offline: Annotated[bool, typer.Option(help="Use only answers that are kept on disk.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Execute code and ask servers that the run folder names."),
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Other settings.")
    ] = None,
) -> None:
    """Measure a judge: agreement with labels, stability, length bias, cost.

    Exit code 0: measured; 1: the judge failed on every episode.

    Example: ajet judge --conf my.yaml --labelled samples.jsonl
    """
    from ajet.config.loading.load import load_config
    from ajet.model_client import PLACE
    from ajet.replay.judge_report import judge_report, read_labelled, read_run
    from ajet.replay.trust import refuse_unknown_code

    if (labelled is None) == (run is None):
        raise ConfigError("ajet judge needs --labelled FILE or --run RUN, and not both")
    path = conf or (run / "config.yaml" if run else None)
    if path is None:
        raise ConfigError("--labelled needs --conf, the YAML with the judge")
    config = load_config(path, overrides or [])
    if conf is None and not trust:
        refuse_unknown_code(
            config,
            overrides or [],
            with_training=False,
            where=str(run),
            asks_models=not offline,
        )
    PLACE.experiment_dir = (
        run.resolve().parent if run else Path(config.ajet.experiment_dir).expanduser()
    )
    episodes = read_labelled(labelled) if labelled else read_run(run or Path(), step)
    report = judge_report(config, episodes, repeats=repeats, success_at=success_at, offline=offline)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1))
    else:
        typer.echo(f"{report.judge}, {report.num_episodes} episodes of {report.source}")
        for name, estimate in report.estimates.items():
            typer.echo(f"  {name.replace('_', ' '):28} {estimate}")
        for name, value in report.cost.items():
            typer.echo(f"  {name.replace('_', ' ') + ' per episode':28} {value:.3g}")
        for note in report.notes:
            typer.echo(f"  {note}")
        for message, count in list(report.failures.items())[:NUM_SHOWN]:
            typer.echo(f"  failed {count} x: {message}")
    if report.estimates["accuracy"].count == 0:
        raise typer.Exit(EXIT_FAILED_JUDGE)
