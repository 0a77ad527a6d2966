"""`ajet replay RUN`: computes a recorded step again, without an engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

EXIT_DIFFERS = 1
NUM_SHOWN = 5
"""How many differences of one stage are printed; the JSON file has all of them."""


def replay(
    run: Annotated[Path, typer.Argument(help="The folder of the run.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the run's."),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(help="The step to replay; by default the last one that can be trained again."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="FILE.py->CLASS", help="Judge all episodes anew with this judge."),
    ] = None,
    train: Annotated[bool, typer.Option(help="Also repeat the training of the step.")] = True,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Differences of metrics and weights up to this number count as equal; by default "
            "0, or the rounding between two trainers where verl trained."
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Execute code and ask servers that the run folder names."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="File of the report; by default replays/TIME.json in the run's folder."),
    ] = None,
) -> None:
    """Merge, judge, credit and train a recorded step again, and compare the results.

    Exit code 0: everything is equal, or changed because you asked for something else; 1: something
    differs.

    Example: ajet replay saved_experiments/math_agent_cpu --judge 'my_judge.py->MyJudge'
    """
    from ajet.commands.lines import ReportLine, print_lines
    from ajet.replay.replay import replay as replayed

    result = replayed(
        run,
        step=step,
        judge=judge,
        overrides=overrides or [],
        with_training=train,
        tolerance=tolerance,
        trust=trust,
    )
    typer.echo(f"{run}, step {result.step}")
    print_lines(
        [
            ReportLine(stage.outcome, stage.name, stage.summary, _shown(stage.differences))
            for stage in result.stages
        ]
    )
    for episode_id, paths in list(result.not_stored.items())[:1]:
        more = f", and of {n - 1} more" if (n := len(result.not_stored)) > 1 else ""
        typer.echo(f"not in the record of episode {episode_id}{more}: {', '.join(paths)}")
    if out is None:
        now = datetime.now(UTC)
        out = run / "replays" / f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}.json"
        out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result.as_json(), indent=1) + "\n", encoding="utf-8")
    typer.echo(str(out))
    if not result.agrees:
        raise typer.Exit(EXIT_DIFFERS)


def _shown(differences: list[str]) -> list[str]:
    more = len(differences) - NUM_SHOWN
    return differences[:NUM_SHOWN] + ([f"and {more} more"] if more > 0 else [])
