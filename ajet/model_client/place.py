"""Where this process keeps answers and records of calls, and how it asks the policy.

A judge or a task reader is made from settings alone, often before there is a run folder. What
belongs to the run is therefore set for the whole process, and read when a model is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(slots=True)
class CallPlace:
    """The run that this process works on."""

    experiment_dir: Path = Path("saved_experiments")
    """Its folder `model_cache` holds the kept answers, unless `cache_dir` names another."""
    run_folder: Path | None = None
    """Its `model_calls.jsonl` gets a line per call. None: calls are not recorded."""
    policy: Callable[[str], AsyncOpenAI] | None = None
    """Makes a client of the policy, from the id of the episode that a question is about."""

    offline: bool = False
    """Refuse every call: only kept answers are used."""
    first_sample: int = 0
    """Added to the sample numbers of all questions, to ask the same questions again."""

    def set_run(self, run_folder: Path) -> None:
        """Record calls in this run folder, and keep answers beside it."""
        self.run_folder, self.experiment_dir = run_folder, run_folder.parent

    @property
    def cache_dir(self) -> Path:
        """The default folder of kept answers."""
        return self.experiment_dir / "model_cache"


PLACE = CallPlace()
