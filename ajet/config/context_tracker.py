"""`ajet.context_tracker`: how calls become training samples."""

from __future__ import annotations

from typing import Literal

from ajet.config.free_section import FreeSection
from ajet.config.section import Section


class ContextTracker(Section):
    """How calls become training samples."""

    timeline_compare_level: Literal["token", "text"] = "token"
    """Calls share history where their token ids are equal. `text` is accepted and means the
    same: text that looks equal may be other tokens."""
    detect_timeline_snap: bool = False
    """Report the calls that could not continue a recorded one."""
    timeline_merging_policy: FreeSection = FreeSection()
    """Accepted for older files: token ids alone decide what is merged."""
