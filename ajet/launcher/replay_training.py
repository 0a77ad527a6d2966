"""The training stage of a replay: one step from the checkpoint before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ajet.backbone.training_run import TrainingData
from ajet.config.root import AjetConfig
from ajet.errors import MissingExtraError
from ajet.launcher.replay_stages import Stage
from ajet.monitor.metrics_log import read_metrics
from ajet.schema.sample import Sample

if TYPE_CHECKING:
    from ajet.backbone.local.replay import TrainedAgain


@dataclass(slots=True, kw_only=True, frozen=True)
class TrainingSource:
    """What is on record of a training step."""

    run_folder: Path
    step: int
    tolerance: float
    """The largest difference of a metric or a weight that counts as none."""

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
    if ajet.backbone != "local":
        return _skipped(f"the backbone {ajet.backbone} trained it; only local can be replayed")
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
    return _stage(source, trained, start, after)


def _stage(
    source: TrainingSource,
    trained: TrainedAgain,
    start: str,
    after: Path | None,
) -> Stage:
    recorded = source.metrics()
    both = [name for name in trained.metrics if name in recorded]
    rows = [{"name": name, "before": recorded[name], "now": trained.metrics[name]} for name in both]
    differences = [
        f"{name}: {recorded[name]:.6g}, now {trained.metrics[name]:.6g}"
        for name in both
        if not abs(recorded[name] - trained.metrics[name]) <= source.tolerance  # NaN differs
    ]
    weights = "no checkpoint after it to compare weights with"
    if after is not None and trained.weights_difference is not None:
        weights = f"weights against checkpoints/{after.name}: {trained.weights_difference:.3g}"
        if not trained.weights_difference <= source.tolerance:
            differences.append(f"weights differ by up to {trained.weights_difference:.3g}")
    shown = ", ".join(
        f"{name.removeprefix('policy/')} {trained.metrics[name]:.4g}"
        for name in ("policy/loss", "policy/grad_norm")
    )
    return Stage(
        name="training",
        summary=f"from {start}: {shown}; {weights}",
        differences=differences,
        data={"metrics": rows, "weights_difference": trained.weights_difference},
    )


def _skipped(why: str) -> Stage:
    return Stage(name="training", summary=why, is_skipped=True)
