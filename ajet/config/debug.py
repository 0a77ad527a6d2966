"""`ajet.debug`: trying a workflow without training."""

from __future__ import annotations

from ajet.config.kinds import Count
from ajet.config.section import Section


class Debug(Section):
    """Trying a workflow without training."""

    num_tasks: Count = 2
    """The first so many training tasks are run."""
    engine: str = "auto"
    """What answers: `warm` (the one that `ajet engine start` keeps), `embedded`, or the URL of any
    OpenAI-compatible server; `auto` is `warm` where one is up, else `embedded`."""
    model: str | None = None
    """The model's name at that URL; null is the first that the server lists."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the key for that URL."""
