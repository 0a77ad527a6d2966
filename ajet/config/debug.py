"""`ajet.debug`: trying a workflow without training."""

from __future__ import annotations

from ajet.config.kinds import Count
from ajet.config.section import Section


class Debug(Section):
    """Trying a workflow without training."""

    num_tasks: Count = 2
    """The first so many training tasks are run."""
