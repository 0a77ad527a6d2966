"""`ajet.trainer_common`: training settings that all backbones share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import Registered
from ajet.config.sections.algorithm import AlgorithmConfig, CriticConfig, OptimConfig
from ajet.config.sections.metric_sinks import checked_settings
from ajet.config.sections.section import BaseConfig, free
from ajet.config.sections.types import Count, EverySteps, NotNegative, Positive, Words

METRIC_SINKS: dict[str, str | None] = {
    "console": None,
    "tensorboard": "ajet.monitor.tensorboard_sink->TensorBoardSink",
    "wandb": "ajet.monitor.tracker_sinks->WandbSink",
    "swanlab": "ajet.monitor.tracker_sinks->SwanLabSink",
    "trackio": "ajet.monitor.tracker_sinks->TrackioSink",
    "mlflow": "ajet.monitor.mlflow_sink->MlflowSink",
}
"""Name in `trainer_common.logger` -> class path. To add a sink, write one file and add one line
here. `console` is the progress display, which every run has."""


def _one_logger_as_list(value: object) -> object:
    return value if value == "auto" or isinstance(value, list) else [value]


class SinkConfig(BaseConfig):
    """A metric sink with settings: the keys other than `type`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(free)]] = Field(init=False)

    type: Annotated[str, Registered(METRIC_SINKS)]
    """Name or class path of the sink."""

    @model_validator(mode="after")
    def _has_known_settings(self) -> SinkConfig:
        checked_settings(self.type, self.model_extra or {})
        return self


SINK = Words(f"{Registered(METRIC_SINKS).text}, or a section with type and settings of that sink")

LoggerNames = Annotated[
    Literal["auto"] | list[Annotated[Annotated[str, Registered(METRIC_SINKS)] | SinkConfig, SINK]],
    BeforeValidator(_one_logger_as_list),
]


class StopAtConfig(BaseConfig):
    """A target at which the run ends before its last step."""

    metric: str | None = None
    """Name of the metric, such as `eval/success_rate` or `reward/mean`. Null: no target."""
    value: float = 1.0
    """The run ends after the first step in which the metric has this value or a larger one."""


class TrainerCommonConfig(BaseConfig):
    """Training settings that all backbones share."""

    total_epochs: Count = 1
    """Passes over the training tasks."""
    total_training_steps: Count | None = None
    """Total number of steps, which overrides `total_epochs`. Null: `total_epochs` decides."""
    save_freq: EverySteps = None
    """Steps between checkpoints; null or -1: only one at the end."""
    test_freq: EverySteps = None
    """Steps between evaluations; null or -1: only one at the end."""
    val_before_train: bool = True
    """Evaluate before the first step, too."""
    val_pass_n: Count = 1
    """Sampled episodes of each validation task. With more than one, `eval/pass@K` is the share of
    tasks that K attempts solve, and `eval/all_pass@N` the share that all attempts solve."""
    val_only: bool = False
    """Evaluate and end, without training."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of all random numbers in a run."""
    algorithm: AlgorithmConfig = AlgorithmConfig()
    critic: CriticConfig = CriticConfig()
    use_kl_loss: bool = False
    """Add the KL divergence from the base model to the loss."""
    kl_loss_coef: NotNegative = 0.001
    """Weight of the KL divergence in the loss."""
    optim: OptimConfig = OptimConfig()
    micro_batch_tokens: Count = 8192
    """Maximum tokens per forward and backward pass; limits the memory. The backbone local trains
    longer samples in pieces, with the same gradient."""
    share_prefixes: bool = True
    """Compute a prefix that several samples share once. It changes the training time, and results
    only by rounding."""
    branch_cost: Literal["estimate", "measure"] | NotNegative = "estimate"
    """Cost of one more branch in a tree of samples, in tokens. Prefixes that save less are not
    shared. `estimate`: from the model's size; `measure`: at the start, so that two runs may differ
    by rounding."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer for the backward pass, and compute the rest again: less
    memory, about a third more time."""
    fused_loss: Literal["auto"] | bool = "auto"
    """Compute logprobs and their gradients by a kernel of Liger, which stores no logits. It needs a
    GPU of the Hopper generation, bfloat16 and the extra `fused`. `auto`: where that is so, and a
    check at the start confirms it; true: end with an error where it is not."""
    logprob_diff_bound: Positive = 1e-3
    """Warn if the engine's and the trainer's logprob of a token differ by more than this."""
    logger: LoggerNames = "auto"
    """One or several destinations of metrics, in addition to `metrics.jsonl` and the console; see
    trackers.md. `auto`: TensorBoard if it is installed."""
    n_gpus_per_node: Count = 1
    """Number of GPUs per machine."""
    nnodes: Count = 1
    """Number of machines."""
    max_checkpoints_to_keep: Count | None = None
    """Number of checkpoints to keep; older ones are deleted, except for the best one. Null: all."""
    best_metric: str | None = "eval/reward_mean"
    """Metric of the validation tasks that decides which checkpoint is the best one, the larger the
    better. With `save_freq`, a checkpoint is also written where it is better than ever before; the
    link `best_checkpoint` in the run's folder names it. Null: no checkpoint is the best one."""
    stop_at: StopAtConfig = StopAtConfig()
