"""What a backbone must bring.

A backbone is one function, `Run`. Most build a `Policy` and hand it to the shared training loop
(`ajet.training.run`): a `Serving` that samples, a `Trainer` that updates, and a function that
writes checkpoints. This module imports nothing heavy, so the launcher can name these types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ajet.config.sections.root import RootConfig
from ajet.engine.base import Engine
from ajet.schema.episode import Sample
from ajet.training.checkpoints import Position
from ajet.training.inputs import RunInputs

if TYPE_CHECKING:  # these import renderers and the episode machinery
    from ajet.context_tracker.chat_format import ChatFormat
    from ajet.task_rollout.workers import EpisodeExecutor

Run = Callable[[RootConfig, Path, bool, RunInputs], None]
"""A backbone's entry, `run(config, run_folder, resume, inputs)`: trains until the last step.

Raises KeyboardInterrupt on Ctrl-C, after it has saved what was trained, and AjetError where the
run cannot start or continue."""


class Serving(Protocol):
    """An engine that samples from the policy, and the way in which it gets new weights."""

    @property
    def engine(self) -> Engine:
        """The engine that answers the episodes' calls."""
        ...

    @property
    def lockstep_missed(self) -> int:
        """How often the lockstep schedule continued without an episode that was late."""
        ...

    def begin_phase(self) -> None:
        """Prepare for a rollout: its results must not depend on caches of an earlier one."""
        ...

    def publish(self, policy_version: int) -> dict[str, float]:
        """Serve the trainer's current weights as `policy_version`; returns metrics of the transfer.

        Raises:
            EngineError: the engine cannot load them, or computes something else than the trainer.
        """
        ...

    def close(self) -> None:
        """Stop the engine and release its resources."""
        ...


class Trainer(Protocol):
    """Updates the policy's weights."""

    @property
    def updates(self) -> int:
        """Number of optimizer updates that were begun; it tells whether the weights changed."""
        ...

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples and return metrics under their public names.

        Args:
            samples: with credit assigned; each has trained tokens, and not all advantages are 0.
            step: number of the step, from 1.
            policy_version: version of the weights before the update.

        Raises:
            TrainingError: the run cannot continue. No bad update was applied.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Policy:
    """What a backbone hands to the training loop: engine, trainer and checkpoints of one model."""

    chat_format: ChatFormat
    """Turns chat messages into the model's token ids and back."""
    serving: Serving
    trainer: Trainer
    save: Callable[[Position], None]
    """Writes a checkpoint. Raises CheckpointError."""
    logprob_diff_bound: float | None
    """A larger difference between the logprobs of engine and trainer gets a warning, nats. None:
    the weights are too coarse for a bound, or the trainer checks one itself."""
    executor: EpisodeExecutor | None = None
    """Where episodes run; None: in threads of this process."""
