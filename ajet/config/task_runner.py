"""`ajet.task_runner`: one episode's surroundings."""

from __future__ import annotations

from ajet.config.section import Section


class TaskRunner(Section):
    """One episode's surroundings. Nothing to set in this version."""
