"""The training stage of a replay: trains one step again, from the checkpoint before it.

The local trainer also repeats steps that verl trained, for the backbone verl or for Trinity. It
starts from the same weights and the same optimizer state. The loss is the same function, summed in
another order, so the metrics differ by float rounding only. Single weights may differ more: AdamW
divides by the size of the gradient, so a weight whose gradient is only rounding may move in the
other direction. Therefore the change of all weights together is compared, and not the largest
difference of one weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ajet.backbone.verl.refusals import lora_rank
from ajet.config.backbones import backbone_entry
from ajet.config.sections.root import AjetConfig
from ajet.errors import MissingExtraError
from ajet.monitor.metrics_log import read_metrics
from ajet.replay.stages import Stage
from ajet.schema.episode import Sample
from ajet.task_reader.read_tasks import TrainingData

if TYPE_CHECKING:
    from ajet.backbone.local.replay import TrainedAgain


VERL_ROUNDING = 1e-4
"""Largest difference of a metric between verl's trainer and the local one that counts as rounding,
in float32."""
VERL_UPDATE = 0.05
"""Largest length of the weights' differences that counts as rounding, as a share of the length of
their change in the step."""
MEASURED_ELSEWHERE = ("policy/entropy", "policy/logprob_diff_max", "policy/logprob_diff_mean")
"""Metrics that cannot be compared: verl measures them before the first update of a step, and the
local trainer during the updates."""


@dataclass(slots=True, kw_only=True, frozen=True)
class TrainingSource:
    """Finds the recorded results of one training step."""

    run_folder: Path
    step: int
    tolerance: float | None
    """Differences of metrics and weights up to this number count as equal; None: 0 if the local
    trainer trained the step, or the rounding between two trainers if verl did."""

    def checkpoint(self, step: int) -> Path | None:
        """The checkpoint after a step, or None if the run saved none there."""
        path = self.run_folder / "checkpoints" / f"step_{step:06d}"
        return path if path.is_dir() else None

    def metrics(self) -> dict[str, float]:
        """The recorded metrics of the step."""
        lines = [line for line in read_metrics(self.run_folder) if line["step"] == self.step]
        return {name: value for line in lines for name, value in line.items()}


def compare_training(source: TrainingSource, ajet: AjetConfig, samples: Sequence[Sample]) -> Stage:
    """Train the step again and compare its metrics and weights with the recorded ones.

    Raises:
        AjetError: the model or the checkpoint cannot be loaded, or the training failed.
    """
    before = source.checkpoint(source.step - 1)
    if reason := _why_not(ajet, samples, source.step):
        return _skipped(reason)
    if before is None and source.step > 1:
        return _skipped(
            f"there is no checkpoint of step {source.step - 1} to start from "
            "(trainer_common.save_freq sets how often one is saved)"
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
    is_verl = backbone_entry(ajet.backbone).trainer == "verl"
    return _stage(source, trained, start, after, is_verl=is_verl)


def _why_not(ajet: AjetConfig, samples: Sequence[Sample], step: int) -> str | None:
    """Why the local trainer cannot repeat this step; None: it can."""
    trainer = backbone_entry(ajet.backbone).trainer
    if trainer == "local":
        return None
    if trainer is None:
        return f"the local trainer cannot repeat what the backbone {ajet.backbone} trains"
    if lora_rank(ajet):
        return "verl trained a LoRA adapter, but the local trainer trains all weights"
    if ajet.model.dtype == "bfloat16":
        return "verl trained in bfloat16; its rounding is larger than the differences to look for"
    if any((sample.policy_versions[sample.loss_mask] < step - 1).any() for sample in samples):
        return "older weights sampled this step, and its importance weights are not recorded"
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
    weights = "no checkpoint after the step, so the weights are not compared"
    if after is not None and trained.weights is not None:
        found = trained.weights
        weights = f"weights differ from checkpoints/{after.name} by {found.largest:.3g}"
        if is_verl:
            weights += f", {found.of_update:.2%} of the change in the step"
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
