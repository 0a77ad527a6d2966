"""`ajet replay RUN`: a recorded step once more, with no engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

EXIT_DIFFERS = 1
NUM_SHOWN = 5
"""Differences of one stage on the screen; the file has all."""


def replay(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings in place of the run's."),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(help="Which step; left out, the last that can be trained again."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="FILE.py->CLASS", help="Asked for every episode."),
    ] = None,
    train: Annotated[bool, typer.Option(help="Also the step of training.")] = True,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of a metric or weight that counts as none; left out, 0, "
            "or what rounding explains where verl trained."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The report's file; left out, replays/TIME.json in the run's folder."),
    ] = None,
) -> None:
    """Merge, judge, credit and train a recorded step again, and compare.

    Exit code 0: everything came out again, or differs because you asked for something else;
    1: something differs.

    Example: ajet replay saved_experiments/math_agent_cpu --judge my_judge.py->MyJudge
    """
    from ajet.commands.lines import Line, print_lines
    from ajet.replay.replay import replay as replayed

    result = replayed(
        run,
        step=step,
        judge=judge,
        overrides=overrides or [],
        with_training=train,
        tolerance=tolerance,
    )
    typer.echo(f"{run}, step {result.step}")
    print_lines(
        [
            Line(stage.outcome, stage.name, stage.summary, _shown(stage.differences))
            for stage in result.stages
        ]
    )
    for episode_id, paths in list(result.not_stored.items())[:1]:
        more = f", and of {n - 1} more" if (n := len(result.not_stored)) > 1 else ""
        typer.echo(f"not on record of episode {episode_id}{more}: {', '.join(paths)}")
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
