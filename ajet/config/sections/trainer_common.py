"""`ajet.trainer_common`: training, with the names that every backbone shares."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import BeforeValidator

from ajet.config.sections.algorithm import AlgorithmConfig
from ajet.config.sections.critic import CriticConfig
from ajet.config.sections.optim import OptimConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, EverySteps, NotNegative, Positive


def _one_logger_as_list(value: object) -> object:
    return [value] if isinstance(value, str) and value != "auto" else value


LoggerNames = Annotated[
    Literal["auto"] | list[Literal["console", "tensorboard"]],
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
    """Where metrics go beside `metrics.jsonl`; `auto`: the console, and TensorBoard where it is
    installed."""
    n_gpus_per_node: Count = 1
    """GPUs of each machine."""
    nnodes: Count = 1
    """Machines."""
    max_checkpoints_to_keep: Count | None = None
    """Older checkpoints are deleted; null keeps all."""
