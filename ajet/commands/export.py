"""`ajet export RUN`: writes the tuned model as a folder that other programs load."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Lora(StrEnum):
    MERGE = "merge"
    KEEP = "keep"


def export(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    step: Annotated[
        str | None, typer.Option(help="The checkpoint: a step or best; by default the newest.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The folder to write; by default RUN/export/step_NUMBER.")
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Dtype of the weights; by default as they were trained.")
    ] = None,
    lora: Annotated[
        Lora, typer.Option(help="What a LoRA run becomes: a whole model, or an adapter.")
    ] = Lora.MERGE,
) -> None:
    """Write the tuned model as a Hugging Face folder that transformers and vLLM load.

    The folder has a model card with task, metrics, settings and versions. Before it gets its name,
    its logprobs are compared with those of the engine.

    Example: ajet export saved_experiments/math_agent_cpu --to my_model
    """
    from ajet.export.export import export as exported

    made = exported(
        run,
        step=step,
        to=to,
        dtype=dtype and dtype.value,
        lora=lora.value,
    )
    typer.echo(
        f"{made.dtype}; logprobs differ from the engine's by at most {made.difference:.1e}"
        + ("" if made.recorded is None else f", from the recorded ones by {made.recorded:.1e}")
    )
    typer.echo(str(made.folder))
