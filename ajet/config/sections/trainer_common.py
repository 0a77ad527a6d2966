"""`ajet.trainer_common`: training, with the names that every backbone shares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import BeforeValidator, ConfigDict, Field

from ajet.config.loading.class_paths import Registered, free_beside
from ajet.config.sections.algorithm import AlgorithmConfig, CriticConfig, OptimConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, EverySteps, NotNegative, Positive, Words

METRIC_SINKS: dict[str, str | None] = {
    "console": None,
    "tensorboard": "ajet.monitor.tensorboard_sink->TensorBoardSink",
}
"""Names in `trainer_common.logger` -> class path. A new sink is one file and one line here. The
console is the progress display, which every run has."""


def _one_logger_as_list(value: object) -> object:
    return value if value == "auto" or isinstance(value, list) else [value]


class OwnSinkConfig(BaseConfig):
    """A metric sink of your own with its settings: every key but `type` is one of them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(METRIC_SINKS)]
    """The sink's class path."""


SINK = Words(f"{Registered(METRIC_SINKS).text}, or a section with type and settings of that class")

LoggerNames = Annotated[
    Literal["auto"]
    | list[Annotated[Annotated[str, Registered(METRIC_SINKS)] | OwnSinkConfig, SINK]],
    BeforeValidator(_one_logger_as_list),
]


class TrainerCommonConfig(BaseConfig):
    """Training, with the names that every backbone shares."""

    total_epochs: Count = 1
    """Passes over the training tasks."""
    total_training_steps: Count | None = None
    """Steps in all, however many epochs that takes; null: as `total_epochs` says."""
    save_freq: EverySteps = None
    """Write a checkpoint every so many steps; null or -1: only at the end."""
    test_freq: EverySteps = None
    """Run the validation tasks every so many steps; null or -1: only at the end."""
    val_before_train: bool = True
    """Run the validation tasks before the first step."""
    seed: Annotated[int, Ge(0)] = 0
    """Everything random in a run is drawn from it."""
    algorithm: AlgorithmConfig = AlgorithmConfig()
    critic: CriticConfig = CriticConfig()
    use_kl_loss: bool = False
    """Add the KL divergence from the base model to the loss."""
    kl_loss_coef: NotNegative = 0.001
    """Its weight."""
    optim: OptimConfig = OptimConfig()
    micro_batch_tokens: Count = 8192
    """Tokens of one forward and backward pass at most: bounds the memory."""
    logprob_diff_bound: Positive = 1e-3
    """A larger difference between engine and trainer, on one token's logprob, is warned about."""
    logger: LoggerNames = "auto"
    """Where metrics go, besides `metrics.jsonl` and the console; one name or a list. `auto`:
    TensorBoard if it is installed."""
    n_gpus_per_node: Count = 1
    """GPUs of each machine."""
    nnodes: Count = 1
    """Machines."""
    max_checkpoints_to_keep: Count | None = None
    """Older checkpoints are deleted; null keeps all."""
