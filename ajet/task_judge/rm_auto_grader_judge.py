"""The import path of AgentJet's judge with generated rubrics, which this version does not have."""

from __future__ import annotations

from typing import Any

from ajet.errors import ConfigError
from ajet.task_judge.base_judge import BaseJudge


class AutoGraderJudge(BaseJudge):
    """Refused when a run starts, so that a file that names it can be loaded and checked."""

    def __init__(self, config: Any) -> None:
        raise ConfigError(
            "ajet.task_judge: AutoGraderJudge, which generates rubrics, is not part of this "
            "version; use a judge of your own (docs/judges.md)"
        )
