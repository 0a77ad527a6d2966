"""Our records as Trinity's monitor."""

from __future__ import annotations

from typing import Any

from trinity.common.config import Config
from trinity.utils.monitor import Monitor

from ajet.backbone.trinity.mailbox import dumps, find_mailbox
from ajet.backbone.trinity.mailbox_messages import Explored


class MailboxMonitor(Monitor):
    """Sends what the explorer logs to the main process; the trainer writes letters of its own."""

    def __init__(
        self, project: str, group: str, name: str, role: str, config: Config | None = None
    ) -> None:
        super().__init__(project, name, role, config)
        assert config is not None
        self._desk = find_mailbox(config.ray_namespace)

    def log(self, data: dict[str, Any], step: int, commit: bool = False) -> None:
        """Send the numbers."""
        numbers = {name: float(value) for name, value in data.items()}
        self._desk.report.remote(dumps(Explored(step=step, metrics=numbers)))

    def close(self) -> None:
        """Nothing is open."""
