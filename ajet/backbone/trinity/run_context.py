"""What every process of a Trinity run needs to know about the run."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import ConfigError
from ajet.training.checkpoints import Position, latest_checkpoint, read_position
from ajet.training.model_folder import model_folder
from ajet.training.weight_sync_check import probe_ids


@dataclass(slots=True, kw_only=True, frozen=True, eq=False)
class TrinityRunContext:
    """One per run; Trinity's actors get it together with their configuration."""

    config: RootConfig
    run_folder: Path
    model_folder: Path
    max_model_len: int
    vocab_size: int
    device: str
    """`cpu` or `cuda`."""
    total_steps: int
    checkpoint: Path | None
    """The checkpoint to resume from; None: start from the base model."""
    namespace: str
    """Ray namespace of the run's actors."""
    is_async: bool
    """Whether rollout and training run without waiting for each other."""
    num_runners: int
    """Number of processes that run episodes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrinityRunContext) and other.namespace == self.namespace

    def __hash__(self) -> int:
        return hash(self.namespace)

    @property
    def ajet(self) -> AjetConfig:
        """The section `ajet` of the configuration."""
        return self.config.ajet

    @property
    def position(self) -> Position | None:
        """Where the run stood when the checkpoint was written; None without one."""
        return read_position(self.checkpoint) if self.checkpoint else None

    @property
    def first_version(self) -> int:
        """Version of the initial weights. A version is the number of the step that made it."""
        return self.position.policy_version if self.position else 0

    @property
    def dtype(self) -> str:
        """Dtype of the weights: `float32` or `bfloat16`."""
        if self.ajet.model.dtype == "auto":
            return "float32" if self.device == "cpu" else "bfloat16"
        return self.ajet.model.dtype

    @property
    def is_exact(self) -> bool:
        """Whether engine and trainer must agree up to float32 rounding.

        On GPUs they do not, whatever the dtype: Trinity sends the weights in bfloat16.
        """
        return self.dtype == "float32" and self.device == "cpu"

    @property
    def probe(self) -> list[int]:
        """Token ids on whose logprobs engine and trainer are compared."""
        return probe_ids(self.vocab_size, self.ajet.trainer_common.seed)

    def episodes_per_runner(self) -> int:
        """How many episodes one runner runs at a time.

        Raises:
            ConfigError: there are more runners than episodes that may run at a time.
        """
        share = self.ajet.rollout.max_env_worker // self.num_runners
        if not share:
            raise ConfigError(
                f"ajet.rollout.max_env_worker: {self.ajet.rollout.max_env_worker} is less than "
                f"the {self.num_runners} processes of trinity.explorer.runner_per_model; raise the "
                "first or lower the second"
            )
        return share


def make_run_context(
    config: RootConfig, run_folder: Path, *, device: str, total_steps: int, resume: bool
) -> TrinityRunContext:
    """The context of a new run, or of one that resumes from its newest checkpoint.

    Raises:
        ModelError: the configured model does not exist.
    """
    from transformers import AutoConfig

    ajet = config.ajet
    folder = model_folder(ajet.model.path)
    model = AutoConfig.from_pretrained(folder).get_text_config()
    explorer = ajet.trinity.get("explorer", {})
    is_async = ajet.trinity.get("synchronizer", {}).get("sync_style") == "fully_async"
    return TrinityRunContext(
        config=config,
        run_folder=run_folder,
        model_folder=folder,
        max_model_len=ajet.rollout.max_model_len or model.max_position_embeddings,
        vocab_size=model.vocab_size,
        device=device,
        total_steps=total_steps,
        checkpoint=latest_checkpoint(run_folder / "checkpoints") if resume else None,
        namespace=f"{ajet.experiment_name}-{uuid.uuid4().hex[:8]}",
        is_async=is_async,
        num_runners=explorer.get("runner_per_model", 2 if is_async else 1),
    )
