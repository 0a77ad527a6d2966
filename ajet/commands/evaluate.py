"""`ajet eval MODEL`: measures a model on tasks, without training."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Split(StrEnum):
    VALIDATION = "validation"
    TRAINING = "training"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]|base|FOLDER|URL",
            help="A run (its newest checkpoint), a step of it, its best checkpoint as RUN@best, "
            "its base model as RUN@base, the model of --conf, a model's folder, or an "
            "OpenAI-compatible server.",
            show_default=False,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    conf: Annotated[
        Path | None,
        typer.Option(help="The YAML file with workflow and tasks; by default the run's."),
    ] = None,
    num_samples: Annotated[int, typer.Option("-k", min=1, help="Attempts at each task.")] = 1,
    split: Annotated[Split, typer.Option(help="The tasks to run.")] = Split.VALIDATION,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Only the first tasks; by default all.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Sample at temperature 0.")] = False,
    served_name: Annotated[
        str | None,
        typer.Option("--model", help="The model's name on the server; by default its first."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of an evaluation to compare with, task by task.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the evaluation; by default next to the run's folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure a model on the validation tasks, without training.

    Prints mean reward, success, pass@k and pass^k with 95% intervals. The same command continues an
    evaluation that was interrupted. The folder has the records of a run: `ajet view` shows it.

    Example: ajet eval saved_experiments/math_agent_cpu@20 -k 4
    """
    from rich.console import Console

    from ajet.evaluation.evaluate import evaluate as run_evaluation
    from ajet.evaluation.plan import Plan
    from ajet.evaluation.results import print_results, record_results
    from ajet.evaluation.subject import find_subject

    if against is not None:
        from ajet.evaluation.evaluate import read_identity

        read_identity(against)  # a wrong folder is refused before the work
    plan = Plan(
        subject=find_subject(model, conf, overrides or [], served_name),
        num_samples=num_samples,
        split=split.value,
        num_tasks=num_tasks,
        greedy=greedy,
    )
    folder = run_evaluation(plan, out, [shlex.quote(each) for each in sys.argv])
    results = record_results(folder, against)
    if as_json:
        typer.echo(json.dumps(results.as_json()))
    else:
        print_results(Console(file=sys.stdout, highlight=False), results)
