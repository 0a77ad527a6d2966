"""A Trinity monitor that sends metrics to the run's main process."""

from __future__ import annotations

from typing import Any

from trinity.common.config import Config
from trinity.utils.monitor import Monitor

from ajet.backbone.trinity.mailbox import Explored, dumps, find_mailbox


class MailboxMonitor(Monitor):
    """Sends the explorer's metrics; the trainer reports its own with each step."""

    def __init__(
        self, project: str, group: str, name: str, role: str, config: Config | None = None
    ) -> None:
        super().__init__(project, name, role, config)
        assert config is not None
        self._mailbox = find_mailbox(config.ray_namespace)

    def log(self, data: dict[str, Any], step: int, commit: bool = False) -> None:
        """Send the metrics of a batch."""
        numbers = {name: float(value) for name, value in data.items()}
        self._mailbox.report.remote(dumps(Explored(step=step, metrics=numbers)))

    def close(self) -> None:
        """Do nothing: there is no connection to close."""
