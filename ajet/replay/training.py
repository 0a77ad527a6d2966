"""The training stage of a replay: one step from the checkpoint before it.

A step that verl trained, for its own backbone or for Trinity's, is trained by the local one, from
the same weights and the same state of the optimizer. The loss is the same function, summed in
another order, so that the metrics differ by float rounding only. A weight whose gradient is itself
rounding may go the other way, as AdamW divides by the gradient's size: so the step's whole change
of the weights is compared, not the largest difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ajet.backbone.verl.refusals import lora_rank
from ajet.config.sections.root import AjetConfig
from ajet.errors import MissingExtraError
from ajet.monitor.metrics_log import read_metrics
from ajet.replay.stages import Stage
from ajet.schema.sample import Sample
from ajet.training.inputs import TrainingData

if TYPE_CHECKING:
    from ajet.backbone.local.replay import TrainedAgain


VERL_ROUNDING = 1e-4
"""Of a metric: of verl's trainer against the local one, in float32."""
VERL_UPDATE = 0.05
"""Of all weights' differences, as a part of their change in the step."""
MEASURED_ELSEWHERE = ("policy/entropy", "policy/logprob_diff_max", "policy/logprob_diff_mean")
"""With verl before a step's first update, with local during its updates."""


@dataclass(slots=True, kw_only=True, frozen=True)
class TrainingSource:
    """What is on record of a training step."""

    run_folder: Path
    step: int
    tolerance: float | None
    """The largest difference of a metric or a weight that counts as none; None: what the backbone
    explains, which with local is nothing."""

    def checkpoint(self, step: int) -> Path | None:
        """Of the run after a step, where there is one."""
        path = self.run_folder / "checkpoints" / f"step_{step:06d}"
        return path if path.is_dir() else None

    def metrics(self) -> dict[str, float]:
        """Of the step."""
        lines = [line for line in read_metrics(self.run_folder) if line["step"] == self.step]
        return {name: value for line in lines for name, value in line.items()}


def compare_training(source: TrainingSource, ajet: AjetConfig, samples: Sequence[Sample]) -> Stage:
    """Train the step again and compare metrics and weights with what is on record.

    Raises:
        AjetError: the model or the checkpoint cannot be loaded, or the training failed.
    """
    before = source.checkpoint(source.step - 1)
    if reason := _why_not(ajet, samples, source.step):
        return _skipped(reason)
    if before is None and source.step > 1:
        return _skipped(
            f"there is no checkpoint of step {source.step - 1} to begin with "
            "(trainer_common.save_freq)"
        )
    if not samples:
        return _skipped("no group gives a gradient, so there is nothing to train")
    try:
        from ajet.backbone.local.replay import train_again
    except ImportError as error:
        raise MissingExtraError(str(error.name), "local") from None
    after = source.checkpoint(source.step)
    trained = train_again(
        ajet,
        samples,
        step=source.step,
        total_steps=TrainingData.read(ajet).total_steps,
        before=before,
        after=after,
    )
    start = f"checkpoints/{before.name}" if before else "the base model"
    return _stage(source, trained, start, after, is_verl=ajet.backbone != "local")


def _why_not(ajet: AjetConfig, samples: Sequence[Sample], step: int) -> str | None:
    """A step that the local trainer cannot train as it was trained."""
    if ajet.backbone == "local":
        return None
    if ajet.backbone == "verl" and lora_rank(ajet):
        return "verl trained a LoRA adapter; the local trainer trains all weights"
    if ajet.model.dtype == "bfloat16":
        return "verl trained in bfloat16, whose rounding differs by more than there is to compare"
    if any((sample.policy_versions[sample.loss_mask] < step - 1).any() for sample in samples):
        return "older weights sampled it, and the importance weights are not on record"
    return None


def _stage(
    source: TrainingSource, trained: TrainedAgain, start: str, after: Path | None, *, is_verl: bool
) -> Stage:
    recorded = source.metrics()
    left_out = MEASURED_ELSEWHERE if is_verl else ()
    both = [name for name in trained.metrics if name in recorded and name not in left_out]
    tolerance = source.tolerance
    if tolerance is None:
        tolerance = VERL_ROUNDING if is_verl else 0.0
    rows = [{"name": name, "before": recorded[name], "now": trained.metrics[name]} for name in both]
    differences = [
        f"{name}: {recorded[name]:.6g}, now {trained.metrics[name]:.6g}"
        for name in both
        if not abs(recorded[name] - trained.metrics[name]) <= tolerance  # NaN differs
    ]
    weights = "no checkpoint after it to compare weights with"
    if after is not None and trained.weights is not None:
        found = trained.weights
        weights = f"weights against checkpoints/{after.name}: {found.largest:.3g}"
        if is_verl:
            weights += f", {found.of_update:.2%} of the step's change"
        if is_verl and source.tolerance is None:
            differs = not found.of_update <= VERL_UPDATE
        else:
            differs = not found.largest <= tolerance
        if differs:
            differences.append(f"weights differ by up to {found.largest:.3g}")
    shown = ", ".join(
        f"{name.removeprefix('policy/')} {trained.metrics[name]:.4g}"
        for name in ("policy/loss", "policy/grad_norm")
    )
    return Stage(
        name="training",
        summary=f"from {start}: {shown}; {weights}",
        differences=differences,
        data={
            "metrics": rows,
            "weights_difference": trained.weights and trained.weights.largest,
            "update_difference": trained.weights and trained.weights.of_update,
        },
    )


def _skipped(why: str) -> Stage:
    return Stage(name="training", summary=why, is_skipped=True)
