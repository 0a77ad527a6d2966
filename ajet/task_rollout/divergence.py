"""Where calls continue no other although they could: what a user asked to be told."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ajet.schema.episode import Group
from ajet.task_rollout.timelines import divergence_report

logger = logging.getLogger(__name__)


def report_divergence(groups: Sequence[Group], step: int) -> None:
    """Warn of such calls among a step's episodes."""
    report = divergence_report([episode for group in groups for episode in group.episodes])
    if report is not None:
        logger.warning("step %d: calls that continue no other:\n  %s", step, report)
